//! The databases under everything at once: rows as registers, lists that grow
//! and a bank, through every node, while nodes are killed, paused, cut off,
//! moved and filled up. What clients saw must be what one machine could have shown them, the bank's
//! sum is the same in every read, and nothing acknowledged is lost.
//!
//! Each fault comes once in the short form that CI runs (about a minute).
//! `tests/chaos` is the long form. `ORAMA_CHAOS_SECS` sets the length of one
//! run, `ORAMA_TEST_SEED` replays it.

use std::time::{Duration, Instant};

use orama_tests::cluster::{Chaos, Cluster, Convergence, Net, in_private_network};
use orama_tests::history::{self, Outcome, Recorder};
use orama_tests::sql::bank::Bank;
use orama_tests::sql::lists::{self, Lists};
use orama_tests::sql::rows::{self, Rows};
use orama_tests::sql::{Database, replicas};
use orama_tests::{Rng, Tenant, seed, setting};
use tokio::sync::watch;
use tokio::task::JoinSet;

const NODES: usize = 3;
const THREE: Convergence = Convergence {
    members: 3,
    voters: 3,
};
/// After the last fault, until everything is as it should be.
const HEALED_WITHIN: Duration = Duration::from_secs(60);
/// How long a client waits between two operations.
const PAUSE: Duration = Duration::from_millis(25);
/// Their names put them into three different data groups.
const NAMESPACES: [&str; 3] = ["fault-a", "fault-c", "fault-d"];
/// Changes of the metadata between two snapshots, a twentieth of a data group's: several in a run.
const SNAPSHOT_EVERY: &str = "10";

/// What uses one namespace.
struct Users {
    tenant: Tenant,
    rows: Rows,
    lists: Lists,
    bank: Bank,
}

async fn users(cluster: &Cluster, namespace: &str, recorder: &Recorder) -> Users {
    let tenant = cluster.node(0).tenant(namespace).await;
    let nodes: Vec<Database> = (0..NODES)
        .map(|i| Database::of(&cluster.node(i).tenant_of(&tenant).with_own_connections()))
        .collect();
    for table in [rows::TABLE, lists::TABLE] {
        nodes[0].exec(table, vec![]).await.done();
    }
    Users {
        tenant,
        rows: Rows::new(&nodes, 3, recorder),
        lists: Lists::new(&nodes, recorder),
        bank: Bank::open(&nodes).await,
    }
}

async fn chaos(net: Net, length: Duration) {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let chaos = Chaos::new(net, NODES);
    let mut options = chaos.options();
    let every = ("ORAMA_SNAPSHOT_EVERY".into(), SNAPSHOT_EVERY.into());
    options.env.push(every);
    let mut cluster = Cluster::start(NODES, options).await;
    cluster.converged(THREE, HEALED_WITHIN).await;

    let recorder = Recorder::default();
    let mut all = Vec::new();
    for namespace in NAMESPACES {
        all.push(users(&cluster, namespace, &recorder).await);
    }
    let (stop, stopped) = watch::channel(false);
    let mut clients = JoinSet::new();
    for (at, users) in all.iter().enumerate() {
        for i in 0..2 {
            let name = format!("r{at}{i}");
            let rows = users.rows.clone();
            clients.spawn(rows.client(name, rng.fork(), PAUSE, stopped.clone()));
            let name = format!("l{at}{i}");
            let lists = users.lists.clone();
            clients.spawn(lists.client(name, rng.fork(), PAUSE * 2, stopped.clone()));
            let bank = users.bank.clone();
            clients.spawn(bank.client(rng.fork(), PAUSE * 2, stopped.clone()));
        }
    }

    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut decks = 0;
    while decks == 0 || began.elapsed() < length {
        for fault in chaos.deck(&mut rng) {
            chaos.inflict(&mut cluster, fault, &mut rng).await;
            // A client ends early only by a panic.
            if let Some(ended) = clients.try_join_next() {
                ended.expect("a client");
                panic!("a client ended");
            }
        }
        decks += 1;
        cluster.converged(THREE, HEALED_WITHIN).await;
        println!(
            "{decks} rounds of faults, {} operations on rows, {:?}",
            recorder.len(),
            began.elapsed()
        );
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.send_replace(true);
    while let Some(done) = clients.join_next().await {
        done.expect("a client");
    }
    cluster.converged(THREE, HEALED_WITHIN).await;

    for users in &all {
        users.rows.final_reads().await;
        users.lists.final_reads().await;
        users.bank.verify().await;
        for i in 0..NODES {
            replicas::caught_up(&Database::of(&cluster.node(i).tenant_of(&users.tenant))).await;
        }
        let namespace = &users.tenant.namespace;
        let equal = cluster.replicas_equal(0, namespace, NODES, false, HEALED_WITHIN);
        let found = equal.await;
        cluster.dumps_equal(&[0, 1, 2], &users.tenant).await;
        println!(
            "{namespace}: equal at {} with {}",
            found[0].applied, found[0].hash
        );
    }
    let events = recorder.events();
    let of = |wanted: fn(&Outcome) -> bool| events.iter().filter(|e| wanted(&e.outcome)).count();
    println!(
        "rows: {} operations; {} done, {} reads, {} differed, {} refused, {} unknown",
        events.len(),
        of(|o| *o == Outcome::Done),
        of(|o| matches!(o, Outcome::Saw(_))),
        of(|o| *o == Outcome::Differed),
        of(|o| *o == Outcome::Failed),
        of(|o| *o == Outcome::Unknown),
    );
    let wrong = history::check(&events);
    if let Some(first) = wrong.first() {
        panic!(
            "{} rows are wrong (ORAMA_TEST_SEED={seed}); {first}",
            wrong.len()
        );
    }
    for users in &all {
        let history = users.lists.history();
        let wrong = history::lists::check(&history);
        assert!(
            wrong.is_empty(),
            "lists are wrong (ORAMA_TEST_SEED={seed}):\n{}",
            wrong[..wrong.len().min(5)].join("\n")
        );
        println!("lists: {} operations", history.len());
        assert!(history.len() > 50, "the load hardly ran");
    }
    assert!(of(|o| *o == Outcome::Done) > 100, "the load hardly ran");
}

#[test]
fn rows_are_linearizable_and_no_money_is_lost() {
    let length = Duration::from_secs(setting("ORAMA_CHAOS_SECS", 0));
    in_private_network(|net| chaos(net, length));
}

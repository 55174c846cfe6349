//! Everything at once: clients of every kind through every node while nodes
//! are killed, paused, cut off, moved and filled up. What clients saw must be
//! what one machine could have shown them, and nothing acknowledged is lost.
//!
//! Each fault comes once in the short form that CI runs (about a minute).
//! `tests/chaos` is the long form: ten minutes and more over several seeds.
//! `ORAMA_CHAOS_SECS` sets the length of one run, `ORAMA_TEST_SEED` replays it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_proto::api::DeployResponse;
use orama_proto::function::FunctionInfo;
use orama_proto::limits::VERSIONS_KEPT;
use orama_tests::cluster::{
    Chaos, Cluster, Convergence, Net, Options, Registers, final_reads, in_private_network,
};
use orama_tests::history::versions::{self, Change, Versioned};
use orama_tests::history::{self, Outcome, Recorder};
use orama_tests::{Deploy, Rng, Tenant, guests, seed, setting};
use parking_lot::Mutex;
use reqwest::Method;
use tokio::sync::watch;

const NODES: usize = 3;
const THREE: Convergence = Convergence {
    members: 3,
    voters: 3,
};
/// After the last fault, until everything is as it should be.
const HEALED_WITHIN: Duration = Duration::from_secs(60);
/// Clients of registers, and how long each waits between two operations.
const CLIENTS: usize = 6;
const PAUSE: Duration = Duration::from_millis(25);
/// Functions that are deployed again and again.
const FUNCTIONS: usize = 2;
/// Deploys and reads of functions' details, recorded.
#[derive(Clone, Default)]
struct Deploys {
    history: Arc<Mutex<BTreeMap<String, Vec<Versioned>>>>,
    /// What each acknowledged version answers.
    acknowledged: Arc<Mutex<BTreeMap<(String, u64), String>>>,
}

impl Deploys {
    async fn client(
        self,
        who: String,
        tenants: Vec<Tenant>,
        clock: Recorder,
        mut rng: Rng,
        stop: watch::Receiver<bool>,
    ) {
        let mut round = 0;
        while !*stop.borrow() {
            round += 1;
            let function = format!("f{}", rng.below(FUNCTIONS as u64));
            let tenant = &tenants[rng.below(tenants.len() as u64) as usize];
            let start = clock.now();
            let change = if rng.below(3) == 0 {
                let text = format!("\"{who}-{round}\"");
                let deploy = Deploy::new(&function, &guests::constant(&text));
                let answer =
                    tokio::time::timeout(Duration::from_secs(10), tenant.deploy_or_die(deploy));
                match answer.await.ok().flatten() {
                    Some(reply) if reply.status == 201 => {
                        let version = reply.parse::<DeployResponse>().function.version;
                        let key = (function.clone(), version);
                        self.acknowledged.lock().insert(key, text);
                        Some(Change::Raised(version))
                    }
                    // Refused before anything was tried.
                    Some(reply) if reply.status < 500 => None,
                    _ => Some(Change::Unknown),
                }
            } else {
                let path = format!("/v1/functions/{function}");
                let request = tenant.request(Method::GET, &path);
                match request.timeout(Duration::from_secs(5)).send().await {
                    Ok(answer) if answer.status() == 200 => {
                        let info = answer.json::<FunctionInfo>().await;
                        info.ok().map(|info| Change::Read(info.version))
                    }
                    Ok(answer) if answer.status() == 404 => Some(Change::Read(0)),
                    _ => None,
                }
            };
            let end = clock.now();
            if let Some(change) = change {
                let client = who.clone();
                let event = Versioned {
                    client,
                    change,
                    start,
                    end,
                };
                self.history.lock().entry(function).or_default().push(event);
            }
            tokio::time::sleep(Duration::from_millis(100 + rng.below(200))).await;
        }
    }

    /// Nothing acknowledged is missing, on any node, and every version runs.
    async fn verify(&self, tenants: &[Tenant]) {
        for (function, history) in self.history.lock().clone() {
            let wrong = versions::check(&history);
            assert!(wrong.is_empty(), "{function}: {}", wrong.join("\n"));
            println!("{function}: {} operations", history.len());
        }
        let acknowledged = self.acknowledged.lock().clone();
        for tenant in tenants {
            let mut there = BTreeMap::new();
            for i in 0..FUNCTIONS {
                let name = format!("f{i}");
                let found = tenant.versions(&name).await;
                there.insert(
                    name,
                    found.into_iter().map(|v| v.version).collect::<Vec<_>>(),
                );
            }
            for (function, version) in acknowledged.keys() {
                let there = &there[function];
                // Older ones are pruned.
                let newest = there.iter().max().copied().unwrap_or(0);
                assert!(
                    there.contains(version) || version + VERSIONS_KEPT as u64 <= newest,
                    "{function}@{version} was acknowledged and is gone"
                );
            }
        }
        for ((function, version), text) in acknowledged.iter().rev().take(20) {
            for tenant in tenants {
                let reply = tenant.invoke(&format!("{function}@{version}"), "").await;
                assert_eq!(reply.output(), text.as_bytes(), "{function}@{version}");
            }
        }
        println!("{} acknowledged deploys, all there", acknowledged.len());
    }
}

/// Invocations: an answer is right, or it says that it failed.
async fn invoke(tenants: Vec<Tenant>, mut rng: Rng, stop: watch::Receiver<bool>) -> (u64, u64) {
    let (mut done, mut failed) = (0, 0);
    while !*stop.borrow() {
        let tenant = &tenants[rng.below(tenants.len() as u64) as usize];
        let body = format!("[{}]", rng.draw());
        let request = tenant.request(Method::POST, "/v1/functions/echo/invoke");
        let request = request.body(body.clone()).timeout(Duration::from_secs(5));
        match request.send().await {
            Ok(answer) if answer.status() == 200 => match answer.text().await {
                Ok(text) => {
                    assert_eq!(text, body, "an answer of somebody else");
                    done += 1;
                }
                Err(_) => failed += 1,
            },
            _ => failed += 1,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (done, failed)
}

async fn chaos(net: Net, length: Duration) {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let chaos = Chaos::new(net, NODES);
    let mut cluster = Cluster::start(NODES, chaos.options()).await;
    cluster.converged(THREE, HEALED_WITHIN).await;
    let groups = cluster.data_groups(0).await;
    let tenant = cluster.node(0).tenant("chaos").await;
    tenant.deploy(Deploy::new("echo", &guests::echo())).await;
    let tenants: Vec<Tenant> = (0..NODES)
        .map(|i| cluster.node(i).tenant_of(&tenant).with_own_connections())
        .collect();

    let gateways = (0..NODES).map(|i| cluster.node(i).gateway()).collect();
    let registers = Registers::new(gateways, &groups, 3);
    let deploys = Deploys::default();
    let (stop, stopped) = watch::channel(false);
    let mut clients = tokio::task::JoinSet::new();
    for i in 0..CLIENTS {
        let (name, rng) = (format!("c{i}"), rng.fork());
        clients.spawn(registers.clone().client(name, rng, PAUSE, stopped.clone()));
    }
    for i in 0..2 {
        let (tenants, clock) = (tenants.clone(), registers.recorder().clone());
        clients.spawn(deploys.clone().client(
            format!("d{i}"),
            tenants,
            clock,
            rng.fork(),
            stopped.clone(),
        ));
    }
    let invoker = tokio::spawn(invoke(tenants.clone(), rng.fork(), stopped.clone()));

    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut decks = 0;
    while decks == 0 || began.elapsed() < length {
        for fault in chaos.deck(&mut rng) {
            chaos.inflict(&mut cluster, fault, &mut rng).await;
            assert!(!invoker.is_finished(), "a client failed: see above");
        }
        decks += 1;
        cluster.converged(THREE, HEALED_WITHIN).await;
        println!(
            "{decks} rounds of faults, {} register operations, {:?}",
            registers.recorder().len(),
            began.elapsed()
        );
    }
    // A moment of peace under load, then the end of it.
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.send_replace(true);
    while let Some(done) = clients.join_next().await {
        done.expect("a client");
    }
    let (done, failed) = invoker.await.expect("the invoking client");
    cluster.converged(THREE, HEALED_WITHIN).await;
    final_reads(&registers, &[0, 1, 2]).await;

    let events = registers.recorder().events();
    let of = |wanted: fn(&Outcome) -> bool| events.iter().filter(|e| wanted(&e.outcome)).count();
    println!(
        "registers: {} operations on {} keys; {} done, {} reads, {} differed, {} refused, {} unknown; invocations: {done} done, {failed} failed",
        events.len(),
        registers.keys().len(),
        of(|o| *o == Outcome::Done),
        of(|o| matches!(o, Outcome::Saw(_))),
        of(|o| *o == Outcome::Differed),
        of(|o| *o == Outcome::Failed),
        of(|o| *o == Outcome::Unknown),
    );
    let checked = Instant::now();
    let wrong = history::check(&events);
    println!("checked in {:?}", checked.elapsed());
    if let Some(first) = wrong.first() {
        panic!(
            "{} registers are wrong (ORAMA_TEST_SEED={seed}); {first}",
            wrong.len()
        );
    }
    deploys.verify(&tenants).await;
    assert!(
        done > 100 && of(|o| *o == Outcome::Done) > 100,
        "the load hardly ran"
    );
}

/// The faults are faults: who is cut off is silent, and only between nodes.
async fn cuts_are_felt(net: Net) {
    if net == Net::Loopback {
        return;
    }
    let options = Options {
        net,
        ..Options::default()
    };
    let mut cluster = Cluster::start(NODES, options).await;
    cluster.converged(THREE, HEALED_WITHIN).await;
    cluster.isolate(2);
    for (ask, silent) in [(0, vec!["n3"]), (2, vec!["n1", "n2"])] {
        let felt = |status: &orama_proto::api::ClusterStatus| {
            (status.silent != silent).then(|| format!("silent: {:?}", status.silent))
        };
        cluster.wait_until(ask, HEALED_WITHIN, felt).await;
    }
    cluster.heal();
    cluster.converged(THREE, HEALED_WITHIN).await;
    // One way is enough to be silent: no answer comes back.
    cluster.cut_one_way(1, 0);
    let felt = |status: &orama_proto::api::ClusterStatus| {
        (status.silent != ["n2"]).then(|| format!("silent: {:?}", status.silent))
    };
    cluster.wait_until(0, HEALED_WITHIN, felt).await;
    cluster.heal();
    cluster.converged(THREE, HEALED_WITHIN).await;
}

#[test]
fn a_cut_link_is_cut() {
    in_private_network(cuts_are_felt);
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_stale_is_read() {
    let length = Duration::from_secs(setting("ORAMA_CHAOS_SECS", 0));
    in_private_network(|net| chaos(net, length));
}

//! The same random statements on every replica: through all nodes, through
//! changes of leaders, crashes, snapshots and a replica that begins with nothing,
//! they leave the same hash and the same bytes everywhere.
//!
//! `ORAMA_TEST_SEED` replays the statements (their order among clients is the
//! network's), `ORAMA_SQL_STATEMENTS` (900) sets how many there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use orama_tests::cluster::{Cluster, Convergence, Options};
use orama_tests::sql::workload::{NOTHING_LEFT, SCHEMA, Tally, Workload};
use orama_tests::sql::{Answer, Database, replicas};
use orama_tests::{Rng, Tenant, seed, setting};
use tokio::task::JoinSet;

const NODES: usize = 3;
const THREE: Convergence = Convergence {
    members: 3,
    voters: 3,
};
const ONE: Convergence = Convergence {
    members: 1,
    voters: 1,
};
const SETTLED: Duration = Duration::from_secs(60);
const CLIENTS: usize = 6;
/// Two databases, so that what one does cannot leak into the other.
const NAMESPACES: [&str; 2] = ["replica-one", "replica-two"];

/// Clients that make random statements through all nodes until there were enough.
struct Load {
    clients: JoinSet<Tally>,
    made: Arc<AtomicU64>,
}

impl Load {
    fn start(cluster: &Cluster, tenants: &[Tenant], rng: &mut Rng, statements: u64) -> Self {
        let mut load = Self {
            clients: JoinSet::new(),
            made: Arc::default(),
        };
        for client in 0..CLIENTS {
            let tenant = &tenants[client % tenants.len()];
            let nodes: Vec<Database> = (0..NODES)
                .map(|i| Database::of(&cluster.node(i).tenant_of(tenant).with_own_connections()))
                .collect();
            let (mut rng, made) = (rng.fork(), load.made.clone());
            load.clients.spawn(async move {
                let (mut workload, mut tally) = (Workload::new(rng.fork()), Tally::default());
                while made.fetch_add(1, Ordering::Relaxed) < statements {
                    let statement = workload.draw();
                    let node = &nodes[rng.below(NODES as u64) as usize];
                    let answer = match &statement.ops[..] {
                        [only] => unit(node.exec(&only.sql, only.args.clone()).await),
                        several => unit(node.transaction(several).await),
                    };
                    match answer {
                        Answer::Done(()) => tally.count(&statement, Ok(())),
                        Answer::Failed(status, body) => {
                            tally.count(&statement, Err(format!("{status} {body}")));
                        }
                        Answer::Refused(_) | Answer::Unknown(_) => {
                            tally.without += 1;
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    }
                }
                tally
            });
        }
        load
    }
    fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }
    /// Waits until so many statements were begun.
    async fn reaches(&self, count: u64) {
        let began = Instant::now();
        while self.made() < count {
            assert!(
                began.elapsed() < Duration::from_secs(120),
                "the load stands still at {}",
                self.made()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    async fn finish(mut self) -> Tally {
        let mut tally = Tally::default();
        while let Some(done) = self.clients.join_next().await {
            tally.add(done.expect("a client"));
        }
        tally
    }
}

fn unit<T>(answer: Answer<T>) -> Answer<()> {
    match answer {
        Answer::Done(_) => Answer::Done(()),
        Answer::Failed(status, body) => Answer::Failed(status, body),
        Answer::Refused(why) => Answer::Refused(why),
        Answer::Unknown(why) => Answer::Unknown(why),
    }
}

async fn sum(cluster: &Cluster, metric: &str) -> f64 {
    let mut sum = 0.0;
    for i in cluster.running() {
        let text = cluster.node(i).metrics_text().await;
        // A labelled counter is not there before its first event.
        let lines = text.lines().filter(|line| line.starts_with(metric));
        sum += lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>();
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_statements_leave_the_same_bytes() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let statements = setting("ORAMA_SQL_STATEMENTS", 900);
    let options = Options {
        env: vec![("ORAMA_SNAPSHOT_EVERY".into(), "4".into())],
        ..Options::default()
    };
    let mut cluster = Cluster::start(NODES, options).await;
    cluster.converged(THREE, SETTLED).await;
    let mut tenants = Vec::new();
    for namespace in NAMESPACES {
        let tenant = cluster.node(0).tenant(namespace).await;
        let database = Database::of(&tenant);
        for sql in SCHEMA {
            database.exec(sql, vec![]).await.done();
        }
        tenants.push(tenant);
    }
    let mut groups = Vec::new();
    for namespace in NAMESPACES {
        groups.push(cluster.group_of(0, namespace).await);
    }

    let load = Load::start(&cluster, &tenants, &mut rng, statements);
    // Every node leads for a while.
    for step in 0..NODES as u64 {
        load.reaches(statements * (step + 1) / 10).await;
        for group in &groups {
            cluster
                .make_leader(0, *group, rng.below(NODES as u64) as usize)
                .await;
        }
    }
    // A leader dies, and comes back to what the others did meanwhile.
    load.reaches(statements * 4 / 10).await;
    let leader = cluster.leader(0, groups[0]).await.unwrap_or(0);
    cluster.kill(leader);
    load.reaches(statements * 5 / 10).await;
    cluster.start_node(leader).await;
    // A replica that has nothing gets everything by snapshot, while others write.
    load.reaches(statements * 6 / 10).await;
    let before = sum(&cluster, "orama_raft_snapshot_bytes_total").await;
    let wiped = (leader + 1) % NODES;
    cluster.kill(wiped);
    cluster.wipe(wiped);
    cluster.start_node(wiped).await;
    cluster.converged(THREE, SETTLED).await;
    // All at once.
    load.reaches(statements * 8 / 10).await;
    let built = sum(&cluster, "orama_raft_snapshots_total").await;
    cluster.kill_all();
    for i in 0..NODES {
        cluster.begin(i);
    }
    for i in 0..NODES {
        cluster.await_ready(i).await;
    }
    let tally = load.finish().await;
    cluster.converged(THREE, SETTLED).await;

    let (done, failed) = tally.sums();
    println!(
        "{done} done, {failed} failed, {} without an answer\n{}",
        tally.without,
        tally.table()
    );
    let wrong = tally.check(8);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(done > statements / 3, "the load hardly ran");

    for tenant in &tenants {
        for i in 0..NODES {
            let database = Database::of(&cluster.node(i).tenant_of(tenant));
            replicas::caught_up(&database).await;
        }
        let equal = cluster
            .replicas_equal(0, &tenant.namespace, NODES, false, SETTLED)
            .await;
        let dump = cluster.dumps_equal(&[0, 1, 2], tenant).await;
        println!(
            "{}: equal at {} with {}, {} bytes of dump",
            tenant.namespace,
            equal[0].applied,
            equal[0].hash,
            dump.len()
        );
        assert!(dump.len() > 10_000, "there is hardly anything:\n{dump}");
        for query in NOTHING_LEFT {
            let left = Database::of(tenant).value(query, vec![]).await;
            assert_eq!(left, 0, "{query}");
        }
    }
    let now = sum(&cluster, "orama_raft_snapshot_bytes_total").await;
    println!("snapshots: {before} bytes before the wipe, {now} since the last start");
    let built = built + sum(&cluster, "orama_raft_snapshots_total").await;
    assert!(built > 0.0, "no snapshot was made: the test is too short");
}

/// A replica that joins an old cluster has the same bytes, though it saw no statement but by
/// snapshot; and then it applies like the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_by_snapshot_is_like_one_by_statements() {
    let mut rng = Rng::new(seed());
    let options = Options {
        env: vec![("ORAMA_SNAPSHOT_EVERY".into(), "4".into())],
        ..Options::default()
    };
    let mut cluster = Cluster::start(NODES, options).await;
    cluster.converged(THREE, SETTLED).await;
    let tenant = cluster.node(0).tenant("by-snapshot").await;
    let database = Database::of(&tenant);
    for sql in SCHEMA {
        database.exec(sql, vec![]).await.done();
    }
    let tenants = [tenant.clone()];
    Load::start(&cluster, &tenants, &mut rng, 250)
        .finish()
        .await;
    cluster.kill(2);
    cluster.wipe(2);
    cluster.start_node(2).await;
    cluster.converged(THREE, SETTLED).await;
    replicas::caught_up(&Database::of(&cluster.node(2).tenant_of(&tenant))).await;
    let received = cluster
        .node(2)
        .metric("orama_raft_snapshot_bytes_total")
        .await;
    assert!(received > 0.0, "it got no snapshot");
    cluster
        .replicas_equal(0, &tenant.namespace, NODES, false, SETTLED)
        .await;
    cluster.dumps_equal(&[0, 1, 2], &tenant).await;

    Load::start(&cluster, &tenants, &mut rng, 150)
        .finish()
        .await;
    for i in 0..NODES {
        replicas::caught_up(&Database::of(&cluster.node(i).tenant_of(&tenant))).await;
    }
    cluster
        .replicas_equal(0, &tenant.namespace, NODES, false, SETTLED)
        .await;
    cluster.dumps_equal(&[0, 1, 2], &tenant).await;
}

/// The exported file holds what the database shows.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_the_database() {
    let mut rng = Rng::new(seed());
    let cluster = Cluster::start(1, Options::default()).await;
    // Each data group elects for itself.
    cluster.converged(ONE, SETTLED).await;
    let tenant = cluster.node(0).tenant("exported").await;
    let database = Database::of(&tenant);
    for sql in SCHEMA {
        database.exec(sql, vec![]).await.done();
    }
    let mut workload = Workload::new(rng.fork());
    for _ in 0..120 {
        let statement = workload.draw();
        match &statement.ops[..] {
            [only] => drop(database.exec(&only.sql, only.args.clone()).await),
            several => drop(database.transaction(several).await),
        }
    }
    let reply = database.export().await.expect(200);
    assert!(
        reply.body.starts_with(b"SQLite format 3\0"),
        "not an SQLite file: {} bytes",
        reply.body.len()
    );
    let path = cluster.node(0).scratch().join("export.db");
    std::fs::write(&path, &reply.body).unwrap();
    let file = rusqlite::Connection::open(&path).unwrap();
    // A CHECK on random() may answer otherwise now than when its row came.
    file.pragma_update(None, "ignore_check_constraints", true)
        .unwrap();
    let check: String = file
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    for table in ["people", "notes", "audit", "pairs", "moments"] {
        let sql = format!("SELECT count(*) FROM {table}");
        let theirs: i64 = file.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(database.value(&sql, vec![]).await, theirs, "{table}");
    }
    let sql = "SELECT group_concat(name || token || lucky || born, ',') FROM (SELECT * FROM people ORDER BY id)";
    let theirs: Option<String> = file.query_row(sql, [], |row| row.get(0)).unwrap();
    let ours = database.value(sql, vec![]).await;
    assert_eq!(ours.as_str(), theirs.as_deref());
    // Nothing of ours is in it that a tenant may not see.
    let hidden: i64 = file
        .query_row(
            "SELECT count(*) FROM sqlite_master WHERE name LIKE '\\_orama%' ESCAPE '\\'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    println!("{hidden} tables of ours in the export");
}

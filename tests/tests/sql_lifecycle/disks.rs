//! Files that somebody changed, and a disk that is full: the replica is fenced
//! and made again, and nobody reads a wrong row.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use orama_tests::cluster::{Cluster, Options, SmallDisk};
use orama_tests::sql::Answer;
use orama_tests::{Node, Tenant};

use super::{SETTLED, THREE, all_caught_up, files_below, three, through};

/// The live database files of a stopped node that hold a table of this name.
fn live_files(node: &Node, table: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    files_below(node.data_dir(), &mut files);
    files.retain(|path| {
        let live = path.components().any(|part| part.as_os_str() == "live");
        live && path.extension().is_some_and(|e| e == "db") && has_table(path, table)
    });
    files
}

fn has_table(path: &Path, table: &str) -> bool {
    let Ok(file) = rusqlite::Connection::open(path) else {
        return false;
    };
    let sql = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?";
    file.query_row(sql, [table], |row| row.get::<_, i64>(0)) == Ok(1)
}

/// What a node may say at level ERROR when its file was changed behind its back.
const MENDED: &[&str] = &["fenced", "damaged", "differs", "diverge", "malformed"];

/// Three nodes and a database of some pages; the table's name tells its file.
async fn with_rows(namespace: &str, table: &str) -> (Cluster, Tenant) {
    let options = Options {
        allowed: MENDED.iter().map(|text| (*text).to_owned()).collect(),
        env: vec![("ORAMA_SNAPSHOT_EVERY".into(), "2".into())],
        ..Options::default()
    };
    let cluster = three(options).await;
    let tenant = cluster.node(0).tenant(namespace).await;
    let database = through(&cluster, 0, &tenant);
    let create = format!("CREATE TABLE {table}(id INTEGER PRIMARY KEY, v TEXT)");
    database.exec(&create, vec![]).await.done();
    for _ in 0..60 {
        let insert = format!("INSERT INTO {table}(v) VALUES (hex(randomblob(700)))");
        database.exec(&insert, vec![]).await.done();
    }
    (cluster, tenant)
}

/// Sum of a counter on a node; 0 when it was never raised.
async fn counted(node: &Node, metric: &str) -> f64 {
    let text = node.metrics_text().await;
    let lines = text.lines().filter(|line| {
        line.strip_prefix(metric)
            .is_some_and(|rest| rest.starts_with([' ', '{']))
    });
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

async fn mended(cluster: &Cluster, tenant: &Tenant, node: usize, metric: &str) {
    let began = Instant::now();
    while counted(cluster.node(node), "orama_sql_rebuilds_total").await < 1.0 {
        // What it answers meanwhile may be nothing, but is no error of the statement's.
        let database = through(cluster, node, tenant);
        let answer = database.query_at("none", "SELECT 1 AS one", vec![]).await;
        assert!(!matches!(answer, Answer::Failed(..)), "{answer:?}");
        assert!(
            began.elapsed() < SETTLED,
            "it was not rebuilt:\n{}",
            cluster.node(node).log_tail()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        counted(cluster.node(node), metric).await >= 1.0,
        "{metric} counts it"
    );
    for other in (0..3).filter(|i| *i != node) {
        let rebuilt = counted(cluster.node(other), "orama_sql_rebuilds_total").await;
        assert_eq!(rebuilt, 0.0, "n{} was right", other + 1);
    }
    cluster
        .replicas_equal(0, &tenant.namespace, 3, true, SETTLED)
        .await;
    cluster.dumps_equal(&[0, 1, 2], tenant).await;
    let said = cluster.node(node).log();
    assert!(said.contains("rebuilt"), "the log says so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_another_row_is_fenced_and_rebuilt() {
    let (mut cluster, tenant) = with_rows("changed", "changed_rows").await;
    cluster.stop(2).await;
    let files = live_files(cluster.node(2), "changed_rows");
    assert_eq!(files.len(), 1, "{files:?}");
    let file = rusqlite::Connection::open(&files[0]).unwrap();
    let sql = "UPDATE changed_rows SET v = 'somebody else was here' WHERE id = 7";
    assert_eq!(file.execute(sql, []).unwrap(), 1);
    drop(file);
    cluster.start_node(2).await;
    cluster.converged(THREE, SETTLED).await;
    // Every replica rewrites the row; one of them finds another one there.
    through(&cluster, 0, &tenant)
        .exec("UPDATE changed_rows SET v = v || '!' WHERE id < 20", vec![])
        .await
        .done();
    mended(&cluster, &tenant, 2, "orama_sql_divergences_total").await;
    let sql = "SELECT count(*) AS n FROM changed_rows WHERE v LIKE 'somebody%'";
    for i in 0..3 {
        assert_eq!(
            through(&cluster, i, &tenant)
                .value_at("none", sql, vec![])
                .await,
            0
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_damaged_pages_is_fenced_and_rebuilt() {
    let (mut cluster, tenant) = with_rows("damaged", "damaged_rows").await;
    cluster.stop(1).await;
    let files = live_files(cluster.node(1), "damaged_rows");
    assert_eq!(files.len(), 1, "{files:?}");
    let mut bytes = std::fs::read(&files[0]).unwrap();
    assert!(bytes.len() > 10 * 4096, "{} bytes", bytes.len());
    // The head of every page but the first, which has the schema.
    for page in bytes.chunks_mut(4096).skip(1) {
        page[..32].fill(0xa5);
    }
    std::fs::write(&files[0], &bytes).unwrap();
    cluster.start_node(1).await;
    cluster.converged(THREE, SETTLED).await;
    // Whatever it answers meanwhile, it is no wrong row.
    let sum = "SELECT sum(length(v)) AS n FROM damaged_rows";
    let answer = through(&cluster, 1, &tenant).query(sum, vec![]).await;
    if let Answer::Done(rows) = &answer {
        assert_eq!(rows[0]["n"], 60 * 1400, "{rows:?}");
    }
    through(&cluster, 0, &tenant)
        .exec("UPDATE damaged_rows SET v = v || '!'", vec![])
        .await
        .done();
    mended(&cluster, &tenant, 1, "orama_sql_rebuilds_total").await;
    assert_eq!(
        through(&cluster, 1, &tenant)
            .value_at("none", sum, vec![])
            .await,
        60 * 1401
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_one_replica_and_changes_nothing() {
    if !SmallDisk::is_permitted() {
        return;
    }
    let full = ["No space left on device", "is full"];
    let options = Options {
        small_disks: vec![(2, 256)],
        allowed: full.iter().map(|text| (*text).to_owned()).collect(),
        ..Options::default()
    };
    let mut cluster = three(options).await;
    let tenant = cluster.node(0).tenant("full-disk").await;
    let database = through(&cluster, 0, &tenant);
    let create = "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)";
    database.exec(create, vec![]).await.done();
    cluster
        .replicas_equal(0, "full-disk", 3, false, SETTLED)
        .await;
    cluster.disk(2).fill(1);
    // More than fits there, also when the log gives up what it keeps for itself; a majority has room.
    let insert = "INSERT INTO t(v) VALUES (randomblob(900000))";
    let mut rows = 0;
    while rows < 80 {
        match database.exec(insert, vec![]).await {
            Answer::Done(done) => assert_eq!(done.rows_affected, 1),
            Answer::Failed(status, body) => panic!("the statement is right: {status} {body}"),
            // The full node may have led the group.
            Answer::Refused(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            Answer::Unknown(_) => {}
        }
        rows += 1;
    }
    let count = "SELECT count(*) AS n FROM t";
    let there = database.value(count, vec![]).await.as_i64().unwrap_or(0);
    assert!(there > 0 && there <= 80, "{there}");
    assert_eq!(
        through(&cluster, 1, &tenant).value(count, vec![]).await,
        there
    );
    // The full one answers what is true, or that it cannot.
    let short = through(&cluster, 2, &tenant).patience(Duration::from_secs(12));
    match short.query(count, vec![]).await {
        Answer::Done(rows) => assert_eq!(rows[0]["n"], there),
        Answer::Failed(status, body) => panic!("the statement is right: {status} {body}"),
        Answer::Refused(_) | Answer::Unknown(_) => {}
    }
    let group = cluster.group_of(0, "full-disk").await;
    for ask in [0, 2] {
        let seen = cluster.replicas_of(ask, group, "full-disk").await;
        println!("{there} rows; n{} sees {seen:#?}", ask + 1);
    }
    let began = Instant::now();
    while !full.iter().any(|text| cluster.node(2).log().contains(text)) {
        assert!(
            began.elapsed() < SETTLED,
            "it does not say that its disk is full:\n{}",
            cluster.node(2).log_tail()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The others agree with each other meanwhile.
    cluster.dumps_equal_of(&[0, 1], &tenant, count).await;

    cluster.disk(2).free();
    cluster.kill(2);
    cluster.start_node(2).await;
    cluster.converged(THREE, SETTLED).await;
    all_caught_up(&cluster, &tenant).await;
    cluster
        .replicas_equal(0, "full-disk", 3, false, SETTLED)
        .await;
    let hashes = "SELECT id, length(v) AS n, hex(substr(v, 1, 16)) AS head, hex(substr(v, -16)) AS tail FROM t";
    cluster.dumps_equal_of(&[0, 1, 2], &tenant, hashes).await;
    assert_eq!(
        through(&cluster, 2, &tenant)
            .value_at("none", count, vec![])
            .await,
        there
    );
}

//! Namespaces that are deleted, and groups that move between nodes.

use std::time::{Duration, Instant};

use orama_tests::cluster::{Cluster, Convergence, Options};
use reqwest::Method;
use serde_json::json;

use super::{SETTLED, THREE, all_caught_up, files_below, three, through};

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_namespace_leaves_no_file_and_no_row() {
    let cluster = three(Options::default()).await;
    let tenant = cluster.node(0).tenant("short-lived").await;
    let database = through(&cluster, 0, &tenant);
    let create = "CREATE TABLE short_lived_rows(v TEXT)";
    database.exec(create, vec![]).await.done();
    // Long enough to have pages of its own, and a text that can be searched for.
    let secret = "a row of the first namespace of this name".repeat(20);
    let row = "INSERT INTO short_lived_rows VALUES (?)";
    for _ in 0..20 {
        database.exec(row, vec![json!(secret)]).await.done();
    }
    let group = cluster.group_of(0, "short-lived").await;
    let first = cluster
        .replicas_equal(0, "short-lived", 3, false, SETTLED)
        .await;
    let path = "/v1/admin/namespaces/short-lived";
    cluster
        .node(1)
        .admin(Method::DELETE, path, None)
        .await
        .expect(200);

    // At once, under the same name: nothing of the first is seen.
    let again = cluster.node(2).tenant("short-lived").await;
    for i in 0..3 {
        let database = through(&cluster, i, &again);
        for level in ["linearizable", "weak", "none"] {
            let tables = database
                .value_at(level, "SELECT count(*) AS n FROM sqlite_master WHERE name NOT LIKE '\\_orama%' ESCAPE '\\'", vec![])
                .await;
            assert_eq!(tables, 0, "{level} at n{}", i + 1);
        }
    }
    let database = through(&cluster, 1, &again);
    database
        .exec("CREATE TABLE other(v TEXT)", vec![])
        .await
        .done();
    let began = Instant::now();
    loop {
        let there = cluster.replicas_of(0, group, "short-lived").await;
        let old = there.iter().filter(|d| d.born == first[0].born).count();
        let mut files = Vec::new();
        for i in 0..3 {
            files_below(cluster.node(i).data_dir(), &mut files);
        }
        files.retain(|path| path.components().any(|part| part.as_os_str() == "live"));
        files.retain(|path| {
            let bytes = std::fs::read(path).unwrap_or_default();
            bytes
                .windows(32)
                .any(|part| part == &secret.as_bytes()[..32])
        });
        if old == 0 && files.is_empty() {
            assert_eq!(there.len(), 3, "{there:?}");
            break;
        }
        assert!(
            began.elapsed() < SETTLED,
            "still there: {old} databases, {files:?}"
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    cluster
        .replicas_equal(0, "short-lived", 3, false, SETTLED)
        .await;
    cluster.dumps_equal(&[0, 1, 2], &again).await;
}

/// The nodes that have a replica of a group, and those that have none.
async fn holders(cluster: &Cluster, group: u32) -> (Vec<usize>, Vec<usize>) {
    let status = cluster.status(0).await;
    let voters = &status
        .groups
        .iter()
        .find(|g| g.id == group)
        .expect("the group")
        .voters;
    let holds = |i: &usize| {
        let name = cluster.name(*i);
        let node = status.nodes.iter().find(|n| n.name == name);
        node.is_some_and(|node| voters.contains(&node.id))
    };
    cluster.running().into_iter().partition(holds)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_moves_and_nodes_without_a_replica_serve() {
    let options = Options {
        env: vec![("ORAMA_SNAPSHOT_EVERY".into(), "2".into())],
        ..Options::default()
    };
    let mut cluster = three(options).await;
    let tenant = cluster.node(0).tenant("moving").await;
    let database = through(&cluster, 0, &tenant);
    let create = "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT DEFAULT (hex(randomblob(20))))";
    database.exec(create, vec![]).await.done();
    for _ in 0..120 {
        let insert = "INSERT INTO t DEFAULT VALUES";
        database.exec(insert, vec![]).await.done();
    }
    cluster.add().await;
    let four = Convergence {
        members: 4,
        voters: 3,
    };
    cluster.converged(four, SETTLED).await;
    let group = cluster.group_of(0, "moving").await;
    let (with, without) = holders(&cluster, group).await;
    assert_eq!((with.len(), without.len()), (3, 1), "{with:?} {without:?}");

    // Who has no replica asks one that has: reads at every level, and writes.
    let stranger = through(&cluster, without[0], &tenant);
    let count = "SELECT count(*) AS n FROM t";
    for level in ["linearizable", "weak", "none"] {
        assert_eq!(
            stranger.value_at(level, count, vec![]).await,
            120,
            "{level}"
        );
    }
    let done = stranger
        .exec("INSERT INTO t DEFAULT VALUES", vec![])
        .await
        .done();
    assert_eq!((done.rows_affected, done.last_insert_id), (1, 121));
    assert_eq!(stranger.value(count, vec![]).await, 121);
    let size = stranger.export().await.expect(200).body.len();
    assert!(size >= 8192, "{size}");

    // One that has a replica leaves: its replica moves to the one that had none.
    let leaver = *with.iter().find(|i| **i != 0).expect("another than n1");
    let name = cluster.name(leaver);
    cluster
        .operate(0, &format!("/nodes/{name}/leave"), json!({}))
        .await
        .expect(200);
    cluster
        .wait_until(0, SETTLED, |status| {
            let there = status.nodes.iter().any(|n| n.name == name);
            there.then(|| format!("{name} is still a member"))
        })
        .await;
    let node = cluster.node_mut(leaver);
    node.terminate();
    node.wait(Duration::from_secs(40)).await;
    cluster.converged(THREE, SETTLED).await;
    let (with, without_now) = holders(&cluster, group).await;
    assert!(without_now.is_empty(), "{without_now:?}");
    assert!(with.contains(&without[0]), "{with:?}");
    stranger
        .exec("UPDATE t SET v = v || 'x' WHERE id % 3 = 0", vec![])
        .await
        .done();
    all_caught_up(&cluster, &tenant).await;
    cluster.replicas_equal(0, "moving", 3, false, SETTLED).await;
    cluster.dumps_equal(&with, &tenant).await;
}

//! Databases of one group side by side, over the real mesh and groups.

use super::*;

/// Two namespaces of one group.
async fn pair(nodes: &[&Cluster]) -> (DatabaseId, DatabaseId) {
    let first = namespace(nodes, "slow").await;
    for n in 0.. {
        let name = format!("quick{n}");
        let group = nodes[0].data().group_of(&Namespace::parse(&name).unwrap());
        if group == group_of(nodes[0], &first) {
            return (first, namespace(nodes, &name).await);
        }
    }
    unreachable!()
}

/// Some tenths of a second.
const LONG: &str = "INSERT INTO t SELECT sum(n) FROM (WITH RECURSIVE c(n) AS \
    (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 800000) SELECT n FROM c)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_writes_of_one_database_do_not_hold_up_another() {
    let (_sites, nodes) = three().await;
    settled(&nodes[0], 3).await;
    let all: Vec<&Cluster> = nodes.iter().collect();
    let (slow, quick) = pair(&all).await;
    for id in [&slow, &quick] {
        write(&nodes[0], id, "CREATE TABLE t (n INTEGER)").await;
    }
    // From here on the leader knows it.
    write(&nodes[0], &slow, LONG).await;
    let mut tasks = Vec::new();
    for n in 0..50 {
        let (data, id) = (nodes[n % 3].data().clone(), slow.clone());
        tasks.push(tokio::spawn(async move {
            let ops = vec![op(LONG, Vec::new())];
            data.execute(transaction(&id, ops), soon(4)).await
        }));
    }
    let mut short = Vec::new();
    for n in 0..60 {
        let sql = format!("INSERT INTO t VALUES ({n})");
        let written = try_write(&nodes[n % 3], &quick, &sql).await;
        let written = written.unwrap_or_else(|error| panic!("write {n}: {error}"));
        done(&written);
        short.push(written.index);
    }
    let mut long = Vec::new();
    let mut refused = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(written) => long.push(written.index),
            Err(DataError::Busy(again)) => {
                assert!(again >= Duration::from_secs(1));
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0, "all of them had their turn in time");
    for pair in short.windows(2) {
        let between = long.iter().filter(|at| (pair[0]..pair[1]).contains(at));
        let between = between.count();
        assert!(between <= 4, "{between} long ones between {pair:?}");
    }
    // What was refused left nothing.
    let count = read(
        &nodes[1],
        &slow,
        "SELECT count(*) AS c FROM t",
        ReadOptions::default(),
    )
    .await;
    assert_eq!(count, format!(r#"[{{"c":{}}}]"#, long.len() + 1));
    equal(&nodes[0], group_of(&nodes[0], &slow), 3).await;
}

//! Replicas that come and go, restarts, namespaces that are deleted.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_moves_takes_the_databases_with_it() {
    let (sites, mut nodes) = three().await;
    settled(&nodes[0], 3).await;
    let all: Vec<&Cluster> = nodes.iter().collect();
    let id = namespace(&all, "acme").await;
    let group = group_of(&nodes[0], &id);
    write(
        &nodes[0],
        &id,
        "CREATE TABLE t (n INTEGER, r INTEGER DEFAULT (random()))",
    )
    .await;
    for n in 0..20 {
        write(
            &nodes[n % 3],
            &id,
            &format!("INSERT INTO t (n) VALUES ({n})"),
        )
        .await;
    }
    let sum = "SELECT count(*) AS c, sum(r % 1000) AS s FROM t";
    let before = read(&nodes[0], &id, sum, ReadOptions::default()).await;
    let spare = Site::new("d");
    nodes.push(spare.join(&[&sites[0]]).await);
    let dead = nodes.remove(2);
    let gone = dead.node_id();
    kill(dead).await;
    until("the replicas moved", || {
        let topology = nodes[0].topology();
        topology
            .groups
            .values()
            .all(|p| !p.replicas.contains(&gone))
    })
    .await;
    settled(&nodes[0], 3).await;
    equal(&nodes[0], group, 3).await;
    for node in &nodes {
        assert_eq!(read(node, &id, sum, ReadOptions::default()).await, before);
    }
    write(&nodes[2], &id, "INSERT INTO t (n) VALUES (100)").await;
    equal(&nodes[0], group, 3).await;
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_a_restart_of_all() {
    let (sites, nodes) = three().await;
    settled(&nodes[0], 3).await;
    let all: Vec<&Cluster> = nodes.iter().collect();
    let id = namespace(&all, "acme").await;
    let group = group_of(&nodes[0], &id);
    write(&nodes[0], &id, "CREATE TABLE t (n INTEGER)").await;
    for n in 0..10 {
        write(&nodes[n % 3], &id, &format!("INSERT INTO t VALUES ({n})")).await;
    }
    for node in nodes {
        kill(node).await;
    }
    let starts = sites.iter().map(|s| s.start(s.options(&[], 0)));
    let nodes: Vec<Cluster> = futures::future::join_all(starts)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    settled(&nodes[0], 3).await;
    for node in &nodes {
        let found = read(
            node,
            &id,
            "SELECT sum(n) AS s FROM t",
            ReadOptions::default(),
        )
        .await;
        assert_eq!(found, r#"[{"s":45}]"#);
    }
    equal(&nodes[1], group, 3).await;
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_of_a_deleted_namespace_goes_everywhere() {
    let (sites, nodes) = three().await;
    settled(&nodes[0], 3).await;
    let all: Vec<&Cluster> = nodes.iter().collect();
    let id = namespace(&all, "acme").await;
    let group = group_of(&nodes[0], &id);
    write(&nodes[0], &id, "CREATE TABLE t (n INTEGER)").await;
    equal(&nodes[0], group, 3).await;
    let command = MetaCommand::DeleteNamespace {
        namespace: id.namespace.clone(),
    };
    nodes[1].meta().propose(&rid(), command).await.unwrap();
    let again = namespace(&all, "acme").await;
    assert_ne!(id, again);
    let of_new = read(
        &nodes[0],
        &again,
        "SELECT count(*) AS c FROM sqlite_master",
        ReadOptions::default(),
    );
    assert_eq!(
        of_new.await,
        r#"[{"c":0}]"#,
        "nothing of the old one is seen"
    );
    until("its files are deleted", || {
        sites.iter().all(|s| files_of(s, group).is_empty())
    })
    .await;
    // Of a node that did not hear of it yet.
    for node in &nodes {
        let late = try_write(node, &id, "CREATE TABLE late (n INTEGER)").await;
        assert!(
            matches!(&late, Err(DataError::Stale(why)) if why.contains("made anew")),
            "{late:?}"
        );
    }
    assert!(sites.iter().all(|s| files_of(s, group).is_empty()));
    write(&nodes[0], &again, "CREATE TABLE u (n INTEGER)").await;
    equal(&nodes[0], group, 3).await;
    stop(nodes).await;
}

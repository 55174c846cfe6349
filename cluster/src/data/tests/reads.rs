//! Writing and reading on any node, whole copies, and reads that end early.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_writes_all_nodes_read() {
    let (sites, mut nodes) = three().await;
    settled(&nodes[0], 3).await;
    // One that holds no replica.
    let spare = Site::new("d");
    nodes.push(spare.join(&[&sites[0]]).await);
    let all: Vec<&Cluster> = nodes.iter().collect();
    let id = namespace(&all, "acme").await;
    let group = group_of(&nodes[0], &id);
    for node in &nodes {
        let missing = read(node, &id, "SELECT 1 AS one", ReadOptions::default()).await;
        assert_eq!(
            missing, r#"[{"one":1}]"#,
            "a database that was never written to"
        );
    }
    write(
        &nodes[3],
        &id,
        "CREATE TABLE t (n INTEGER, at TEXT DEFAULT CURRENT_TIMESTAMP)",
    )
    .await;
    let mut index = 0;
    for (n, node) in nodes.iter().enumerate() {
        let written = write(node, &id, &format!("INSERT INTO t (n) VALUES ({n})")).await;
        assert!(written.index > index);
        index = written.index;
        for node in &nodes {
            let sql = "SELECT max(n) AS n FROM t";
            let expected = format!(r#"[{{"n":{n}}}]"#);
            for read_at in [
                ReadOptions::default(),
                ReadOptions {
                    at_least: index,
                    ..at(ReadLevel::None)
                },
            ] {
                assert_eq!(
                    read(node, &id, sql, read_at).await,
                    expected,
                    "{}",
                    node.name()
                );
            }
        }
    }
    let weak = read(
        &nodes[3],
        &id,
        "SELECT count(*) AS c FROM t",
        at(ReadLevel::Weak),
    )
    .await;
    assert_eq!(weak, r#"[{"c":4}]"#);
    let fresh = ReadOptions {
        freshness: Some(Duration::from_secs(5)),
        strict: true,
        ..at(ReadLevel::None)
    };
    until_read(&nodes[0], &id, fresh).await;
    let never = ReadOptions {
        at_least: index + 1_000_000,
        ..at(ReadLevel::None)
    };
    let late = nodes[0]
        .data()
        .query(&id, query("SELECT 1"), never, soon(1))
        .await;
    assert!(matches!(late, Err(DataError::Stale(_))), "{late:?}");
    equal(&nodes[3], group, 3).await;

    let wrong = try_write(&nodes[0], &id, "INSERT INTO nowhere VALUES (1)")
        .await
        .unwrap();
    assert!(matches!(
        wrong.outcome,
        SqlOutcome::RolledBack { failed: 0, .. }
    ));
    let large = op(
        "INSERT INTO t (n) VALUES (?)",
        vec![SqlValue::Blob(vec![0; 1 << 20])],
    );
    let large = nodes[3]
        .data()
        .execute(transaction(&id, vec![large]), soon(5))
        .await;
    assert!(matches!(large, Err(DataError::Limit { .. })), "{large:?}");
    stop(nodes).await;
}

/// A read that may be refused for a moment, while entries are on their way.
async fn until_read(node: &Cluster, id: &DatabaseId, read: ReadOptions) {
    let deadline = soon(20);
    while let Err(error) = try_read(node, id, "SELECT 1", read).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_answers_and_whole_copies_cross_the_mesh() {
    let (sites, mut nodes) = three().await;
    settled(&nodes[0], 3).await;
    let spare = Site::new("d");
    nodes.push(spare.join(&[&sites[0]]).await);
    let all: Vec<&Cluster> = nodes.iter().collect();
    let id = namespace(&all, "acme").await;
    write(
        &nodes[0],
        &id,
        "CREATE TABLE t (n INTEGER PRIMARY KEY, v TEXT)",
    )
    .await;
    let fill = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 6000)
        INSERT INTO t SELECT n, printf('%01000d', n) FROM c";
    write(&nodes[3], &id, fill).await;
    let sql = "SELECT v FROM t ORDER BY n";
    let here = read(&nodes[0], &id, sql, ReadOptions::default()).await;
    let there = read(&nodes[3], &id, sql, ReadOptions::default()).await;
    assert!(here.len() > super::super::wire::INLINE_MAX_BYTES && here == there);

    for node in [&nodes[0], &nodes[3]] {
        let mut export = node.data().export(&id, soon(20)).await.unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = Vec::new();
        while let Some(piece) = export.next().await.unwrap() {
            assert!(piece.len() <= super::super::wire::PIECE_BYTES);
            bytes.extend_from_slice(&piece);
        }
        assert_eq!(bytes.len() as u64, export.bytes);
        std::fs::write(file.path(), &bytes).unwrap();
        let copy = rusqlite::Connection::open(file.path()).unwrap();
        let sum = "SELECT count(*) || ':' || sum(length(v)) || ':' || max(v) FROM t";
        let sum: String = copy.query_row(sum, [], |row| row.get(0)).unwrap();
        assert!(sum.starts_with("6000:6000000:"), "{sum}");
        let names = "SELECT group_concat(name) FROM sqlite_master";
        let names: String = copy.query_row(names, [], |row| row.get(0)).unwrap();
        assert_eq!(names, "t", "nothing of ours is in it");
    }
    // Clients that take nothing: others wait for a place, replicas do not.
    let groups = nodes[0].data();
    let mut idle = Vec::new();
    for _ in 0..super::super::copies::CLIENT_COPIES {
        let mut export = groups.export(&id, soon(20)).await.unwrap();
        assert!(export.next().await.unwrap().is_some());
        idle.push(export);
    }
    assert_eq!(groups.0.copies.free_for_clients(), 0);
    let (group, to) = (group_of(&nodes[0], &id), nodes[1].node_id());
    let copy_for = super::super::wire::CopyFor::Replica(1);
    let copied = groups.copy_for(group, &id, copy_for, to, soon(10)).await;
    assert!(
        matches!(copied, Ok(super::super::wire::Told::Copied(_))),
        "{copied:?}"
    );
    groups.0.parcels.sweep_idle(Duration::ZERO);
    for export in &mut idle {
        let lost = export.next().await;
        assert!(matches!(lost, Err(DataError::Unavailable(_))), "{lost:?}");
    }
    until("their places are free while they still wait", || {
        groups.0.copies.free_for_clients() == idle.len()
    })
    .await;
    drop(idle);
    let nobody = DatabaseId {
        born: orama_proto::Timestamp(1),
        ..id.clone()
    };
    let mut empty = nodes[3].data().export(&nobody, soon(20)).await.unwrap();
    assert!(empty.bytes == 0 && empty.next().await.unwrap().is_none());
    let copies = |site: &Site| {
        let dir = site.dir.path().join("databases").join("copies");
        std::fs::read_dir(dir).map_or(0, Iterator::count)
    };
    until("copies are deleted", || {
        sites.iter().all(|s| copies(s) == 0)
    })
    .await;
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_nobody_waits_for_ends_and_one_at_its_deadline_says_so() {
    let (_sites, nodes) = three().await;
    settled(&nodes[0], 3).await;
    let all: Vec<&Cluster> = nodes.iter().collect();
    let id = namespace(&all, "acme").await;
    write(&nodes[0], &id, "CREATE TABLE t (n INTEGER)").await;
    let endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c)
        SELECT count(*) FROM c";
    // More than may run at once: if one went on, the next would not get a turn.
    for _ in 0..2 * super::super::gate::READS_OF_ONE {
        let read = nodes[0]
            .data()
            .query(&id, query(endless), at(ReadLevel::None), soon(10));
        let stopped = tokio::time::timeout(Duration::from_millis(20), read).await;
        assert!(stopped.is_err(), "it does not end by itself");
    }
    let begun = Instant::now();
    read(&nodes[0], &id, "SELECT 1", at(ReadLevel::None)).await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let ended = nodes[0]
        .data()
        .query(&id, query(endless), at(ReadLevel::None), soon(1));
    let ended = ended.await.unwrap().results.remove(0).unwrap_err();
    assert_eq!(ended.code, orama_proto::sql::SqlCode::DeadlineExceeded);
    stop(nodes).await;
}

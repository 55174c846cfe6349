//! A restart applies nothing twice and loses nothing.

use orama_tests::cluster::{Cluster, Convergence, Options};

use super::{SETTLED, through};

const ONE: Convergence = Convergence {
    members: 1,
    voters: 1,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_applies_nothing_twice_and_loses_nothing() {
    let options = Options {
        env: vec![("ORAMA_SNAPSHOT_EVERY".into(), "4".into())],
        ..Options::default()
    };
    let mut cluster = Cluster::start(1, options).await;
    cluster.converged(ONE, SETTLED).await;
    let tenant = cluster.node(0).tenant("counted").await;
    let database = through(&cluster, 0, &tenant);
    let create =
        "CREATE TABLE counter(id INTEGER PRIMARY KEY, n INTEGER, r INTEGER DEFAULT (random()))";
    database.exec(create, vec![]).await.done();
    let first = "INSERT INTO counter(id, n) VALUES (1, 0)";
    database.exec(first, vec![]).await.done();
    let mut expected = 0;
    // The log is replayed from wherever it begins; every entry counts once all the same.
    for round in 0..4 {
        for _ in 0..70 {
            let done = database
                .exec(
                    "UPDATE counter SET n = n + 1, r = random() WHERE id = 1",
                    vec![],
                )
                .await
                .done();
            assert_eq!(done.rows_affected, 1);
            expected += 1;
        }
        let group = cluster.group_of(0, "counted").await;
        let before = cluster.replicas_of(0, group, "counted").await;
        let drawn = database.value("SELECT r FROM counter", vec![]).await;
        let took = if round % 2 == 0 {
            cluster.node_mut(0).crash_and_restart().await
        } else {
            cluster.stop(0).await;
            cluster.start_node(0).await
        };
        cluster.converged(ONE, SETTLED).await;
        let n = database.value("SELECT n FROM counter", vec![]).await;
        assert_eq!(n, expected, "round {round}");
        let again = database.value("SELECT r FROM counter", vec![]).await;
        assert_eq!(again, drawn, "what was drawn stays");
        let after = cluster.replicas_of(0, group, "counted").await;
        assert_eq!(before[0].hash, after[0].hash);
        assert_eq!(before[0].applied, after[0].applied);
        println!("round {round}: ready after {took:?}, n = {n}");
    }
    // Nothing was thrown away and made again.
    let text = cluster.node(0).metrics_text().await;
    for metric in ["orama_sql_rebuilds_total", "orama_sql_divergences_total"] {
        let lines = text.lines().filter(|line| line.starts_with(metric));
        for line in lines {
            assert!(line.ends_with(" 0"), "{line}");
        }
    }
}

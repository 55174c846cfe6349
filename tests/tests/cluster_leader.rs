//! A leader dies: writes go on in less than two seconds, invocations on the
//! other nodes do not notice.

use std::time::{Duration, Instant};

use orama_tests::cluster::{Cluster, Convergence, Invocations, Options};
use orama_tests::{Deploy, guests};
use reqwest::Method;
use serde_json::json;

/// From the kill to the first write that is acknowledged.
const RESUMED_WITHIN: Duration = Duration::from_secs(2);
const THREE: Convergence = Convergence {
    members: 3,
    voters: 3,
};

/// Writes through `node` until one is acknowledged; answers when that was.
async fn first_write(cluster: &Cluster, node: usize, group: u32, since: Instant) -> Duration {
    let mut tries = 0;
    loop {
        tries += 1;
        let (method, path, body) = match group {
            0 => (
                Method::POST,
                "/v1/admin/namespaces".to_owned(),
                json!({ "name": format!("w{node}-{tries}-{}", since.elapsed().as_micros()) }),
            ),
            group => (
                Method::PUT,
                format!("/v1/admin/cluster/groups/{group}/registers/resumed"),
                json!({ "value": format!("{tries}") }),
            ),
        };
        let request = cluster.node(node).admin_request(method, &path).json(&body);
        // Short, so that one request that hangs does not hide that another would do.
        let answer = request.timeout(Duration::from_millis(1_500)).send().await;
        if answer.is_ok_and(|a| a.status().is_success()) {
            return since.elapsed();
        }
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "no write for 30 s"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_resume_and_invocations_do_not_fail() {
    let mut cluster = Cluster::start(3, Options::default()).await;
    cluster.converged(THREE, Duration::from_secs(30)).await;
    let tenant = cluster.node(0).tenant("leader").await;
    tenant.deploy(Deploy::new("echo", &guests::echo())).await;
    let data = *cluster.data_groups(0).await.first().expect("a data group");
    let mut slowest = Duration::ZERO;
    for round in 0..4 {
        let group = if round % 2 == 0 { 0 } else { data };
        let leader = cluster.leader(0, group).await.expect("a leader");
        let others: Vec<usize> = (0..3).filter(|i| *i != leader).collect();
        let load = Invocations::start("echo", 4, Duration::from_millis(2));
        for i in &others {
            load.add(&cluster.name(*i), cluster.node(*i).tenant_of(&tenant));
        }
        cluster.kill(leader);
        let killed = Instant::now();
        let (a, b) = tokio::join!(
            first_write(&cluster, others[0], group, killed),
            first_write(&cluster, others[1], group, killed),
        );
        let took = a.max(b);
        slowest = slowest.max(took);
        println!(
            "group {group}: n{} killed, writes resumed after {took:?}",
            leader + 1
        );
        let outcomes = load.finish(200, Duration::from_secs(30)).await;
        assert!(outcomes.failed.is_empty(), "{:?}", outcomes.failed);
        assert!(took < RESUMED_WITHIN, "writes resumed after {took:?}");
        cluster.start_node(leader).await;
        cluster.converged(THREE, Duration::from_secs(30)).await;
    }
    println!("slowest: {slowest:?}");
}

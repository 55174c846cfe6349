//! 1 → 3 → 5 → 3 nodes under load: no invocation fails but for connections to
//! a node that is stopped.

use std::time::Duration;

use orama_tests::cluster::{Cluster, Convergence, Invocations, Options};
use orama_tests::{Deploy, guests};
use serde_json::json;

const SETTLED: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn nodes_come_and_go_and_no_invocation_fails() {
    let mut cluster = Cluster::founder(Options::default()).await;
    let tenant = cluster.node(0).tenant("resize").await;
    tenant.deploy(Deploy::new("echo", &guests::echo())).await;
    let load = Invocations::start("echo", 4, Duration::from_millis(4));
    load.add("n1", tenant.clone());

    for (size, voters) in [(3, 3), (5, 5)] {
        while cluster.len() < size {
            let i = cluster.add().await;
            load.add(&cluster.name(i), cluster.node(i).tenant_of(&tenant));
        }
        let wanted = Convergence {
            members: size,
            voters,
        };
        cluster.converged(wanted, SETTLED).await;
        assert!(load.outcomes().failed.is_empty(), "{:?}", load.outcomes());
        println!("{size} nodes, {} invocations", load.outcomes().done);
    }
    // The founder leaves as well: nothing depends on it.
    for (leaver, left) in [(0, 4), (3, 3)] {
        let name = cluster.name(leaver);
        let through = if leaver == 0 { 1 } else { 2 };
        load.stopping(&name);
        cluster
            .operate(through, &format!("/nodes/{name}/leave"), json!({}))
            .await
            .expect(200);
        cluster
            .wait_until(through, SETTLED, |status| {
                let there = status.nodes.iter().any(|n| n.name == name);
                there.then(|| format!("{name} is still a member"))
            })
            .await;
        // A node that was removed ends by itself; one that has not yet is told to.
        stop_removed(&mut cluster, leaver).await;
        load.remove(&name);
        let wanted = Convergence {
            members: left,
            // An odd number.
            voters: 3,
        };
        cluster.converged(wanted, SETTLED).await;
        println!("{left} nodes, {} invocations", load.outcomes().done);
    }
    let outcomes = load.finish(300, SETTLED).await;
    assert!(outcomes.failed.is_empty(), "{:?}", outcomes.failed);
    println!(
        "{} invocations, {} cut by a stop",
        outcomes.done, outcomes.stopped
    );
}

async fn stop_removed(cluster: &mut Cluster, i: usize) {
    let node = cluster.node_mut(i);
    node.terminate();
    let status = node.wait(Duration::from_secs(40)).await;
    assert!(
        status.success(),
        "a node that left ends well: {status}\n{}",
        node.log_tail()
    );
}

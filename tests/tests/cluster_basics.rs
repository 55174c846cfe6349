//! Three nodes are one platform: what is made through one is there through all.

use std::time::Duration;

use futures::future::join_all;
use orama_proto::api::{ClusterStatus, LogsResponse};
use orama_tests::cluster::{Cluster, Convergence, Options};
use orama_tests::{Deploy, Tenant, guests};
use reqwest::Method;
use serde_json::json;

const SETTLED: Duration = Duration::from_secs(30);

async fn three() -> Cluster {
    let cluster = Cluster::start(3, Options::default()).await;
    let wanted = Convergence {
        members: 3,
        voters: 3,
    };
    cluster.converged(wanted, SETTLED).await;
    cluster
}

/// The tenant through every node.
fn everywhere(cluster: &Cluster, tenant: &Tenant) -> Vec<Tenant> {
    (0..cluster.len())
        .map(|i| cluster.node(i).tenant_of(tenant))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_form_one_cluster_and_show_it() {
    let cluster = three().await;
    let mut views: Vec<ClusterStatus> = Vec::new();
    for i in 0..3 {
        let status = cluster.status(i).await;
        assert_eq!(status.cluster_id.len(), 32, "{status:?}");
        let names: Vec<_> = status.nodes.iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["n1", "n2", "n3"]);
        let leaders = status.nodes.iter().filter(|n| n.role == "leader").count();
        assert_eq!(leaders, 1, "{status:?}");
        for (place, node) in status.nodes.iter().enumerate() {
            let expected = cluster.mesh_multiaddr(place);
            assert!(node.addresses.contains(&expected), "{node:?}: {expected}");
            assert!(!node.version.is_empty() && node.load.is_some(), "{node:?}");
        }
        assert_eq!(status.groups[0].name, "meta");
        assert_eq!(
            status.groups.len(),
            5,
            "meta and four data groups: {status:?}"
        );
        views.push(status);
    }
    assert!(views.windows(2).all(|w| w[0].cluster_id == w[1].cluster_id));
    // The groups' leaders are spread: one node does not lead all of them.
    let leaders: std::collections::BTreeSet<_> =
        views[0].groups.iter().map(|g| g.leader.clone()).collect();
    assert!(leaders.len() > 1, "{:?}", views[0].groups);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_through_one_node_is_there_through_all() {
    let cluster = three().await;
    let tenant = cluster.node(0).tenant("everywhere").await;
    let tenants = everywhere(&cluster, &tenant);
    // The key was made on another node a moment ago.
    for through in &tenants {
        assert_eq!(
            through.whoami().await.namespace.as_deref(),
            Some("everywhere")
        );
    }
    for round in 0..10 {
        let name = format!("hello-{round}");
        let maker = &tenants[round % 3];
        maker
            .deploy(Deploy::new(
                &name,
                &guests::constant(&format!("{{\"r\":{round}}}")),
            ))
            .await;
        // At once, through all of them at the same time.
        let replies = join_all(tenants.iter().map(|t| t.invoke(&name, ""))).await;
        for reply in replies {
            assert_eq!(reply.output(), format!("{{\"r\":{round}}}").as_bytes());
        }
        tenants[(round + 1) % 3]
            .set_secret(&format!("S{round}"), "value")
            .await;
        assert_eq!(tenants[(round + 2) % 3].secrets().await.len(), round + 1);
    }
    // A new version, and then none.
    tenants[1]
        .deploy(Deploy::new("hello-0", &guests::constant("[2]")))
        .await;
    for reply in join_all(tenants.iter().map(|t| t.invoke("hello-0", ""))).await {
        assert_eq!(reply.output(), b"[2]");
    }
    let gone = tenants[2]
        .call(Method::DELETE, "/v1/functions/hello-0", "")
        .await;
    gone.expect(200);
    for through in &tenants {
        through.invoke("hello-0", "").await.expect(404);
        assert_eq!(through.functions().await.len(), 9);
    }
    // A key that is revoked on one node opens nothing on another.
    let made = cluster
        .node(1)
        .admin(
            Method::POST,
            "/v1/admin/namespaces/everywhere/keys",
            Some(json!({ "label": "second" })),
        )
        .await
        .expect(201)
        .json();
    let second = tenants[2].with_credential(made["api_key"].as_str().unwrap());
    second.get("/v1/functions").await.expect(200);
    let path = format!(
        "/v1/admin/namespaces/everywhere/keys/{}",
        made["id"].as_str().unwrap()
    );
    cluster
        .node(0)
        .admin(Method::DELETE, &path, None)
        .await
        .expect(200);
    second.get("/v1/functions").await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_gathered_and_say_who_is_silent() {
    let mut cluster = three().await;
    let tenant = cluster.node(0).tenant("logs").await;
    let tenants = everywhere(&cluster, &tenant);
    tenants[0]
        .deploy(Deploy::new("echo", &guests::echo()))
        .await;
    let mut asked = Vec::new();
    for through in &tenants {
        let reply = through.invoke("echo", "{}").await;
        reply.output();
        asked.push(reply.request_id());
    }
    for through in &tenants {
        let began = std::time::Instant::now();
        loop {
            let logs = through.logs("echo").await;
            assert!(logs.silent.is_empty(), "{:?}", logs.silent);
            let found = |id: &String| logs.invocations.iter().any(|r| r.request_id.as_str() == id);
            if asked.iter().all(found) {
                let newest_first = |w: &[orama_proto::invocation::InvocationRecord]| {
                    // The id is the moment of writing, on every node.
                    w[0].id >= w[1].id
                };
                assert!(logs.invocations.windows(2).all(newest_first));
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "{logs:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    cluster.kill(2);
    let logs: LogsResponse = tenants[0].logs("echo").await;
    assert_eq!(logs.silent, ["n3"]);
    assert!(!logs.invocations.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_missed_a_deploy_fetches_the_module() {
    let mut cluster = three().await;
    let tenant = cluster.node(0).tenant("missed").await;
    cluster.stop(2).await;
    tenant
        .deploy(Deploy::new("late", &guests::constant("\"here\"")))
        .await;
    cluster.start_node(2).await;
    let reply = cluster.node(2).tenant_of(&tenant).invoke("late", "").await;
    assert_eq!(reply.output(), b"\"here\"");
}

//! Nodes that come back: at another address, and under their old name with
//! nothing on their disk.

use std::time::Duration;

use orama_tests::cluster::{Cluster, Convergence, Options};
use orama_tests::{Deploy, guests};

const SETTLED: Duration = Duration::from_secs(60);
const THREE: Convergence = Convergence {
    members: 3,
    voters: 3,
};

async fn three_with_a_function() -> (Cluster, orama_tests::Tenant) {
    let cluster = Cluster::start(3, Options::default()).await;
    cluster.converged(THREE, SETTLED).await;
    let tenant = cluster.node(0).tenant("return").await;
    tenant.deploy(Deploy::new("echo", &guests::echo())).await;
    (cluster, tenant)
}

async fn serves(cluster: &Cluster, i: usize, tenant: &orama_tests::Tenant) {
    let reply = cluster
        .node(i)
        .tenant_of(tenant)
        .invoke("echo", "[1]")
        .await;
    assert_eq!(reply.output(), b"[1]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_returns_at_another_address() {
    let (mut cluster, tenant) = three_with_a_function().await;
    for i in [1, 0, 2] {
        let id = cluster.id_of(i).await;
        cluster.kill(i);
        cluster.move_away(i);
        cluster.start_node(i).await;
        assert_eq!(
            cluster.id_of(i).await,
            id,
            "identity is a key, not an address"
        );
        cluster.converged(THREE, SETTLED).await;
        let (other, address) = ((i + 1) % 3, cluster.mesh_multiaddr(i));
        let name = cluster.name(i);
        cluster
            .wait_until(other, SETTLED, |status| {
                let node = status.nodes.iter().find(|n| n.name == name)?;
                let told = node.addresses.contains(&address);
                (!told).then(|| format!("{name} is known at {:?}", node.addresses))
            })
            .await;
        serves(&cluster, i, &tenant).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_return_at_other_addresses_at_once() {
    let (mut cluster, tenant) = three_with_a_function().await;
    cluster.restart_all_elsewhere().await;
    cluster.converged(THREE, SETTLED).await;
    for i in 0..3 {
        serves(&cluster, i, &tenant).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_returns_under_its_old_name_with_an_empty_disk() {
    let (mut cluster, tenant) = three_with_a_function().await;
    let old = cluster.id_of(2).await;
    cluster.kill(2);
    cluster.wipe(2);
    cluster.start_node(2).await;
    cluster.converged(THREE, SETTLED).await;
    let new = cluster.id_of(2).await;
    assert_ne!(old, new, "its key was on the disk");
    for i in 0..3 {
        let status = cluster.status(i).await;
        for group in &status.groups {
            assert!(
                !group.voters.contains(&old) && !group.learners.contains(&old),
                "the old replica is out of {}: {status:?}",
                group.name
            );
        }
    }
    serves(&cluster, 2, &tenant).await;
    // It holds everything: with it and one other, the cluster goes on.
    cluster.kill(0);
    cluster
        .node(2)
        .tenant_of(&tenant)
        .deploy(Deploy::new("after", &guests::constant("[2]")))
        .await;
    let reply = cluster.node(1).tenant_of(&tenant).invoke("after", "").await;
    assert_eq!(reply.output(), b"[2]");
}

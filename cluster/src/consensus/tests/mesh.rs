//! The same groups over the mesh as it is: keys, admission, streams on loopback.

use super::*;
use crate::mesh::{ClusterSecrets, Mesh, MeshOptions, NodeKey};

struct Meshed {
    mesh: Mesh,
    groups: Groups,
    group: Group,
    registers: Arc<Registers>,
    registry: prometheus::Registry,
    _dir: TempDir,
}

async fn start(name: &str, begin: Begin) -> Meshed {
    let registry = prometheus::Registry::new();
    let options = MeshOptions {
        key: NodeKey::generate().unwrap(),
        name: name.into(),
        version: "1".into(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        advertise: Vec::new(),
        secrets: ClusterSecrets::parse("a secret of these tests").unwrap(),
    };
    let mesh = Mesh::start(options, &registry).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::register(&registry).unwrap();
    let paths = Node::paths(&dir);
    let groups = Groups::open(&paths, mesh.node_id(), Some(mesh.clone()), metrics)
        .await
        .unwrap();
    let registers = Arc::<Registers>::default();
    let group = groups
        .start(GROUP, pairs(&registers), &options_of_tests(), begin)
        .await
        .unwrap();
    Meshed {
        mesh,
        groups,
        group,
        registers,
        registry,
        _dir: dir,
    }
}

fn options_of_tests() -> GroupOptions {
    super::options(5000)
}

fn histogram(registry: &prometheus::Registry, name: &str) -> (f64, u64) {
    let families = registry.gather();
    let family = families.iter().find(|f| f.name() == name).unwrap();
    let histogram = family.get_metric()[0].get_histogram();
    (histogram.get_sample_sum(), histogram.get_sample_count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_on_loopback_share_syncs_and_outlive_their_leader() {
    let mut nodes = vec![start("a", Begin::Found).await];
    for name in ["b", "c"] {
        nodes.push(start(name, Begin::Wait).await);
    }
    for node in &nodes {
        for other in &nodes {
            if node.mesh.node_id() != other.mesh.node_id() {
                let addresses = other.mesh.addresses();
                node.mesh.keep(other.mesh.node_id(), &addresses);
            }
        }
    }
    until("all are linked", 20, || {
        nodes.iter().all(|n| n.mesh.peers().len() == 2)
    })
    .await;
    let ids: BTreeSet<NodeId> = nodes.iter().map(|n| n.mesh.node_id()).collect();
    let leader = nodes[0].group.clone();
    for node in &nodes[1..] {
        leader.add_learner(node.mesh.node_id()).await.unwrap();
    }
    until("the learners catch up", 20, || {
        let view = leader.view();
        ids.iter()
            .all(|id| *id == nodes[0].mesh.node_id() || view.caught_up(*id, 0))
    })
    .await;
    leader.set_voters(ids).await.unwrap();
    let before = histogram(&nodes[0].registry, "orama_raft_log_batch_entries");
    let start = Instant::now();
    let writers = (0..256usize).map(|w| {
        let group = nodes[w % 3].group.clone();
        async move {
            for n in 0..4 {
                group.propose(set(&format!("{w}-{n}"), "x")).await.unwrap();
            }
        }
    });
    futures::future::join_all(writers).await;
    let took = start.elapsed();
    let after = histogram(&nodes[0].registry, "orama_raft_log_batch_entries");
    let share = (after.0 - before.0) / (after.1 - before.1) as f64;
    println!("1024 writes of 256 clients in {took:?}, {share:.1} entries per sync");
    assert!(share > 5.0, "{share} entries per sync");
    for node in &nodes {
        node.group.confirm(soon(10)).await.unwrap();
        assert_eq!(node.registers.len(), 1024);
    }
    let dead = nodes.remove(0);
    dead.mesh.shutdown().await;
    dead.groups.shutdown().await;
    let start = Instant::now();
    while let Err(error) = nodes[0].group.propose(set("after", "1")).await {
        assert!(start.elapsed() < Duration::from_secs(10), "{error}");
    }
    println!("writes went on after {:?}", start.elapsed());
    for node in &nodes {
        node.group.confirm(soon(10)).await.unwrap();
        assert_eq!(node.registers.get("after").unwrap(), b"1");
    }
    for node in &nodes {
        node.mesh.shutdown().await;
        node.groups.shutdown().await;
    }
}

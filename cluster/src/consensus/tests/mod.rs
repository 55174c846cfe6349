//! Several nodes in one process, each with its own directory, over links that
//! are cut and lossy at will.

mod faults;
mod folder;
mod keepers;
mod mesh;
mod net;
mod replicas;
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_proto::{GroupId, NodeId};
use parking_lot::Mutex;
use tempfile::TempDir;

use self::net::{Net, Port};
use super::group::{Committed, Group, GroupOptions, ProposeFault};
use super::groups::{Begin, Groups};
use super::keeper::Backend;
use super::link::Link;
use super::machine::{Applied, Machine};
use super::metrics::Metrics;
use super::recover::Paths;
use super::state::Change;

const GROUP: GroupId = GroupId(5);

/// Keys with values; a command replaces a value and answers the old one.
#[derive(Default)]
pub(super) struct Registers(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Registers {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.0.lock().get(key.as_bytes()).cloned()
    }
    fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl Machine for Registers {
    fn load(&self, pairs: &mut dyn Iterator<Item = (&[u8], &[u8])>) -> Result<(), String> {
        *self.0.lock() = pairs.map(|(k, v)| (k[1..].to_vec(), v.to_vec())).collect();
        Ok(())
    }
    fn apply(&self, command: &[u8]) -> Result<Applied, String> {
        let cut = command.iter().position(|b| *b == b'=').ok_or("no key")?;
        let (key, value) = (command[..cut].to_vec(), command[cut + 1..].to_vec());
        let old = self.0.lock().insert(key.clone(), value.clone());
        Ok(Applied {
            reply: old.unwrap_or_default(),
            changes: vec![Change {
                key: [b"r", key.as_slice()].concat(),
                value: Some(value),
            }],
        })
    }
}

fn pairs(registers: &Arc<Registers>) -> Backend {
    Backend::Pairs(Arc::clone(registers) as Arc<dyn Machine>)
}

fn options(snapshot_every: u64) -> GroupOptions {
    GroupOptions {
        snapshot_every,
        ready_within: Duration::from_secs(10),
    }
}

fn soon(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

fn set(key: &str, value: &str) -> Vec<u8> {
    format!("{key}={value}").into_bytes()
}

/// One node.
struct Node {
    id: NodeId,
    dir: TempDir,
    net: Arc<Net>,
    groups: Groups,
    group: Group,
    registers: Arc<Registers>,
    registry: prometheus::Registry,
}

impl Node {
    fn paths(dir: &TempDir) -> Paths {
        Paths {
            log: dir.path().join("raft").join("log"),
            state: dir.path().join("state"),
            snapshots: dir.path().join("snapshots"),
            databases: dir.path().join("databases"),
        }
    }

    async fn start(net: &Arc<Net>, id: u64, begin: Begin, every: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, net, NodeId(id), begin, every).await
    }

    async fn start_in(dir: TempDir, net: &Arc<Net>, id: NodeId, begin: Begin, every: u64) -> Self {
        let registry = prometheus::Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let port = Port {
            net: Arc::clone(net),
            me: id,
        };
        let links = Some(Arc::new(port) as Arc<dyn Link>);
        let paths = Self::paths(&dir);
        let groups = Groups::over(&paths, id, links, metrics).await.unwrap();
        net.join(id, groups.handlers());
        let registers = Arc::<Registers>::default();
        let group = groups
            .start(GROUP, pairs(&registers), &options(every), begin)
            .await
            .unwrap();
        Self {
            id,
            dir,
            net: Arc::clone(net),
            groups,
            group,
            registers,
            registry,
        }
    }

    /// Stops at once, as a kill would for the others; what is on disk stays.
    async fn stop(self) -> TempDir {
        self.net.leave(self.id);
        self.groups.shutdown().await;
        self.dir
    }

    async fn set(&self, key: &str, value: &str) -> Result<Committed, ProposeFault> {
        self.group.propose(set(key, value)).await
    }

    /// Reads a register, linearizably.
    async fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.group.confirm(soon(10)).await.unwrap();
        self.registers.get(key)
    }

    fn counted(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let Some(family) = families.iter().find(|f| f.name() == name) else {
            return 0.0;
        };
        let is_labelled = |m: &&prometheus::proto::Metric| {
            label.is_empty() || m.get_label().iter().any(|l| l.value() == label)
        };
        let metrics = family.get_metric().iter().filter(is_labelled);
        metrics.map(|m| m.get_counter().get_value()).sum()
    }
}

/// Waits for a condition.
async fn until(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let deadline = soon(seconds);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// So many nodes, all of them voters; the first one leads.
async fn cluster(net: &Arc<Net>, count: u64, every: u64) -> Vec<Node> {
    let mut nodes = vec![Node::start(net, 1, Begin::Found, every).await];
    for id in 2..=count {
        nodes.push(Node::start(net, id, Begin::Wait, every).await);
        admit(&nodes[0], NodeId(id)).await;
    }
    let voters = (1..=count).map(NodeId).collect();
    nodes[0].group.set_voters(voters).await.unwrap();
    nodes
}

/// Adds a learner and waits until it has caught up.
async fn admit(leader: &Node, node: NodeId) {
    leader.group.add_learner(node).await.unwrap();
    until("the learner catches up", 20, || {
        leader.group.view().caught_up(node, 0)
    })
    .await;
}

fn leader_of<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Option<&'a Node> {
    nodes
        .into_iter()
        .find(|n| n.group.view().leader == Some(n.id))
}

async fn same_state(nodes: &[Node]) {
    let index = nodes.iter().map(|n| n.group.applied_index()).max().unwrap();
    until("all have applied everything", 10, || {
        nodes.iter().all(|n| n.group.applied_index() >= index)
    })
    .await;
    let hashes: BTreeSet<u128> = nodes.iter().map(|n| n.group.state_hash()).collect();
    assert_eq!(hashes.len(), 1, "replicas differ");
}

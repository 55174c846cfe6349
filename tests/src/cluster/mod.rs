//! Clusters of real node processes, and everything that can happen to them:
//! kill -9, a pause, a restart at other addresses, cut and lossy links, a full
//! disk, an empty disk.
//!
//! A cluster ends with the value, also when the test panics; when the test
//! process itself is killed, the kernel kills the nodes.

mod chaos;
mod disk;
mod faults;
mod grow;
mod load;
mod network;
mod registers;
mod status;

pub use chaos::{Chaos, Fault};
pub use disk::SmallDisk;
pub use load::{Invocations, Outcomes};
pub use network::{Net, in_private_network};
pub use registers::{Registers, final_reads};
pub use status::Convergence;

use std::time::Duration;

use tempfile::TempDir;

use crate::node::{Node, master_key};
use network::Links;

/// The secret of every test cluster; also a marker to search for.
pub const SECRET: &str = "cluster-secret-of-the-tests-41d7";

/// Settings of a cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the links are made of.
    pub net: Net,
    /// Arguments of every node.
    pub args: Vec<String>,
    /// Environment of every node.
    pub env: Vec<(String, String)>,
    /// Lines of level ERROR that contain one of these are expected.
    pub allowed: Vec<String>,
    /// The longest time from start to ready.
    pub ready_within: Duration,
    /// Nodes whose data directory lies on a file system of its own, of this many MiB.
    pub small_disks: Vec<(usize, u64)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            net: Net::Loopback,
            args: Vec::new(),
            env: Vec::new(),
            allowed: Vec::new(),
            ready_within: Duration::from_secs(60),
            small_disks: Vec::new(),
        }
    }
}

/// How a node comes into its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// Forms a new one with so many.
    Bootstrap(usize),
    /// Finds members.
    Join,
}

/// One node of a cluster.
struct Slot {
    node: Node,
    entry: Entry,
    disk: Option<SmallDisk>,
}

/// A running cluster. Nodes are named by their place from 0 on; their names are `n1` and so on.
pub struct Cluster {
    // Before the links: a node is gone before its network is.
    slots: Vec<Slot>,
    links: Links,
    options: Options,
    home: TempDir,
    master_key: String,
    faults: faults::Faults,
}

impl Cluster {
    /// `count` nodes that form one cluster with `--bootstrap-expect count`, all ready.
    pub async fn start(count: usize, options: Options) -> Self {
        let mut cluster = Self::empty(options);
        for _ in 0..count {
            cluster.prepare(Entry::Bootstrap(count));
        }
        for i in 0..count {
            cluster.begin(i);
        }
        for i in 0..count {
            cluster.await_ready(i).await;
        }
        cluster
    }

    /// A cluster without nodes.
    fn empty(options: Options) -> Self {
        let home = tempfile::Builder::new()
            .prefix("orama-cluster-")
            .tempdir()
            .expect("a temporary directory");
        Self {
            slots: Vec::new(),
            links: Links::new(options.net),
            options,
            home,
            master_key: master_key("k1"),
            faults: faults::Faults::default(),
        }
    }

    /// How many nodes there are, running or not.
    pub fn len(&self) -> usize {
        self.slots.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
    /// A node.
    pub fn node(&self, i: usize) -> &Node {
        &self.slots[i].node
    }
    /// A node, to be changed.
    pub fn node_mut(&mut self, i: usize) -> &mut Node {
        &mut self.slots[i].node
    }
    /// The name of a node.
    pub fn name(&self, i: usize) -> String {
        format!("n{}", i + 1)
    }
    /// The place of the node with this name.
    pub fn index(&self, name: &str) -> usize {
        (0..self.len())
            .find(|i| self.name(*i) == name)
            .unwrap_or_else(|| panic!("no node is named {name:?}"))
    }
    /// The places of the nodes that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.len())
            .filter(|i| self.slots[*i].node.is_running())
            .collect()
    }
    /// The mesh address of a node, as others are to reach it.
    pub fn mesh_multiaddr(&self, i: usize) -> String {
        self.links.multiaddr(i)
    }
    /// The mesh address of a node for a plain socket of the test's own.
    pub fn mesh_socket(&self, i: usize) -> std::net::SocketAddr {
        self.links.socket(i)
    }
    /// Whether links can be cut, slowed and made to lose packets here.
    pub fn can_cut(&self) -> bool {
        self.links.can_cut()
    }
    /// The small file system of a node.
    pub fn disk(&self, i: usize) -> &SmallDisk {
        let disk = self.slots[i].disk.as_ref();
        disk.expect("a node with a small disk")
    }
    /// Announces lines of level ERROR on every node.
    pub fn allow_error(&mut self, text: &str) {
        self.options.allowed.push(text.into());
        for slot in &self.slots {
            slot.node.allow_error(text);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All of them first, so that none complains about the end of the others.
        for slot in &mut self.slots {
            if slot.node.is_running() && !std::thread::panicking() {
                slot.node.kill();
            }
        }
    }
}

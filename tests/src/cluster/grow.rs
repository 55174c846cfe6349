//! Starting, stopping, moving and wiping the nodes of a cluster.

use std::time::Duration;

use super::{Cluster, Entry, Options, SECRET, Slot, SmallDisk};
use crate::node::{Node, Refusal};

impl Cluster {
    /// A cluster of one that others can join.
    pub async fn founder(options: Options) -> Self {
        Self::start(1, options).await
    }

    /// Makes a node that is not started yet; answers its place.
    pub(super) fn prepare(&mut self, entry: Entry) -> usize {
        let i = self.len();
        self.links.add();
        let disk = self
            .options
            .small_disks
            .iter()
            .find(|(node, _)| *node == i)
            .map(|(_, mib)| SmallDisk::new(self.home.path().join(format!("disk-{}", i + 1)), *mib));
        let data_dir = match &disk {
            Some(disk) => disk.path().join("data"),
            None => self.home.path().join(self.name(i)),
        };
        let mut builder = Node::builder()
            .data_dir(data_dir)
            .env("ORAMA_MASTER_KEY", &self.master_key)
            .env("ORAMA_CLUSTER_SECRET", SECRET)
            .env("ORAMA_NODE_NAME", self.name(i))
            .ready_within(self.options.ready_within);
        for (name, value) in &self.options.env {
            builder = builder.env(name, value);
        }
        for text in &self.options.allowed {
            builder = builder.allow_error(text);
        }
        self.slots.push(Slot {
            node: builder.prepare(),
            entry,
            disk,
        });
        i
    }

    /// The arguments of a node as things are now.
    fn arguments(&self, i: usize) -> Vec<String> {
        let mut args = vec!["--mesh-listen".into(), self.links.multiaddr(i)];
        if let Entry::Bootstrap(count) = self.slots[i].entry {
            args.extend(["--bootstrap-expect".into(), count.to_string()]);
        }
        for other in (0..self.len()).filter(|other| *other != i) {
            args.extend(["--join".into(), self.links.multiaddr(other)]);
        }
        args.extend(self.options.args.iter().cloned());
        args
    }

    /// Starts a node that does not run and does not wait for it.
    pub fn begin(&mut self, i: usize) {
        let args = self.arguments(i);
        let (wrapper, host) = (self.links.wrapper(i), self.links.host(i));
        let node = &mut self.slots[i].node;
        node.reconfigure(|builder| builder.args(args).wrapper(wrapper).host(&host));
        node.begin();
    }
    /// Waits until a node that was begun is ready; fails the test when it does not get there.
    pub async fn await_ready(&mut self, i: usize) -> Duration {
        let name = self.name(i);
        match self.slots[i].node.await_ready().await {
            Ok(took) => took,
            Err(refusal) => panic!(
                "{name} did not become ready ({:?}); its log:\n{}",
                refusal.status, refusal.stderr
            ),
        }
    }
    /// Starts a node that does not run and waits until it is ready.
    pub async fn start_node(&mut self, i: usize) -> Duration {
        self.begin(i);
        self.await_ready(i).await
    }
    /// Starts a node; answers why when it ends before it is ready.
    pub async fn try_start_node(&mut self, i: usize) -> Result<Duration, Refusal> {
        self.begin(i);
        self.slots[i].node.await_ready().await
    }

    /// Adds a node that joins; ready. Answers its place.
    pub async fn add(&mut self) -> usize {
        let i = self.prepare(Entry::Join);
        self.start_node(i).await;
        i
    }
    /// Adds a node that joins and is not started yet.
    pub fn add_later(&mut self) -> usize {
        self.prepare(Entry::Join)
    }

    /// SIGKILL.
    pub fn kill(&mut self, i: usize) {
        self.slots[i].node.kill();
    }
    /// SIGTERM; it must end with exit code 0.
    pub async fn stop(&mut self, i: usize) {
        self.slots[i].node.stop().await;
    }
    /// SIGKILL to all that run.
    pub fn kill_all(&mut self) {
        for i in self.running() {
            self.kill(i);
        }
    }

    /// Gives a stopped node another mesh address for its next start.
    pub fn move_away(&mut self, i: usize) {
        assert!(!self.node(i).is_running(), "only a stopped node can move");
        self.links.move_away(i);
        self.apply_faults();
    }
    /// SIGKILL to all, new addresses for all, and a new start of all.
    pub async fn restart_all_elsewhere(&mut self) {
        self.kill_all();
        for i in 0..self.len() {
            self.move_away(i);
        }
        for i in 0..self.len() {
            self.begin(i);
        }
        for i in 0..self.len() {
            self.await_ready(i).await;
        }
    }
    /// Empties the data directory of a stopped node: it comes back under its old
    /// name as somebody new, and joins.
    pub fn wipe(&mut self, i: usize) {
        assert!(!self.node(i).is_running(), "only a stopped node is wiped");
        std::fs::remove_dir_all(self.node(i).data_dir()).expect("emptying the data directory");
        self.slots[i].entry = Entry::Join;
    }
}

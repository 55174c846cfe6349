//! Groups whose state is files of their own.

mod failures;
mod reads;
mod restarts;
mod snapshots;

use std::fs;
use std::io;
use std::sync::atomic::Ordering;

use super::folder::{Folder, STAMP};
use super::net::Fate;
use super::*;
use crate::consensus::files::Step;
use crate::consensus::{OpenFault, ReadFault, StorageFault};
use crate::mesh::{Lane, Service};

const NEVER: u64 = u64::MAX;

/// A node with one such group.
struct Kept {
    id: NodeId,
    dir: TempDir,
    net: Arc<Net>,
    groups: Groups,
    group: Group,
    folder: Arc<Folder>,
}

async fn open(
    dir: &TempDir,
    net: &Arc<Net>,
    id: NodeId,
    begin: Begin,
    every: u64,
) -> Result<(Groups, Group, Arc<Folder>), OpenFault> {
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let port = Port {
        net: Arc::clone(net),
        me: id,
    };
    let links = Some(Arc::new(port) as Arc<dyn Link>);
    let groups = Groups::over(&Node::paths(dir), id, links, metrics)
        .await
        .unwrap();
    let folder = Folder::new(groups.files_of(GROUP), every);
    let backend = Backend::Files(folder.clone());
    match groups.start(GROUP, backend, &options(1000), begin).await {
        Ok(group) => Ok((groups, group, folder)),
        Err(fault) => {
            groups.shutdown().await;
            Err(fault)
        }
    }
}

impl Kept {
    async fn start(net: &Arc<Net>, id: u64, begin: Begin, every: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, net, NodeId(id), begin, every, None).await
    }

    async fn start_in(
        dir: TempDir,
        net: &Arc<Net>,
        id: NodeId,
        begin: Begin,
        every: u64,
        crash: Option<Step>,
    ) -> Self {
        let (groups, group, folder) = open(&dir, net, id, begin, every).await.unwrap();
        *group.inner.keeping.as_ref().unwrap().crash.lock() = crash;
        net.join(id, groups.handlers());
        Self {
            id,
            dir,
            net: Arc::clone(net),
            groups,
            group,
            folder,
        }
    }

    async fn stop(self) -> TempDir {
        self.net.leave(self.id);
        self.groups.shutdown().await;
        self.dir
    }

    async fn again(self, every: u64) -> Self {
        let (net, id) = (Arc::clone(&self.net), self.id);
        let dir = self.stop().await;
        Self::start_in(dir, &net, id, Begin::Wait, every, None).await
    }

    async fn set(&self, key: &str, value: &str) -> Result<Committed, ProposeFault> {
        self.group.propose(command(key, value)).await
    }

    async fn get(&self, key: &str) -> Option<String> {
        self.group.confirm(soon(10)).await.unwrap();
        self.folder.get(key)
    }

    fn snapshots(&self) -> Vec<std::path::PathBuf> {
        let names = fs::read_dir(self.dir.path().join("snapshots")).unwrap();
        let mut paths: Vec<_> = names.flatten().map(|e| e.path()).collect();
        paths.retain(|p| p.extension().is_some_and(|x| x == "snap"));
        paths.sort();
        paths
    }

    fn purged(&self) -> u64 {
        use openraft::async_runtime::watch::WatchReceiver;
        let metrics = self.group.inner.raft.metrics();
        let purged = metrics.borrow_watched().purged.map(|p| p.index);
        purged.unwrap_or(0)
    }

    /// Writes until the log no longer begins at the beginning.
    async fn outgrow_log(&self, value: &str) {
        let (start, deadline) = (self.purged(), soon(30));
        let mut n = 0;
        while self.purged() < start + 20 {
            assert!(Instant::now() < deadline, "the log is never purged");
            n += 1;
            self.set(&format!("k{}", n % 12), value).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn command(key: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0; STAMP];
    bytes.extend_from_slice(set(key, value).as_slice());
    bytes
}

async fn admit_kept(leader: &Kept, node: NodeId) {
    leader.group.add_learner(node).await.unwrap();
    until("the learner catches up", 20, || {
        leader.group.view().caught_up(node, 0)
    })
    .await;
}

async fn three(net: &Arc<Net>, every: u64) -> Vec<Kept> {
    let mut nodes = vec![Kept::start(net, 1, Begin::Found, every).await];
    for id in 2..=3 {
        nodes.push(Kept::start(net, id, Begin::Wait, every).await);
        admit_kept(&nodes[0], NodeId(id)).await;
    }
    let voters = (1..=3).map(NodeId).collect();
    nodes[0].group.set_voters(voters).await.unwrap();
    nodes
}

async fn same(nodes: &[Kept]) {
    let index = nodes.iter().map(|n| n.group.applied_index()).max().unwrap();
    until("all have applied everything", 20, || {
        nodes.iter().all(|n| n.group.applied_index() >= index)
    })
    .await;
    let hashes: BTreeSet<u128> = nodes.iter().map(|n| n.group.state_hash()).collect();
    assert_eq!(hashes.len(), 1, "replicas differ");
}

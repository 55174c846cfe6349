//! Several nodes in one process, over the real mesh and groups.

mod grow;
mod return_;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use orama_proto::{GroupId, NodeId, RequestId};
use tempfile::TempDir;

use super::start::{Home, start_in};
use super::{Cluster, ClusterError, ClusterOptions, LinkOptions, OperationError};
use crate::consensus::Paths;
use crate::data::Expect;
use crate::mesh::{ClusterSecrets, NodeKey};

/// A disk and a name.
pub(crate) struct Site {
    pub(crate) dir: TempDir,
    key: NodeKey,
    name: String,
    port: u16,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub(crate) fn rid() -> RequestId {
    RequestId::from("test")
}

pub(crate) fn soon(secs: u64) -> Instant {
    Instant::now() + Duration::from_secs(secs)
}

impl Site {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            key: NodeKey::generate().unwrap(),
            name: name.into(),
            port: free_port(),
        }
    }
    pub(crate) fn id(&self) -> NodeId {
        self.key.node_id()
    }
    fn address(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}", self.port)
    }
    pub(crate) fn options(&self, join: &[&Site], expect: u32) -> ClusterOptions {
        let join = join.iter().map(|s| s.address().parse().unwrap());
        ClusterOptions {
            name: self.name.clone(),
            links: Some(LinkOptions {
                listen: vec![self.address()],
                advertise: Vec::new(),
                secrets: ClusterSecrets::parse("sixteen bytes and some more").unwrap(),
                join: join.collect(),
                bootstrap_expect: expect,
            }),
            replace_after: Duration::from_secs(3),
            ..ClusterOptions::default()
        }
    }
    pub(crate) async fn start(&self, options: ClusterOptions) -> Result<Cluster, ClusterError> {
        let at = self.dir.path();
        let home = Home {
            paths: Paths {
                log: at.join("raft").join("log"),
                state: at.join("state"),
                snapshots: at.join("snapshots"),
                databases: at.join("databases"),
            },
            node: self.id(),
            key: Some(self.key.clone()),
        };
        for dir in ["raft", "snapshots"] {
            std::fs::create_dir_all(at.join(dir)).unwrap();
        }
        let registry = prometheus::Registry::new();
        let start = start_in(home, options, &registry);
        tokio::time::timeout(Duration::from_secs(60), start)
            .await
            .unwrap_or_else(|_| panic!("{} does not start", self.name))
    }
    pub(crate) async fn join(&self, seeds: &[&Site]) -> Cluster {
        self.start(self.options(seeds, 0)).await.unwrap()
    }
}

/// Three nodes that form a cluster.
pub(crate) async fn three() -> (Vec<Site>, Vec<Cluster>) {
    let sites: Vec<Site> = ["a", "b", "c"].map(Site::new).into();
    let starts = sites.iter().map(|s| {
        let others: Vec<&Site> = sites.iter().filter(|o| o.name != s.name).collect();
        s.start(s.options(&others, 3))
    });
    let nodes = futures::future::join_all(starts).await;
    let nodes = nodes.into_iter().map(Result::unwrap).collect();
    (sites, nodes)
}

/// What a killed process does: nothing is handed over, the links are just gone.
pub(crate) async fn kill(node: Cluster) {
    node.core.stop.send_replace(true);
    node.mesh().unwrap().shutdown().await;
    node.core.stop_tasks().await;
    node.core.groups.shutdown().await;
}

pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = soon(40);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn voters_are(node: &Cluster, wanted: usize) -> bool {
    node.voters().len() == wanted
}

/// Every data group has so many replicas, all of them voters.
pub(crate) async fn settled(node: &Cluster, replicas: usize) {
    let deadline = soon(40);
    loop {
        let status = node.status(soon(2)).await;
        let data = status.groups.iter().filter(|g| g.id != 0);
        let mut counts = data.map(|g| (g.leader.is_some(), g.voters.len(), g.learners.len()));
        if counts.all(|c| c == (true, replicas, 0)) {
            return;
        }
        assert!(Instant::now() < deadline, "{status:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Writes through one node and reads through all, for every group.
async fn registers_agree(nodes: &[&Cluster], value: &str) {
    for group in (1..=4).map(GroupId) {
        for (n, writer) in nodes.iter().enumerate() {
            let value = format!("{value}-{n}");
            let deadline = soon(20);
            loop {
                let data = writer.data();
                let set = data.set_register(group, "k", &value, Expect::Anything, soon(5));
                match set.await {
                    Ok(()) => break,
                    Err(error) if Instant::now() < deadline => {
                        tracing::info!(%error, "again");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    Err(error) => panic!("{group} through {}: {error}", writer.name()),
                }
            }
            for reader in nodes {
                let deadline = soon(20);
                let found = loop {
                    match reader.data().register(group, "k", soon(5)).await {
                        Ok(found) => break found,
                        Err(_) if Instant::now() < deadline => {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                        Err(error) => panic!("{group} through {}: {error}", reader.name()),
                    }
                };
                assert_eq!(found.as_deref(), Some(&value[..]), "{}", reader.name());
            }
        }
    }
}

pub(crate) async fn stop(nodes: Vec<Cluster>) {
    futures::future::join_all(nodes.iter().map(Cluster::shutdown)).await;
}

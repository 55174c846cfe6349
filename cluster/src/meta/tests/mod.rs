//! The metadata group as a whole: against the model, over restarts, and with
//! every kind of damage to what it keeps.

mod commands;
mod damage;
mod restart;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use orama_proto::command::{MetaCommand, MetaReply};
use orama_proto::sealed::SealedValue;
use orama_proto::{FunctionName, Namespace, NodeId, RequestId, SecretName};
use tempfile::TempDir;

use super::model::wrapped;
use super::{MetaOptions, MetaStore, OpenError};
use crate::consensus::Paths;

fn ns(name: &str) -> Namespace {
    Namespace::parse(name).unwrap()
}

fn func(name: &str) -> FunctionName {
    FunctionName::parse(name).unwrap()
}

fn create(name: &str) -> MetaCommand {
    MetaCommand::CreateNamespace {
        namespace: ns(name),
        data_key: wrapped(1),
    }
}

fn secret(n: usize, size: usize) -> MetaCommand {
    MetaCommand::PutSecret {
        namespace: ns("acme"),
        name: SecretName::parse(&format!("S{n}")).unwrap(),
        value: SealedValue {
            version: n as u64,
            nonce: vec![1; 12],
            ciphertext: vec![n as u8; size],
        },
    }
}

struct Node {
    dir: TempDir,
}

const NODE: NodeId = NodeId(42);

impl Node {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }
    fn at(parent: &Path) -> Self {
        Self {
            dir: tempfile::tempdir_in(parent).unwrap(),
        }
    }
    fn paths(&self) -> Paths {
        paths(self.dir.path())
    }
    async fn open(&self, every: u64) -> MetaStore {
        self.try_open(every).await.unwrap()
    }
    async fn try_open(&self, every: u64) -> Result<MetaStore, OpenError> {
        open(&self.paths(), every).await.map(|(meta, _)| meta)
    }
    /// What a killed process would leave: the files as they are now.
    fn copy(&self) -> Node {
        let copy = Node::new();
        copy_dir(self.dir.path(), copy.dir.path());
        copy
    }
}

fn paths(dir: &Path) -> Paths {
    Paths {
        log: dir.join("raft").join("log"),
        state: dir.join("state"),
        snapshots: dir.join("snapshots"),
        databases: dir.join("databases"),
    }
}

async fn open(paths: &Paths, every: u64) -> Result<(MetaStore, prometheus::Registry), OpenError> {
    let registry = prometheus::Registry::new();
    let options = MetaOptions {
        snapshot_every: every,
        ready_within: Duration::from_secs(10),
    };
    let meta = MetaStore::open_paths(paths, NODE, &options, &registry).await?;
    Ok((meta, registry))
}

fn copy_dir(from: &Path, to: &Path) {
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_dir(&item.path(), &target);
        } else if let Err(e) = fs::copy(item.path(), &target) {
            // A temporary file may be renamed while the tree is walked.
            assert_eq!(e.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

async fn put(meta: &MetaStore, command: MetaCommand) -> MetaReply {
    meta.propose(&RequestId::from("t"), command).await.unwrap()
}

/// A namespace and `n` secrets of about a kilobyte.
async fn fill(meta: &MetaStore, from: usize, to: usize) {
    if from == 0 {
        put(meta, create("acme")).await;
    }
    for n in from..to {
        put(meta, secret(n % 900, 900)).await;
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn newest_snapshot(node: &Node) -> std::path::PathBuf {
    let names = fs::read_dir(node.paths().snapshots).unwrap();
    let files = names.map(|e| e.unwrap().path());
    files
        .filter(|p| p.extension().is_some_and(|e| e == "snap"))
        .max()
        .unwrap()
}

/// Waits for the background work after a snapshot: the log begins later than `index`.
async fn purged_past(registry: &prometheus::Registry, snapshots: f64) {
    let built = || {
        let families = registry.gather();
        let family = families
            .iter()
            .find(|f| f.name() == "orama_raft_snapshots_total");
        family.map_or(0.0, |f| {
            f.get_metric()
                .iter()
                .map(|m| m.get_counter().get_value())
                .sum()
        })
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while built() < snapshots {
        assert!(Instant::now() < deadline, "{} snapshots", built());
        tokio::task::yield_now().await;
    }
}

//! openraft's own storage suite against our log and state machine.

use std::path::PathBuf;
use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use orama_proto::{GroupId, NodeId};
use tempfile::TempDir;

use super::group::{GroupOptions, begin};
use super::groups::{Begin, Groups};
use super::keeper::Backend;
use super::log::{GroupLog, RaftLog};
use super::machine::{Applied, GroupMachine, Machine, Published};
use super::metrics::Metrics;
use super::recover::{Paths, Storage, recover};
use super::types::Types;

/// The suite never applies a command.
struct NoCommands;

impl Machine for NoCommands {
    fn load(&self, _: &mut dyn Iterator<Item = (&[u8], &[u8])>) -> Result<(), String> {
        Ok(())
    }
    fn apply(&self, _: &[u8]) -> Result<Applied, String> {
        Ok(Applied::default())
    }
}

struct Stores;

impl StoreBuilder<Types, GroupLog, GroupMachine, (TempDir, Storage)> for Stores {
    async fn build(
        &self,
    ) -> Result<((TempDir, Storage), GroupLog, GroupMachine), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths {
            log: dir.path().join("raft").join("log"),
            state: dir.path().join("state"),
            snapshots: dir.path().join("snapshots"),
            databases: dir.path().join("databases"),
        };
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let storage = Storage::open(&paths, NodeId(0), &metrics).unwrap();
        let backend = Backend::Pairs(Arc::new(NoCommands));
        let found = recover(&storage, GroupId(3), &backend).unwrap();
        let machine = GroupMachine {
            group: GroupId(3),
            store: found.store,
            snapshots: found.snapshots,
            snapshot_dir: PathBuf::from(dir.path()),
            log: found.log.clone(),
            published: Arc::<Published>::default(),
            halt: storage.log.halt().clone(),
            metrics,
        };
        // The suite purges what no two snapshots cover.
        Ok(((dir, storage), found.log.without_limit(), machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_storage_suite_passes() {
    Suite::test_all(Stores).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_ended_before_the_election_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths {
        log: dir.path().join("raft").join("log"),
        state: dir.path().join("state"),
        snapshots: dir.path().join("snapshots"),
        databases: dir.path().join("databases"),
    };
    let metrics = || Metrics::register(&prometheus::Registry::new()).unwrap();
    let log = RaftLog::open(&paths.log, &metrics()).unwrap();
    begin(log.group(GroupId(3)).unwrap(), NodeId(7))
        .await
        .unwrap();
    log.close().await.unwrap();
    drop(log);
    let options = GroupOptions {
        snapshot_every: 100,
        ready_within: std::time::Duration::from_secs(10),
    };
    let groups = Groups::over(&paths, NodeId(7), None, metrics())
        .await
        .unwrap();
    assert!(!groups.is_pristine(GroupId(3)).unwrap());
    let machine = Backend::Pairs(Arc::new(NoCommands));
    let group = groups
        .start(GroupId(3), machine, &options, Begin::Found)
        .await
        .unwrap();
    assert_eq!(group.propose(vec![1]).await.unwrap().index, 2);
    groups.shutdown().await;
}

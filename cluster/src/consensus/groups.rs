//! The Raft groups of this node: one log, one state database, one network for all of them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use orama_proto::{GroupId, NodeId};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::fault::StorageFault;
use super::group::{Group, GroupOptions, OpenFault, Shared, close};
use super::keeper::Backend;
use super::link::Links;
use super::metrics::Metrics;
use super::propose::ROOM_BYTES;
use super::recover::{Paths, Storage, erase_files, recover};
use super::serve;
use super::snapshot::SnapshotStore;
use crate::mesh::{Handler, Mesh, Service};

/// So long an earlier handle of this process may take to let go of the files.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// Pause before a file that is still held is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// What to do with a group of which this node has nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Begin its log, with this node as its only voter.
    Found,
    /// Wait until its leader makes this node a learner.
    Wait,
}

/// Handle of the node's groups. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Groups {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    storage: Arc<Storage>,
    shared: Shared,
    running: Mutex<HashMap<GroupId, Group>>,
}

/// A group that runs, found by whoever serves other nodes.
pub(super) fn running(groups: &Weak<Inner>, id: GroupId) -> Option<Group> {
    groups.upgrade()?.running.lock().get(&id).cloned()
}

/// Runs what blocks.
async fn blocking<T: Send + 'static>(
    group: GroupId,
    work: impl FnOnce() -> Result<T, StorageFault> + Send + 'static,
) -> Result<T, StorageFault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(StorageFault::Start {
            group,
            what: e.to_string(),
        })
    })
}

impl Groups {
    /// Opens the log and the state database, and serves the groups' messages on the mesh.
    pub(crate) async fn open(
        paths: &Paths,
        node: NodeId,
        mesh: Option<Mesh>,
        metrics: Metrics,
    ) -> Result<Self, StorageFault> {
        let links: Links = mesh.clone().map(|mesh| Arc::new(mesh) as _);
        let groups = Self::over(paths, node, links, metrics).await?;
        if let Some(mesh) = mesh {
            let (raft, group) = groups.handlers();
            mesh.serve(Service::Raft, raft);
            mesh.serve(Service::Group, group);
        }
        Ok(groups)
    }

    /// The same over links of the caller's choice, who serves [`Self::handlers`].
    pub(super) async fn over(
        paths: &Paths,
        node: NodeId,
        links: Links,
        metrics: Metrics,
    ) -> Result<Self, StorageFault> {
        let start = Instant::now();
        let storage = loop {
            let (paths, metrics) = (paths.clone(), metrics.clone());
            let open = move || Storage::open(&paths, node, &metrics);
            match blocking(GroupId::META, open).await {
                Err(StorageFault::Busy { .. }) if start.elapsed() < BUSY_WAIT => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                other => break other?,
            }
        };
        let shared = Shared {
            node,
            links,
            metrics,
            room: Arc::new(Semaphore::new(ROOM_BYTES)),
        };
        Ok(Self {
            inner: Arc::new(Inner {
                storage: Arc::new(storage),
                shared,
                running: Mutex::default(),
            }),
        })
    }

    /// Who answers [`Service::Raft`] and [`Service::Group`]. They do not keep the groups open.
    pub(super) fn handlers(&self) -> (Arc<dyn Handler>, Arc<dyn Handler>) {
        serve::handlers(&self.inner)
    }

    /// Whether nothing was ever written for the group here.
    pub(crate) fn is_pristine(&self, id: GroupId) -> Result<bool, StorageFault> {
        self.inner.storage.log.is_pristine(id)
    }

    /// Starts a group, or answers the one that runs. It answers as soon as the group runs;
    /// whether it is up to date says [`Group::confirm`]. (A group of one leads, and has
    /// applied all of its log, when this returns.)
    pub(crate) async fn start(
        &self,
        id: GroupId,
        backend: Backend,
        options: &GroupOptions,
        begin: Begin,
    ) -> Result<Group, OpenFault> {
        if let Some(group) = self.get(id) {
            return Ok(group);
        }
        let storage = Arc::clone(&self.inner.storage);
        let recovered = blocking(id, move || recover(&storage, id, &backend)).await?;
        let keeping = recovered.store.keeping();
        let shared = self.inner.shared.clone();
        let storage = &self.inner.storage;
        let started = Group::start(storage, shared, id, recovered, options, begin).await;
        if let (Err(_), Some(keeping)) = (&started, keeping) {
            close(id, keeping).await;
        }
        let group = started?;
        self.inner.running.lock().insert(id, group.clone());
        Ok(group)
    }

    /// The directory for the files of a group's keeper.
    pub(crate) fn files_of(&self, id: GroupId) -> PathBuf {
        self.inner.storage.paths.files_of(id)
    }

    /// A group that runs here.
    pub(crate) fn get(&self, id: GroupId) -> Option<Group> {
        self.inner.running.lock().get(&id).cloned()
    }

    /// Stops a group and deletes what is stored of it. Only for a replica that
    /// its group has removed and that the topology does not name any more.
    pub(crate) async fn remove(&self, id: GroupId) -> Result<(), StorageFault> {
        let group = self.inner.running.lock().remove(&id);
        let keeping = group.as_ref().and_then(|g| g.inner.keeping.clone());
        if let Some(group) = group {
            group.shutdown().await;
        }
        let storage = Arc::clone(&self.inner.storage);
        // The log first: what is left beside an empty one is swept away at the next start,
        // a log without its snapshots could not be opened again.
        storage
            .log
            .erase(id)
            .await
            .map_err(|e| StorageFault::io(&storage.paths.log, e))?;
        blocking(id, move || {
            let dir = &storage.paths.snapshots;
            SnapshotStore::erase(dir, id).map_err(|e| StorageFault::io(dir, e))?;
            let keeper = keeping.as_ref().map(|keeping| keeping.keeper.as_ref());
            erase_files(&storage.paths, id, keeper)?;
            let state = &storage.paths.state;
            storage.db.erase(id).map_err(|e| StorageFault::io(state, e))
        })
        .await
    }

    /// Stops every group, writes what was held back, closes the log.
    pub(crate) async fn shutdown(&self) {
        let running: Vec<_> = self.inner.running.lock().drain().collect();
        futures::future::join_all(running.iter().map(|(_, group)| group.shutdown())).await;
        let storage = &self.inner.storage;
        if let Err(error) = storage.log.close().await {
            tracing::warn!(%error, "the log's last marks were not written");
        }
        let db = storage.db.clone();
        let flushed = tokio::task::spawn_blocking(move || db.flush()).await;
        // Nothing is lost: the log has it.
        if let Err(error) = flushed.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
            tracing::warn!(%error, "the state was not flushed");
        }
    }
}

//! Forming a cluster, joining it, growing and shrinking it, leaving it.
//!
//! [`Cluster`] is what a node is to the rest of the program: its metadata, its
//! data groups, its links. `OVERVIEW.md` beside this file has the mental model.

mod alone;
mod controller;
mod core;
mod desk;
mod form;
#[cfg(test)]
mod golden_tests;
mod join;
mod linked;
mod links;
mod metrics;
mod operations;
mod placement;
#[cfg(test)]
mod placement_tests;
mod quorum;
#[cfg(test)]
mod quorum_tests;
mod replicas;
mod seeds;
mod seeker;
mod start;
mod status;
mod stop;
#[cfg(test)]
pub(crate) mod tests;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_proto::api::ClusterStatus;
use orama_proto::topology::{Member, Topology};
use orama_proto::{GroupId, NodeId, RequestId};

use crate::data::DataGroups;
use crate::mesh::{ClusterSecrets, Mesh};
use crate::{DataDir, MetaStore};
use core::Core;
use desk::Desk;

pub use seeds::Seed;

/// The mesh of a node that has one.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// Multiaddresses to listen on.
    pub listen: Vec<String>,
    /// Multiaddresses told to peers; empty: those listened on.
    pub advertise: Vec<String>,
    /// Who may be on the mesh.
    pub secrets: ClusterSecrets,
    /// Where members are looked for.
    pub join: Vec<Seed>,
    /// A node without state forms a new cluster once so many such nodes see each
    /// other; 0 never forms one (the default with `join`). Ignored on a node that has state.
    pub bootstrap_expect: u32,
}

/// Settings of a node's part in a cluster.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// For people; unique in the cluster.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// `None`: a node for itself, without a mesh.
    pub links: Option<LinkOptions>,
    /// Data groups of a cluster that is formed by this node.
    pub data_groups: u32,
    /// Replicas of a data group, as far as there are nodes.
    pub replicas: usize,
    /// Voters of the metadata group at most; odd.
    pub voters_max: usize,
    /// A voter or replica whose node is out of contact for so long is replaced when another can take its place.
    pub replace_after: Duration,
    /// A snapshot is made after so many entries.
    pub snapshot_every: u64,
    /// A node for itself that is not ready after this long does not start. With peers it waits for them.
    pub ready_within: Duration,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            name: "node".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            links: None,
            data_groups: 4,
            replicas: 3,
            voters_max: 5,
            replace_after: Duration::from_secs(300),
            snapshot_every: 5_000,
            ready_within: Duration::from_secs(10),
        }
    }
}

/// The node cannot become or be a member; for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Log, state or snapshots.
    #[error("{0}")]
    Storage(String),
    /// No leader in time, for a node without peers.
    #[error("the metadata group has no leader after {0:?}")]
    NotReady(Duration),
    /// The mesh.
    #[error(transparent)]
    Mesh(#[from] crate::mesh::MeshError),
    /// The cluster does not take this node: its name is another's, it was removed, the versions do not fit.
    #[error("the cluster refuses this node: {0}")]
    Refused(String),
    /// The settings contradict what is on disk.
    #[error("{0}")]
    Settings(String),
}

/// What became of a member that is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// The member that was meant, by what a majority knew when it was asked.
    pub id: NodeId,
    /// Whether it is gone; else it goes on by itself.
    pub gone: bool,
}

/// An operation on the cluster was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// No such node or group.
    #[error("there is no {0}")]
    Missing(String),
    /// It would endanger the cluster, or makes no sense now.
    #[error("{0}")]
    Refused(String),
    /// No leader could be reached in time.
    #[error("{0}")]
    Unavailable(String),
}

/// Handle of this node's part in the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    core: Arc<Core>,
    desk: Option<Arc<Desk>>,
    _last: Arc<StopTasks>,
}

/// Ends the tasks with the last handle; they hold the core themselves.
struct StopTasks(tokio::sync::watch::Sender<bool>);

impl Drop for StopTasks {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Cluster {
    fn over(core: Arc<Core>, desk: Option<Arc<Desk>>) -> Self {
        let last = Arc::new(StopTasks(core.stop.clone()));
        Self {
            core,
            desk,
            _last: last,
        }
    }
    /// Opens what the node has, finds or forms its cluster, and answers when
    /// the node is a member and its metadata is up to date. With peers that can
    /// take any time; progress is logged.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn start(
        dir: &DataDir,
        options: ClusterOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, ClusterError> {
        start::start(dir, options, registry).await
    }
    /// This node.
    pub fn node_id(&self) -> NodeId {
        self.core.node
    }
    /// This node's name.
    pub fn name(&self) -> &str {
        &self.core.options.name
    }
    /// The metadata.
    pub fn meta(&self) -> &MetaStore {
        &self.core.meta
    }
    /// The data groups.
    pub fn data(&self) -> &DataGroups {
        &self.core.data
    }
    /// The links; `None` for a node for itself.
    pub fn mesh(&self) -> Option<&Mesh> {
        self.core.mesh.as_ref()
    }
    /// Members and placement as this node knows them: local memory.
    pub fn topology(&self) -> Arc<Topology> {
        self.core.meta.topology()
    }
    /// The other members, whether they can be reached or not.
    pub fn others(&self) -> Vec<Member> {
        let topology = self.topology();
        let others = topology.nodes.values();
        others.filter(|m| m.id != self.core.node).cloned().collect()
    }
    /// The other members that have a link to this node now.
    pub fn linked(&self) -> Vec<Member> {
        let Some(mesh) = &self.core.mesh else {
            return Vec::new();
        };
        let mut others = self.others();
        others.retain(|m| mesh.linked(m.id));
        others
    }
    /// The voters of the metadata group, this node included when it is one.
    pub fn voters(&self) -> Vec<NodeId> {
        let voters = self.core.meta_group.view().voters;
        voters.into_iter().collect()
    }
    /// Whether this node was removed from the cluster: it must stop.
    /// The watch turns true once.
    pub fn removed(&self) -> tokio::sync::watch::Receiver<bool> {
        self.core.removed.subscribe()
    }
    /// For people: asks every member that can be reached. `load` of the nodes is left out.
    pub async fn status(&self, deadline: Instant) -> ClusterStatus {
        status::status(&self.core, deadline).await
    }
    /// Stops a member from leading and from taking forwarded work; `undo` makes it active again.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn drain(
        &self,
        request_id: &RequestId,
        node: &str,
        undo: bool,
    ) -> Result<(), OperationError> {
        operations::drain(&self.core, request_id, node, undo).await
    }
    /// Moves everything away from a member and removes it. Answers when it is gone, or
    /// when the deadline passes: then it goes on by itself. `node` is an id or a name.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn leave(
        &self,
        request_id: &RequestId,
        node: &str,
        deadline: Instant,
    ) -> Result<Departure, OperationError> {
        operations::leave(&self.core, request_id, node, deadline).await
    }
    /// Makes `node` lead a group.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn transfer(
        &self,
        request_id: &RequestId,
        group: GroupId,
        node: &str,
        deadline: Instant,
    ) -> Result<(), OperationError> {
        tracing::info!(%request_id, %group, node, "a group is to be led by another node");
        operations::transfer(&self.core, group, node, deadline).await
    }
    /// Hands over what this node leads to voters that have caught up; bounded by 3 s.
    pub async fn step_down(&self) {
        stop::hand_over_all(&self.core).await;
    }
    /// Hands over what this node leads, stops the groups, flushes, closes the links.
    pub async fn shutdown(&self) {
        stop::shutdown(&self.core, self.desk.as_deref()).await;
    }
}

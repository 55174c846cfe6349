//! Forming a cluster, joining it, growing and shrinking it, leaving it.
//!
//! [`Cluster`] is what a node is to the rest of the program: its metadata, its
//! data groups, its links. `OVERVIEW.md` beside this file has the mental model.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_proto::api::ClusterStatus;
use orama_proto::topology::{Member, Topology};
use orama_proto::{GroupId, NodeId, RequestId};

use crate::data::DataGroups;
use crate::mesh::{ClusterSecrets, Mesh};
use crate::{DataDir, MetaStore};

/// How a member is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seed {
    /// `/ip4/…/tcp/…`, `/ip6/…/tcp/…` or `/dns4/…/tcp/…`.
    Address(String),
    /// `dns:NAME:PORT`: every A and AAAA record, looked up again at every try.
    Dns {
        /// The name.
        name: String,
        /// The port.
        port: u16,
    },
}

impl std::str::FromStr for Seed {
    type Err = String;
    /// Parses the setting's text.
    fn from_str(text: &str) -> Result<Self, String> {
        let _ = text;
        todo!()
    }
}

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
pub struct Cluster {}

impl Cluster {
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
        let _ = (dir, options, registry);
        todo!()
    }
    /// This node.
    pub fn node_id(&self) -> NodeId {
        todo!()
    }
    /// This node's name.
    pub fn name(&self) -> &str {
        todo!()
    }
    /// The metadata.
    pub fn meta(&self) -> &MetaStore {
        todo!()
    }
    /// The data groups.
    pub fn data(&self) -> &DataGroups {
        todo!()
    }
    /// The links; `None` for a node for itself.
    pub fn mesh(&self) -> Option<&Mesh> {
        todo!()
    }
    /// Members and placement as this node knows them: local memory.
    pub fn topology(&self) -> Arc<Topology> {
        todo!()
    }
    /// The other members, whether they can be reached or not.
    pub fn others(&self) -> Vec<Member> {
        todo!()
    }
    /// The other members that have a link to this node now.
    pub fn linked(&self) -> Vec<Member> {
        todo!()
    }
    /// The voters of the metadata group, this node included when it is one.
    pub fn voters(&self) -> Vec<NodeId> {
        todo!()
    }
    /// Whether this node was removed from the cluster: it must stop.
    /// The watch turns true once.
    pub fn removed(&self) -> tokio::sync::watch::Receiver<bool> {
        todo!()
    }
    /// For people: asks every member that can be reached. `load` of the nodes is left out.
    pub async fn status(&self, deadline: Instant) -> ClusterStatus {
        let _ = deadline;
        todo!()
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
        let _ = (request_id, node, undo);
        todo!()
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
    ) -> Result<(), OperationError> {
        let _ = (request_id, node, deadline);
        todo!()
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
        let _ = (request_id, group, node, deadline);
        todo!()
    }
    /// Hands over what this node leads, stops the groups, flushes, closes the links.
    pub async fn shutdown(&self) {
        todo!()
    }
}

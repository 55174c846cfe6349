//! Links between nodes: who may be on them, what travels on them, and what
//! happens when they break.
//!
//! TCP, Noise, then admission: both sides prove that they know the cluster
//! secret before any other protocol is spoken. Behind it, one long-lived framed
//! stream per lane and direction carries calls: a request, at most one answer.
//! `OVERVIEW.md` beside this file has the mental model.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use orama_proto::{ClusterId, NodeId};
use tokio::sync::watch;
use zeroize::Zeroizing;

/// The program's key on the mesh. Its public half is the node's identity.
/// `Debug` never shows it.
#[derive(Clone)]
pub struct NodeKey(Arc<Zeroizing<[u8; 32]>>);

impl NodeKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> std::io::Result<Self> {
        todo!()
    }
    /// From its 32 bytes (an Ed25519 seed).
    pub fn from_bytes(seed: Zeroizing<[u8; 32]>) -> Self {
        Self(Arc::new(seed))
    }
    /// The 32 bytes, for the key file.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
    /// The node that has this key: the first eight bytes of SHA-256 over the peer id.
    pub fn node_id(&self) -> NodeId {
        todo!()
    }
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKey(..)")
    }
}

/// The secrets that admit a node: one, or two while it is rotated. `Debug` never shows them.
#[derive(Clone)]
pub struct ClusterSecrets(Arc<[Zeroizing<Vec<u8>>]>);

impl ClusterSecrets {
    /// From the setting's text: one secret of at least 16 bytes, or two with a comma between.
    ///
    /// # Errors
    /// A text for the operator that does not repeat the secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let _ = text;
        todo!()
    }
}

impl std::fmt::Debug for ClusterSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClusterSecrets({})", self.0.len())
    }
}

/// Settings of the mesh.
#[derive(Debug, Clone)]
pub struct MeshOptions {
    /// This node's identity.
    pub key: NodeKey,
    /// Shown to people on other nodes.
    pub name: String,
    /// The program's version, told to peers.
    pub version: String,
    /// Multiaddresses to listen on, such as `/ip4/0.0.0.0/tcp/4001`; port 0 picks one.
    pub listen: Vec<String>,
    /// Multiaddresses told to peers; when empty, those listened on (an unspecified
    /// address stands for this machine's addresses).
    pub advertise: Vec<String>,
    /// Who may be on the mesh.
    pub secrets: ClusterSecrets,
}

/// Which stream a call travels on. A lane never waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Liveness: heartbeats, votes, load. Tiny frames.
    Heartbeat,
    /// Log entries.
    Consensus,
    /// Everything a client waits for.
    Calls,
    /// Snapshots and blobs, in chunks; few in flight, so that it never fills a link.
    Bulk,
}

impl Lane {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Heartbeat, Self::Consensus, Self::Calls, Self::Bulk];
    /// Longest body of a frame, bytes. A longer one cuts the link before anything is allocated for it.
    pub const fn frame_max(self) -> usize {
        match self {
            Self::Heartbeat => 64 << 10,
            Self::Consensus => 8 << 20,
            Self::Calls => 24 << 20,
            Self::Bulk => (1 << 20) + (64 << 10),
        }
    }
    /// Calls of one peer that may be handled at once; further ones are answered [`CallError::Busy`].
    pub const fn in_flight_max(self) -> usize {
        match self {
            Self::Heartbeat => 256,
            Self::Consensus => 256,
            Self::Calls => 4096,
            Self::Bulk => 4,
        }
    }
    /// The name in protocol ids and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Consensus => "consensus",
            Self::Calls => "calls",
            Self::Bulk => "bulk",
        }
    }
}

/// What a call is for; picks the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Service {
    /// Who the peer is (the mesh's own).
    Hello = 1,
    /// Raft messages of all groups.
    Raft = 2,
    /// Proposals and read indexes of all groups, to their leader.
    Group = 3,
    /// Joining, forming, leaving.
    Membership = 4,
    /// Blobs.
    Blobs = 5,
    /// Invocations.
    Invoke = 6,
    /// Journal queries.
    Journal = 7,
    /// Load reports.
    Load = 8,
    /// Registers of data groups.
    Data = 9,
    /// Whether a change of the metadata is visible on the peer.
    Visible = 10,
}

/// A call as the handler gets it.
#[derive(Debug)]
pub struct Incoming {
    /// Who calls; proven by admission and its key.
    pub from: NodeId,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The request.
    pub body: Bytes,
}

/// The handler did not do what was asked; nothing changed. The text is for the caller's log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Declined(pub String);

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Answers calls of one service. The future is dropped when the caller cancels
/// or its link breaks; what must not stop halfway is spawned by the handler.
pub trait Handler: Send + Sync + 'static {
    /// Handles one call.
    fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Declined>>;
}

/// A call without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no link to the node, or it broke before the request was written: it was not seen.
    #[error("there is no link to node {0}")]
    NotSent(NodeId),
    /// The peer has as many calls of this lane as it takes, or no handler: it did nothing.
    #[error("node {0} does not take more calls")]
    Busy(NodeId),
    /// The handler declined; nothing changed.
    #[error("node {node}: {why}")]
    Declined {
        /// Which.
        node: NodeId,
        /// Its text.
        why: String,
    },
    /// The link broke after the request was written: it may have been handled.
    #[error("the link to node {0} broke before the answer")]
    Lost(NodeId),
    /// No answer in time: it may have been handled, and the peer was told to stop.
    #[error("node {0} did not answer in time")]
    Deadline(NodeId),
    /// The request is over the lane's limit.
    #[error("{bytes} bytes are over the limit of {limit} for one call")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

impl CallError {
    /// Whether the request may have had an effect.
    pub fn maybe_handled(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Deadline(_))
    }
}

/// A peer with a link, admitted and introduced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its identity.
    pub id: NodeId,
    /// For people.
    pub name: String,
    /// Its program's version.
    pub version: String,
    /// Where it says it can be reached.
    pub addresses: Vec<String>,
    /// The cluster it belongs to; `None` when it belongs to none yet.
    pub cluster: Option<ClusterId>,
}

/// The mesh cannot start.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// A multiaddress that cannot be used.
    #[error("{address:?} cannot be used: {problem}")]
    Address {
        /// As given.
        address: String,
        /// Why.
        problem: String,
    },
    /// A metric's name is taken.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// Handle of the mesh. Cheap to clone; the mesh ends when it is shut down.
#[derive(Clone)]
pub struct Mesh {}

impl Mesh {
    /// Listens, and answers when every address is bound.
    ///
    /// # Errors
    /// See [`MeshError`].
    pub async fn start(
        options: MeshOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, MeshError> {
        let _ = (options, registry);
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
    /// The addresses told to peers, with the ports that were picked.
    pub fn addresses(&self) -> Vec<String> {
        todo!()
    }
    /// Tells peers, present and future, which cluster this node belongs to. A
    /// link to a node of another cluster is logged and closed.
    pub fn belong_to(&self, cluster: ClusterId) {
        let _ = cluster;
        todo!()
    }
    /// Calls of `service` go to `handler` from now on.
    pub fn serve(&self, service: Service, handler: Arc<dyn Handler>) {
        let _ = (service, handler);
        todo!()
    }
    /// Keeps a link to this node: dials the addresses, again after a break, with backoff.
    /// Known addresses are replaced; what a peer says about itself is tried too.
    pub fn keep(&self, node: NodeId, addresses: &[String]) {
        let _ = (node, addresses);
        todo!()
    }
    /// Stops keeping a link and closes it.
    pub fn forget(&self, node: NodeId) {
        let _ = node;
        todo!()
    }
    /// Tries an address whose node is not known yet. Answers who is there once it
    /// is admitted and introduced. An address of this very node is an error.
    ///
    /// # Errors
    /// A text: refused, unreachable, wrong secret, itself.
    pub async fn find(&self, address: SocketAddr, deadline: Instant) -> Result<Peer, String> {
        let _ = (address, deadline);
        todo!()
    }
    /// Peers with a link now, by id.
    pub fn peers(&self) -> Vec<Peer> {
        todo!()
    }
    /// Whether there is a link to the node now.
    pub fn linked(&self, node: NodeId) -> bool {
        let _ = node;
        todo!()
    }
    /// Announces every change of [`Mesh::peers`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        todo!()
    }
    /// Calls a peer. Dropping the future tells the peer to stop.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(
        &self,
        to: NodeId,
        lane: Lane,
        service: Service,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let _ = (to, lane, service, body, deadline);
        todo!()
    }
    /// Closes every link and stops listening.
    pub async fn shutdown(&self) {
        todo!()
    }
}

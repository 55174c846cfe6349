//! The mesh's vocabulary: lanes, services, calls and how they end.

use std::pin::Pin;
use std::time::Instant;

use bytes::Bytes;
use orama_proto::{ClusterId, NodeId};

use super::{ClusterSecrets, NodeKey};

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
    /// Bytes of requests being handled, or of frames waiting to be written, for one peer.
    /// Room for at least one frame of the greatest length. Further calls are answered [`CallError::Busy`].
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Heartbeat => 4 << 20,
            Self::Consensus => 64 << 20,
            Self::Calls => 128 << 20,
            Self::Bulk => 8 << 20,
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

impl Service {
    /// All of them.
    pub(super) const ALL: [Self; 10] = [
        Self::Hello,
        Self::Raft,
        Self::Group,
        Self::Membership,
        Self::Blobs,
        Self::Invoke,
        Self::Journal,
        Self::Load,
        Self::Data,
        Self::Visible,
    ];
    /// The one with this number on the wire.
    pub(super) fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|s| *s as u8 == number)
    }
    /// The name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Raft => "raft",
            Self::Group => "group",
            Self::Membership => "membership",
            Self::Blobs => "blobs",
            Self::Invoke => "invoke",
            Self::Journal => "journal",
            Self::Load => "load",
            Self::Data => "data",
            Self::Visible => "visible",
        }
    }
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

//! Who the cluster consists of and which node holds which group: replicated in
//! `meta`, so that every node agrees on it (DESIGN 5).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{GroupId, NodeId, Timestamp};

/// A cluster, drawn at random when it is formed. Nodes of different clusters
/// do not talk, even when they share a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a member is meant to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Holds groups and runs functions.
    Active,
    /// Keeps what it holds, leads nothing, takes no forwarded work.
    Draining,
    /// Its groups are being moved away; it is removed when it holds none.
    Leaving,
}

impl NodeState {
    /// The name in tables and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Leaving => "leaving",
        }
    }
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its identity: derived from its key.
    pub id: NodeId,
    /// For people; unique among members.
    pub name: String,
    /// Where its peers reach it: multiaddresses without `/p2p`.
    pub addresses: Vec<String>,
    /// Its program's version.
    pub version: String,
    /// What it is meant to do.
    pub state: NodeState,
    /// When it joined.
    pub joined_at: Timestamp,
}

/// Where a data group lives. The placement controller writes it, the replicas follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The nodes that are to hold a replica.
    pub replicas: Vec<NodeId>,
    /// The one node that begins the group's log while `formed` is false.
    pub founder: NodeId,
    /// The group exists. From then on nobody ever begins it again.
    pub formed: bool,
}

/// Members and placement as of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Topology {
    /// The cluster; `None` before it is formed.
    pub cluster: Option<ClusterId>,
    /// Data groups, fixed when the cluster is formed.
    pub data_groups: u32,
    /// Voters of `meta` that there must be before the cluster is used for the first time:
    /// decided by whoever forms it, so that a restart with other settings changes nothing.
    pub first_voters: u32,
    /// Rises with every change of this value; fences owners of older ones.
    pub epoch: u64,
    /// Members by id.
    pub nodes: BTreeMap<NodeId, Member>,
    /// Data groups by id.
    pub groups: BTreeMap<GroupId, Placement>,
}

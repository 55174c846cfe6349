//! What nodes say to each other about membership ([`Service::Membership`]).
//!
//! [`Service::Membership`]: crate::mesh::Service::Membership

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use orama_proto::topology::{ClusterId, Member};
use orama_proto::{GroupId, NodeId, limits, record};
use serde::{Deserialize, Serialize};

use crate::consensus::GroupView;

/// Version of [`Ask`] and [`Answer`].
pub(super) const WIRE_VERSION: u8 = 1;

/// Where a node can be reached, as far as the sender knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) node: NodeId,
    pub(super) addresses: Vec<String>,
}

impl Known {
    /// Whether it keeps the limits of a member's record; a larger one is ignored.
    pub(super) fn is_sound(&self) -> bool {
        self.addresses.len() <= limits::ADDRESSES_PER_MEMBER
            && self
                .addresses
                .iter()
                .all(|a| a.len() <= limits::ADDRESS_MAX_BYTES)
    }
}

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Opens what it has.
    Starting,
    /// Has nothing and belongs to nothing.
    Fresh,
    /// Begins a cluster, or asks to be let into one.
    Joining,
    /// Belongs to this cluster.
    Member(ClusterId),
}

/// What the answering node holds the asking one for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Standing {
    /// A member.
    Member,
    /// Confirmed with the leader of `meta`: no member.
    Stranger,
    /// It could not be confirmed.
    Unknown,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Who are you, who am I, and here is where everybody is.
    Probe { known: Vec<Known> },
    /// May I begin a cluster of which you will be part?
    Agree { expect: u32 },
    /// Let me in.
    Join {
        member: Member,
        /// Nothing was ever written here.
        pristine: bool,
    },
    /// How do your groups look?
    Views,
    /// You lead this group: hand over.
    Lead { group: GroupId, to: NodeId },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    Probe {
        phase: Phase,
        standing: Standing,
        known: Vec<Known>,
    },
    /// Done, or agreed.
    Done,
    /// In. These are the members.
    Joined {
        cluster: ClusterId,
        members: Vec<Known>,
    },
    /// Ask the leader.
    Elsewhere(Known),
    /// Not now; try again.
    Later(String),
    /// Never.
    Refused(String),
    Views(Vec<(GroupId, View)>),
}

/// [`GroupView`] on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct View {
    leader: Option<NodeId>,
    term: u64,
    last: u64,
    applied: u64,
    voters: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
    changing: bool,
    matched: BTreeMap<NodeId, u64>,
    stopped: bool,
}

impl From<GroupView> for View {
    fn from(view: GroupView) -> Self {
        Self {
            leader: view.leader,
            term: view.term,
            last: view.last,
            applied: view.applied,
            voters: view.voters,
            learners: view.learners,
            changing: view.changing,
            matched: view.matched,
            stopped: view.stopped,
        }
    }
}

impl From<View> for GroupView {
    fn from(view: View) -> Self {
        Self {
            leader: view.leader,
            term: view.term,
            last: view.last,
            applied: view.applied,
            voters: view.voters,
            learners: view.learners,
            changing: view.changing,
            matched: view.matched,
            stopped: view.stopped,
        }
    }
}

/// Writes a question or an answer.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Bytes, String> {
    let bytes = record::encode(WIRE_VERSION, value).map_err(|e| e.to_string())?;
    Ok(Bytes::from(bytes))
}

/// Reads a question or an answer.
pub(super) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    record::decode(WIRE_VERSION, bytes).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_survives_the_wire() {
        let view = GroupView {
            leader: Some(NodeId(1)),
            term: 3,
            last: 9,
            applied: 8,
            voters: BTreeSet::from([NodeId(1), NodeId(2)]),
            learners: BTreeSet::from([NodeId(3)]),
            changing: true,
            matched: BTreeMap::from([(NodeId(2), 7)]),
            stopped: false,
        };
        let bytes = encode(&View::from(view.clone())).unwrap();
        assert_eq!(GroupView::from(decode::<View>(&bytes).unwrap()), view);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused_or_decoded_without_panic(mut bytes: Vec<u8>) {
            if let Some(first) = bytes.first_mut() {
                *first = WIRE_VERSION;
            }
            let _ = decode::<Ask>(&bytes);
            let _ = decode::<Answer>(&bytes);
        }
    }
}

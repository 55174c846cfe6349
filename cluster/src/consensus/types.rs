//! openraft's type parameters, and our own stored forms of its values.
//!
//! One type configuration serves every group: a command and its reply are
//! opaque bytes here, so the log and the network never depend on what a group
//! replicates. What is stored is never an openraft type: its layout may change
//! between alphas, ours changes only with a version byte.

use std::collections::BTreeSet;
use std::fmt;

use openraft::impls::leader_id_adv::LeaderId;
use openraft::{EntryPayload, LogId, Membership, StoredMembership};
use orama_proto::NodeId;
use serde::{Deserialize, Serialize};

/// An encoded command.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command(#[serde(with = "serde_bytes")] pub(crate) Vec<u8>);

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

// Contents may be ciphertext or settings: only the size is shown.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({self})")
    }
}

/// An encoded reply; empty for entries that are not commands.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply(#[serde(with = "serde_bytes")] pub(crate) Vec<u8>);

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({self})")
    }
}

// The macro names the runtime by its deprecated path.
#[allow(deprecated, missing_docs)]
mod config {
    use super::{Command, Reply};

    openraft::declare_raft_types!(
        pub(crate) Types:
            D = Command,
            R = Reply,
            NodeId = u64,
            Node = (),
    );
}
pub(crate) use config::Types;

pub(crate) type Leader = LeaderId<u64, u64>;
pub(crate) type RaftLogId = LogId<Leader>;
pub(crate) type RaftVote = openraft::Vote<Leader>;
pub(crate) type RaftEntry = openraft::Entry<Leader, EntryPayload<Command, u64, ()>>;
pub(crate) type RaftMembership = StoredMembership<Leader, u64, ()>;
pub(crate) type RaftSnapshotMeta = openraft::SnapshotMeta<Leader, u64, ()>;
pub(crate) type RaftSnapshot<D> = openraft::Snapshot<Leader, u64, (), D>;

/// A place in the log: who led when the entry was appended, and its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) term: u64,
    pub(crate) leader: u64,
    pub(crate) index: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (term {})", self.index, self.term)
    }
}

impl From<RaftLogId> for Position {
    fn from(id: RaftLogId) -> Self {
        Self {
            term: id.leader_id.term,
            leader: id.leader_id.node_id,
            index: id.index,
        }
    }
}

impl From<Position> for RaftLogId {
    fn from(at: Position) -> Self {
        let leader_id = Leader {
            term: at.term,
            node_id: at.leader,
        };
        LogId::new(leader_id, at.index)
    }
}

/// A vote as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteRecord {
    term: u64,
    node: u64,
    committed: bool,
}

impl VoteRecord {
    #[cfg(test)]
    pub(crate) fn new(term: u64, node: u64, committed: bool) -> Self {
        Self {
            term,
            node,
            committed,
        }
    }
    /// The leader or candidate.
    pub(crate) fn node(&self) -> u64 {
        self.node
    }
}

impl From<&RaftVote> for VoteRecord {
    fn from(vote: &RaftVote) -> Self {
        Self {
            term: vote.leader_id.term,
            node: vote.leader_id.node_id,
            committed: vote.committed,
        }
    }
}

impl From<VoteRecord> for RaftVote {
    fn from(vote: VoteRecord) -> Self {
        Self {
            leader_id: Leader {
                term: vote.term,
                node_id: vote.node,
            },
            committed: vote.committed,
        }
    }
}

/// Who votes (more than one set while it changes), and every member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    voters: Vec<BTreeSet<u64>>,
    all: BTreeSet<u64>,
}

impl Members {
    fn of(membership: &Membership<u64, ()>) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            all: membership.nodes().map(|(id, ())| *id).collect(),
        }
    }
    fn into_raft(self) -> Membership<u64, ()> {
        Membership::new_with_defaults(self.voters, self.all)
    }
}

/// The membership that was last applied, and where in the log it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembershipRecord {
    pub(crate) at: Option<Position>,
    members: Members,
}

impl MembershipRecord {
    /// Whether this node is the only voter.
    pub(crate) fn is_sole_voter(&self, node: NodeId) -> bool {
        self.members.voters == [BTreeSet::from([node.0])]
    }
    /// Whether this node belongs to the group, or nobody does yet.
    pub(crate) fn admits(&self, node: NodeId) -> bool {
        self.members.all.is_empty() || self.members.all.contains(&node.0)
    }
}

impl From<&RaftMembership> for MembershipRecord {
    fn from(stored: &RaftMembership) -> Self {
        Self {
            at: stored.log_id().map(Position::from),
            members: Members::of(stored.membership()),
        }
    }
}

impl From<MembershipRecord> for RaftMembership {
    fn from(record: MembershipRecord) -> Self {
        StoredMembership::new(record.at.map(Into::into), record.members.into_raft())
    }
}

/// What an entry carries, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PayloadRecord {
    Blank,
    Command(Command),
    Members(Members),
}

/// A log entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryRecord {
    pub(crate) at: Position,
    pub(crate) payload: PayloadRecord,
}

impl EntryRecord {
    /// About how many bytes it takes when it is encoded.
    pub(crate) fn size(&self) -> usize {
        const FRAME: usize = 48;
        FRAME
            + match &self.payload {
                PayloadRecord::Blank => 0,
                PayloadRecord::Command(command) => command.0.len(),
                PayloadRecord::Members(members) => 24 * members.all.len(),
            }
    }
}

impl From<&RaftEntry> for EntryRecord {
    fn from(entry: &RaftEntry) -> Self {
        Self {
            at: entry.log_id.into(),
            payload: match &entry.payload {
                EntryPayload::Blank => PayloadRecord::Blank,
                EntryPayload::Normal(command) => PayloadRecord::Command(command.clone()),
                EntryPayload::Membership(m) => PayloadRecord::Members(Members::of(m)),
            },
        }
    }
}

impl From<EntryRecord> for RaftEntry {
    fn from(record: EntryRecord) -> Self {
        Self {
            log_id: record.at.into(),
            payload: match record.payload {
                PayloadRecord::Blank => EntryPayload::Blank,
                PayloadRecord::Command(command) => EntryPayload::Normal(command),
                PayloadRecord::Members(m) => EntryPayload::Membership(m.into_raft()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_memberships_survive_their_stored_form() {
        let at = Position {
            term: 3,
            leader: 7,
            index: 12,
        };
        let members = Membership::new_with_defaults(
            vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])],
            [1, 2, 3, 4],
        );
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Command(vec![1, 2, 3])),
            EntryPayload::Membership(members.clone()),
        ] {
            let entry = RaftEntry {
                log_id: at.into(),
                payload,
            };
            assert_eq!(RaftEntry::from(EntryRecord::from(&entry)), entry);
        }
        let stored = RaftMembership::new(Some(at.into()), members);
        let record = MembershipRecord::from(&stored);
        assert!(!record.is_sole_voter(NodeId(1)) && record.admits(NodeId(4)));
        assert!(!record.admits(NodeId(9)));
        assert_eq!(RaftMembership::from(record), stored);
    }

    #[test]
    fn a_command_never_shows_its_contents() {
        let text = format!("{:?} {}", Command(b"hush".to_vec()), Command(vec![0; 9]));
        assert_eq!(text, "Command(4 bytes) 9 bytes");
    }
}

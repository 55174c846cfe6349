//! What groups say to each other: our own types with a version byte, never
//! openraft's, whose layout may change between alphas.
//!
//! A message names its group. Decoding is bounded by the frame it came in: no
//! length inside it can make it allocate more.

use bytes::Bytes;
use orama_proto::{GroupId, record};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::types::{EntryRecord, Position, VoteRecord};
use crate::mesh::Declined;

/// Version of everything in this file.
const VERSION: u8 = 1;
/// A chunk of a snapshot has at most so many bytes.
pub(super) const CHUNK_MAX_BYTES: usize = 1 << 20;
/// The entries of one append have at most about so many bytes, one entry at least.
pub(super) const APPEND_MAX_BYTES: usize = 4 << 20;

/// A request and the group it is for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope<T> {
    group: u32,
    message: T,
}

/// Entries, or none: then it is a heartbeat or moves the commit mark.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Append {
    pub(super) vote: VoteRecord,
    pub(super) prev: Option<Position>,
    pub(super) entries: Vec<EntryRecord>,
    pub(super) commit: Option<Position>,
}

/// A candidate, or somebody who would be one.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ballot {
    pub(super) vote: VoteRecord,
    pub(super) last: Option<Position>,
    pub(super) transfer: bool,
}

/// A leader gives its place away.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Transfer {
    pub(super) from: VoteRecord,
    pub(super) to: u64,
    pub(super) last: Option<Position>,
}

/// Which snapshot: a resumed transfer goes on only with the very same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SnapshotId {
    pub(super) at: Option<Position>,
    /// Bytes of the whole file.
    pub(super) length: u64,
    /// The checksum at its end.
    pub(super) sum: [u8; 16],
}

/// A piece of a snapshot.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chunk {
    pub(super) id: SnapshotId,
    pub(super) offset: u64,
    /// xxh3 of the bytes.
    pub(super) sum: u64,
    pub(super) bytes: ByteBuf,
}

/// From replica to replica of one group.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RaftRequest {
    Append(Append),
    Vote(Ballot),
    PreVote(Ballot),
    Transfer(Transfer),
    /// May I send this snapshot, and from where on?
    Offer(VoteRecord, SnapshotId),
    Chunk(VoteRecord, Chunk),
    /// All of it was sent: verify and install it.
    Install(VoteRecord, SnapshotId),
}

impl RaftRequest {
    /// Whose message it must be: the leader's, or the candidate's.
    pub(super) fn sender(&self) -> u64 {
        match self {
            Self::Append(append) => append.vote.node(),
            Self::Vote(ballot) | Self::PreVote(ballot) => ballot.vote.node(),
            Self::Transfer(transfer) => transfer.from.node(),
            Self::Offer(vote, _) | Self::Chunk(vote, _) | Self::Install(vote, _) => vote.node(),
        }
    }
}

/// What became of an append.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Appended {
    All,
    Upto(Option<Position>),
    Conflict,
    Higher(VoteRecord),
}

/// The answer to a [`RaftRequest`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RaftAnswer {
    Append(Appended),
    Vote {
        vote: VoteRecord,
        granted: bool,
        last: Option<Position>,
    },
    Transfer(Result<(), String>),
    /// Of the snapshot, the bytes from here on are wanted next.
    Want(u64),
    /// Installed when the vote is the sender's; a higher one ends the transfer.
    Snapshot(VoteRecord),
}

/// From any node to a group's leader.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum GroupRequest {
    Propose(ByteBuf),
    ReadIndex,
    /// The read index by the leader's lease. A node that does not know it yet declines.
    WeakIndex,
}

/// The answer to a [`GroupRequest`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum GroupAnswer {
    /// Durable on a majority, and applied at the leader.
    Committed {
        index: u64,
        reply: ByteBuf,
    },
    ReadIndex(u64),
    /// Nothing was done.
    NotLeader,
    Full,
    Stopped(String),
    TooLarge(u64),
    /// It may have been committed.
    Unknown(String),
    /// The leader does not let it into the log. Nothing was done.
    Refused(String),
    /// Its turn did not come, nothing was appended: to be tried again after so many milliseconds.
    /// (A node that does not know this answer takes the outcome for unknown.)
    Busy(u64),
}

fn bytes(value: &impl Serialize) -> Result<Bytes, Declined> {
    record::encode(VERSION, value)
        .map(Bytes::from)
        .map_err(|e| Declined(e.to_string()))
}

/// A request on its way.
pub(super) fn request(group: GroupId, message: &impl Serialize) -> Result<Bytes, Declined> {
    bytes(&Envelope {
        group: group.0,
        message,
    })
}

/// A request as it arrived.
pub(super) fn read_request<T: DeserializeOwned>(body: &[u8]) -> Result<(GroupId, T), Declined> {
    let envelope: Envelope<T> =
        record::decode(VERSION, body).map_err(|e| Declined(e.to_string()))?;
    Ok((GroupId(envelope.group), envelope.message))
}

/// An answer on its way.
pub(super) fn answer(message: &impl Serialize) -> Result<Bytes, Declined> {
    bytes(message)
}

/// An answer as it arrived.
pub(super) fn read_answer<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    record::decode(VERSION, body).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::types::{Command, PayloadRecord};

    fn at(index: u64) -> Position {
        Position {
            term: 2,
            leader: 7,
            index,
        }
    }

    #[test]
    fn messages_survive_the_wire_and_name_their_sender() {
        let vote = VoteRecord::new(2, 7, true);
        let entries = vec![EntryRecord {
            at: at(5),
            payload: PayloadRecord::Command(Command(vec![9; 300])),
        }];
        let message = RaftRequest::Append(Append {
            vote,
            prev: Some(at(4)),
            entries,
            commit: None,
        });
        let body = request(GroupId(3), &message).unwrap();
        let (group, read) = read_request::<RaftRequest>(&body).unwrap();
        assert_eq!((group, read.sender()), (GroupId(3), 7));
        assert_eq!(read, message);
        let body = answer(&RaftAnswer::Want(77)).unwrap();
        assert_eq!(
            read_answer::<RaftAnswer>(&body).unwrap(),
            RaftAnswer::Want(77)
        );
    }

    proptest::proptest! {
        #[test]
        fn hostile_bytes_are_refused_without_panic(mut body: Vec<u8>) {
            let _ = read_request::<RaftRequest>(&body);
            if let Some(first) = body.first_mut() {
                *first = VERSION;
            }
            let _ = read_request::<RaftRequest>(&body);
            let _ = read_request::<GroupRequest>(&body);
            let _ = read_answer::<RaftAnswer>(&body);
            let _ = read_answer::<GroupAnswer>(&body);
        }
    }
}

//! The records of the log: what a frame is made of.
//!
//! ```text
//! 0  sum      u64   xxh3-64 of everything after it
//! 8  length   u32   of the payload
//! 12 tag      u8    what it is
//! 13 version  u8    of this layout
//! 14 kind     u8    of an entry's payload; whether a vote is committed
//! 15 zero     u8
//! 16 group    u32
//! 20 index, term, leader   3 × u64; a vote has no index; truncation only an index
//! 44 payload
//! ```
//!
//! All little endian. The checksum covers group and index, so a record is never
//! taken for another one's. A command's bytes go in as they are; only
//! memberships, which are rare, are serialised.

use openraft::EntryPayload;
use orama_proto::GroupId;
use orama_proto::record::{self, RecordError};
use xxhash_rust::xxh3::xxh3_64;

use crate::consensus::types::{
    Command, EntryRecord, PayloadRecord, Position, RaftEntry, RaftVote, VoteRecord,
};

/// Bytes of a record without payload.
pub(super) const HEAD: usize = 44;
/// Version of the layout above.
const VERSION: u8 = 1;
/// Version of a membership's payload.
const MEMBERS_VERSION: u8 = 1;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERS: u8 = 2;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tag {
    /// A new entry; those from its index on are gone.
    Entry = 1,
    /// A live entry, written again so that its old segment can be deleted.
    Moved = 2,
    /// The last vote.
    Vote = 3,
    /// Everything up to here is gone.
    Purged = 4,
    /// Everything up to here was known to be committed; may lag.
    Committed = 5,
    /// Everything from this index on is gone.
    Truncate = 6,
    /// Nothing of the group remains.
    Erase = 7,
    /// The segment ends here, the next one goes on.
    Seal = 8,
    /// The log was closed in order.
    Close = 9,
    /// The log was opened after that.
    Open = 10,
}

impl Tag {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Entry,
            2 => Self::Moved,
            3 => Self::Vote,
            4 => Self::Purged,
            5 => Self::Committed,
            6 => Self::Truncate,
            7 => Self::Erase,
            8 => Self::Seal,
            9 => Self::Close,
            10 => Self::Open,
            _ => return None,
        })
    }
}

/// Bytes that are no record of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordFault {
    /// It ends too early.
    #[error("it is cut off")]
    Cut,
    /// The bytes are not what was written.
    #[error("its checksum does not match")]
    Checksum,
    /// Written by a version of this program that is not known here.
    #[error("its version or kind is not known here")]
    Unknown,
    /// The checksum matches and the contents make no sense.
    #[error("its contents cannot be decoded")]
    Contents,
}

/// A verified record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) tag: Tag,
    kind: u8,
    pub(super) group: GroupId,
    pub(super) at: Position,
    payload: &'a [u8],
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let tail = bytes.get(at..)?;
    tail.first_chunk().map(|b| u32::from_le_bytes(*b))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let tail = bytes.get(at..)?;
    tail.first_chunk().map(|b| u64::from_le_bytes(*b))
}

fn put(out: &mut Vec<u8>, tag: Tag, kind: u8, group: GroupId, at: Position, payload: &[u8]) {
    let start = out.len();
    // An append refuses longer ones before it gets here.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut head = [0; HEAD];
    head[8..12].copy_from_slice(&length.to_le_bytes());
    head[12] = tag as u8;
    head[13] = VERSION;
    head[14] = kind;
    head[16..20].copy_from_slice(&group.0.to_le_bytes());
    head[20..28].copy_from_slice(&at.index.to_le_bytes());
    head[28..36].copy_from_slice(&at.term.to_le_bytes());
    head[36..44].copy_from_slice(&at.leader.to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
    seal(out, start);
}

fn seal(out: &mut [u8], start: usize) {
    let sum = xxh3_64(&out[start + 8..]);
    out[start..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// Adds an entry to `out`.
pub(super) fn put_entry(
    out: &mut Vec<u8>,
    group: GroupId,
    entry: &RaftEntry,
) -> Result<(), RecordError> {
    let at = Position::from(entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => put(out, Tag::Entry, BLANK, group, at, &[]),
        EntryPayload::Normal(command) => put(out, Tag::Entry, COMMAND, group, at, &command.0),
        EntryPayload::Membership(_) => {
            let payload = record::encode(MEMBERS_VERSION, &EntryRecord::from(entry).payload)?;
            put(out, Tag::Entry, MEMBERS, group, at, &payload);
        }
    }
    Ok(())
}

/// Adds a verified entry again, as a moved one.
pub(super) fn put_moved(out: &mut Vec<u8>, raw: &[u8]) {
    let start = out.len();
    out.extend_from_slice(raw);
    out[start + 12] = Tag::Moved as u8;
    seal(out, start);
}

/// Adds a vote.
pub(super) fn put_vote(out: &mut Vec<u8>, group: GroupId, vote: VoteRecord) {
    let vote = RaftVote::from(vote);
    let at = Position {
        index: 0,
        term: vote.leader_id.term,
        leader: vote.leader_id.node_id,
    };
    put(out, Tag::Vote, u8::from(vote.committed), group, at, &[]);
}

/// Adds a purge or commit mark.
pub(super) fn put_position(out: &mut Vec<u8>, tag: Tag, group: GroupId, at: Position) {
    put(out, tag, 0, group, at, &[]);
}

/// Adds a truncation: `from` and everything after it is gone.
pub(super) fn put_truncate(out: &mut Vec<u8>, group: GroupId, from: u64) {
    let at = Position {
        index: from,
        term: 0,
        leader: 0,
    };
    put(out, Tag::Truncate, 0, group, at, &[]);
}

/// Adds a record that has nothing but a tag and a group.
pub(super) fn put_bare(out: &mut Vec<u8>, tag: Tag, group: GroupId) {
    let nowhere = Position {
        index: 0,
        term: 0,
        leader: 0,
    };
    put(out, tag, 0, group, nowhere, &[]);
}

/// How long the record that begins here says it is.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let payload = u32_at(bytes, 8)?;
    HEAD.checked_add(usize::try_from(payload).ok()?)
}

/// Verifies the record that begins here. Answers its length too.
pub(super) fn parse(bytes: &[u8]) -> Result<(Record<'_>, usize), RecordFault> {
    let length = length(bytes).ok_or(RecordFault::Cut)?;
    let bytes = bytes.get(..length).ok_or(RecordFault::Cut)?;
    let word = |at| u64_at(bytes, at).ok_or(RecordFault::Cut);
    let rest = bytes.get(8..).ok_or(RecordFault::Cut)?;
    if word(0)? != xxh3_64(rest) {
        return Err(RecordFault::Checksum);
    }
    let (&[tag, version, kind, zero], group) = (
        bytes
            .get(12..)
            .and_then(<[u8]>::first_chunk)
            .ok_or(RecordFault::Cut)?,
        u32_at(bytes, 16).ok_or(RecordFault::Cut)?,
    );
    let (Some(tag), VERSION, 0) = (Tag::of(tag), version, zero) else {
        return Err(RecordFault::Unknown);
    };
    let record = Record {
        tag,
        kind,
        group: GroupId(group),
        at: Position {
            index: word(20)?,
            term: word(28)?,
            leader: word(36)?,
        },
        payload: bytes.get(HEAD..).unwrap_or_default(),
    };
    Ok((record, length))
}

impl Record<'_> {
    /// The entry it holds.
    pub(super) fn entry(&self) -> Result<RaftEntry, RecordFault> {
        let payload = match (self.tag, self.kind) {
            (Tag::Entry | Tag::Moved, BLANK) => PayloadRecord::Blank,
            (Tag::Entry | Tag::Moved, COMMAND) => {
                PayloadRecord::Command(Command(self.payload.to_vec()))
            }
            (Tag::Entry | Tag::Moved, MEMBERS) => {
                record::decode(MEMBERS_VERSION, self.payload).map_err(|_| RecordFault::Contents)?
            }
            _ => return Err(RecordFault::Unknown),
        };
        Ok(EntryRecord {
            at: self.at,
            payload,
        }
        .into())
    }

    /// The vote it holds.
    pub(super) fn vote(&self) -> VoteRecord {
        let mut vote = RaftVote::new(self.at.term, self.at.leader);
        vote.committed = self.kind != 0;
        VoteRecord::from(&vote)
    }

    /// Whether it can be used, without making a copy of a command.
    pub(super) fn check(&self) -> Result<(), RecordFault> {
        match (self.tag, self.kind) {
            (Tag::Entry | Tag::Moved, COMMAND) => Ok(()),
            (Tag::Entry | Tag::Moved, _) => self.entry().map(drop),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position {
        term: 3,
        leader: 9,
        index: 41,
    };

    #[test]
    fn every_flipped_bit_is_noticed() {
        let entry = RaftEntry {
            log_id: AT.into(),
            payload: EntryPayload::Normal(Command(b"a change".to_vec())),
        };
        let mut bytes = Vec::new();
        put_entry(&mut bytes, GroupId(4), &entry).unwrap();
        let (found, length) = parse(&bytes).unwrap();
        assert_eq!((found.group, length), (GroupId(4), bytes.len()));
        assert_eq!(found.entry().unwrap(), entry);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bad).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn marks_and_moved_entries_keep_what_they_say() {
        for committed in [false, true] {
            let mut vote = RaftVote::new(8, 2);
            vote.committed = committed;
            let mut bytes = Vec::new();
            put_vote(&mut bytes, GroupId(1), (&vote).into());
            let found = parse(&bytes).unwrap().0;
            assert_eq!(RaftVote::from(found.vote()), vote);
            assert!(found.entry().is_err());
        }
        let blank = RaftEntry {
            log_id: AT.into(),
            payload: EntryPayload::Blank,
        };
        let (mut bytes, mut moved) = (Vec::new(), Vec::new());
        put_entry(&mut bytes, GroupId(1), &blank).unwrap();
        put_moved(&mut moved, &bytes);
        let found = parse(&moved).unwrap().0;
        assert_eq!(found.tag, Tag::Moved);
        assert_eq!(found.entry().unwrap(), blank);
    }
}

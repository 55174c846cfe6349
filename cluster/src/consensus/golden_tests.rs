//! What groups store and say to each other stays what it is.

use std::collections::BTreeSet;

use openraft::{Membership, StoredMembership};
use orama_proto::GroupId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;

use super::container::{self, Header};
use super::types::{
    Command, EntryRecord, MembershipRecord, PayloadRecord, Position, RaftEntry, RaftMembership,
    VoteRecord,
};
use super::wire::{
    self, Append, Appended, Ballot, Chunk, GroupAnswer, GroupRequest, RaftAnswer, RaftRequest,
    SnapshotId, Transfer,
};
use crate::golden::{Golden, has_every_variant};

pub(crate) const AT: Position = Position {
    term: 3,
    leader: 9,
    index: 300,
};

/// A membership that changes: two sets of voters and a learner.
pub(crate) fn membership() -> MembershipRecord {
    let voters = vec![BTreeSet::from([1, 2]), BTreeSet::from([1, 3])];
    let all = BTreeSet::from([1, 2, 3, 4]);
    let members = Membership::new_with_defaults(voters, all);
    let stored: RaftMembership = StoredMembership::new(Some(AT.into()), members);
    MembershipRecord::from(&stored)
}

/// One entry of each kind.
pub(crate) fn entries() -> Vec<(&'static str, EntryRecord)> {
    let stored = RaftMembership::from(membership());
    let members = RaftEntry {
        log_id: AT.into(),
        payload: openraft::EntryPayload::Membership(stored.membership().clone()),
    };
    let entry = |payload| EntryRecord { at: AT, payload };
    vec![
        ("entry-blank", entry(PayloadRecord::Blank)),
        (
            "entry-command",
            entry(PayloadRecord::Command(Command(b"command".to_vec()))),
        ),
        ("entry-members", EntryRecord::from(&members)),
    ]
}

#[test]
fn golden_snapshot_files() {
    let mut golden = Golden::open("snapshots");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snap");
    let write = |header: &Header, body: &[u8]| {
        let put = |out: &mut dyn std::io::Write| out.write_all(body);
        container::write_around(&path, header, put).unwrap();
        std::fs::read(&path).unwrap()
    };
    let header = Header {
        group: 5,
        at: Some(AT),
        membership: membership(),
        hash: [7; 16],
        pairs: 1,
        body: 11,
    };
    let pairs = [(&b"k"[..], &b"v"[..]), (&b""[..], &b""[..])];
    let pair = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
        out.extend_from_slice(bytes);
    };
    let mut body = Vec::new();
    pair(&mut body, pairs[0].0);
    pair(&mut body, pairs[0].1);
    body.push(0);
    golden.holds("container", &write(&header, &body), |bytes| {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(container::verify(&path).unwrap(), header);
        let (header, mut rest) = container::parse(bytes).unwrap();
        let body = rest.to_vec();
        assert_eq!(container::take(&mut rest).unwrap(), pairs[0].0);
        assert_eq!(container::take(&mut rest).unwrap(), pairs[0].1);
        write(&header, &body)
    });
}

fn asked<T: Serialize + DeserializeOwned>(golden: &mut Golden, sample: &str, message: &T) {
    let written = wire::request(GroupId(300), message).unwrap();
    golden.holds(sample, &written, |bytes| {
        let (group, message) = wire::read_request::<T>(bytes).unwrap();
        wire::request(group, &message).unwrap().to_vec()
    });
}

fn answered<T: Serialize + DeserializeOwned>(golden: &mut Golden, sample: &str, message: &T) {
    let written = wire::answer(message).unwrap();
    golden.holds(sample, &written, |bytes| {
        wire::answer(&wire::read_answer::<T>(bytes).unwrap())
            .unwrap()
            .to_vec()
    });
}

#[test]
fn golden_messages_of_replicas() {
    let golden = &mut Golden::open("replicas");
    let vote = VoteRecord::new(3, 9, true);
    let ballot = || Ballot {
        vote,
        last: Some(AT),
        transfer: true,
    };
    let id = SnapshotId {
        at: Some(AT),
        length: 70_000,
        sum: [6; 16],
    };
    let append = Append {
        vote,
        prev: Some(AT),
        entries: entries().into_iter().map(|(_, entry)| entry).collect(),
        commit: None,
    };
    let transfer = Transfer {
        from: vote,
        to: 2,
        last: Some(AT),
    };
    let chunk = Chunk {
        id,
        offset: 5,
        sum: 4,
        bytes: ByteBuf::from(vec![1, 2, 3]),
    };
    let requests = [
        ("append", RaftRequest::Append(append)),
        ("vote", RaftRequest::Vote(ballot())),
        ("pre-vote", RaftRequest::PreVote(ballot())),
        ("transfer", RaftRequest::Transfer(transfer)),
        ("offer", RaftRequest::Offer(vote, id)),
        ("chunk", RaftRequest::Chunk(vote, chunk)),
        ("install", RaftRequest::Install(vote, id)),
    ];
    has_every_variant(requests.iter().map(|(_, it)| it));
    for (sample, request) in requests {
        asked(golden, sample, &request);
    }
    let voted = RaftAnswer::Vote {
        vote,
        granted: true,
        last: Some(AT),
    };
    let answers = [
        ("appended-all", RaftAnswer::Append(Appended::All)),
        (
            "appended-upto",
            RaftAnswer::Append(Appended::Upto(Some(AT))),
        ),
        ("appended-conflict", RaftAnswer::Append(Appended::Conflict)),
        (
            "appended-higher",
            RaftAnswer::Append(Appended::Higher(vote)),
        ),
        ("voted", voted),
        ("transferred", RaftAnswer::Transfer(Ok(()))),
        ("not-transferred", RaftAnswer::Transfer(Err("why".into()))),
        ("want", RaftAnswer::Want(77)),
        ("installed", RaftAnswer::Snapshot(vote)),
    ];
    has_every_variant(answers.iter().map(|(_, it)| it));
    for (sample, answer) in answers {
        answered(golden, sample, &answer);
    }
}

#[test]
fn golden_messages_to_the_leader() {
    let golden = &mut Golden::open("leader");
    for (sample, request) in [
        (
            "propose",
            GroupRequest::Propose(ByteBuf::from(b"command".to_vec())),
        ),
        ("read-index", GroupRequest::ReadIndex),
        ("weak-index", GroupRequest::WeakIndex),
    ] {
        asked(golden, sample, &request);
    }
    let committed = GroupAnswer::Committed {
        index: 300,
        reply: ByteBuf::from(b"reply".to_vec()),
    };
    for (sample, answer) in [
        ("committed", committed),
        ("index", GroupAnswer::ReadIndex(300)),
        ("not-leader", GroupAnswer::NotLeader),
        ("full", GroupAnswer::Full),
        ("stopped", GroupAnswer::Stopped("why".into())),
        ("too-large", GroupAnswer::TooLarge(70_000)),
        ("unknown", GroupAnswer::Unknown("why".into())),
        ("refused", GroupAnswer::Refused("why".into())),
        ("busy", GroupAnswer::Busy(70_000)),
    ] {
        answered(golden, sample, &answer);
    }
}

//! What the log's files are made of stays what it is.

use orama_proto::GroupId;

use super::record::{self, Tag};
use super::{frame, segment};
use crate::consensus::golden_tests::{AT, entries};
use crate::consensus::types::{RaftEntry, VoteRecord};
use crate::golden::Golden;

const GROUP: GroupId = GroupId(300);

/// Writes what was read, by the record's own word for what it is.
fn again(bytes: &[u8]) -> Vec<u8> {
    let (found, length) = record::parse(bytes).unwrap();
    assert_eq!((length, found.check()), (bytes.len(), Ok(())));
    let mut out = Vec::new();
    match found.tag {
        Tag::Entry => {
            record::put_entry(&mut out, found.group, &found.entry().unwrap()).unwrap();
        }
        Tag::Moved => {
            let mut entry = Vec::new();
            record::put_entry(&mut entry, found.group, &found.entry().unwrap()).unwrap();
            record::put_moved(&mut out, &entry);
        }
        Tag::Vote => record::put_vote(&mut out, found.group, found.vote()),
        Tag::Purged | Tag::Committed => {
            record::put_position(&mut out, found.tag, found.group, found.at);
        }
        Tag::Truncate => record::put_truncate(&mut out, found.group, found.at.index),
        Tag::Erase | Tag::Seal | Tag::Close | Tag::Open => {
            record::put_bare(&mut out, found.tag, found.group);
        }
    }
    out
}

#[test]
fn golden_records_of_the_log() {
    let mut golden = Golden::open("log");
    let mut hold = |sample: &str, put: &dyn Fn(&mut Vec<u8>)| {
        let mut written = Vec::new();
        put(&mut written);
        golden.holds(sample, &written, again);
    };
    for (sample, entry) in entries() {
        let entry = RaftEntry::from(entry);
        hold(sample, &|out| {
            record::put_entry(out, GROUP, &entry).unwrap()
        });
        let mut raw = Vec::new();
        record::put_entry(&mut raw, GROUP, &entry).unwrap();
        hold(&format!("moved-{sample}"), &|out| {
            record::put_moved(out, &raw)
        });
    }
    for (sample, committed) in [("vote", false), ("vote-committed", true)] {
        let vote = VoteRecord::new(3, 9, committed);
        hold(sample, &|out| record::put_vote(out, GROUP, vote));
    }
    for (sample, tag) in [("purged", Tag::Purged), ("committed", Tag::Committed)] {
        hold(sample, &|out| record::put_position(out, tag, GROUP, AT));
    }
    hold("truncate", &|out| record::put_truncate(out, GROUP, 300));
    for (sample, tag) in [
        ("erase", Tag::Erase),
        ("seal", Tag::Seal),
        ("close", Tag::Close),
        ("open", Tag::Open),
    ] {
        hold(sample, &|out| record::put_bare(out, tag, GROUP));
    }
}

#[test]
fn golden_sectors_of_the_log() {
    let mut golden = Golden::open("log-sectors");
    let head = segment::Head {
        number: 3,
        size: 4 << 20,
        log: 77,
    };
    golden.holds("segment", &head.encode(), |bytes| {
        segment::Head::parse(bytes).unwrap().encode()
    });
    let write = |stand, records: &[u8]| {
        let mut out = Vec::new();
        frame::begin(&mut out);
        out.extend_from_slice(records);
        frame::finish(&mut out, stand);
        out
    };
    let stand = frame::Stand {
        log: 77,
        segment: 3,
        floor: 2,
        seq: 300,
        prev: 5,
    };
    golden.holds("frame", &write(stand, b"records"), |bytes| {
        let found = frame::Head::parse(bytes, 77).unwrap();
        assert!(found.verify(bytes) && !found.is_torn(bytes));
        let stand = frame::Stand {
            log: 77,
            segment: found.segment,
            floor: found.floor,
            seq: found.seq,
            prev: found.prev,
        };
        write(stand, &bytes[frame::HEAD..found.length])
    });
}

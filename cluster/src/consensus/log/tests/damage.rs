//! The log against rot: whatever changes in the files is noticed or changes nothing.

use super::*;
use crate::consensus::log::engine::Op;
use crate::consensus::log::frame::SECTOR;
use crate::consensus::log::record;

const GROUPS: [GroupId; 2] = [GroupId(1), GroupId(2)];

type Contents = Vec<(BTreeMap<u64, RaftEntry>, Option<Position>, Option<RaftVote>)>;

fn contents(engine: &Engine) -> Result<Contents, StorageFault> {
    let mut out = Vec::new();
    for group in GROUPS {
        let tail = engine.tail(group)?;
        let mut entries = BTreeMap::new();
        engine.visit(group, 0, u64::MAX, |entry, _| {
            entries.insert(entry.log_id.index, entry);
            true
        })?;
        out.push((entries, tail.purged, tail.vote.map(Into::into)));
    }
    Ok(out)
}

fn append_op(group: GroupId, entries: &[RaftEntry]) -> Op {
    let mut records = Vec::new();
    for entry in entries {
        record::put_entry(&mut records, group, entry).unwrap();
    }
    Op::Append {
        group,
        first: entries[0].log_id.index,
        records,
    }
}

/// Several segments with all kinds of records, and the offset where the last frame begins.
fn written() -> (Backend, Engine, Appender, usize) {
    let backend = Backend::default();
    let (engine, mut appender) = engine(&backend, SMALL).unwrap();
    let mut vote = RaftVote::new(3, 1);
    vote.committed = true;
    for round in 0..6 {
        let (a, b) = (GROUPS[0], GROUPS[1]);
        let ops = [
            append_op(a, &[entry(1, 2 * round, 300), entry(1, 2 * round + 1, 900)]),
            append_op(b, &[entry(2, round, 40)]),
            Op::Committed {
                group: a,
                at: position(1, round),
            },
        ];
        appender.commit(&ops).unwrap();
        let vote = (&vote).into();
        appender.commit(&[Op::Vote { group: b, vote }]).unwrap();
    }
    let more = [
        Op::Truncate {
            group: GROUPS[1],
            from: 4,
        },
        Op::Purge {
            group: GROUPS[0],
            upto: position(1, 4),
        },
    ];
    appender.commit(&more).unwrap();
    // The last frame has sectors that are zero by nature.
    let mut zeros = entry(1, 12, 1200);
    zeros.payload = EntryPayload::Normal(Command(vec![0; 1200]));
    let last = [zeros, entry(1, 13, 1000)];
    let newest = *backend.0.lock().now.keys().next_back().unwrap();
    let before = end_of(&backend.synced()[&newest]);
    appender.commit(&[append_op(GROUPS[0], &last)]).unwrap();
    let after = *backend.0.lock().now.keys().next_back().unwrap();
    let begins = if newest == after { before } else { SECTOR };
    (backend, engine, appender, begins)
}

fn end_of(file: &[u8]) -> usize {
    let used = file.chunks(SECTOR).rposition(|s| s.iter().any(|b| *b != 0));
    used.map_or(0, |nth| (nth + 1) * SECTOR)
}

#[test]
fn every_flipped_byte_is_noticed_or_changes_nothing() {
    let (backend, first, mut appender, _) = written();
    let expected = contents(&first).unwrap();
    let killed = backend.synced();
    appender.close(true).unwrap();
    assert!(killed.len() >= 2, "one segment is not enough");
    let newest = *killed.keys().next_back().unwrap();
    for (image, closed) in [(killed, false), (backend.synced(), true)] {
        let mut harmless = 0;
        for (&number, good) in &image {
            let end = end_of(good);
            for at in 0..good.len() {
                let mut bad = image.clone();
                bad.get_mut(&number).unwrap()[at] ^= 1 << (at % 8);
                match engine(&Backend::over(bad), SMALL) {
                    Err(e) => assert!(e.to_string().contains("damaged"), "{e}"),
                    Ok((found, _)) => {
                        let what = format!("closed {closed}: byte {at} of segment {number}");
                        assert!(at >= end && number == newest && !closed, "{what}");
                        assert_eq!(contents(&found).unwrap(), expected, "{what}");
                        harmless += 1;
                    }
                }
            }
        }
        assert_eq!(
            harmless > 0,
            !closed,
            "never written sectors may hold anything"
        );
    }
}

#[test]
fn only_the_last_frame_may_be_torn_and_only_by_whole_sectors() {
    let (backend, _, mut appender, begins) = written();
    let killed = backend.synced();
    appender.close(true).unwrap();
    let closed = backend.synced();
    let newest = *killed.keys().next_back().unwrap();
    let end = end_of(&killed[&newest]);
    let sectors = (end - begins) / SECTOR;
    assert!(sectors >= 4);
    let (all, _) = engine(&Backend::over(killed.clone()), SMALL).unwrap();
    let all = contents(&all).unwrap();
    let mut without = all.clone();
    without[0].0.retain(|i, _| *i < 12);
    for lost in 1..(1u32 << sectors) {
        let tear = |image: &Image| {
            let mut image = image.clone();
            let file = image.get_mut(&newest).unwrap();
            for sector in (0..sectors).filter(|s| lost >> s & 1 == 1) {
                file[begins + sector * SECTOR..begins + (sector + 1) * SECTOR].fill(0);
            }
            (*file != killed[&newest] || image == closed).then_some(image)
        };
        // Losing what is zero by nature loses nothing.
        let Some(torn) = tear(&killed) else { continue };
        let torn = Backend::over(torn);
        let (found, mut appender) = engine(&torn, SMALL).unwrap();
        assert_eq!(contents(&found).unwrap(), without, "lost {lost:b}");
        // What was dropped never comes back, and the log goes on in its place.
        assert_eq!(end_of(&torn.synced()[&newest]), begins);
        let next = append_op(GROUPS[0], &[entry(7, 12, 3)]);
        appender.commit(&[next]).unwrap();
        let (found, _) = engine(&Backend::over(torn.synced()), SMALL).unwrap();
        let found = contents(&found).unwrap();
        assert_eq!(found[0].0[&12], entry(7, 12, 3));
        // The same after an orderly end is damage.
        if let Some(torn) = tear(&closed).filter(|t| *t != closed) {
            let error = engine(&Backend::over(torn), SMALL).err();
            let error = error.unwrap_or_else(|| panic!("lost {lost:b}"));
            assert!(error.to_string().contains("damaged"), "{error}");
        }
    }
    // An earlier frame is never torn: there is another one after it.
    for at in (SECTOR..begins).step_by(SECTOR) {
        let mut bad = killed.clone();
        bad.get_mut(&newest).unwrap()[at..at + SECTOR].fill(0);
        if bad != killed {
            assert!(
                engine(&Backend::over(bad), SMALL).is_err(),
                "sector at {at}"
            );
        }
    }
}

#[test]
fn a_file_that_is_missing_cut_or_misplaced_is_named() {
    let (backend, ..) = written();
    let good = backend.synced();
    let numbers: Vec<_> = good.keys().copied().collect();
    let refused = |image: Image, what: &str| {
        let error = engine(&Backend::over(image), SMALL).err();
        let error = error.unwrap_or_else(|| panic!("{what}")).to_string();
        assert!(
            error.contains(".log") && error.contains("damaged"),
            "{what}: {error}"
        );
    };
    for &number in &numbers {
        let mut image = good.clone();
        image.remove(&number);
        refused(image, &format!("without segment {number}"));
        for keep in [
            0,
            100,
            SECTOR,
            good[&number].len() / 3,
            good[&number].len() - SECTOR,
        ] {
            let mut image = good.clone();
            image.get_mut(&number).unwrap().truncate(keep);
            refused(image, &format!("segment {number} cut to {keep}"));
        }
        let mut image = good.clone();
        let other = good[&numbers[usize::from(number == numbers[0])]].clone();
        image.insert(number, other);
        refused(image, &format!("another one in place of {number}"));
    }
    // A segment of another log with the same number.
    let (stranger, ..) = written();
    let mut image = good.clone();
    image.insert(numbers[0], stranger.synced()[&numbers[0]].clone());
    refused(image, "a segment of another log");
}

#[tokio::test]
async fn rot_since_the_start_is_noticed_by_whoever_reads() {
    let backend = Backend::default();
    let (engine, mut appender) = engine(&backend, SMALL).unwrap();
    let entries: Vec<_> = (0..4).map(|i| entry(1, i, 100)).collect();
    appender.commit(&[append_op(GROUPS[0], &entries)]).unwrap();
    let place = engine.index.lock().groups[&GROUPS[0]].entry(2).unwrap();
    backend.0.lock().now.get_mut(&1).unwrap()[place.offset as usize + 60] ^= 4;
    let error = engine.visit(GROUPS[0], 0, 9, |_, _| true).unwrap_err();
    assert!(error.to_string().contains("entry 2"), "{error}");
    engine.visit(GROUPS[0], 0, 2, |_, _| true).unwrap();
}

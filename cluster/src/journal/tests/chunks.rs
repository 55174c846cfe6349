//! Chunks: how records are cut, and that nobody sees it.

use super::*;
use crate::journal::chunk::{CHUNK_BYTES, CHUNK_RECORDS, CHUNK_SPAN_MS};

/// How many records each chunk of a function has.
fn sizes(place: &Place, ns: &str, function: &str) -> Vec<u64> {
    use redb::ReadableDatabase;
    let query = ask(ns, function, 1);
    let prefix = tables::prefix(&query.namespace, &query.function);
    let range = tables::newer_than(&prefix, None);
    let work = |db: &redb::Database| {
        let table = db.begin_read()?.open_table(tables::CHUNKS)?;
        let mut sizes = Vec::new();
        for row in table.range::<&[u8]>(tables::borrowed(&range))? {
            let (key, value) = row?;
            let entries = chunk::read(key.value(), value.value()).unwrap();
            assert_eq!(entries.len() as u64, chunk::count(value.value()));
            sizes.push(entries.len() as u64);
        }
        Ok(sizes)
    };
    place.store.inner.file.with(work).unwrap()
}

#[test]
fn a_batch_is_cut_by_number_bytes_and_time() {
    let place = place();
    let many = CHUNK_RECORDS as u64 * 2 + 3;
    let mut batch: Vec<_> = (0..many).map(|i| record("aa", "many", T0, i)).collect();
    batch.extend((0..9).map(|i| with_logs(record("aa", "large", T0, i), CHUNK_BYTES / 3)));
    batch.extend((0..3).map(|i| with_logs(record("aa", "huge", T0, i), 2 * CHUNK_BYTES)));
    batch.extend((0..6).map(|i| record("aa", "slow", T0 + i * CHUNK_SPAN_MS, i)));
    let mut odd = record("aa", "odd", T0, 1);
    odd.id.insert(20, 'z');
    batch.extend([record("aa", "odd", T0, 0), odd, record("aa", "odd", T0, 2)]);
    place.store.append(&batch).unwrap();
    let full = CHUNK_RECORDS as u64;
    assert_eq!(sizes(&place, "aa", "many"), [full, full, 3]);
    assert_eq!(sizes(&place, "aa", "large"), [2, 2, 2, 2, 1]);
    assert_eq!(sizes(&place, "aa", "huge"), [1, 1, 1]);
    assert_eq!(sizes(&place, "aa", "slow"), [2, 2, 2]);
    assert_eq!(sizes(&place, "aa", "odd").iter().sum::<u64>(), 3);
    assert_eq!(place.store.stats().unwrap().records, batch.len() as u64);
    // The engine gives a chunk a page of a power of two.
    const { assert!(CHUNK_BYTES + 512 < 64 * 1024) };
}

/// Three appends whose records lie between each other, in every order.
#[test]
fn chunks_that_reach_into_each_other_are_answered_in_order() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let place = place();
        let all: Vec<_> = (0..90).map(|i| record("aa", "f", T0 + i / 3, i)).collect();
        for turn in order {
            let part: Vec<_> = all.iter().skip(turn).step_by(3).cloned().collect();
            place.store.append(&part).unwrap();
        }
        assert_eq!(sizes(&place, "aa", "f"), [30, 30, 30]);
        let newest: Vec<_> = all.iter().rev().cloned().collect();
        for limit in [1, 2, 29, 31, 90] {
            let found = place.store.query(&ask("aa", "f", limit)).unwrap();
            assert_eq!(found, newest[..limit], "{order:?} {limit}");
        }
        for after in [0, 1, 44, 88, 89] {
            let mut query = ask("aa", "f", 500);
            query.after = Some(all[after].id.clone());
            let found = place.store.query(&query).unwrap();
            assert_eq!(found, newest[..89 - after], "{order:?} {after}");
            query.request_id = Some(all[60].request_id.clone());
            let found = place.store.query(&query).unwrap();
            let of_it = |r: &&InvocationRecord| r.request_id == all[60].request_id;
            assert!(found.iter().eq(newest[..89 - after].iter().filter(of_it)));
        }
        // Removing is as exact: every chunk loses some.
        assert_eq!(place.store.prune(Timestamp(0), 50).unwrap(), 40);
        assert_eq!(sizes(&place, "aa", "f").iter().sum::<u64>(), 50);
        let before = Timestamp((T0 + 20) * 1_000);
        assert_eq!(place.store.prune(before, 50).unwrap(), 20);
        let found = place.store.query(&ask("aa", "f", 90)).unwrap();
        assert_eq!(found, newest[..30], "{order:?}");
    }
}

#[test]
fn a_record_appended_again_in_other_company_is_replaced() {
    let place = place();
    let all: Vec<_> = (0..200).map(|i| record("aa", "f", T0 + i / 2, i)).collect();
    place.store.append(&all[..120]).unwrap();
    let mut again: Vec<_> = all[50..].iter().step_by(3).cloned().collect();
    for record in &mut again {
        record.attempt = 7;
    }
    place.store.append(&again).unwrap();
    // The same record twice in one batch: the last one counts.
    let mut twice = all[3].clone();
    twice.attempt = 9;
    place
        .store
        .append(&[all[3].clone(), twice.clone()])
        .unwrap();
    let mut expected: std::collections::BTreeMap<_, _> = all[..120]
        .iter()
        .chain(&again)
        .map(|r| (r.id.clone(), r.clone()))
        .collect();
    expected.insert(twice.id.clone(), twice);
    let found = place.store.query(&ask("aa", "f", 500)).unwrap();
    assert!(found.iter().eq(expected.values().rev()));
    let stats = place.store.stats().unwrap();
    assert_eq!(stats.records, expected.len() as u64);
    assert_eq!(sizes(&place, "aa", "f").iter().sum::<u64>(), stats.records);
    // Nothing is counted that is not there.
    place.store.prune(Timestamp(0), 0).unwrap();
    assert_eq!(place.store.stats().unwrap(), JournalStats::default());
}

#[test]
fn the_time_of_an_id_is_that_of_its_uuid() {
    for ms in [0, 1, T0, (1 << 48) - 1] {
        let id = id(ms, 7);
        assert_eq!(tables::millis_of(id.as_bytes()), Some(ms));
        assert!(id.starts_with(&tables::text_of(ms)), "{id}");
        assert!(id.as_str() >= tables::text_of(ms).as_str());
    }
    let good = id(T0, 7);
    let v4 = good.replacen("-7", "-4", 1);
    let dash = good.replacen('-', "0", 1);
    for odd in ["", "0-odd", &good[1..], &good.to_uppercase(), &v4, &dash] {
        assert_eq!(tables::millis_of(odd.as_bytes()), None, "{odd}");
    }
}

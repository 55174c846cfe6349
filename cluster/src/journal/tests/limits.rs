//! Limits of queries, functions and transactions.

use orama_proto::limits::LOGS_MAX;

use super::*;

#[test]
fn a_query_is_bounded_in_number_and_bytes() {
    let place = place();
    let small: Vec<_> = (0..LOGS_MAX as u64 + 50)
        .map(|i| record("aa", "small", T0 + i, i))
        .collect();
    place.store.append(&small).unwrap();
    assert_eq!(
        place
            .store
            .query(&ask("aa", "small", usize::MAX))
            .unwrap()
            .len(),
        LOGS_MAX
    );
    let large = 200 * 1024;
    for i in 0..100 {
        let batch = [with_logs(record("aa", "large", T0 + i, i), large)];
        place.store.append(&batch).unwrap();
    }
    let answer = place.store.query(&ask("aa", "large", LOGS_MAX)).unwrap();
    assert!(
        (70..=QUERY_MAX_BYTES / large).contains(&answer.len()),
        "{}",
        answer.len()
    );
    assert_eq!(answer[0].version, 99);
}

#[test]
fn a_function_that_logs_much_loses_its_oldest_records_and_nobody_elses() {
    let place = place();
    place.store.append(&[record("aa", "quiet", T0, 0)]).unwrap();
    for batch in 0..6 {
        let rows: Vec<_> = (batch * 60..(batch + 1) * 60)
            .map(|i| with_logs(record("aa", "loud", T0 + i, i), 250 * 1024))
            .collect();
        place.store.append(&rows).unwrap();
    }
    let stats = place.store.stats().unwrap();
    assert!(stats.bytes <= FUNCTION_MAX_BYTES + 1_000, "{stats:?}");
    assert!((200..300).contains(&stats.records), "{stats:?}");
    assert_eq!(
        place.store.query(&ask("aa", "loud", 1)).unwrap()[0].version,
        359
    );
    assert_eq!(place.store.query(&ask("aa", "quiet", 9)).unwrap().len(), 1);
    // Its pages are used again: the file does not grow with what was written.
    assert!(fs::metadata(place.file()).unwrap().len() < 4 * FUNCTION_MAX_BYTES);
}

#[test]
fn a_burst_is_trimmed_long_before_it_fills_its_bytes() {
    let place = place();
    place.store.append(&[record("aa", "quiet", T0, 0)]).unwrap();
    let mut most = 0;
    for batch in 0..45u64 {
        let rows: Vec<_> = (batch * 1_000..(batch + 1) * 1_000)
            .map(|i| record("aa", "f", T0 + i / 50, i))
            .collect();
        place.store.append(&rows).unwrap();
        most = most.max(place.store.stats().unwrap().records);
        // What was just appended is there.
        assert_eq!(
            place.store.query(&ask("aa", "f", 1)).unwrap()[0].version,
            batch * 1_000 + 999
        );
    }
    assert_eq!(most, FUNCTION_MAX_RECORDS + 1);
    let kept = place.store.stats().unwrap().records;
    // Three times 21,000 became 10,000 (and up to a chunk more); then came 2,000.
    assert!((12_001..12_065).contains(&kept), "{kept}");
    assert_eq!(place.store.query(&ask("aa", "quiet", 9)).unwrap().len(), 1);
    // The oldest went.
    place.store.prune(Timestamp(0), 10_000).unwrap();
    assert_eq!(place.store.stats().unwrap().records, 10_001);
    let mut query = ask("aa", "f", 500);
    query.after = Some(id(T0 + 44_900 / 50, 44_899));
    let newest: Vec<_> = place.store.query(&query).unwrap();
    assert!(newest.iter().map(|r| r.version).eq((44_900..45_000).rev()));
}

#[test]
fn pruning_takes_more_than_one_transaction() {
    let place = place();
    let total = PRUNE_BATCH as u64 + 5_500;
    for function in ["f", "g"] {
        let rows: Vec<_> = (0..total)
            .map(|i| record("aa", function, T0 + i, i))
            .collect();
        place.store.append(&rows).unwrap();
    }
    let begin = Timestamp(0);
    assert_eq!(place.store.prune(begin, 100).unwrap(), 2 * (total - 100));
    assert_eq!(place.store.prune(begin, 100).unwrap(), 0);
    for function in ["f", "g"] {
        let kept = place.store.query(&ask("aa", function, 200)).unwrap();
        assert_eq!((kept.len(), kept[99].version), (100, total - 100));
    }
    let stats = place.store.stats().unwrap();
    assert_eq!((stats.functions, stats.records), (2, 200));
}

#[test]
fn pruning_visits_every_function() {
    let place = place();
    for page in 0..5u64 {
        let rows: Vec<_> = (0..500)
            .map(|i| record("aa", &format!("f{}", page * 500 + i), T0, i))
            .collect();
        place.store.append(&rows).unwrap();
    }
    assert_eq!(place.store.stats().unwrap().functions, 2_500);
    assert_eq!(
        place.store.prune(Timestamp((T0 + 1) * 1_000), 10).unwrap(),
        2_500
    );
    assert_eq!(place.store.stats().unwrap(), JournalStats::default());
}

#[test]
fn an_id_without_a_time_is_kept_until_there_are_too_many() {
    let place = place();
    let mut odd = record("aa", "f", T0, 1);
    odd.id = "0-odd".into();
    let timed = record("aa", "f", T0, 2);
    place.store.append(&[odd.clone(), timed]).unwrap();
    assert_eq!(place.store.prune(Timestamp(T0 * 1_000), 2).unwrap(), 0);
    // It does not keep the old records behind it.
    assert_eq!(place.store.prune(Timestamp(u64::MAX), 2).unwrap(), 1);
    assert_eq!(place.store.query(&ask("aa", "f", 9)).unwrap(), [odd]);
    place.store.append(&[record("aa", "f", T0, 3)]).unwrap();
    assert_eq!(place.store.prune(Timestamp(0), 1).unwrap(), 1);
    assert_eq!(place.store.query(&ask("aa", "f", 9)).unwrap()[0].version, 3);
}

//! Damaged files, damaged chunks, full disks.

use orama_proto::limits::LOGS_MAX;
use redb::{Database, ReadableTable};

use super::*;
use crate::journal::tables::Write;

/// Alters the chunk whose newest record this is.
fn spoil(place: &Place, newest: &InvocationRecord, change: &dyn Fn(&[u8]) -> Vec<u8>) {
    let mut key = tables::prefix(&newest.namespace, &newest.function);
    key.extend_from_slice(newest.id.as_bytes());
    let work = |db: &Database| {
        let txn = file::begin_write(db)?;
        let mut write = Write::open(&txn)?;
        let value = write.chunks.get(key.as_slice())?.unwrap().value().to_vec();
        write
            .chunks
            .insert(key.as_slice(), change(&value).as_slice())?;
        drop(write);
        Ok(txn.commit()?)
    };
    place.store.inner.file.with(work).unwrap();
}

#[test]
fn a_record_of_another_version_is_skipped_and_its_neighbours_are_not() {
    let place = place();
    let rows: Vec<_> = (0..4).map(|i| record("aa", "f", T0 + i, i)).collect();
    place.store.append(&rows).unwrap();
    spoil(&place, &rows[3], &|value| {
        let prefix = tables::prefix(&rows[0].namespace, &rows[0].function);
        let key = [&prefix, rows[3].id.as_bytes()].concat();
        let mut entries = chunk::read(&key, value).unwrap();
        entries[1].record = &[99, 1, 2, 3];
        chunk::write(&prefix, &entries).1
    });
    let found = place.store.query(&ask("aa", "f", 9)).unwrap();
    assert_eq!(found, [rows[3].clone(), rows[2].clone(), rows[0].clone()]);
    assert_eq!(place.store.stats().unwrap().unreadable, 1);
    assert_eq!(place.store.prune(Timestamp(0), 1).unwrap(), 3);
}

#[test]
fn a_damaged_chunk_is_skipped_counted_and_pruned_whole() {
    let place = place();
    let rows: Vec<_> = (0..10).map(|i| record("aa", "f", T0 + i, i)).collect();
    for chunk in rows.chunks(5) {
        place.store.append(chunk).unwrap();
    }
    spoil(&place, &rows[4], &|value| {
        let mut value = value.to_vec();
        value[200] ^= 1;
        value
    });
    let found = place.store.query(&ask("aa", "f", 9)).unwrap();
    assert!(found.iter().rev().eq(&rows[5..]));
    assert_eq!(place.store.stats().unwrap().unreadable, 5);
    // Which of its records are old is not known: it goes with the newest of them.
    let at = |ms| Timestamp((T0 + ms) * 1_000);
    assert_eq!(place.store.prune(at(4), 100).unwrap(), 0);
    assert_eq!(place.store.prune(at(5), 100).unwrap(), 5);
    assert_eq!(place.store.stats().unwrap().records, 5);
}

#[test]
fn a_chunk_that_does_not_decode_is_skipped_counted_and_pruned() {
    let place = place();
    let rows: Vec<_> = (0..4).map(|i| record("aa", "f", T0 + i, i)).collect();
    for row in &rows {
        place.store.append(std::slice::from_ref(row)).unwrap();
    }
    spoil(&place, &rows[0], &|value| {
        let mut value = value.to_vec();
        value[30] ^= 4;
        value
    });
    spoil(&place, &rows[2], &|_| vec![1, 2]);
    let found = place.store.query(&ask("aa", "f", 9)).unwrap();
    assert_eq!(found, [rows[3].clone(), rows[1].clone()]);
    assert_eq!(place.store.stats().unwrap().unreadable, 2);
    assert_eq!(
        place.store.prune(Timestamp((T0 + 3) * 1_000), 9).unwrap(),
        3
    );
    assert_eq!(place.store.stats().unwrap().records, 1);
}

#[test]
fn a_file_that_is_no_journal_is_set_aside() {
    for garbage in [&b"not a database"[..], &[0; 10_000], &[0xff; 100_000]] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("journal.redb");
        fs::write(&file, garbage).unwrap();
        let store = JournalStore::open(&file).unwrap();
        assert_eq!(store.stats().unwrap().set_aside, 1);
        store.append(&[record("aa", "f", T0, 1)]).unwrap();
        let place = Place { dir, store };
        assert_eq!(place.set_aside(), 1);
        let place = place.reopen();
        assert_eq!(place.store.query(&ask("aa", "f", 9)).unwrap().len(), 1);
    }
}

#[test]
fn an_unknown_layout_is_set_aside_whole() {
    let place = place();
    place.store.append(&[record("aa", "f", T0, 1)]).unwrap();
    let about: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("about");
    let set = |db: &Database| {
        let txn = file::begin_write(db)?;
        txn.open_table(about)?
            .insert("format", tables::FORMAT + 1)?;
        Ok(txn.commit()?)
    };
    place.store.inner.file.with(set).unwrap();
    let place = place.reopen();
    assert_eq!(place.set_aside(), 1);
    assert_eq!(place.store.stats().unwrap().records, 0);
}

#[test]
fn files_set_aside_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("journal.redb");
    for i in 0..8 {
        fs::write(&file, format!("garbage {i}")).unwrap();
        drop(JournalStore::open(&file).unwrap());
    }
    let store = JournalStore::open(&file).unwrap();
    let place = Place { dir, store };
    assert_eq!(place.set_aside(), 4);
}

#[test]
fn a_file_in_use_is_refused_and_not_set_aside() {
    let place = place();
    let error = JournalStore::open(&place.file()).unwrap_err();
    assert!(
        matches!(&error, JournalError::Storage(text) if text.contains("journal.redb")),
        "{error}"
    );
    assert_eq!(place.set_aside(), 0);
    place.store.append(&[record("aa", "f", T0, 1)]).unwrap();
}

#[test]
fn a_directory_in_its_place_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = JournalStore::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
}

/// Whatever bytes are altered: no call panics, no wrong record is answered, and appending works again.
#[test]
fn damage_anywhere_is_survived() {
    let rows: Vec<_> = (0..300)
        .map(|i| with_logs(record("aa", "f", T0 + i, i), 300))
        .collect();
    let original = {
        let place = place();
        for batch in rows.chunks(20) {
            place.store.append(batch).unwrap();
        }
        let Place { dir, store } = place;
        drop(store);
        fs::read(dir.path().join("journal.redb")).unwrap()
    };
    let mut lost_all = 0;
    for round in 0..60usize {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("journal.redb");
        let mut bytes = original.clone();
        match round % 3 {
            0 => bytes.truncate(original.len() / 60 * round),
            // A page of noise, the way a bad sector looks.
            1 => {
                let at = (original.len() / 60 * round) & !4095;
                let end = (at + 4096).min(bytes.len());
                for (i, b) in bytes[at..end].iter_mut().enumerate() {
                    *b = (i * 31 + round) as u8;
                }
            }
            _ => {
                for i in 0..200 {
                    let at = (i * 7_919 + round * 104_729) % bytes.len();
                    bytes[at] ^= 0x10;
                }
            }
        }
        fs::write(&file, bytes).unwrap();
        let store = JournalStore::open(&file).unwrap();
        let found = store.query(&ask("aa", "f", LOGS_MAX)).unwrap();
        assert!(found.iter().all(|r| rows.contains(r)), "round {round}");
        lost_all += usize::from(found.is_empty());
        let new = record("aa", "f", T0 + 5_000, 9_999);
        store.append(std::slice::from_ref(&new)).unwrap();
        assert_eq!(
            store.query(&ask("aa", "f", 1)).unwrap(),
            [new],
            "round {round}"
        );
        store.prune(Timestamp(0), 10).unwrap();
        store
            .delete_namespace(&Namespace::parse("aa").unwrap())
            .unwrap();
    }
    assert!((1..60).contains(&lost_all), "{lost_all}");
}

//! The journal on a full disk.

use std::fs;

use super::super::{JournalError, JournalStore};
use super::{T0, ask, record, with_logs};
use crate::blobs::small_disk::SmallDisk;

/// Appends until the disk is full; answers how many records there are, beside those before.
fn filled(store: &JournalStore, mut kept: u64) -> u64 {
    let error = loop {
        match store.append(&[with_logs(record("aa", "f", T0 + kept, kept), 200 * 1024)]) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 1_000, "the disk never filled");
    };
    assert!(matches!(error, JournalError::Full), "{error}");
    assert!(kept > 3, "{kept}");
    kept
}

#[test]
fn a_full_disk_is_named_and_the_journal_goes_on_when_there_is_room() {
    let disk = SmallDisk::mount(8 * 1024);
    let store = JournalStore::open_with(&disk.path().join("journal.redb"), 0).unwrap();
    let ballast = disk.path().join("ballast");
    store.append(&[record("aa", "f", T0, 0)]).unwrap();
    fs::write(&ballast, vec![0; 2 * 1024 * 1024]).unwrap();
    let kept = filled(&store, 1);
    // Still full, still readable.
    let again = store.append(&[with_logs(record("aa", "f", T0 + kept, kept), 900 * 1024)]);
    assert!(matches!(again, Err(JournalError::Full)), "{again:?}");
    assert_eq!(
        store.query(&ask("aa", "f", 1)).unwrap()[0].version,
        kept - 1
    );
    fs::remove_file(&ballast).unwrap();
    store
        .append(&[with_logs(record("aa", "f", T0 + kept, kept), 200 * 1024)])
        .unwrap();
    assert_eq!(store.stats().unwrap().records, kept + 1);
    assert_eq!(store.stats().unwrap().set_aside, 0);
    assert_eq!(
        store.query(&ask("aa", "f", 500)).unwrap().len() as u64,
        kept + 1
    );
}

#[test]
fn the_journal_leaves_the_metadata_its_room() {
    let disk = SmallDisk::mount(72 << 10);
    let store = JournalStore::open(&disk.path().join("journal.redb")).unwrap();
    let kept = filled(&store, 0);
    let stat = rustix::fs::statvfs(disk.path()).unwrap();
    let free = stat.f_bavail * stat.f_frsize;
    // Its file grows in steps, so the last append may have taken a part.
    assert!(free >= crate::disk::RESERVED_BYTES, "{free} bytes left");
    assert_eq!(store.stats().unwrap().records, kept);
}

#[test]
fn an_old_journal_opens_and_answers_on_a_full_disk() {
    let disk = SmallDisk::mount(8 << 10);
    let file = disk.path().join("journal.redb");
    let store = JournalStore::open_with(&file, 0).unwrap();
    store.append(&[record("aa", "f", T0, 0)]).unwrap();
    drop(store);
    let stat = rustix::fs::statvfs(disk.path()).unwrap();
    let free = usize::try_from(stat.f_bavail * stat.f_frsize).unwrap();
    fs::write(disk.path().join("ballast"), vec![1; free]).unwrap();
    let store = JournalStore::open(&file).unwrap();
    assert_eq!(store.query(&ask("aa", "f", 5)).unwrap().len(), 1);
    let full = store.append(&[record("aa", "f", T0 + 1, 1)]);
    assert!(matches!(full, Err(JournalError::Full)), "{full:?}");
    assert_eq!(store.query(&ask("aa", "f", 5)).unwrap().len(), 1);
}

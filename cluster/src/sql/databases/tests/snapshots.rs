//! Saving while entries are applied, keeping, and starting from a snapshot.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

#[test]
fn a_save_is_at_least_as_far_as_its_call_and_consistent() {
    let dir = tempfile::tempdir().unwrap();
    let databases = open(&dir.path().join("g"));
    let one = id("aa");
    wrote(
        &databases,
        &one,
        1,
        &["CREATE TABLE t (n)", "INSERT INTO t VALUES (1)"],
    );
    let (at, running) = (AtomicU64::new(1), AtomicBool::new(true));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut index = 1;
            while running.load(Ordering::Relaxed) {
                index += 1;
                // One row for each entry: a copy in the middle of one would have another number.
                wrote(
                    &databases,
                    &one,
                    index,
                    &["DELETE FROM t", &format!("INSERT INTO t VALUES ({index})")],
                );
                at.store(index, Ordering::Release);
            }
        });
        for _ in 0..10 {
            let before = at.load(Ordering::Acquire);
            let manifest = databases.save().unwrap();
            let saved = databases.saved(&manifest, &one).unwrap().unwrap();
            assert!(saved.mark.applied >= before);
            let copy = files::open(&saved.path, false).unwrap();
            let (n, applied): (i64, i64) = copy
                .query_row(
                    "SELECT n, (SELECT applied FROM _orama_state) FROM t",
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .unwrap();
            assert_eq!(
                (n, applied),
                (saved.mark.applied as i64, saved.mark.applied as i64)
            );
        }
        running.store(false, Ordering::Relaxed);
    });
}

#[test]
fn what_did_not_change_is_not_copied_again_and_old_copies_go() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("g");
    let databases = open(&live);
    wrote(&databases, &id("aa"), 1, &["CREATE TABLE t (n)"]);
    wrote(&databases, &id("bb"), 2, &["CREATE TABLE t (n)"]);
    assert!(databases.unsaved_bytes() > 0);
    let first = databases.save().unwrap();
    assert_eq!(
        (databases.unsaved_bytes(), databases.metrics.backups.get()),
        (0, 2)
    );
    assert_eq!(databases.save().unwrap(), first);
    wrote(&databases, &id("aa"), 3, &["INSERT INTO t VALUES (1)"]);
    let second = databases.save().unwrap();
    assert_eq!(databases.metrics.backups.get(), 3);
    let count = || files_ending(&layout::backups(&live), "").len();
    assert_eq!(count(), 3);
    databases.keep(&[second.clone(), first.clone()]).unwrap();
    assert_eq!(count(), 3);
    databases.keep(std::slice::from_ref(&second)).unwrap();
    assert_eq!(count(), 2);
    assert_eq!(
        databases.saved(&first, &id("aa")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    databases.harden(&floor(3)).unwrap();
    databases.close();
    drop(databases);
    // Known again after a restart.
    let databases = open(&live);
    assert_eq!(databases.unsaved_bytes(), 0);
    assert_eq!(databases.save().unwrap(), second);
    assert_eq!(databases.metrics.backups.get(), 0);
    databases.keep(&[]).unwrap();
    assert_eq!(count(), 0);
    assert!(databases.unsaved_bytes() > 0);
    assert!(
        databases
            .keep(&[vec![(b"x".to_vec(), Vec::new())]])
            .is_err()
    );
}

#[test]
fn a_reset_is_all_old_or_all_new() {
    use crate::sql::databases::points;
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("g");
    let log = workload(3, 30);
    let databases = open(&live);
    replay(&databases, &log, 20);
    databases.harden(&floor(20)).unwrap();
    let manifest = databases.save().unwrap();
    let saved = truth(&databases);
    for index in 21..=30 {
        apply_entry(&databases, index, &log[index as usize - 1]);
    }
    databases.harden(&floor(30)).unwrap();
    let before = truth(&databases);
    let (from, copies) = (live.clone(), dir.path().join("copies"));
    let to = copies.clone();
    points::watch(move |name| copy_dir(&from, &to.join(name)));
    databases.reset(&manifest, Some(&floor(20))).unwrap();
    points::ignore();
    assert_eq!(truth(&databases), saved);
    assert_eq!(databases.floor(), Some(floor(20)));
    for (name, wanted) in [("copies placed", &before), ("copies named", &saved)] {
        let databases = open(&copies.join(name));
        assert_eq!(&truth(&databases), wanted, "{name}");
        let named = databases.list().len();
        assert_eq!(
            files_ending(&layout::live(&copies.join(name)), ".db").len(),
            named,
            "swept"
        );
    }
    // It goes on from there, also after a kill.
    for index in 21..=25 {
        apply_entry(&databases, index, &log[index as usize - 1]);
    }
    let killed = dir.path().join("killed");
    copy_dir(&live, &killed);
    let databases = open(&killed);
    replay(&databases, &log, 30);
    assert_eq!(truth(&databases), before);
    databases.reset(&[], None).unwrap();
    assert_eq!((databases.hash(), databases.list().len()), (0, 0));
    assert!(files_ending(&layout::live(&killed), "").is_empty());
}

#[test]
fn a_replaced_file_is_not_read_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let databases = open(&dir.path().join("g"));
    let one = id("aa");
    wrote(&databases, &one, 1, &["CREATE TABLE t (n)"]);
    let copy = dir.path().join("copy.db");
    let backup = databases.backup(&one, &copy).unwrap().unwrap();
    assert_eq!((backup.bytes, backup.sum), files::sum(&copy).unwrap());
    assert!(
        databases
            .backup(&id("zz"), &copy.with_extension("no"))
            .unwrap()
            .is_none()
    );
    wrote(&databases, &one, 2, &["INSERT INTO t VALUES (1)"]);
    let count = || ask(&databases, &one, "SELECT count(*) AS n FROM t");
    assert_eq!(count().unwrap(), "[{\"n\":1}]");
    databases.fence(&one, "it differs").unwrap();
    assert!(count().unwrap_err().contains("it differs"));
    assert!(databases.backup(&one, &dir.path().join("no")).is_err());
    assert_eq!(databases.replace(&one, Some(&copy)).unwrap(), backup.mark);
    // The copy is older than what was read before: nobody sees it before the rest is applied.
    assert!(count().unwrap_err().contains("rebuilt"));
    assert!(databases.backup(&one, &dir.path().join("no")).is_err());
    wrote(&databases, &one, 2, &["DELETE FROM t"]);
    assert_eq!(count().unwrap(), "[{\"n\":0}]");
    assert_eq!(databases.metrics.replaced.get(), 1);
    assert_eq!(databases.metrics.quarantined.get(), 1);
    // A copy that is no database changes nothing.
    fs::write(&copy, vec![7; 8192]).unwrap();
    assert!(databases.replace(&one, Some(&copy)).is_err());
    assert_eq!(count().unwrap(), "[{\"n\":0}]");
}

#[test]
fn nobody_reads_an_old_file_once_the_new_ones_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let databases = Arc::new(open(&dir.path().join("g")));
    let one = id("aa");
    wrote(
        &databases,
        &one,
        1,
        &["CREATE TABLE t (n)", "INSERT INTO t VALUES (1)"],
    );
    let manifest = databases.save().unwrap();
    wrote(&databases, &one, 2, &["UPDATE t SET n = 2"]);
    let sql = "SELECT n FROM t";
    // A connection to the old file is idle.
    assert_eq!(ask(&databases, &one, sql).unwrap(), "[{\"n\":2}]");
    let old = databases.table.get(&one).unwrap();
    let seen = Arc::new(AtomicBool::new(false));
    let (looked, looking) = (Arc::clone(&seen), Arc::clone(&databases));
    points::watch(move |name| {
        if name == "copies named" {
            assert!(old.gone());
            assert_eq!(ask(&looking, &id("aa"), sql).unwrap(), "[{\"n\":1}]");
            looked.store(true, Ordering::Relaxed);
        }
    });
    databases.reset(&manifest, None).unwrap();
    points::ignore();
    assert!(seen.load(Ordering::Relaxed));
    assert_eq!(ask(&databases, &one, sql).unwrap(), "[{\"n\":1}]");
}

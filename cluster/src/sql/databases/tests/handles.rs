//! Connections: what closing them does, and which stay.

use std::sync::atomic::Ordering;

use super::*;

#[test]
fn who_closes_last_writes_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let databases = open_with(&dir.path().join("g"), 1, 2);
    let (one, other) = (id("aa"), id("bb"));
    wrote(&databases, &one, 1, &["CREATE TABLE t (n)"]);
    let path = databases.table.get(&one).unwrap().path.clone();
    let wal = files::beside(&path, "-wal");
    // Its writer makes room for another one's.
    wrote(&databases, &other, 2, &["CREATE TABLE t (n)"]);
    let log = fs::metadata(&wal).unwrap().len();
    assert!(log > 0);
    assert!(files::checkpoint(&path).unwrap());
    databases.backup(&one, &dir.path().join("copy")).unwrap();
    assert_eq!(fs::metadata(&wal).unwrap().len(), log);
    assert!(files::truncate_log(&path, Duration::ZERO).unwrap());
    assert_eq!(fs::metadata(&wal).unwrap().len(), 0);
    // Making it safe does: it need not be read when the database is opened next.
    databases.harden(&floor(2)).unwrap();
    assert!(!wal.exists());
    let path = databases.table.get(&other).unwrap().path.clone();
    assert!(files::beside(&path, "-wal").exists(), "it is in use");
    databases.close();
    let there = layout::names(&layout::live(&dir.path().join("g"))).unwrap();
    assert_eq!(there.len(), 2, "an orderly end leaves no logs: {there:?}");
    assert!(!dir.path().join("g/group.db-wal").exists());
}

#[test]
fn no_reader_of_a_removed_database_stays() {
    let dir = tempfile::tempdir().unwrap();
    let databases = open_with(&dir.path().join("g"), 2, 4);
    let one = id("aa");
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while running.load(Ordering::Relaxed) {
                    assert_eq!(
                        ask(&databases, &one, "SELECT 1 AS n").unwrap(),
                        "[{\"n\":1}]"
                    );
                }
            });
        }
        for round in 0..60 {
            wrote(&databases, &one, 2 * round + 1, &["CREATE TABLE t (n)"]);
            databases.remove(&one, 2 * round + 2).unwrap();
        }
        running.store(false, Ordering::Relaxed);
    });
    assert_eq!(databases.readers.idle_of_gone(), 0);
    assert_eq!(
        layout::names(&layout::live(&dir.path().join("g"))).unwrap(),
        Vec::<String>::new(),
        "nothing is left of its files"
    );
}

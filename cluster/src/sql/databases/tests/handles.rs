//! Connections: what closing them does, and which stay.

use std::sync::atomic::Ordering;

use super::*;
use crate::sql::raw;

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

#[test]
fn groups_share_what_a_node_may_have_open() {
    let dir = tempfile::tempdir().unwrap();
    let (options, metrics) = (DatabasesOptions::new(3, 2), metrics());
    let open = |name: &str| {
        let opened = Databases::open(&dir.path().join(name), GROUP, options.clone(), &metrics);
        opened.unwrap().unwrap()
    };
    let (one, other) = (open("one"), open("other"));
    for (n, name) in ["aa", "bb", "cc", "dd"].into_iter().enumerate() {
        let index = 2 * n as u64 + 1;
        wrote(&one, &id(name), index, &["CREATE TABLE t (n)"]);
        wrote(&other, &id(name), index + 1, &["CREATE TABLE t (n)"]);
        ask(&one, &id(name), "SELECT * FROM t").unwrap();
        ask(&other, &id(name), "SELECT * FROM t").unwrap();
        assert!(metrics.open.get() <= 3 && metrics.readers.get() <= 2);
    }
    assert_eq!((metrics.open.get(), metrics.readers.get()), (3, 2));
    assert_eq!(metrics.evicted.get(), 5);
    // One that alone is busy may have all of it, and gives it back when it ends.
    for name in ["aa", "bb", "cc"] {
        wrote(&one, &id(name), 9, &["INSERT INTO t VALUES (1)"]);
    }
    drop(one);
    assert_eq!(metrics.open.get(), 0);
    assert_eq!(metrics.readers.get(), 1);
    assert_eq!(ask(&other, &id("aa"), "SELECT * FROM t").unwrap(), "[]");
    other.close();
    assert_eq!((metrics.open.get(), metrics.readers.get()), (0, 0));
}

#[test]
fn without_file_handles_what_is_idle_is_closed_and_it_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let databases = open_with(&dir.path().join("g"), 8, 8);
    let names = ["aa", "bb", "exhausted"].map(id);
    for (n, id) in names.iter().enumerate() {
        wrote(&databases, id, n as u64 + 1, &["CREATE TABLE t (n)"]);
        ask(&databases, id, "SELECT * FROM t").unwrap();
    }
    let slot = databases.table.get(&names[2]).unwrap();
    let path = slot.path.to_string_lossy().into_owned();
    let close = || {
        databases.handles.close(&mut slot.work.lock());
        databases.readers.forget(&slot);
    };
    let open = || (databases.handles.count(), databases.readers.count());

    // A writer, a reader, upkeep: each is opened in spite of it, and the others have made room.
    close();
    assert_eq!(open(), (2, 2));
    raw::fail_opens(&path, 1);
    wrote(&databases, &names[2], 4, &["INSERT INTO t VALUES (1)"]);
    assert_eq!(open(), (1, 0));
    ask(&databases, &names[0], "SELECT 1").unwrap();
    raw::fail_opens(&path, 1);
    let rows = ask(&databases, &names[2], "SELECT n FROM t").unwrap();
    assert_eq!((rows.as_str(), open()), ("[{\"n\":1}]", (0, 1)));
    // The log's file, and not only the database's.
    close();
    raw::fail_opens(&format!("{path}-wal"), 1);
    wrote(&databases, &names[2], 5, &["INSERT INTO t VALUES (2)"]);
    raw::fail_opens(&path, 1);
    databases.harden(&floor(5)).unwrap();
    assert_eq!(databases.metrics.exhausted.get(), 4);

    // When that does not help either, it is told what to raise, and nobody takes it for damage.
    close();
    raw::fail_opens(&path, u32::MAX);
    let fault = write(&databases, &names[2], 6, &["SELECT 1"]).unwrap_err();
    assert_eq!(fault, EngineFault::Handles);
    assert!(fault.to_string().contains("limit of open files"), "{fault}");
    let error = ask(&databases, &names[2], "SELECT 1").unwrap_err();
    assert!(error.contains("LimitNOFILE"), "{error}");
    raw::fail_opens(&path, 0);
    wrote(&databases, &names[2], 6, &["INSERT INTO t VALUES (3)"]);
    assert_eq!(databases.metrics.fences.get(), 0);
    // What is made anew too.
    raw::fail_opens("/fresh.", 1);
    wrote(&databases, &id("fresh"), 7, &["CREATE TABLE t (n)"]);
}

#[test]
fn readers_that_nobody_uses_are_closed_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let databases = open(&dir.path().join("g"));
    for (n, name) in ["aa", "bb"].into_iter().enumerate() {
        wrote(&databases, &id(name), n as u64 + 1, &["CREATE TABLE t (n)"]);
        ask(&databases, &id(name), "SELECT * FROM t").unwrap();
    }
    databases.checkpoint().unwrap();
    assert_eq!(databases.readers.count(), 2);
    databases.readers.age(Duration::from_secs(59));
    // Used again in between.
    ask(&databases, &id("bb"), "SELECT * FROM t").unwrap();
    databases.readers.age(Duration::from_secs(1));
    databases.checkpoint().unwrap();
    assert_eq!(databases.readers.count(), 1);
    assert_eq!(databases.metrics.readers.get(), 1);
}

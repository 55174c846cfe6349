//! How much is open, how long logs become, and that readers and writers let each other go on.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::*;

#[test]
fn writers_are_closed_while_others_read_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let databases = open_with(&dir.path().join("g"), 2, 3);
    let names: Vec<DatabaseId> = (0..6).map(|n| id(&format!("n{n}"))).collect();
    for (n, id) in names.iter().enumerate() {
        wrote(
            &databases,
            id,
            n as u64 + 1,
            &["CREATE TABLE t (n)", "INSERT INTO t VALUES (0)"],
        );
    }
    assert_eq!(databases.handles.count(), 2);
    let (index, running, reads) = (
        AtomicU64::new(6),
        AtomicBool::new(true),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        for reader in 0..4_usize {
            let (databases, names, running, reads) = (&databases, &names, &running, &reads);
            scope.spawn(move || {
                let mut turn = reader;
                while running.load(Ordering::Relaxed) {
                    turn += 1;
                    let rows = ask(
                        databases,
                        &names[turn % 6],
                        "SELECT count(*) > 0 AS n FROM t",
                    );
                    assert_eq!(rows.unwrap(), "[{\"n\":1}]");
                    assert!(databases.readers.count() <= 3);
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let upkeep = scope.spawn(|| {
            while running.load(Ordering::Relaxed) {
                databases.checkpoint().unwrap();
                let at = index.load(Ordering::Acquire);
                databases.harden(&floor(at)).unwrap();
                databases.save().unwrap();
                databases.keep(&[]).unwrap();
            }
        });
        for round in 0..20_u64 {
            for (n, id) in names.iter().enumerate() {
                let at = 7 + round * 6 + n as u64;
                wrote(&databases, id, at, &["INSERT INTO t VALUES (1)"]);
                index.store(at, Ordering::Release);
                assert!(databases.handles.count() <= 2);
            }
        }
        running.store(false, Ordering::Relaxed);
        upkeep.join().unwrap();
    });
    assert!(reads.load(Ordering::Relaxed) > 0);
    for id in &names {
        assert_eq!(
            ask(&databases, id, "SELECT count(*) AS n FROM t").unwrap(),
            "[{\"n\":21}]"
        );
    }
    assert!(databases.metrics.evicted.get() > 20);
    assert_eq!(databases.metrics.open.get(), 2);
    let metrics = databases.metrics.clone();
    databases.close();
    drop(databases);
    let gauges = [
        &metrics.open,
        &metrics.readers,
        &metrics.databases,
        &metrics.bytes,
    ];
    assert_eq!(gauges.map(prometheus::IntGauge::get), [0; 4], "given back");
}

#[test]
fn who_gets_no_connection_in_time_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let databases = open_with(&dir.path().join("g"), 2, 1);
    let one = id("aa");
    wrote(&databases, &one, 1, &["CREATE TABLE t (n)"]);
    let slot = databases.table.get(&one).unwrap();
    let later = Instant::now() + Duration::from_secs(60);
    let no = AtomicBool::new(false);
    let lent = databases
        .readers
        .lend(Some(&slot), later, &no)
        .ok()
        .unwrap();
    let query = Query {
        sql: "SELECT 1".into(),
        args: Vec::new(),
    };
    let soon = Instant::now() + Duration::from_millis(30);
    let read = |cancelled: bool, deadline| {
        let cancelled = Arc::new(AtomicBool::new(cancelled));
        let answers = databases.read(
            &one,
            std::slice::from_ref(&query),
            1,
            100,
            deadline,
            &cancelled,
        );
        answers.unwrap().unwrap().remove(0).unwrap_err().code
    };
    let code = orama_proto::sql::SqlCode::DeadlineExceeded;
    assert_eq!(read(false, soon), code);
    assert_eq!(read(true, later), code, "nobody waits any more");
    lent.give_back();
    assert_eq!(
        ask(&databases, &one, "SELECT 1 AS n").unwrap(),
        "[{\"n\":1}]"
    );
    assert_eq!(
        ask(&databases, &id("none"), "SELECT 1 AS n").unwrap(),
        "[{\"n\":1}]"
    );
    assert!(
        ask(&databases, &id("none"), "SELECT * FROM t")
            .unwrap_err()
            .contains("no such table")
    );
    assert_eq!(databases.list().len(), 1, "a read makes nothing");
}

#[test]
fn a_long_log_is_emptied_as_soon_as_readers_let_it() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("g");
    let databases = open(&live);
    let one = id("aa");
    wrote(&databases, &one, 1, &["CREATE TABLE t (n)"]);
    let path = databases.table.get(&one).unwrap().path.clone();
    // Somebody looks at the state as it is now.
    let reader = files::open(&path, false).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = |conn: &rusqlite::Connection| -> i64 {
        conn.query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(count(&reader), 0);
    let mut index = 1;
    while files::sizes(&path).1 < harden::LOG_BYTES {
        index += 1;
        wrote(
            &databases,
            &one,
            index,
            &["INSERT INTO t VALUES (zeroblob(900000))"],
        );
    }
    databases.checkpoint().unwrap();
    assert_eq!(databases.metrics.checkpoints_blocked.get(), 1);
    assert!(files::sizes(&path).1 >= harden::LOG_BYTES);
    // What it holds back is safe all the same, and applying goes on.
    databases.harden(&floor(index)).unwrap();
    wrote(&databases, &one, index + 1, &["INSERT INTO t VALUES (1)"]);
    assert_eq!(count(&reader), 0);
    drop(reader);
    databases.checkpoint().unwrap();
    assert_eq!(files::sizes(&path).1, 0);
    assert_eq!(databases.metrics.log_bytes.get(), 0);
    let rows = format!("[{{\"n\":{index}}}]");
    assert_eq!(
        ask(&databases, &one, "SELECT count(*) AS n FROM t").unwrap(),
        rows
    );
}

#[test]
fn hashes_of_recent_entries_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let databases = open(dir.path());
    let one = id("aa");
    let mut hashes = Vec::new();
    for index in 1..=100 {
        wrote(&databases, &one, index * 2, &["SELECT 1"]);
        hashes.push(databases.list()[0].mark.hash);
    }
    assert_eq!(databases.hash_at(&one, 200), Some(hashes[99]));
    assert_eq!(databases.hash_at(&one, 120), Some(hashes[59]));
    for unknown in [0, 2, 121, 202] {
        assert_eq!(databases.hash_at(&one, unknown), None, "{unknown}");
    }
    assert_eq!(databases.hash_at(&id("bb"), 2), None);
    let done = write(&databases, &one, 120, &["SELECT 1"])
        .unwrap()
        .unwrap();
    assert_eq!(done[0].outcome, None);
    assert_eq!(databases.hash_at(&one, 120), Some(hashes[59]));
}

#[test]
fn the_hash_tells_states_apart_and_follows_removals() {
    let dir = tempfile::tempdir().unwrap();
    let databases = open(dir.path());
    assert_eq!(databases.hash(), 0);
    wrote(&databases, &id("aa"), 1, &["CREATE TABLE t (n)"]);
    let first = databases.hash();
    wrote(&databases, &id("bb"), 2, &["CREATE TABLE t (n)"]);
    assert_ne!(databases.hash(), first);
    databases.remove(&id("bb"), 3).unwrap();
    databases.remove(&id("bb"), 3).unwrap();
    assert_eq!(databases.hash(), first);
    databases
        .set_registers(4, &[("a".into(), "1".into())])
        .unwrap();
    databases
        .set_registers(5, &[("a".into(), "2".into()), ("b".into(), "1".into())])
        .unwrap();
    let with = databases.hash();
    assert_ne!(with, first);
    databases.close();
    drop(databases);
    let databases = open(dir.path());
    assert_eq!(databases.hash(), with);
    assert_eq!(
        (databases.registers(), databases.registers_applied()),
        (2, 5)
    );
    // A removal that is replayed does not touch what was made after it.
    wrote(&databases, &id("bb"), 9, &["CREATE TABLE t (n)"]);
    databases.remove(&id("bb"), 3).unwrap();
    assert_eq!(databases.list().len(), 2);
    databases.close();
    assert!(
        write(&databases, &id("aa"), 10, &["SELECT 1"]).is_err(),
        "it is closed"
    );
    assert!(databases.harden(&floor(9)).is_err());
}

#[test]
fn two_thousand_databases_are_opened_when_they_are_needed() {
    let dir = tempfile::tempdir().unwrap();
    let model = open(&dir.path().join("model"));
    wrote(&model, &id("model"), 1, &["CREATE TABLE t (n)"]);
    model.harden(&floor(1)).unwrap();
    model.close();
    let from = &files_ending(&layout::live(&dir.path().join("model")), ".db")[0];
    let mark = model.list()[0].mark;

    let live = dir.path().join("g");
    layout::make(&live).unwrap();
    let names: Vec<DatabaseId> = (0..2000).map(|n| id(&format!("tenant-{n}"))).collect();
    let row = |n: usize| directory::Row {
        generation: n as u64,
        hardened: true,
        applied: mark.applied,
        hash: mark.hash,
        required: 0,
        bytes: 8192,
        fenced: None,
        saved: None,
    };
    let rows: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(n, id)| (id, row(n)))
        .collect();
    for (id, row) in &rows {
        let to = layout::live_file(&live, &id.namespace, row.generation);
        fs::copy(from, to).unwrap();
    }
    let changes: Vec<_> = rows
        .into_iter()
        .map(|(id, row)| directory::Change::Put(id, row))
        .collect();
    Directory::create(&live, &State::new(), &changes).unwrap();

    let began = Instant::now();
    let databases = open_with(&live, 16, 16);
    println!("2,000 databases: open in {:?}", began.elapsed());
    assert_eq!(
        (databases.handles.count(), databases.readers.count()),
        (0, 0)
    );
    assert_eq!(databases.list().len(), 2000);
    let hash = databases.hash();
    let began = Instant::now();
    for id in &names {
        let done = write(&databases, id, 1, &["CREATE TABLE t (n)"]);
        assert_eq!(done.unwrap().unwrap()[0].outcome, None);
    }
    println!(
        "an entry that each of them has skipped in {:?}",
        began.elapsed()
    );
    assert_eq!((databases.hash(), databases.handles.count()), (hash, 16));
    let began = Instant::now();
    for id in &names {
        assert!(ask(&databases, id, "SELECT * FROM t").is_ok());
    }
    println!("a read of each in {:?}", began.elapsed());
    assert!(databases.readers.count() <= 16);
    let began = Instant::now();
    for (n, id) in names.iter().enumerate().take(200) {
        wrote(&databases, id, n as u64 + 2, &["INSERT INTO t VALUES (1)"]);
    }
    println!("a write to each of 200 in {:?}", began.elapsed());
    let began = Instant::now();
    databases.harden(&floor(201)).unwrap();
    println!("those made safe in {:?}", began.elapsed());
}

//! The replica's own trouble: nothing of the batch happens, and it is no outcome.

use super::*;
use crate::sql::raw;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

#[test]
fn a_disk_that_fails_applies_nothing() {
    let entries: Vec<_> = (0..8)
        .map(|i| {
            transaction(vec![
                exec("CREATE TABLE IF NOT EXISTS t(a, b)"),
                exec(&format!("INSERT INTO t VALUES({i}, randomblob(9000))")),
                exec("UPDATE t SET b = randomblob(8000)"),
            ])
        })
        .collect();
    let items: Vec<_> = (1..).zip(&entries).map(|(i, t)| item(i, t)).collect();

    let mut undisturbed = Db::new();
    undisturbed.writer.apply(&items).unwrap();
    let whole = dump(&undisturbed.path());

    for errno in [ENOSPC, EIO] {
        let mut faults = 0;
        for after in [0, 1, 2, 3, 5, 8, 13] {
            let mut db = Db::new();
            db.writer.apply(&items[..2]).unwrap();
            let mark = db.writer.mark();
            let before = dump(&db.path());
            let name = db.dir.path().to_str().unwrap().to_owned();
            raw::fail_writes(&name, after, errno);
            let result = db.writer.apply(&items[2..]);
            raw::stop_failing();
            if let Err(fault) = result {
                faults += 1;
                match errno {
                    ENOSPC => assert_eq!(fault, EngineFault::Full),
                    _ => assert!(matches!(fault, EngineFault::Io(_)), "{fault:?}"),
                }
                assert_eq!(db.writer.mark(), mark);
                assert_eq!(dump(&db.path()), before);
                // Another process would see the same.
                let again = Writer::open(&db.path(), true).unwrap();
                assert_eq!(again.mark(), mark);
                drop(again);
                db.writer.apply(&items[2..]).unwrap();
            }
            assert_eq!(db.writer.mark(), undisturbed.writer.mark());
            assert_eq!(dump(&db.path()), whole);
        }
        assert!(faults > 3, "{faults}");
    }
}

#[test]
fn a_damaged_file_is_a_fault() {
    let mut db = Db::new();
    db.done(vec![exec("CREATE TABLE t(a)")]);
    for i in 0..50 {
        db.done(vec![exec(&format!(
            "INSERT INTO t VALUES('{i}' || hex(zeroblob(1000)))"
        ))]);
    }
    let Db { dir, writer, .. } = db;
    let path = dir.path().join("a.db");
    drop(writer);
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(conn);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();

    assert!(matches!(
        Writer::open(&path, true),
        Err(EngineFault::Damaged(_))
    ));
    let mut writer = Writer::open(&path, false).unwrap();
    let mark = writer.mark();
    let tx = transaction(vec![exec("UPDATE t SET a = a || 'x'")]);
    let fault = writer.apply(&[item(mark.applied + 1, &tx)]).unwrap_err();
    assert!(matches!(fault, EngineFault::Damaged(_)), "{fault:?}");
    assert_eq!(writer.mark(), mark);
}

/// `cargo test --release -- --ignored cost_of_an_entry --nocapture`
#[test]
#[ignore = "a measurement"]
fn cost_of_an_entry() {
    let mut db = Db::new();
    db.done(vec![exec(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b)",
    )]);
    let entries: Vec<_> = (0..64)
        .map(|i| {
            transaction(vec![op(
                OpKind::Exec,
                "INSERT INTO t(a, b) VALUES(?, ?)",
                vec![SqlValue::Text(format!("value {i}")), SqlValue::Integer(i)],
            )])
        })
        .collect();
    for batch in [1, 16, 64] {
        let mut index = db.writer.mark().applied;
        let start = std::time::Instant::now();
        let mut count = 0;
        while count < 20_000 {
            let items: Vec<_> = (index + 1..)
                .zip(&entries[..batch])
                .map(|(i, t)| item(i, t))
                .collect();
            db.writer.apply(&items).unwrap();
            index += batch as u64;
            count += batch;
        }
        println!(
            "{batch} in a batch: {:?} each",
            start.elapsed() / count as u32
        );
    }
}

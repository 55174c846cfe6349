//! A crash leaves a prefix of the write-ahead log: mark, hash and contents belong together.

use super::*;

fn entries() -> Vec<SqlTransaction> {
    let mut all = vec![transaction(vec![exec(
        "CREATE TABLE t(i INTEGER PRIMARY KEY, filler)",
    )])];
    for i in 2..60 {
        let insert = format!("INSERT INTO t VALUES({i}, randomblob({}))", i * 37 % 900);
        let mut ops = vec![exec(&insert)];
        match i % 7 {
            3 => ops.push(exec("INSERT OR ROLLBACK INTO t(i) VALUES(2)")),
            5 => ops.push(exec("nonsense")),
            6 => ops.push(exec("UPDATE t SET filler = random() WHERE i % 5 = 0")),
            _ => {}
        }
        all.push(transaction(ops));
    }
    all
}

/// The rows that are there after an entry, if all is well.
fn rows_after(applied: u64) -> u64 {
    (2..=applied).filter(|i| !matches!(i % 7, 3 | 5)).count() as u64
}

#[test]
fn every_prefix_of_the_log_is_a_state() {
    let entries = entries();
    let items: Vec<_> = (1..).zip(&entries).map(|(i, t)| item(i, t)).collect();
    let mut db = Db::new();
    let mut hashes = vec![0];
    for batch in items.chunks(5) {
        hashes.extend(db.writer.apply(batch).unwrap().iter().map(|a| a.hash));
    }
    let file = std::fs::read(db.path()).unwrap();
    let mut log_path = db.path().into_os_string();
    log_path.push("-wal");
    let log = std::fs::read(log_path).unwrap();
    let whole = dump(&db.path());
    assert!(log.len() > 50_000);

    let mut states = std::collections::BTreeSet::new();
    // Frames are 4120 bytes after a head of 32: cuts fall everywhere in them.
    for cut in (0..log.len()).step_by(2_939).chain([log.len()]) {
        for garbage in [0, 5_000] {
            let mut left = log[..cut].to_vec();
            left.resize(cut + garbage, 0x5a);
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.db");
            std::fs::write(&path, &file).unwrap();
            std::fs::write(dir.path().join("a.db-wal"), left).unwrap();

            let mut writer = Writer::open(&path, true).unwrap();
            let mark = writer.mark();
            states.insert(mark.applied);
            assert_eq!(mark.hash, hashes[mark.applied as usize]);
            let rows = dump(&path).len().saturating_sub(1) as u64;
            assert_eq!(rows, rows_after(mark.applied), "cut at {cut}");

            // Replay from the beginning comes to the same end.
            let applied = writer.apply(&items).unwrap();
            assert_eq!(
                applied.iter().filter(|a| a.outcome.is_none()).count() as u64,
                mark.applied
            );
            assert_eq!(writer.mark(), db.writer.mark());
            assert_eq!(dump(&path), whole);
        }
    }
    assert!(states.len() > 10, "{states:?}");
}

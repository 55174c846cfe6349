//! What is measured beside us in the same run: the disk, and SQLite alone.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use orama_tests::cluster::Cluster;

use crate::figures::Latencies;
use crate::load::Measured;

/// Appends of so many bytes by one thread, each with its own fdatasync, per second.
///
/// # Errors
/// The file system's.
pub fn fdatasync_rate(bytes: usize, length: Duration) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let mut file = File::create(dir.path().join("log"))?;
    let value = vec![7; bytes];
    let (began, mut count) = (Instant::now(), 0u64);
    while began.elapsed() < length {
        file.write_all(&value)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// A new database of SQLite's own, WAL and synchronous=FULL, with a table `t(id, v)`.
fn sqlite(dir: &Path) -> anyhow::Result<rusqlite::Connection> {
    let conn = rusqlite::Connection::open(dir.join("alone.db"))?;
    conn.pragma_update(None, "journal_mode", "wal")?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")?;
    Ok(conn)
}

/// Transactions of `rows` rows of `bytes` bytes each into SQLite alone, by one thread:
/// every commit is synced.
///
/// # Errors
/// SQLite's.
pub fn sqlite_writes(rows: usize, bytes: usize, length: Duration) -> anyhow::Result<Measured> {
    let dir = tempfile::tempdir()?;
    let mut conn = sqlite(dir.path())?;
    let value = "v".repeat(bytes);
    let (began, mut nanos) = (Instant::now(), Vec::new());
    while began.elapsed() < length {
        let at = Instant::now();
        let transaction = conn.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO t(v) VALUES (?)")?;
            for _ in 0..rows {
                insert.execute([&value])?;
            }
        }
        transaction.commit()?;
        nanos.push(u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(Measured {
        per_second: nanos.len() as f64 / began.elapsed().as_secs_f64(),
        latencies: Latencies::new(nanos),
    })
}

/// Point reads by key from SQLite alone, by one thread.
///
/// # Errors
/// SQLite's.
pub fn sqlite_reads(rows: usize, bytes: usize, length: Duration) -> anyhow::Result<Measured> {
    let dir = tempfile::tempdir()?;
    let mut conn = sqlite(dir.path())?;
    let transaction = conn.transaction()?;
    for _ in 0..rows {
        transaction.execute("INSERT INTO t(v) VALUES (?)", ["v".repeat(bytes)])?;
    }
    transaction.commit()?;
    let mut select = conn.prepare("SELECT v FROM t WHERE id = ?")?;
    let (began, mut nanos, mut key) = (Instant::now(), Vec::new(), 0usize);
    while began.elapsed() < length {
        let at = Instant::now();
        key = (key + 7_919) % rows;
        let _value: String = select.query_row([key as i64 + 1], |row| row.get(0))?;
        nanos.push(u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(Measured {
        per_second: nanos.len() as f64 / began.elapsed().as_secs_f64(),
        latencies: Latencies::new(nanos),
    })
}

/// Syncs of the log that all nodes have made, and entries they appended.
pub async fn log_work(cluster: &Cluster) -> (f64, f64) {
    let (mut syncs, mut entries) = (0.0, 0.0);
    for i in 0..cluster.len() {
        let node = cluster.node(i);
        syncs += node.metric("orama_raft_log_sync_seconds_count").await;
        entries += node.metric("orama_raft_log_batch_entries_sum").await;
    }
    (syncs, entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_alone_writes_and_reads() -> anyhow::Result<()> {
        let length = Duration::from_millis(30);
        assert!(sqlite_writes(100, 100, length)?.per_second > 0.0);
        assert!(!sqlite_reads(50, 100, length)?.latencies.is_empty());
        assert!(fdatasync_rate(100, length)? > 0.0);
        Ok(())
    }
}

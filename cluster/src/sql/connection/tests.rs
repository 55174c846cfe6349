//! What every connection promises.

mod budget;
mod determinism;
mod failures;
mod limits;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use orama_proto::Timestamp;
use orama_proto::sql::{SqlCode, SqlError, SqlLimits, Stamp};
use rusqlite::types::Value;

use super::*;

const LIMITS: SqlLimits = SqlLimits {
    pages: 25_600,
    steps: 20_000_000,
};

fn stamp(number: u64) -> Stamp {
    let mut seed = [3; 16];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    Stamp {
        clock: Timestamp(1_700_000_000_123_456 + number * 1_000_001),
        seed,
    }
}

/// A database file in a directory of its own.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }
    fn path(&self) -> PathBuf {
        self.dir.path().join("t.db")
    }
    fn writer(&self) -> Connection {
        Connection::writer(&self.path()).unwrap()
    }
    fn reader(&self) -> Connection {
        Connection::reader(&self.path()).unwrap()
    }
}

/// Runs one statement of a tenant inside an entry that has begun, all rows of it.
fn step(conn: &Connection, sql: &str, args: &[Value]) -> Result<Vec<Vec<Value>>, Failure> {
    let rows = {
        let mut statement = conn.prepare(sql)?;
        let columns = statement.column_count();
        let collected = conn.run_tenant(|| {
            let mut rows = statement.query(rusqlite::params_from_iter(args))?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let row: rusqlite::Result<Vec<Value>> = (0..columns).map(|i| row.get(i)).collect();
                all.push(row?);
            }
            Ok(all)
        });
        collected.map_err(|error| conn.failure(error))?
    };
    conn.verify_statement()?;
    Ok(rows)
}

/// One entry of the log as the writer does it: its own transaction, our UPDATE first, a savepoint.
/// Answers the last statement's rows and the sum of changes.
fn entry_with(
    conn: &Connection,
    number: u64,
    limits: &SqlLimits,
    statements: &[(&str, &[Value])],
) -> Result<(Vec<Vec<Value>>, u128), Failure> {
    conn.begin_entry(&stamp(number), limits)?;
    let applied = i64::try_from(number).unwrap();
    conn.ours("BEGIN IMMEDIATE", &[])?;
    conn.ours("UPDATE _orama_state SET applied = ?1", &[&applied])?;
    conn.ours("SAVEPOINT entry", &[])?;
    let run = || {
        let mut last = Vec::new();
        for (sql, args) in statements {
            last = step(conn, sql, args)?;
        }
        conn.verify_entry()?;
        Ok(last)
    };
    let outcome = run();
    if conn.transaction_gone() {
        conn.end_entry();
        return Err(outcome.unwrap_err());
    }
    if outcome.is_err() {
        conn.ours("ROLLBACK TO entry", &[])?;
    }
    conn.ours("RELEASE entry", &[])?;
    conn.settle_foreign_keys()?;
    let sum = conn.take_effects();
    conn.end_entry();
    conn.ours("COMMIT", &[])?;
    Ok((outcome?, sum))
}

fn entry(conn: &Connection, number: u64, sql: &str) -> Result<Vec<Vec<Value>>, Failure> {
    entry_with(conn, number, &LIMITS, &[(sql, &[])]).map(|(rows, _)| rows)
}

fn read(conn: &Connection, sql: &str) -> Result<Vec<Vec<Value>>, Failure> {
    let deadline = Instant::now() + Duration::from_secs(10);
    conn.begin_read(deadline, Arc::new(AtomicBool::new(false)));
    let rows = step(conn, sql, &[]);
    conn.end_read();
    rows
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> SqlError {
    match outcome.unwrap_err() {
        Failure::Statement(error) => error,
        Failure::Fault(fault) => panic!("a fault: {fault}"),
    }
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> SqlCode {
    refused(outcome).code
}

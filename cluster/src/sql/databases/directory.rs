//! `group.db`: which databases there are and in which files, the registers, the floor.
//!
//! An SQLite file of its own. Every row carries a checksum, because SQLite's own check does not
//! see a flipped bit in a value. Most commits are as durable as a database's (not synced: the
//! log has what is lost); those that raise the floor or exchange files are synced, and sync all before them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use orama_proto::sql::DatabaseId;
use orama_proto::{GroupId, Namespace, Timestamp, record};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::super::{EngineFault, Mark};
use super::files::{self, fault};
use super::{Floor, layout};
use crate::data_dir::sync_dir;

/// Version of the records in it.
const VERSION: u8 = 1;
/// Its write-ahead log is emptied when it is longer.
const LOG_MAX: u64 = 1 << 20;

/// Everything that there is one of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// `None` until it is opened for the first time.
    pub(super) group: Option<GroupId>,
    /// Whether everything was closed in order; false while it is open.
    pub(super) clean: bool,
    /// The last generation that was given to a file.
    pub(super) generation: u64,
    /// The registers' own mark.
    pub(super) registers_applied: u64,
    floor: Option<(u64, Vec<u8>)>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            group: None,
            clean: false,
            generation: 0,
            registers_applied: 0,
            floor: None,
        }
    }
    pub(super) fn floor(&self) -> Option<Floor> {
        let (index, opaque) = self.floor.clone()?;
        Some(Floor { index, opaque })
    }
    pub(super) fn set_floor(&mut self, floor: Option<&Floor>) {
        self.floor = floor.map(|f| (f.index, f.opaque.clone()));
    }
}

/// A backup of a database that a save made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) serial: u64,
    pub(super) applied: u64,
    pub(super) hash: u128,
    pub(super) bytes: u64,
    pub(super) sum: u128,
}

impl Saved {
    pub(super) fn mark(&self) -> Mark {
        Mark {
            applied: self.applied,
            hash: self.hash,
        }
    }
}

/// One database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) generation: u64,
    /// Whether its file is known to be on disk. One that is not may be lost in a power cut, and
    /// comes again by replay, which begins before it was made.
    pub(super) hardened: bool,
    /// How far it is on disk at least.
    pub(super) applied: u64,
    pub(super) hash: u128,
    /// It must be as far as this when it is opened, because replay will not bring what is before:
    /// more than `applied` while it is fenced or rebuilt.
    pub(super) required: u64,
    pub(super) bytes: u64,
    pub(super) fenced: Option<String>,
    pub(super) saved: Option<Saved>,
}

/// What a directory had in it when it was opened.
pub(super) struct Loaded {
    pub(super) rows: Vec<(DatabaseId, Row)>,
    pub(super) registers: BTreeMap<String, String>,
}

/// Whether a commit is on disk when it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durable {
    Now,
    Later,
}

/// A change of the directory.
pub(super) enum Change<'a> {
    Put(&'a DatabaseId, Row),
    Delete(&'a DatabaseId),
    Register(&'a str, &'a str),
    /// All databases and registers.
    Clear,
}

/// The open file.
pub(super) struct Directory {
    path: PathBuf,
    conn: Connection,
    state: State,
}

impl Directory {
    /// Makes a new one under its name, whole or not at all.
    pub(super) fn create(dir: &Path, state: &State, changes: &[Change<'_>]) -> io::Result<()> {
        let (new, path) = (layout::directory_new(dir), layout::directory(dir));
        files::remove(&new)?;
        for suffix in ["-wal", "-shm", "-journal"] {
            files::remove_one(&files::beside(&path, suffix))?;
        }
        let conn = files::create(&new).map_err(io::Error::other)?;
        let schema = "CREATE TABLE state (id INTEGER PRIMARY KEY, record BLOB NOT NULL, sum INTEGER NOT NULL);
            CREATE TABLE databases (namespace TEXT NOT NULL, born INTEGER NOT NULL, record BLOB NOT NULL,
                sum INTEGER NOT NULL, PRIMARY KEY (namespace, born)) WITHOUT ROWID;
            CREATE TABLE registers (key TEXT PRIMARY KEY, value TEXT NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;";
        let made = conn.execute_batch(schema);
        made.map_err(|e| io::Error::other(fault(&e)))?;
        let mut made = Self {
            path: new.clone(),
            conn,
            state: state.clone(),
        };
        made.commit(Durable::Now, state.clone(), changes)
            .map_err(io::Error::other)?;
        drop(made);
        File::open(&new)?.sync_all()?;
        fs::rename(&new, &path)?;
        sync_dir(dir)
    }

    /// Opens it and reads all of it. The inner error is why it cannot be trusted.
    pub(super) fn open(dir: &Path) -> io::Result<Result<(Self, Loaded), String>> {
        let path = layout::directory(dir);
        match Self::try_open(&path) {
            Ok(opened) => Ok(Ok(opened)),
            Err(EngineFault::Damaged(why)) => Ok(Err(format!("{}: {why}", path.display()))),
            Err(EngineFault::Full) => Err(io::ErrorKind::StorageFull.into()),
            Err(other) => Err(io::Error::other(other)),
        }
    }

    fn try_open(path: &Path) -> Result<(Self, Loaded), EngineFault> {
        let sql = |e: rusqlite::Error| unreadable(&e);
        let conn = files::open(path, true)?;
        let mode: String = conn
            .query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))
            .map_err(sql)?;
        if mode != "wal" {
            return Err(EngineFault::Io(format!("its journal is in mode {mode}")));
        }
        let settings = "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0;";
        conn.execute_batch(settings).map_err(sql)?;
        let found: String = conn
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(sql)?;
        if found != "ok" {
            return Err(EngineFault::Damaged(found));
        }
        let state = read_state(&conn)?;
        let loaded = Loaded {
            rows: read_rows(&conn)?,
            registers: read_registers(&conn)?,
        };
        let path = path.to_owned();
        Ok((Self { path, conn, state }, loaded))
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Makes changes in one transaction.
    pub(super) fn commit(
        &mut self,
        durable: Durable,
        state: State,
        changes: &[Change<'_>],
    ) -> Result<(), EngineFault> {
        let synchronous = match durable {
            Durable::Now => "FULL",
            Durable::Later => "NORMAL",
        };
        self.conn
            .pragma_update(None, "synchronous", synchronous)
            .map_err(|e| fault(&e))?;
        let transaction = self.conn.transaction().map_err(|e| fault(&e))?;
        for change in changes {
            make(&transaction, change)?;
        }
        if state != self.state || durable == Durable::Now {
            let record = encode(&state)?;
            let sum = sum(&[b"state", &record]);
            let sql = "INSERT OR REPLACE INTO state VALUES (1, ?1, ?2)";
            run(&transaction, sql, params![record, sum])?;
        }
        transaction.commit().map_err(|e| fault(&e))?;
        self.state = state;
        Ok(())
    }

    /// Keeps its write-ahead log short.
    pub(super) fn checkpoint(&self) -> Result<(), EngineFault> {
        if files::sizes(&self.path).1 <= LOG_MAX {
            return Ok(());
        }
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let done = self.conn.query_row(sql, [], |_| Ok(()));
        done.map_err(|e| fault(&e))
    }

    /// Closes it in order: everything is in one file afterwards.
    pub(super) fn close(self) -> Result<(), EngineFault> {
        self.conn.flush_prepared_statement_cache();
        files::end_log_of(self.conn)
    }
}

fn make(conn: &Connection, change: &Change<'_>) -> Result<(), EngineFault> {
    match change {
        Change::Put(id, row) => {
            let record = encode(row)?;
            let born = id.born.0.cast_signed();
            let sum = row_sum(id.namespace.as_str(), born, &record);
            let sql = "INSERT OR REPLACE INTO databases VALUES (?1, ?2, ?3, ?4)";
            run(conn, sql, params![id.namespace.as_str(), born, record, sum])
        }
        Change::Delete(id) => run(
            conn,
            "DELETE FROM databases WHERE namespace = ?1 AND born = ?2",
            params![id.namespace.as_str(), id.born.0.cast_signed()],
        ),
        Change::Register(key, value) => {
            let sum = sum(&[b"register", key.as_bytes(), value.as_bytes()]);
            let sql = "INSERT OR REPLACE INTO registers VALUES (?1, ?2, ?3)";
            run(conn, sql, params![key, value, sum])
        }
        Change::Clear => {
            run(conn, "DELETE FROM databases", params![])?;
            run(conn, "DELETE FROM registers", params![])
        }
    }
}

fn run(conn: &Connection, sql: &str, params: &[&dyn rusqlite::ToSql]) -> Result<(), EngineFault> {
    conn.prepare_cached(sql)
        .and_then(|mut statement| statement.execute(params))
        .map(drop)
        .map_err(|e| fault(&e))
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, EngineFault> {
    record::encode(VERSION, value).map_err(|e| EngineFault::Io(e.to_string()))
}

fn sum(parts: &[&[u8]]) -> i64 {
    let mut sum = Xxh3::new();
    for part in parts {
        sum.update(&(part.len() as u64).to_be_bytes());
        sum.update(part);
    }
    sum.digest().cast_signed()
}

fn row_sum(namespace: &str, born: i64, record: &[u8]) -> i64 {
    sum(&[
        b"database",
        namespace.as_bytes(),
        &born.to_be_bytes(),
        record,
    ])
}

/// While it is read, whatever does not fit is damage; only the machine's trouble is not.
fn unreadable(error: &rusqlite::Error) -> EngineFault {
    match fault(error) {
        EngineFault::Io(why) => match error.sqlite_error().map(|e| e.code) {
            Some(
                rusqlite::ErrorCode::SystemIoFailure
                | rusqlite::ErrorCode::CannotOpen
                | rusqlite::ErrorCode::OutOfMemory
                | rusqlite::ErrorCode::PermissionDenied
                | rusqlite::ErrorCode::ReadOnly
                | rusqlite::ErrorCode::DatabaseBusy,
            ) => EngineFault::Io(why),
            _ => EngineFault::Damaged(why),
        },
        other => other,
    }
}

fn verified(what: &str, expected: i64, found: i64) -> Result<(), EngineFault> {
    match expected == found {
        true => Ok(()),
        false => Err(EngineFault::Damaged(format!("the checksum of {what}"))),
    }
}

fn decoded<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, EngineFault> {
    record::decode(VERSION, bytes).map_err(|e| EngineFault::Damaged(format!("{what}: {e}")))
}

fn read_state(conn: &Connection) -> Result<State, EngineFault> {
    let sql = "SELECT record, sum FROM state WHERE id = 1";
    let (bytes, found): (Vec<u8>, i64) = conn
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(|e| unreadable(&e))?;
    verified("its state", sum(&[b"state", &bytes]), found)?;
    decoded("its state", &bytes)
}

fn read_rows(conn: &Connection) -> Result<Vec<(DatabaseId, Row)>, EngineFault> {
    let damaged = |e: rusqlite::Error| unreadable(&e);
    let sql = "SELECT namespace, born, record, sum FROM databases ORDER BY namespace, born";
    let mut statement = conn.prepare(sql).map_err(damaged)?;
    let mut rows = statement.query([]).map_err(damaged)?;
    let mut read = Vec::new();
    while let Some(row) = rows.next().map_err(damaged)? {
        let name: String = row.get(0).map_err(damaged)?;
        let born: i64 = row.get(1).map_err(damaged)?;
        let bytes: Vec<u8> = row.get(2).map_err(damaged)?;
        let found = row.get(3).map_err(damaged)?;
        verified("a database's row", row_sum(&name, born, &bytes), found)?;
        let namespace = Namespace::parse(&name).map_err(|e| EngineFault::Damaged(e.to_string()))?;
        let born = Timestamp(born.cast_unsigned());
        read.push((
            DatabaseId { namespace, born },
            decoded("a database's row", &bytes)?,
        ));
    }
    Ok(read)
}

fn read_registers(conn: &Connection) -> Result<BTreeMap<String, String>, EngineFault> {
    let damaged = |e: rusqlite::Error| unreadable(&e);
    let sql = "SELECT key, value, sum FROM registers";
    let mut statement = conn.prepare(sql).map_err(damaged)?;
    let mut rows = statement.query([]).map_err(damaged)?;
    let mut read = BTreeMap::new();
    while let Some(row) = rows.next().map_err(damaged)? {
        let key: String = row.get(0).map_err(damaged)?;
        let value: String = row.get(1).map_err(damaged)?;
        let expected = sum(&[b"register", key.as_bytes(), value.as_bytes()]);
        verified("a register", expected, row.get(2).map_err(damaged)?)?;
        read.insert(key, value);
    }
    Ok(read)
}

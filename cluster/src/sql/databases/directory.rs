//! `group.db`: which databases the group has and in which file each is, the
//! registers, and the floor.
//!
//! It is written without syncing (the kernel keeps what a killed process wrote), but for
//! what others rely on after a power cut: the floor, and which file replaces which.

use std::path::Path;

use orama_proto::sql::DatabaseId;
use orama_proto::{Namespace, Timestamp};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Floor, Mark};
use crate::sql::{EngineFault, raw};

/// Version of the file's tables.
const VERSION: i64 = 1;
const FILE: &str = "group.db";

/// What the file says of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: DatabaseId,
    /// Its file is `live/GENERATION.db`.
    pub(super) generation: u64,
    /// How far it is at least: as of the last floor.
    pub(super) mark: Mark,
    pub(super) bytes: u64,
    pub(super) fenced: Option<String>,
}

/// The open file.
pub(super) struct Directory {
    conn: Connection,
}

/// Why the file cannot be used.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It is damaged or of another version: the directory is to be rebuilt.
    Distrusted(String),
    Fault(EngineFault),
}

pub(super) fn fault(error: &rusqlite::Error) -> EngineFault {
    use rusqlite::ErrorCode as Code;
    let no_room = raw::take_no_room();
    match error.sqlite_error_code() {
        Some(Code::DatabaseCorrupt | Code::NotADatabase) => EngineFault::Damaged(error.to_string()),
        Some(Code::DiskFull) => EngineFault::Full,
        _ if no_room => EngineFault::Full,
        _ => EngineFault::Io(error.to_string()),
    }
}

type Done<T> = Result<T, EngineFault>;

fn number(n: u64) -> i64 {
    i64::from_ne_bytes(n.to_ne_bytes())
}

fn unsigned(n: i64) -> u64 {
    u64::from_ne_bytes(n.to_ne_bytes())
}

fn hash_of(bytes: &[u8]) -> Option<u128> {
    Some(u128::from_be_bytes(bytes.try_into().ok()?))
}

impl Directory {
    /// Opens or makes the file; reads all of it.
    pub(super) fn open(dir: &Path) -> Result<Self, Unusable> {
        raw::register().map_err(Unusable::Fault)?;
        let open = || -> rusqlite::Result<Self> {
            let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE
                | rusqlite::OpenFlags::SQLITE_OPEN_CREATE
                | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let conn = Connection::open_with_flags_and_vfs(dir.join(FILE), flags, raw::VFS)?;
            conn.set_prepared_statement_cache_capacity(32);
            conn.pragma_update(None, "journal_mode", "WAL")?;
            conn.pragma_update(None, "synchronous", "NORMAL")?;
            conn.execute_batch(
                "BEGIN IMMEDIATE;
                 CREATE TABLE IF NOT EXISTS facts(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
                 CREATE TABLE IF NOT EXISTS databases(
                    namespace TEXT, born INTEGER, generation INTEGER NOT NULL, applied INTEGER NOT NULL,
                    hash BLOB NOT NULL, bytes INTEGER NOT NULL, fenced TEXT,
                    PRIMARY KEY(namespace, born)) WITHOUT ROWID;
                 CREATE TABLE IF NOT EXISTS registers(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
                 COMMIT;",
            )?;
            Ok(Self { conn })
        };
        let sorted = |error: &rusqlite::Error| match fault(error) {
            EngineFault::Damaged(what) => {
                Unusable::Distrusted(format!("{FILE} is damaged: {what}"))
            }
            other => Unusable::Fault(other),
        };
        let directory = open().map_err(|e| sorted(&e))?;
        directory
            .check()
            .map_err(|e| sorted(&e))?
            .map_err(Unusable::Distrusted)?;
        Ok(directory)
    }

    fn check(&self) -> rusqlite::Result<Result<(), String>> {
        let found: String = self
            .conn
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Ok(Err(format!("{FILE} is damaged: {found}")));
        }
        match self.number("version")? {
            None => self.put("version", &VERSION).map(Ok),
            Some(VERSION) => Ok(Ok(())),
            Some(other) => Ok(Err(format!(
                "{FILE} has version {other}, this program reads {VERSION}"
            ))),
        }
    }

    fn number(&self, name: &str) -> rusqlite::Result<Option<i64>> {
        self.conn
            .prepare_cached("SELECT value FROM facts WHERE name = ?1")?
            .query_row([name], |row| row.get(0))
            .optional()
    }

    fn put(&self, name: &str, value: &dyn rusqlite::ToSql) -> rusqlite::Result<()> {
        put(&self.conn, name, value)
    }

    /// Runs changes in one transaction; `synced`: on disk when this returns.
    fn change<T>(
        &mut self,
        synced: bool,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Done<T> {
        let run = || -> rusqlite::Result<T> {
            if synced {
                self.conn.pragma_update(None, "synchronous", "FULL")?;
            }
            let transaction = self.conn.transaction()?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        let result = run().map_err(|e| fault(&e));
        if synced {
            self.conn
                .pragma_update(None, "synchronous", "NORMAL")
                .map_err(|e| fault(&e))?;
        }
        result
    }

    /// Every database there is.
    pub(super) fn rows(&self) -> Done<Vec<Row>> {
        let read = || -> rusqlite::Result<Vec<Option<Row>>> {
            let mut statement = self.conn.prepare_cached(
                "SELECT namespace, born, generation, applied, hash, bytes, fenced FROM databases",
            )?;
            let rows = statement.query_map([], |row| {
                let namespace: String = row.get(0)?;
                let hash: Vec<u8> = row.get(4)?;
                let (born, generation) = (row.get(1).map(unsigned)?, row.get(2).map(unsigned)?);
                let (applied, bytes) = (row.get(3).map(unsigned)?, row.get(5).map(unsigned)?);
                let fenced = row.get(6)?;
                let row = Namespace::parse(&namespace).ok().zip(hash_of(&hash));
                Ok(row.map(|(namespace, hash)| Row {
                    id: DatabaseId {
                        namespace,
                        born: Timestamp(born),
                    },
                    generation,
                    mark: Mark { applied, hash },
                    bytes,
                    fenced,
                }))
            })?;
            rows.collect()
        };
        let rows = read().map_err(|e| fault(&e))?;
        let rows: Option<Vec<Row>> = rows.into_iter().collect();
        rows.ok_or_else(|| EngineFault::Damaged(format!("{FILE} names a database that cannot be")))
    }

    pub(super) fn floor(&self) -> Done<Option<Floor>> {
        let read = || -> rusqlite::Result<Option<Floor>> {
            let Some(index) = self.number("floor")? else {
                return Ok(None);
            };
            let opaque = self.conn.query_row(
                "SELECT value FROM facts WHERE name = 'floor-is'",
                [],
                |row| row.get(0),
            )?;
            Ok(Some(Floor {
                index: unsigned(index),
                opaque,
            }))
        };
        read().map_err(|e| fault(&e))
    }

    /// Whether the last process ended in order; from now on it did not.
    pub(super) fn take_clean(&mut self) -> Done<bool> {
        let clean = self.number("clean").map_err(|e| fault(&e))? == Some(1);
        self.change(true, |t| put(t, "clean", &0))?;
        Ok(clean)
    }

    /// The process ends in order.
    pub(super) fn set_clean(&mut self) -> Done<()> {
        self.change(true, |t| put(t, "clean", &1))
    }

    /// A file number that was never used.
    pub(super) fn next_generation(&mut self) -> Done<u64> {
        self.change(false, |t| {
            let last: Option<i64> = t
                .query_row(
                    "SELECT value FROM facts WHERE name = 'generation'",
                    [],
                    |row| row.get(0),
                )
                .optional()?;
            let next = last.unwrap_or(0) + 1;
            put(t, "generation", &next)?;
            Ok(unsigned(next))
        })
    }

    /// Names a database, without syncing: replay makes it again after a power cut.
    pub(super) fn insert(&mut self, row: &Row) -> Done<()> {
        self.change(false, |t| insert(t, row))
    }

    /// Forgets a database.
    pub(super) fn remove(&mut self, id: &DatabaseId) -> Done<()> {
        self.change(false, |t| {
            t.execute(
                "DELETE FROM databases WHERE namespace = ?1 AND born = ?2",
                params![id.namespace.as_str(), number(id.born.0)],
            )
            .map(drop)
        })
    }

    /// Replaces what is known of one database, synced.
    pub(super) fn replace(&mut self, row: &Row) -> Done<()> {
        self.change(true, |t| insert(t, row))
    }

    /// Sets the floor and what is known of these databases as of it, synced.
    pub(super) fn set_floor(&mut self, floor: &Floor, rows: &[Row]) -> Done<()> {
        self.change(true, |t| {
            rows.iter().try_for_each(|row| update(t, row))?;
            put_floor(t, floor)
        })
    }

    /// Replaces everything, synced.
    pub(super) fn reset(
        &mut self,
        rows: &[Row],
        registers: &[(String, String)],
        registers_applied: u64,
        floor: Option<&Floor>,
    ) -> Done<()> {
        self.change(true, |t| {
            t.execute("DELETE FROM databases", [])?;
            t.execute("DELETE FROM registers", [])?;
            t.execute("DELETE FROM facts WHERE name IN ('floor', 'floor-is')", [])?;
            rows.iter().try_for_each(|row| insert(t, row))?;
            for (name, value) in registers {
                t.execute("INSERT INTO registers VALUES(?1, ?2)", [name, value])?;
            }
            put(t, "registers", &number(registers_applied))?;
            floor.map_or(Ok(()), |floor| put_floor(t, floor))
        })
    }

    pub(super) fn registers(&self) -> Done<(Vec<(String, String)>, u64)> {
        let read = || -> rusqlite::Result<_> {
            let mut statement = self
                .conn
                .prepare_cached("SELECT name, value FROM registers")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let applied = self.number("registers")?.unwrap_or(0);
            Ok((rows.collect::<rusqlite::Result<_>>()?, unsigned(applied)))
        };
        read().map_err(|e| fault(&e))
    }

    pub(super) fn set_registers(&mut self, index: u64, changes: &[(String, String)]) -> Done<()> {
        self.change(false, |t| {
            let mut statement = t.prepare_cached(
                "INSERT INTO registers VALUES(?1, ?2) ON CONFLICT(name) DO UPDATE SET value = ?2",
            )?;
            for (name, value) in changes {
                statement.execute([name, value])?;
            }
            put(t, "registers", &number(index))
        })
    }

    /// Syncs what was written so far.
    pub(super) fn checkpoint(&self) -> Done<()> {
        self.conn
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(|e| fault(&e))
    }
}

fn put(conn: &Connection, name: &str, value: &dyn rusqlite::ToSql) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO facts VALUES(?1, ?2) ON CONFLICT(name) DO UPDATE SET value = ?2",
    )?
    .execute(params![name, value])
    .map(drop)
}

fn put_floor(conn: &Connection, floor: &Floor) -> rusqlite::Result<()> {
    put(conn, "floor", &number(floor.index))?;
    put(conn, "floor-is", &floor.opaque)
}

fn insert(conn: &Connection, row: &Row) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO databases VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute(params![
            row.id.namespace.as_str(),
            number(row.id.born.0),
            number(row.generation),
            number(row.mark.applied),
            row.mark.hash.to_be_bytes(),
            number(row.bytes),
            row.fenced
        ])
        .map(drop)
}

/// A database that is gone, or in another file, meanwhile is left alone.
fn update(conn: &Connection, row: &Row) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE databases SET applied = ?4, hash = ?5, bytes = ?6
         WHERE namespace = ?1 AND born = ?2 AND generation = ?3",
    )?
    .execute(params![
        row.id.namespace.as_str(),
        number(row.id.born.0),
        number(row.generation),
        number(row.mark.applied),
        row.mark.hash.to_be_bytes(),
        number(row.bytes)
    ])
    .map(drop)
}

//! The log's file: one redb database for all groups of the node.
//!
//! Keys begin with the group (u32, big endian), so a group's entries are one
//! range in index order. Every commit is durable (`Durability::Immediate`) and
//! two-phase: the pages are synced before the header that makes them current.
//! With one phase redb takes a damaged newest commit for a torn one and rolls
//! back silently, which would lose what was acknowledged; with two it refuses.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use orama_proto::GroupId;
use redb::{Database, DatabaseError, Durability, ReadableDatabase, TableDefinition};
use serde::de::DeserializeOwned;

use crate::consensus::cell;
use crate::consensus::fault::StorageFault;
use crate::consensus::types::EntryRecord;
use crate::data_dir::sync_dir;

/// Version of [`EntryRecord`] in the log.
pub(super) const ENTRY_VERSION: u8 = 1;
/// Version of vote and position marks.
pub(super) const MARK_VERSION: u8 = 1;

/// (group, index) → cell of an [`EntryRecord`].
const ENTRIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");
/// (group, kind) → cell of a vote or a position.
const MARKS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("marks");

/// Page cache of the database; the hot end of the log is in memory anyway.
const CACHE_BYTES: usize = 16 << 20;

/// What a mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(super) enum Mark {
    /// The last vote.
    Vote = 1,
    /// Everything up to here is gone from the log.
    Purged = 2,
    /// Everything up to here was known to be committed; may lag.
    Committed = 3,
}

impl Mark {
    fn name(self) -> &'static str {
        match self {
            Mark::Vote => "the vote",
            Mark::Purged => "the purge mark",
            Mark::Committed => "the commit mark",
        }
    }
}

pub(super) fn entry_key(group: GroupId, index: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&group.0.to_be_bytes());
    key[4..].copy_from_slice(&index.to_be_bytes());
    key
}

pub(super) fn mark_key(group: GroupId, mark: Mark) -> [u8; 5] {
    let [a, b, c, d] = group.0.to_be_bytes();
    [a, b, c, d, mark as u8]
}

/// One change to the log's file.
#[derive(Debug)]
pub(super) enum Op {
    /// Adds or replaces entries: index and cell.
    Append {
        group: GroupId,
        entries: Vec<(u64, Vec<u8>)>,
    },
    /// Sets a mark.
    Mark {
        group: GroupId,
        mark: Mark,
        cell: Vec<u8>,
    },
    /// Removes every entry from this index on.
    Truncate { group: GroupId, from: u64 },
    /// Removes every entry up to this index and says so.
    Purge {
        group: GroupId,
        upto: u64,
        cell: Vec<u8>,
    },
}

/// The open file. Cloned readers share it; only the writer thread writes.
#[derive(Clone)]
pub(super) struct Engine {
    db: Arc<Database>,
}

fn io_error(error: impl Into<redb::Error>) -> io::Error {
    match error.into() {
        redb::Error::Io(e) => e,
        redb::Error::Corrupted(what) => io::Error::new(io::ErrorKind::InvalidData, what),
        other => io::Error::other(other),
    }
}

impl Engine {
    /// Opens or creates the file and verifies every page of it.
    pub(super) fn open(path: &Path) -> Result<Self, StorageFault> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| StorageFault::io(parent, e))?;
        }
        match std::fs::metadata(path) {
            Ok(file) if file.len() == 0 => {
                return Err(StorageFault::LogFile {
                    path: path.to_owned(),
                    what: "it is empty".into(),
                });
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => Self::create(path)?,
            Err(e) => return Err(StorageFault::io(path, e)),
        }
        Self::build(path, |builder| builder.open(path))
    }

    /// Makes the file under another name and renames it when it is whole: redb
    /// takes several syncs to begin a file, and whoever died between them would
    /// find damage at every later start.
    fn create(path: &Path) -> Result<(), StorageFault> {
        let new = path.with_extension("new");
        match std::fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(StorageFault::io(&new, e));
            }
            _ => {}
        }
        drop(Self::build(&new, |builder| builder.create(&new))?);
        let publish = || -> io::Result<()> {
            std::fs::File::open(&new)?.sync_all()?;
            std::fs::rename(&new, path)?;
            // The file's name must survive a power cut as its contents do.
            path.parent().map_or(Ok(()), sync_dir)
        };
        publish().map_err(|e| StorageFault::io(path, e))
    }

    /// The same over a storage of the caller's choice.
    #[cfg(test)]
    pub(super) fn open_backend(backend: impl redb::StorageBackend) -> Result<Self, StorageFault> {
        Self::build(Path::new("(memory)"), |b| b.create_with_backend(backend))
    }

    fn build(
        path: &Path,
        create: impl FnOnce(&redb::Builder) -> Result<Database, DatabaseError>,
    ) -> Result<Self, StorageFault> {
        let damaged = |what: String| StorageFault::LogFile {
            path: path.to_owned(),
            what,
        };
        let mut builder = Database::builder();
        builder
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true);
        // Damaged files can trip assertions inside redb: those are damage reports too.
        let opened = catch_unwind(AssertUnwindSafe(|| create(&builder)))
            .map_err(|_| damaged("its structure is inconsistent".into()))?;
        let db = match opened {
            Ok(db) => db,
            Err(DatabaseError::DatabaseAlreadyOpen) => {
                return Err(StorageFault::Busy {
                    path: path.to_owned(),
                });
            }
            Err(DatabaseError::Storage(redb::StorageError::Io(e)))
                if !matches!(
                    e.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                return Err(StorageFault::io(path, e));
            }
            Err(other) => return Err(damaged(other.to_string())),
        };
        let engine = Self { db: Arc::new(db) };
        engine.prepare().map_err(|e| StorageFault::io(path, e))?;
        Ok(engine)
    }

    /// Makes the tables, so that readers need not handle their absence.
    fn prepare(&self) -> io::Result<()> {
        let txn = self.db.begin_read().map_err(io_error)?;
        if txn.open_table(ENTRIES).is_ok() && txn.open_table(MARKS).is_ok() {
            return Ok(());
        }
        self.commit(&[])
    }

    /// Makes all of `ops`, in order, durable in one commit.
    pub(super) fn commit(&self, ops: &[Op]) -> io::Result<()> {
        let mut txn = self.db.begin_write().map_err(io_error)?;
        txn.set_durability(Durability::Immediate)
            .map_err(io::Error::other)?;
        txn.set_two_phase_commit(true);
        {
            let mut entries = txn.open_table(ENTRIES).map_err(io_error)?;
            let mut marks = txn.open_table(MARKS).map_err(io_error)?;
            for op in ops {
                match op {
                    Op::Append {
                        group,
                        entries: new,
                    } => {
                        for (index, cell) in new {
                            let key = entry_key(*group, *index);
                            entries
                                .insert(key.as_slice(), cell.as_slice())
                                .map_err(io_error)?;
                        }
                    }
                    Op::Mark { group, mark, cell } => {
                        let key = mark_key(*group, *mark);
                        marks
                            .insert(key.as_slice(), cell.as_slice())
                            .map_err(io_error)?;
                    }
                    Op::Truncate { group, from } => {
                        let (from, to) = (entry_key(*group, *from), entry_key(*group, u64::MAX));
                        entries
                            .retain_in(from.as_slice()..=to.as_slice(), |_, _| false)
                            .map_err(io_error)?;
                    }
                    Op::Purge { group, upto, cell } => {
                        let key = mark_key(*group, Mark::Purged);
                        marks
                            .insert(key.as_slice(), cell.as_slice())
                            .map_err(io_error)?;
                        let (from, to) = (entry_key(*group, 0), entry_key(*group, *upto));
                        entries
                            .retain_in(from.as_slice()..=to.as_slice(), |_, _| false)
                            .map_err(io_error)?;
                    }
                }
            }
        }
        txn.commit().map_err(io_error)
    }

    /// Deletes a group's entries and marks. Waits for the writer's commit.
    pub(super) fn erase(&self, group: GroupId) -> io::Result<()> {
        let mut txn = self.db.begin_write().map_err(io_error)?;
        txn.set_durability(Durability::Immediate)
            .map_err(io::Error::other)?;
        txn.set_two_phase_commit(true);
        {
            let mut entries = txn.open_table(ENTRIES).map_err(io_error)?;
            let mut marks = txn.open_table(MARKS).map_err(io_error)?;
            let (from, to) = (entry_key(group, 0), entry_key(group, u64::MAX));
            entries
                .retain_in(from.as_slice()..=to.as_slice(), |_, _| false)
                .map_err(io_error)?;
            for mark in [Mark::Vote, Mark::Purged, Mark::Committed] {
                let key = mark_key(group, mark);
                marks.remove(key.as_slice()).map_err(io_error)?;
            }
        }
        txn.commit().map_err(io_error)
    }

    /// Reads a mark.
    pub(super) fn mark<T: DeserializeOwned>(
        &self,
        group: GroupId,
        mark: Mark,
    ) -> Result<Option<T>, StorageFault> {
        let damaged = |what: String| StorageFault::LogRecord {
            group,
            record: mark.name().into(),
            what,
        };
        let key = mark_key(group, mark);
        let read = || -> io::Result<Option<Vec<u8>>> {
            let txn = self.db.begin_read().map_err(io_error)?;
            let table = txn.open_table(MARKS).map_err(io_error)?;
            let cell = table.get(key.as_slice()).map_err(io_error)?;
            Ok(cell.map(|c| c.value().to_vec()))
        };
        match read().map_err(|e| damaged(e.to_string()))? {
            None => Ok(None),
            Some(bytes) => cell::open(&key, MARK_VERSION, &bytes)
                .map(Some)
                .map_err(|e| damaged(e.to_string())),
        }
    }

    /// Visits a group's entries with `from <= index < to` in order, each with
    /// the size of its cell, until `visit` answers false.
    pub(super) fn visit(
        &self,
        group: GroupId,
        from: u64,
        to: u64,
        mut visit: impl FnMut(EntryRecord, usize) -> bool,
    ) -> Result<(), StorageFault> {
        if from >= to {
            return Ok(());
        }
        let damaged = |record: String, what: String| StorageFault::LogRecord {
            group,
            record,
            what,
        };
        let file = |e: redb::Error| {
            let what = io_error(e).to_string();
            damaged(format!("entries {from} to {}", to - 1), what)
        };
        let txn = self.db.begin_read().map_err(|e| file(e.into()))?;
        let table = txn.open_table(ENTRIES).map_err(|e| file(e.into()))?;
        let (low, high) = (entry_key(group, from), entry_key(group, to - 1));
        let range = table
            .range(low.as_slice()..=high.as_slice())
            .map_err(|e| file(e.into()))?;
        for item in range {
            let (key, value) = item.map_err(|e| file(e.into()))?;
            let index = key
                .value()
                .get(4..12)
                .and_then(|tail| tail.try_into().ok())
                .map_or(u64::MAX, u64::from_be_bytes);
            let entry: EntryRecord = cell::open(key.value(), ENTRY_VERSION, value.value())
                .map_err(|e| damaged(format!("entry {index}"), e.to_string()))?;
            if entry.at.index != index {
                let what = format!("it says that it is entry {}", entry.at.index);
                return Err(damaged(format!("entry {index}"), what));
            }
            if !visit(entry, value.value().len()) {
                break;
            }
        }
        Ok(())
    }
}

//! Applies entries of the log to one database: a batch in one transaction, each
//! entry in a savepoint, the applied index and the effect hash in the same transaction.

use std::path::Path;

use orama_proto::sql::{SqlOutcome, SqlTransaction, Stamp};

use super::EngineFault;

/// How far a database is, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    /// Index of the last entry applied to it; 0 before the first.
    pub(crate) applied: u64,
    /// Rolling hash of all effects so far.
    pub(crate) hash: u128,
}

/// One entry to apply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'a> {
    /// Its index in the log.
    pub(crate) index: u64,
    pub(crate) stamp: Stamp,
    pub(crate) transaction: &'a SqlTransaction,
}

/// What became of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) index: u64,
    /// `None`: the file had it already (replay after a restart).
    pub(crate) outcome: Option<SqlOutcome>,
    /// The rolling hash after it.
    pub(crate) hash: u128,
}

/// The connection through which a database changes. Blocks.
pub(crate) struct Writer {}

impl Writer {
    /// Opens or makes the file. `check`: read all of it first (`quick_check`).
    pub(crate) fn open(_path: &Path, _check: bool) -> Result<Self, EngineFault> {
        todo!()
    }
    /// What the file says.
    pub(crate) fn mark(&self) -> Mark {
        todo!()
    }
    /// Applies entries in order. Those at or before the mark are skipped. On a fault nothing of
    /// the batch is in the file.
    pub(crate) fn apply(&mut self, _items: &[Item<'_>]) -> Result<Vec<Applied>, EngineFault> {
        todo!()
    }
    /// Bytes of the database and of its write-ahead log.
    pub(crate) fn bytes(&self) -> u64 {
        todo!()
    }
}

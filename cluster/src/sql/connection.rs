//! One connection to a database file, set up so that a tenant's statements can
//! do no harm and do the same everywhere: limits, authorizer, functions, clock, step budget.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use orama_proto::sql::{SqlError, SqlLimits, Stamp};

use super::EngineFault;

/// Our only table in a tenant's file. Tenants cannot name it.
pub(super) const STATE_TABLE: &str = "_orama_state";

/// Why a statement did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The statement is to blame: it fails like this on every replica.
    Statement(SqlError),
    /// The replica is to blame.
    Fault(EngineFault),
}

/// A connection with everything installed.
pub(super) struct Connection {
    conn: rusqlite::Connection,
}

impl Connection {
    /// Opens a file for applying; makes it when it is missing. WAL, synchronous=NORMAL, no
    /// automatic checkpoints, foreign keys on, our table there.
    pub(super) fn writer(_path: &Path) -> Result<Self, EngineFault> {
        todo!()
    }
    /// Opens a file for reading only.
    pub(super) fn reader(_path: &Path) -> Result<Self, EngineFault> {
        todo!()
    }
    /// A reader of a database that has nothing in it (in memory).
    pub(super) fn empty() -> Result<Self, EngineFault> {
        todo!()
    }
    /// For statements of ours that no tenant's text can coincide with.
    pub(super) fn sql(&self) -> &rusqlite::Connection {
        &self.conn
    }
    /// Runs a statement of ours (authorizer open, cached apart from tenants' statements).
    pub(super) fn ours(
        &self,
        _sql: &'static str,
        _params: &[&dyn rusqlite::ToSql],
    ) -> Result<usize, Failure> {
        todo!()
    }
    /// Prepares a tenant's statement (cached). Refuses more than one statement, and none.
    pub(super) fn prepare(&self, _sql: &str) -> Result<rusqlite::CachedStatement<'_>, Failure> {
        todo!()
    }
    /// From here on statements run as one entry of the log: clock, random numbers and steps are its.
    /// Everything that a statement could see of earlier entries in the connection is reset.
    pub(super) fn begin_entry(&self, _stamp: &Stamp, _limits: &SqlLimits) {
        todo!()
    }
    /// The entry ended; statements of ours run on the machine's clock and without a budget.
    pub(super) fn end_entry(&self) {
        todo!()
    }
    /// From here on statements are ended at the deadline, or when `cancelled`.
    pub(super) fn begin_read(&self, _deadline: Instant, _cancelled: Arc<AtomicBool>) {
        todo!()
    }
    pub(super) fn end_read(&self) {
        todo!()
    }
    /// Sorts an error of SQLite. Knows of the budget, the deadline and the full disk.
    pub(super) fn failure(&self, _error: rusqlite::Error) -> Failure {
        todo!()
    }
    /// Takes the sum of row changes since it was last taken (see `effects`).
    pub(super) fn take_effects(&self) -> u128 {
        todo!()
    }
    /// Whether SQLite has ended the transaction by itself (autocommit is on).
    pub(super) fn transaction_gone(&self) -> bool {
        self.conn.is_autocommit()
    }
}

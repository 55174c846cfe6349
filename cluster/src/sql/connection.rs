//! One connection to a database file, set up so that a tenant's statements can
//! do no harm and do the same everywhere: limits, authorizer, functions, clock, step budget.
//!
//! How to run an entry (all on one thread, the clock is the thread's):
//!
//! ```text
//! begin_entry(stamp, limits)
//!   ours("UPDATE _orama_state …"), ours("SAVEPOINT …")
//!   per statement: prepare, bind, run_tenant(|| …), verify_statement
//!   verify_entry                       before the savepoint is released
//!   ours("RELEASE …") or ours("ROLLBACK TO …")
//!   settle_foreign_keys
//! end_entry
//! ```
//!
//! Between `begin_…` and `end_…` whatever is prepared is judged as a tenant's, but for [`Connection::ours`].
//! Outside of them, everything is allowed. Reads: `begin_read`, prepare and step (also in `run_tenant`), `end_read`.

mod budget;
mod changes;
mod expansion;
mod failure;
mod setup;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use orama_proto::limits::SQL_STATEMENT_MAX_BYTES;
use orama_proto::sql::{SqlCode, SqlError, SqlHint, SqlLimits, Stamp};
use parking_lot::Mutex;
use rusqlite::StatementStatus;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;

use self::budget::Shared;
use self::changes::Changes;
use super::authorizer::{Mode, Word};
use super::functions::Generator;
use super::{EngineFault, raw};

/// Our only table in a tenant's file. Tenants cannot name it.
pub(super) const STATE_TABLE: &str = "_orama_state";

/// Bytes of one page of every database.
pub(super) const PAGE_BYTES: u64 = 4096;
/// Bytes that sorts and results in between of one transaction may hold in memory at a time.
pub(super) const SCRATCH_WRITE_MAX: u64 = 64 << 20;
/// The same for the queries of one read.
pub(super) const SCRATCH_READ_MAX: u64 = 64 << 20;
/// Bytes of large values (see [`raw::LARGE`]) that a statement of a transaction may hold at a time.
pub(super) const HELD_WRITE_MAX: u64 = 128 << 20;
/// The same for a query; all queries of the process together have [`raw::READS_MAX`].
pub(super) const HELD_READ_MAX: u64 = 64 << 20;
/// Bytes of old pages that a transaction may keep in memory to be able to go back.
pub(super) const UNDO_MAX: u64 = 128 << 20;

/// Why a statement did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The statement is to blame: it fails like this on every replica.
    Statement(SqlError),
    /// The replica is to blame.
    Fault(EngineFault),
}

impl From<EngineFault> for Failure {
    fn from(fault: EngineFault) -> Self {
        Self::Fault(fault)
    }
}

/// A connection with everything installed.
pub(super) struct Connection {
    conn: rusqlite::Connection,
    shared: Arc<Shared>,
    changes: Arc<Mutex<Changes>>,
    generator: Arc<Mutex<Generator>>,
    /// What statements of tenants are judged by.
    tenant: Mode,
    /// The page quota that is set.
    pages: Cell<u32>,
    /// Whether foreign keys are not enforced, for the entry that runs.
    unchecked: Cell<bool>,
    scratch: RefCell<Arc<raw::Scratch>>,
    /// Our statements with the token, by their texts.
    texts: RefCell<HashMap<&'static str, Arc<str>>>,
    /// What is known of views, and which statements were found short enough.
    weighed: RefCell<expansion::Weighed>,
}

impl Connection {
    /// Opens a file for applying; makes it when it is missing. WAL, synchronous=NORMAL, no
    /// automatic checkpoints, foreign keys on, our table there.
    pub(super) fn writer(path: &Path) -> Result<Self, EngineFault> {
        setup::writer(path)
    }
    /// Opens a file for reading only.
    pub(super) fn reader(path: &Path) -> Result<Self, EngineFault> {
        setup::reader(path)
    }
    /// A reader of a database that has nothing in it (in memory).
    pub(super) fn empty() -> Result<Self, EngineFault> {
        setup::empty()
    }
    /// For statements of ours that no tenant's text can coincide with: outside of entries and reads
    /// (inside them only what tenants may do), uncached.
    pub(super) fn sql(&self) -> &rusqlite::Connection {
        &self.conn
    }
    /// Runs a statement of ours (authorizer open, cached apart from tenants' statements).
    pub(super) fn ours(
        &self,
        sql: &'static str,
        params: &[&dyn rusqlite::ToSql],
    ) -> Result<usize, Failure> {
        let _open = self.shared.mode(Mode::Open);
        self.conn
            .prepare_cached(&self.text(sql))
            .and_then(|mut statement| statement.execute(params))
            .map_err(|error| self.failure(error))
    }
    /// The text of a statement of ours, with the token that no tenant knows.
    fn text(&self, sql: &'static str) -> Arc<str> {
        let mut texts = self.texts.borrow_mut();
        let text = texts.entry(sql);
        let text = text.or_insert_with(|| format!("/*{:032x}*/ {sql}", setup::token()).into());
        Arc::clone(text)
    }
    /// Prepares a tenant's statement (cached). Refuses more than one statement, and none.
    pub(super) fn prepare(&self, sql: &str) -> Result<rusqlite::CachedStatement<'_>, Failure> {
        let word = self.look_at(sql).map_err(Failure::Statement)?;
        // A statement compiled before the schema changed would be compiled again while it runs, on
        // account of the budget, and only where it was cached.
        if self.shared.schema_changed() {
            self.conn.flush_prepared_statement_cache();
        }
        let literal = self.weigh(sql)?;
        self.shared.prepare(word);
        self.shared.hold(literal);
        let _tenant = self.shared.mode(self.tenant);
        let statement = self.conn.prepare_cached(sql);
        self.shared.prepared();
        let statement = statement.map_err(|error| self.failure(error))?;
        // The budget counts from here, whether the statement ran before or not.
        statement.reset_status(StatementStatus::VmStep);
        Ok(statement)
    }
    /// The statement prepared last gets an argument of so many bytes.
    pub(super) fn hold(&self, bytes: usize) {
        self.shared.hold(bytes);
    }
    /// What can be said of a text before SQLite sees it.
    fn look_at(&self, sql: &str) -> Result<Word, SqlError> {
        if sql.len() > SQL_STATEMENT_MAX_BYTES {
            return Err(SqlError::new(
                SqlCode::PayloadTooLarge,
                format!(
                    "sql: {} bytes, a statement may have at most {SQL_STATEMENT_MAX_BYTES}",
                    sql.len()
                ),
            ));
        }
        if sql.contains('\0') {
            return Err(SqlError::invalid("sql: it holds a NUL character"));
        }
        let Some(word) = Word::first(sql) else {
            return Err(SqlError::invalid("sql: there is no statement in it"));
        };
        match word {
            Word::Vacuum => Err(SqlError::invalid(
                "VACUUM is not allowed: the node keeps the file itself",
            )),
            Word::Explain if self.tenant == Mode::Write => {
                let error = SqlError::invalid("EXPLAIN is not allowed in a write");
                Err(error.hinting(SqlHint::Query))
            }
            word => Ok(word),
        }
    }
    /// From here on statements run as one entry of the log: clock, random numbers and steps are its.
    /// Everything that a statement could see of earlier entries in the connection is reset.
    pub(super) fn begin_entry(&self, stamp: &Stamp, limits: &SqlLimits) -> Result<(), EngineFault> {
        let fault = |error| match self.failure(error) {
            Failure::Fault(fault) => fault,
            Failure::Statement(error) => EngineFault::Io(error.message),
        };
        raw::set_clock(Some(
            i64::try_from(stamp.clock.0 / 1000).unwrap_or(i64::MAX),
        ));
        raw::take_no_room();
        raw::take_failed_allocation();
        *self.scratch.borrow_mut() = raw::limit_scratch(SCRATCH_WRITE_MAX, UNDO_MAX);
        if self.unchecked.get() {
            self.enforce_foreign_keys(true)?;
        }
        if self.shared.take_schema_changed() {
            // What is in memory of the schema (statistics of dropped indexes, say) may differ from
            // what a connection has that opens the file now: both have to plan alike.
            self.conn.flush_prepared_statement_cache();
            self.conn
                .execute_batch("PRAGMA writable_schema=RESET")
                .map_err(fault)?;
            self.weighed.take();
        }
        if self.pages.get() != limits.pages {
            let pragma = format!("PRAGMA max_page_count={}", limits.pages.max(1));
            let set = self.conn.query_row(&pragma, [], |row| row.get::<_, i64>(0));
            set.map_err(fault)?;
            self.pages.set(limits.pages);
        }
        raw::set_last_insert_rowid(&self.conn, 0);
        self.generator.lock().seed(stamp.seed);
        self.changes.lock().clear();
        self.limit_programs(setup::INSTRUCTIONS_MAX)
            .map_err(fault)?;
        self.shared.begin_entry(limits.steps);
        Ok(())
    }
    fn limit_programs(&self, instructions: i32) -> rusqlite::Result<()> {
        let limit = Limit::SQLITE_LIMIT_VDBE_OP;
        self.conn.set_limit(limit, instructions).map(drop)
    }
    /// The entry ended; statements of ours run on the machine's clock and without a budget.
    pub(super) fn end_entry(&self) {
        self.shared.end();
        // What it says: that the connection is closed, which it is not.
        let _ = self.limit_programs(i32::MAX);
        raw::set_clock(None);
        *self.scratch.borrow_mut() = raw::limit_scratch(u64::MAX, u64::MAX);
    }
    /// Whether the entry's statements are held to foreign keys; `begin_entry` says yes. Comes before the
    /// entry's first statement. (The PRAGMA does nothing inside of a transaction, because violations may
    /// be counted by then. None are here: every entry ends with [`Self::settle_foreign_keys`].)
    pub(super) fn enforce_foreign_keys(&self, on: bool) -> Result<(), EngineFault> {
        self.conn
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, on)
            .map_err(|error| failure::opening(&error))?;
        // Whether keys are looked at is compiled in. What was compiled before would be compiled again
        // while it runs, on account of the budget, and only where it was cached.
        self.conn.flush_prepared_statement_cache();
        self.unchecked.set(!on);
        Ok(())
    }
    /// Ends what an entry began with `PRAGMA defer_foreign_keys`, and forgets the violations that SQLite has
    /// counted, after [`Self::verify_entry`] asked for them. SQLite does both at COMMIT only, and other entries
    /// may share the transaction. (Where rows are without their parent, which an entry without foreign
    /// keys can bring about, the count may even be below zero, which COMMIT would refuse.)
    pub(super) fn settle_foreign_keys(&self) -> Result<(), EngineFault> {
        let _open = self.shared.mode(Mode::Open);
        // It happens when the statement is compiled. Running it would make all others be compiled anew.
        self.conn
            .prepare("PRAGMA defer_foreign_keys=OFF")
            .map(drop)
            .map_err(|error| failure::opening(&error))
    }
    /// From here on statements are ended at the deadline, or when `cancelled`.
    pub(super) fn begin_read(&self, deadline: Instant, cancelled: Arc<AtomicBool>) {
        raw::set_clock(None);
        raw::take_no_room();
        raw::take_failed_allocation();
        *self.scratch.borrow_mut() = raw::limit_scratch_of_read(SCRATCH_READ_MAX);
        let _ = self.limit_programs(setup::INSTRUCTIONS_MAX);
        self.generator.lock().seed_from_entropy();
        self.shared.begin_read(deadline, cancelled);
    }
    pub(super) fn end_read(&self) {
        self.shared.end();
        let _ = self.limit_programs(i32::MAX);
        *self.scratch.borrow_mut() = raw::limit_scratch(u64::MAX, u64::MAX);
    }
    /// Runs (steps) a tenant's statement: only here an entry's steps are counted.
    pub(super) fn run_tenant<T>(&self, run: impl FnOnce() -> T) -> T {
        let _counting = self.shared.count();
        run()
    }
    /// To be asked after each statement of an entry that succeeded: whether it did something that the
    /// replicas could not all do alike after all.
    pub(super) fn verify_statement(&self) -> Result<(), Failure> {
        let changes = self.changes.lock();
        if let Some(error) = self.refused() {
            return Err(Failure::Statement(error));
        }
        if changes.lost {
            let what = "a changed row could not be read";
            return Err(Failure::Fault(EngineFault::Io(what.into())));
        }
        if changes.largest_rowid {
            return Err(Failure::Statement(failure::largest_rowid()));
        }
        Ok(())
    }
    /// To be asked before an entry's savepoint is released: foreign keys that are checked at the end of a
    /// transaction (the end of an entry; SQLite would ask at the end of the batch), and whether the
    /// schema refers to our table.
    pub(super) fn verify_entry(&self) -> Result<(), Failure> {
        self.verify_statement()?;
        if raw::foreign_keys_violated(&self.conn) {
            return Err(Failure::Statement(SqlError::new(
                SqlCode::ConstraintViolation,
                "FOREIGN KEY constraint failed",
            )));
        }
        if self.shared.schema_changed() && !self.schema_is_clean()? {
            return Err(Failure::Statement(SqlError::invalid(
                "names that begin with _orama_ are reserved, and so are columns like a:12, the names that SQLite makes up for equal ones: give each column a name of its own (AS)",
            )));
        }
        if self.shared.schema_changed() {
            self.weigh_schema()?;
        }
        Ok(())
    }
    /// Whether nothing but our table has a reserved name, no foreign key refers to one, and no
    /// column has a name that SQLite drew at random (from the sixth equal one of a CREATE TABLE … AS on).
    /// The authorizer is told of neither (a table's new name, a key's target).
    fn schema_is_clean(&self) -> Result<bool, Failure> {
        let _open = self.shared.mode(Mode::Open);
        let sql = "SELECT NOT EXISTS (
                SELECT 1 FROM main.sqlite_schema
                WHERE name LIKE '\\_orama\\_%' ESCAPE '\\' AND name <> '_orama_state'
                UNION ALL
                SELECT 1 FROM main.sqlite_schema AS s, pragma_foreign_key_list(s.name) AS f
                WHERE s.type = 'table' AND f.\"table\" LIKE '\\_orama\\_%' ESCAPE '\\'
                UNION ALL
                SELECT 1 FROM main.sqlite_schema AS s, pragma_table_info(s.name) AS c
                WHERE s.type = 'table' AND c.name GLOB '*:[0-9][0-9]*')";
        self.conn
            .prepare_cached(&self.text(sql))
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(|error| self.failure(error))
    }
    /// Takes the sum of row changes since it was last taken (see `effects`).
    pub(super) fn take_effects(&self) -> u128 {
        self.changes.lock().take()
    }
    /// A transaction was rolled back, with entries before the one that did it: what the connection
    /// remembers of their schema and statistics is loaded anew by the next entry.
    pub(super) fn rolled_back(&self) {
        self.shared.doubt_schema();
    }
    /// Whether SQLite has ended the transaction by itself (autocommit is on).
    pub(super) fn transaction_gone(&self) -> bool {
        self.conn.is_autocommit()
    }
}

//! SQL as it crosses boundaries: statements with their arguments, what they
//! answer, how fresh a read must be (CONTRACT 1.6, 1.7, 2.10).
//!
//! Rows travel as the JSON text that guests and clients get: they are encoded
//! once, where SQLite is, and copied from then on.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Namespace, RequestId, Timestamp};

/// The database of a namespace. A namespace that is deleted and made again has
/// another one: `born` is when the namespace was made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DatabaseId {
    /// Whose.
    pub namespace: Namespace,
    /// Which of the namespaces that had this name.
    pub born: Timestamp,
}

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.namespace, self.born.0)
    }
}

/// A bound argument.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub enum SqlValue {
    /// NULL.
    Null,
    /// INTEGER, exact to 64 bits.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// TEXT.
    Text(String),
    /// BLOB.
    Blob(#[serde(with = "serde_bytes")] Vec<u8>),
}

// A tenant's data does not belong into logs.
impl fmt::Debug for SqlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "Null",
            Self::Integer(_) => "Integer",
            Self::Real(_) => "Real",
            Self::Text(_) => "Text",
            Self::Blob(_) => "Blob",
        })
    }
}

/// What a statement is expected to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OpKind {
    /// Change something; may return rows (`RETURNING`).
    Exec,
    /// Read only. In a transaction it sees what earlier statements of it did.
    Query,
}

/// One statement.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct SqlOp {
    /// What it is expected to do.
    pub kind: OpKind,
    /// Exactly one statement.
    pub sql: String,
    /// Positional arguments: as many as it has parameters.
    pub args: Vec<SqlValue>,
}

impl fmt::Debug for SqlOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, args) = (self.sql.len(), self.args.len());
        write!(f, "{:?}({bytes} bytes, {args} arguments)", self.kind)
    }
}

/// Bounds of one transaction. They travel with it, so that every replica ends it at the same step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlLimits {
    /// Pages of 4096 bytes the database may have.
    pub pages: u32,
    /// Steps of SQLite's virtual machine that all its statements together may take.
    pub steps: u64,
}

/// One transaction: all of it happens, or nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SqlTransaction {
    /// Where.
    pub database: DatabaseId,
    /// The request that caused it.
    pub request_id: RequestId,
    /// Its bounds.
    pub limits: SqlLimits,
    /// What it does, in order.
    pub ops: Vec<SqlOp>,
}

/// What the leader adds to a transaction, so that it does the same on every replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The leader's clock: what `now` is to SQL.
    pub clock: Timestamp,
    /// Where `random()` begins.
    pub seed: [u8; 16],
}

/// Why a statement failed, by class (CONTRACT 1.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SqlCode {
    /// More statements than an op or a transaction may have.
    TooManyStatements,
    /// A statement, an argument or a result over its limit.
    PayloadTooLarge,
    /// Ran out of its time or its steps.
    DeadlineExceeded,
    /// Cannot be served now; after a write the message says whether it may have happened.
    Unavailable,
    /// UNIQUE, NOT NULL, CHECK, FOREIGN KEY and so on.
    ConstraintViolation,
    /// Not SQL, not allowed, wrong arguments.
    InvalidArgument,
    /// The database would grow over its quota.
    StorageQuotaExceeded,
    /// A fault of the node.
    Internal,
    /// `UNAVAILABLE` of a write that may or may not have happened.
    OutcomeUnknown,
    /// `UNAVAILABLE` of a read that demanded fresher data than can be had.
    Stale,
}

impl SqlCode {
    /// The code as it is written in envelopes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooManyStatements => "TOO_MANY_STATEMENTS",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Unavailable | Self::OutcomeUnknown | Self::Stale => "UNAVAILABLE",
            Self::ConstraintViolation => "CONSTRAINT_VIOLATION",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::StorageQuotaExceeded => "STORAGE_QUOTA_EXCEEDED",
            Self::Internal => "INTERNAL",
        }
    }
}

/// What to do instead of what was refused. Functions, HTTP and the command line have names of
/// their own for it, so each words it itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SqlHint {
    /// Send the statement as a write.
    Execute,
    /// Send it as a query.
    Query,
    /// Send the statements together, as a transaction.
    Transaction,
}

/// A statement that failed and changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// The class.
    pub code: SqlCode,
    /// For people. Never holds an argument's value.
    pub message: String,
    /// The way out, if there is one.
    pub hint: Option<SqlHint>,
}

impl SqlError {
    /// An error of a class.
    pub fn new(code: SqlCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }
    /// With the way out.
    pub fn hinting(mut self, hint: SqlHint) -> Self {
        self.hint = Some(hint);
        self
    }
    /// The message with the way out as `call` names it.
    pub fn worded(&self, call: impl FnOnce(SqlHint) -> &'static str) -> String {
        match self.hint {
            Some(hint) => format!("{}: use {}", self.message, call(hint)),
            None => self.message.clone(),
        }
    }
    /// `INVALID_ARGUMENT`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(SqlCode::InvalidArgument, message)
    }
}

/// Rows, encoded.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rows {
    /// The columns' names, in order, each once: a second `a` is `a:1`.
    pub columns: Vec<String>,
    /// A JSON array of objects, `[]` without rows.
    #[serde(with = "serde_bytes")]
    pub json: Vec<u8>,
    /// How many rows it has.
    pub count: u64,
    /// Whether there were more than may be answered.
    pub cut: bool,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rows({}, {} bytes)", self.count, self.json.len())
    }
}

/// What one statement of a transaction did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpDone {
    /// Its kind.
    pub kind: OpKind,
    /// Rows it inserted, changed or deleted itself (not by triggers).
    pub rows_affected: u64,
    /// Rowid of the last row the transaction inserted so far; 0 when none.
    pub last_insert_id: i64,
    /// Of a query, or of an exec that returns rows.
    pub rows: Option<Rows>,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SqlOutcome {
    /// Everything happened.
    Committed(Vec<OpDone>),
    /// Nothing happened.
    RolledBack {
        /// The statement that failed.
        failed: u32,
        /// Why.
        error: SqlError,
        /// What the ones before it had done.
        before: Vec<OpDone>,
    },
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadLevel {
    /// Whatever this replica has.
    None,
    /// What the node that takes itself for the leader has applied: may be stale
    /// for as long as a leader that was cut off does not know it.
    Weak,
    /// Everything that was acknowledged before the read began.
    #[default]
    #[serde(alias = "strong")]
    Linearizable,
}

/// How a read is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReadOptions {
    /// How fresh.
    pub level: ReadLevel,
    /// With `None`: refused when the replica has not heard from its leader for longer.
    pub freshness: Option<Duration>,
    /// With `freshness`: refused too while the replica has not applied all it has heard of.
    pub strict: bool,
    /// Index of a write that the read must see; 0 for none.
    pub at_least: u64,
}

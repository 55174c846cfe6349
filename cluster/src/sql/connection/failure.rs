//! Sorts SQLite's errors: the statement's own, equal on every replica, or the machine's.

use orama_proto::limits::SQL_VALUE_MAX_BYTES;
use orama_proto::sql::{SqlCode, SqlError};
use rusqlite::{Error, ffi};

use super::super::{EngineFault, raw};
use super::budget::Ended;
use super::setup::PATTERN_MAX;
use super::{Connection, Failure, HELD_READ_MAX, HELD_WRITE_MAX, Mode, PAGE_BYTES};

/// Bytes of a message; the rest is cut.
const MESSAGE_MAX_BYTES: usize = 1024;

impl Connection {
    /// Sorts an error of SQLite. Knows of the budget, the deadline and the full disk.
    pub(in super::super) fn failure(&self, error: Error) -> Failure {
        let (code, message) = match error {
            Error::SqliteFailure(error, message) => (
                error.extended_code,
                message.unwrap_or_else(|| error.to_string()),
            ),
            Error::SqlInputError { error, msg, .. } => (error.extended_code, msg),
            Error::MultipleStatement => {
                return Failure::Statement(SqlError::new(
                    SqlCode::TooManyStatements,
                    "sql: more than one statement; put each into an op of its own",
                ));
            }
            other => return Failure::Statement(SqlError::invalid(cut(other.to_string()))),
        };
        let no_room = raw::take_no_room();
        if code & 0xff == ffi::SQLITE_NOMEM
            && let Some(error) = self.refused()
        {
            return Failure::Statement(error);
        }
        if let Some(fault) = fault(code, &message, no_room, self.tenant) {
            return Failure::Fault(fault);
        }
        // What it did before it failed decides, whatever it failed of: it may have drawn numbers that
        // differ between replicas, and failed of those.
        if self.changes.lock().largest_rowid {
            return Failure::Statement(largest_rowid());
        }
        Failure::Statement(self.statement_error(code, message))
    }

    fn statement_error(&self, code: i32, message: String) -> SqlError {
        let (code, message) = match code & 0xff {
            ffi::SQLITE_AUTH | ffi::SQLITE_ERROR => match self.shared.take_denied() {
                Some(denied) => (SqlCode::InvalidArgument, denied),
                None => (SqlCode::InvalidArgument, without_values(message)),
            },
            ffi::SQLITE_CONSTRAINT => (SqlCode::ConstraintViolation, message),
            ffi::SQLITE_TOOBIG => (
                SqlCode::PayloadTooLarge,
                format!("a text, blob or row may have at most {SQL_VALUE_MAX_BYTES} bytes"),
            ),
            ffi::SQLITE_INTERRUPT => (SqlCode::DeadlineExceeded, self.interrupted()),
            ffi::SQLITE_FULL if self.scratch.borrow().exhausted() => (
                SqlCode::PayloadTooLarge,
                "sorting, joining or undoing this takes more memory than a statement may have"
                    .into(),
            ),
            ffi::SQLITE_FULL => (
                SqlCode::StorageQuotaExceeded,
                format!(
                    "the database is full: it may have {} bytes, or a table has no more row numbers",
                    u64::from(self.pages.get()) * PAGE_BYTES
                ),
            ),
            ffi::SQLITE_READONLY => (
                SqlCode::InvalidArgument,
                "this changes the database: use db_execute".into(),
            ),
            _ => (SqlCode::InvalidArgument, message),
        };
        SqlError::new(code, cut(message))
    }

    /// What the statement that ran last is told when our allocator refused it memory.
    pub(super) fn refused(&self) -> Option<SqlError> {
        match self.shared.ended() {
            Ended::Memory => Some(SqlError::new(
                SqlCode::PayloadTooLarge,
                format!(
                    "the statement holds more values over {} KiB at a time than fit into {} MiB",
                    raw::LARGE >> 10,
                    match self.tenant {
                        Mode::Read => HELD_READ_MAX,
                        _ => HELD_WRITE_MAX,
                    } >> 20
                ),
            )),
            Ended::Steps => Some(SqlError::new(SqlCode::DeadlineExceeded, self.interrupted())),
            _ => None,
        }
    }

    fn interrupted(&self) -> String {
        match self.shared.ended() {
            Ended::Steps => format!(
                "the transaction takes more than {} steps",
                self.shared.steps()
            ),
            Ended::Deadline => "the query takes longer than it may".into(),
            Ended::Cancelled => "the query was cancelled".into(),
            Ended::No | Ended::Memory => "interrupted".into(),
        }
    }
}

/// The fault that an extended code stands for, if it does.
fn fault(code: i32, message: &str, no_room: bool, tenant: Mode) -> Option<EngineFault> {
    let io = || Some(EngineFault::Io(cut(message.to_owned())));
    match code & 0xff {
        ffi::SQLITE_FULL | ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN if no_room => {
            Some(EngineFault::Full)
        }
        ffi::SQLITE_READONLY if tenant == Mode::Write => io(),
        ffi::SQLITE_IOERR
        | ffi::SQLITE_CANTOPEN
        | ffi::SQLITE_NOMEM
        | ffi::SQLITE_PROTOCOL
        | ffi::SQLITE_BUSY
        | ffi::SQLITE_PERM
        | ffi::SQLITE_NOLFS
        | ffi::SQLITE_SCHEMA => io(),
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => {
            Some(EngineFault::Damaged(cut(message.to_owned())))
        }
        _ => None,
    }
}

/// A failure to open or set up a connection: nobody's statement.
pub(super) fn opening(error: &Error) -> EngineFault {
    let message = error.to_string();
    let code = error
        .sqlite_error()
        .map_or(ffi::SQLITE_ERROR, |error| error.extended_code);
    fault(code, &message, raw::take_no_room(), Mode::Write).unwrap_or(EngineFault::Io(message))
}

pub(super) fn largest_rowid() -> SqlError {
    SqlError::invalid(format!(
        "row number {} is not allowed: the table's next one would be a different one on every replica",
        i64::MAX
    ))
}

/// SQLite's texts name tables, columns and pieces of the statement. This one quotes a value.
fn without_values(message: String) -> String {
    if message == "LIKE or GLOB pattern too complex" {
        return format!("a pattern of LIKE or GLOB may have at most {PATTERN_MAX} bytes");
    }
    for begins in ["bad JSON path", "JSON path error"] {
        if message.starts_with(begins) {
            return begins.to_owned();
        }
    }
    message
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_MAX_BYTES {
        let mut end = MESSAGE_MAX_BYTES - 3;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}

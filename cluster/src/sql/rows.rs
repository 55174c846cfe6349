//! Arguments into statements, rows out of them as JSON (CONTRACT 1.7).

use orama_proto::sql::{Rows, SqlError, SqlValue};
use rusqlite::Statement;

use super::connection::Failure;

/// How much may be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caps {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// Binds all arguments; there must be as many as the statement has parameters.
pub(super) fn bind(_statement: &mut Statement<'_>, _args: &[SqlValue]) -> Result<(), SqlError> {
    todo!()
}

/// Steps through a bound statement. With more rows than `caps` the answer is cut
/// (`Rows::cut`) and the rest not computed.
pub(super) fn collect(_statement: &mut Statement<'_>, _caps: Caps) -> Result<Rows, CollectError> {
    todo!()
}

/// An error of SQLite that `Connection::failure` has yet to sort, or one of ours.
pub(super) enum CollectError {
    Sqlite(rusqlite::Error),
    Sorted(Failure),
}

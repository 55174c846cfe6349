//! Functions of ours in the place of SQLite's: those whose answer would differ between replicas, and those
//! that may take time or memory out of all proportion to the one step that the budget counts.
//!
//! | Functions | Why |
//! |---|---|
//! | `random`, `randomblob` | from the entry's seed ([`random`]) |
//! | `instr`, `replace`, `trim`, `ltrim`, `rtrim`, `unhex(x, y)` | SQLite's are quadratic: minutes for two texts of a megabyte ([`text`]) |
//! | `json_patch`, `jsonb_patch` | quadratic in the members of both ([`json`]) |
//! | `json_pretty` | SQLite's builds gigabytes before it looks at the limit ([`json`]) |
//!
//! But for random numbers the answers are exactly SQLite's: tests compare them. All are as innocuous and
//! deterministic as those they replace: indexes, CHECKs and generated columns may use them.

mod json;
mod originals;
mod random;
#[cfg(test)]
mod tests;
mod text;
mod trim;

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Error, ToSql, ffi};

use self::originals::Originals;
pub(super) use self::random::{Generator, entropy};

/// Bytes of a value on every connection: a row's header and its other columns come on top of one value of
/// the size that is promised.
pub(super) const LENGTH_MAX: usize = orama_proto::limits::SQL_VALUE_MAX_BYTES + 4096;

/// Puts our functions in the place of SQLite's.
pub(super) fn install(
    sqlite: &Connection,
    generator: &Arc<Mutex<Generator>>,
) -> rusqlite::Result<()> {
    random::install(sqlite, generator)?;
    let originals = Arc::new(Originals::default());
    text::install(sqlite, &originals)?;
    json::install(sqlite, &originals)
}

/// What SQLite's own ones are flagged as.
const PURE: FunctionFlags = FunctionFlags::SQLITE_UTF8
    .union(FunctionFlags::SQLITE_DETERMINISTIC)
    .union(FunctionFlags::SQLITE_INNOCUOUS);

/// An answer. A TEXT may be any bytes, as in SQLite.
#[derive(Debug, PartialEq)]
enum Answer {
    Null,
    Integer(i64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl ToSql for Answer {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Integer(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text)),
            Self::Blob(blob) => ToSqlOutput::Borrowed(ValueRef::Blob(blob)),
        })
    }
}

fn too_big() -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_TOOBIG), None)
}

/// A statement's failure with a text for the tenant.
fn refused(message: impl Into<String>) -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ERROR), Some(message.into()))
}

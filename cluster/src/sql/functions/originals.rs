//! SQLite's own functions, for ours that look at the arguments first and then let SQLite do it: on a
//! connection of their own, in memory, opened when it is first needed.

use std::borrow::Cow;

use parking_lot::Mutex;
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql};

use super::super::raw;
use super::{Answer, LENGTH_MAX};

/// Lent to the functions of one connection, one call at a time.
#[derive(Debug, Default)]
pub(super) struct Originals(Mutex<Option<Connection>>);

/// A value of SQLite's, bound as it is.
struct Bound<'a>(ValueRef<'a>);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}

impl Originals {
    /// Runs `sql`, a SELECT of one value. Numbers with a fraction are not expected.
    pub(super) fn call(
        &self,
        sql: &'static str,
        args: &[ValueRef<'_>],
    ) -> rusqlite::Result<Answer> {
        let mut place = self.0.lock();
        let sqlite = match &mut *place {
            Some(sqlite) => sqlite,
            none => none.insert(open()?),
        };
        let mut statement = sqlite.prepare_cached(sql)?;
        let bound = args.iter().map(|arg| Bound(*arg));
        statement.query_row(rusqlite::params_from_iter(bound), |row| {
            Ok(match row.get_ref(0)? {
                ValueRef::Null | ValueRef::Real(_) => Answer::Null,
                ValueRef::Integer(number) => Answer::Integer(number),
                ValueRef::Text(text) => Answer::Text(text.to_vec()),
                ValueRef::Blob(blob) => Answer::Blob(blob.to_vec()),
            })
        })
    }

    /// A value's text as `sqlite3_value_text` gives it; `None` for NULL.
    pub(super) fn text<'a>(&self, value: ValueRef<'a>) -> rusqlite::Result<Option<Cow<'a, [u8]>>> {
        Ok(match value {
            ValueRef::Null => None,
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(Cow::Borrowed(bytes)),
            ValueRef::Integer(number) => Some(Cow::Owned(number.to_string().into_bytes())),
            ValueRef::Real(_) => match self.call("SELECT CAST(?1 AS TEXT)", &[value])? {
                Answer::Text(text) => Some(Cow::Owned(text)),
                _ => None,
            },
        })
    }
}

fn open() -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sqlite = Connection::open_with_flags_and_vfs(":memory:", flags, raw::VFS)?;
    let length = i32::try_from(LENGTH_MAX).unwrap_or(i32::MAX);
    sqlite.set_limit(Limit::SQLITE_LIMIT_LENGTH, length)?;
    sqlite.set_prepared_statement_cache_capacity(8);
    Ok(sqlite)
}

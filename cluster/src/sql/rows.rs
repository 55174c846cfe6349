//! Arguments into statements, rows out of them as JSON (CONTRACT 1.7).

mod json;

use std::collections::HashMap;

use orama_proto::limits::SQL_VALUE_MAX_BYTES;
use orama_proto::sql::{Rows, SqlCode, SqlError, SqlValue};
use rusqlite::types::ValueRef;
use rusqlite::{ErrorCode, Statement};

use super::connection::{Connection, Failure};
use super::raw;

/// How much may be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caps {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// Binds all arguments; there must be as many as the statement has parameters.
pub(super) fn bind(
    conn: &Connection,
    statement: &mut Statement<'_>,
    args: &[SqlValue],
) -> Result<(), Failure> {
    let wanted = statement.parameter_count();
    if wanted != args.len() {
        return Err(Failure::Statement(SqlError::invalid(format!(
            "the statement has {}, {} given",
            counted(wanted, "parameter"),
            match args.len() {
                1 => "1 argument was".to_owned(),
                n => format!("{n} arguments were"),
            }
        ))));
    }
    for (at, arg) in args.iter().enumerate() {
        let value = match arg {
            SqlValue::Null => ValueRef::Null,
            SqlValue::Integer(i) => ValueRef::Integer(*i),
            SqlValue::Real(r) => ValueRef::Real(*r),
            SqlValue::Text(text) => ValueRef::Text(text.as_bytes()),
            SqlValue::Blob(blob) => ValueRef::Blob(blob),
        };
        if let Err(error) = statement.raw_bind_parameter(at + 1, Bound(value)) {
            if error.sqlite_error_code() == Some(ErrorCode::TooBig) {
                return Err(Failure::Statement(SqlError::new(
                    SqlCode::PayloadTooLarge,
                    format!(
                        "argument {} is over the limit of {SQL_VALUE_MAX_BYTES} bytes",
                        at + 1
                    ),
                )));
            }
            return Err(conn.failure(error));
        }
    }
    Ok(())
}

fn counted(n: usize, what: &str) -> String {
    match n {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// A borrowed value as rusqlite wants it.
struct Bound<'a>(ValueRef<'a>);

impl rusqlite::ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(rusqlite::types::ToSqlOutput::Borrowed(self.0))
    }
}

/// Steps through a bound statement. With more rows than `caps` the answer is cut
/// (`Rows::cut`) and the rest not computed.
pub(super) fn collect(statement: &mut Statement<'_>, caps: Caps) -> rusqlite::Result<Rows> {
    let mut answer = Rows {
        json: b"[".to_vec(),
        ..Rows::default()
    };
    let mut keys = None;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        if answer.count as usize >= caps.rows {
            answer.cut = true;
            break;
        }
        // Only now: before its first step a cached statement may have the columns of an older schema.
        let keys = keys.get_or_insert_with(|| {
            answer.columns = unique(row.as_ref());
            json::Keys::new(&answer.columns)
        });
        let before = answer.json.len();
        if before > 1 {
            answer.json.push(b',');
        }
        // A text without an end mark is copied to get one, and rusqlite does not expect that to fail.
        // There are no more of them than the answer has room for.
        if !raw::uncounted(|| keys.row(row, &mut answer.json, caps.bytes))? {
            answer.json.truncate(before);
            answer.cut = true;
            break;
        }
        answer.count += 1;
    }
    drop(rows);
    answer.json.push(b']');
    if keys.is_none() {
        answer.columns = unique(statement);
    }
    Ok(answer)
}

/// The columns' names; of equal ones the later get numbers.
fn unique(statement: &Statement<'_>) -> Vec<String> {
    let mut names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    if names.len() < 2 {
        return names;
    }
    // A name as it stands goes before one that we make.
    let mut taken: HashMap<String, usize> = HashMap::with_capacity(names.len());
    let mut again = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if taken.insert(name.clone(), 0).is_some() {
            again.push(at);
        }
    }
    for at in again {
        let Some(name) = names.get_mut(at) else {
            continue;
        };
        let mut number = taken.get(name).copied().unwrap_or(0);
        let made = loop {
            number += 1;
            let made = format!("{name}:{number}");
            if !taken.contains_key(&made) {
                break made;
            }
        };
        taken.insert(name.clone(), number);
        taken.insert(made.clone(), 0);
        *name = made;
    }
    names
}

#[cfg(test)]
mod tests;

//! One row as an INSERT.

use std::fmt::Write;

use orama_proto::sql::SqlValue;
use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::schema::Table;
use super::{DumpError, DumpStatement};

/// What stands in an INSERT for a column.
pub(super) enum Cell {
    /// An argument.
    Exact(SqlValue),
    /// The bytes of a text that no literal and no argument of JSON has.
    Bytes(Vec<u8>),
    /// SQL, without arguments and quotes.
    Written(String),
}

impl Cell {
    /// Bytes of its text, about.
    pub(super) fn written_bytes(&self) -> usize {
        match self {
            Self::Exact(SqlValue::Null | SqlValue::Integer(_) | SqlValue::Real(_)) => 32,
            Self::Exact(SqlValue::Text(text)) => {
                text.len() + text.bytes().filter(|b| *b == b'\'').count() + 2
            }
            Self::Exact(SqlValue::Blob(bytes)) => 2 * bytes.len() + 3,
            Self::Bytes(bytes) => 2 * bytes.len() + "CAST(X'' AS TEXT)".len(),
            Self::Written(sql) => sql.len(),
        }
    }

    /// Its bytes, if it may be long, and what they are.
    pub(super) fn bytes(&self) -> Option<(&[u8], &'static str)> {
        match self {
            Self::Exact(SqlValue::Text(text)) => Some((text.as_bytes(), "TEXT")),
            Self::Exact(SqlValue::Blob(bytes)) => Some((bytes, "BLOB")),
            Self::Bytes(bytes) => Some((bytes, "TEXT")),
            _ => None,
        }
    }
}

/// The query for a table's rows, and the beginning of the statement that inserts one.
pub(super) fn statements(table: &Table) -> (String, String) {
    let columns = table.columns.iter().map(|name| quoted(name));
    let columns: Vec<String> = table
        .rowid
        .map(str::to_owned)
        .into_iter()
        .chain(columns)
        .collect();
    let columns = columns.join(", ");
    let name = quoted(&table.name);
    (
        // NOT INDEXED: in the order of the table itself.
        format!("SELECT {columns} FROM {name} NOT INDEXED"),
        format!("INSERT INTO {name}({columns}) VALUES("),
    )
}

pub(super) fn cells(row: &Row<'_>, columns: usize) -> Result<Vec<Cell>, DumpError> {
    let cell = |column| {
        Ok(match row.get_ref(column)? {
            ValueRef::Null => Cell::Exact(SqlValue::Null),
            ValueRef::Integer(i) => Cell::Exact(SqlValue::Integer(i)),
            // No argument has them.
            ValueRef::Real(r) if !r.is_finite() => {
                let mut sql = String::new();
                literal(&mut sql, &SqlValue::Real(r));
                Cell::Written(sql)
            }
            ValueRef::Real(r) => Cell::Exact(SqlValue::Real(r)),
            ValueRef::Blob(blob) => Cell::Exact(SqlValue::Blob(blob.to_vec())),
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) if !text.contains('\0') => Cell::Exact(SqlValue::Text(text.to_owned())),
                // SQLite stores any bytes as text.
                _ => Cell::Bytes(text.to_vec()),
            },
        })
    };
    (0..columns).map(cell).collect()
}

pub(super) fn insert(beginning: &str, cells: Vec<Cell>) -> DumpStatement {
    let mut sql = String::with_capacity(beginning.len() + 2 * cells.len());
    sql.push_str(beginning);
    let mut args = Vec::with_capacity(cells.len());
    for (column, cell) in cells.into_iter().enumerate() {
        if column > 0 {
            sql.push(',');
        }
        match cell {
            Cell::Exact(value) => {
                sql.push('?');
                args.push(value);
            }
            Cell::Bytes(bytes) => {
                sql.push_str("CAST(? AS TEXT)");
                args.push(SqlValue::Blob(bytes));
            }
            Cell::Written(text) => sql.push_str(&text),
        }
    }
    sql.push(')');
    DumpStatement { sql, args }
}

/// A name as it can stand in any statement.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Replaces every `?` outside of quotes by its argument.
pub(super) fn written_out(sql: &str, args: &[SqlValue]) -> String {
    if args.is_empty() {
        return sql.to_owned();
    }
    let mut out = String::with_capacity(sql.len() + 16 * args.len());
    let mut args = args.iter();
    let mut in_name = false;
    for c in sql.chars() {
        match c {
            '"' => in_name = !in_name,
            '?' if !in_name => {
                if let Some(arg) = args.next() {
                    literal(&mut out, arg);
                    continue;
                }
            }
            _ => {}
        }
        out.push(c);
    }
    out
}

fn literal(out: &mut String, value: &SqlValue) {
    // Writing into a String does not fail.
    let _ = match value {
        SqlValue::Null => write!(out, "NULL"),
        // The literal without its sign would not fit.
        SqlValue::Integer(i64::MIN) => write!(out, "(-9223372036854775807-1)"),
        SqlValue::Integer(i) => write!(out, "{i}"),
        SqlValue::Real(r) if r.is_nan() => write!(out, "NULL"),
        SqlValue::Real(r) if r.is_finite() => write!(out, "{r:?}"),
        SqlValue::Real(r) => write!(out, "{}9e999", if *r < 0.0 { "-" } else { "" }),
        SqlValue::Text(text) => write!(out, "'{}'", text.replace('\'', "''")),
        SqlValue::Blob(bytes) => {
            out.push_str("X'");
            for byte in bytes {
                let _ = write!(out, "{byte:02X}");
            }
            write!(out, "'")
        }
    };
}

//! One row as an INSERT.

use std::fmt::Write;

use orama_proto::sql::SqlValue;
use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::schema::Table;
use super::{DumpError, DumpStatement};

/// The query for a table's rows, and the beginning of the statement that inserts one.
pub(super) fn statements(table: &Table) -> (String, String) {
    let columns: Vec<String> = table.columns.iter().map(|name| quoted(name)).collect();
    let columns = columns.join(", ");
    let name = quoted(&table.name);
    (
        // NOT INDEXED: in the order of the table itself.
        format!("SELECT {columns} FROM {name} NOT INDEXED"),
        format!("INSERT INTO {name}({columns}) VALUES("),
    )
}

pub(super) fn insert(
    beginning: &str,
    row: &Row<'_>,
    columns: usize,
) -> Result<DumpStatement, DumpError> {
    let mut sql = String::with_capacity(beginning.len() + 2 * columns);
    sql.push_str(beginning);
    let mut args = Vec::with_capacity(columns);
    for column in 0..columns {
        if column > 0 {
            sql.push(',');
        }
        let (arg, exact) = match row.get_ref(column)? {
            ValueRef::Null => (SqlValue::Null, true),
            ValueRef::Integer(i) => (SqlValue::Integer(i), true),
            ValueRef::Real(r) => (SqlValue::Real(r), true),
            ValueRef::Blob(blob) => (SqlValue::Blob(blob.to_vec()), true),
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) if !text.contains('\0') => (SqlValue::Text(text.to_owned()), true),
                // SQLite stores any bytes as text, but no literal and no argument has them.
                _ => (SqlValue::Blob(text.to_vec()), false),
            },
        };
        sql.push_str(if exact { "?" } else { "CAST(? AS TEXT)" });
        args.push(arg);
    }
    sql.push(')');
    Ok(DumpStatement { sql, args })
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

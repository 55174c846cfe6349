//! SQL out of structured requests (`find`, `find-one`, `select`).
//!
//! Names of tables and columns in criteria are quoted, values are bound. What
//! upstream takes as SQL (`select`, `on`, `expr`, `group_by`, `order_by`) is the
//! tenant's own and goes in as it is: the database guards itself, and each piece
//! ends with its line, so that a comment in one swallows no other.

use std::fmt::Write;

use orama_actors::sql::parse_args;
use orama_cluster::SqlQuery;
use orama_proto::ApiError;
use orama_proto::limits::SQL_PARAMETERS_MAX;
use orama_proto::sql::SqlValue;
use serde_json::value::RawValue;

use super::bodies::{Criteria, Join, Where};
use super::refused;

/// What is selected.
#[derive(Debug, Default)]
pub(super) struct Select<'a> {
    /// `users`, `users u` or `users AS u`; anything else is a name as a whole.
    pub(super) table: &'a str,
    /// Another name for it.
    pub(super) alias: Option<&'a str>,
    /// SQL of the columns; all of them when empty.
    pub(super) columns: &'a [String],
    /// Tables joined to it.
    pub(super) joins: &'a [Join],
    /// Columns and the values they must have.
    pub(super) criteria: Option<&'a Criteria<'a>>,
    /// Conditions in SQL.
    pub(super) wheres: &'a [Where<'a>],
    /// SQL.
    pub(super) group_by: &'a [String],
    /// SQL.
    pub(super) order_by: &'a [String],
    /// Rows at most; below 0 it is no limit.
    pub(super) limit: Option<i64>,
    /// Rows left out.
    pub(super) offset: Option<i64>,
    /// Only the first row is wanted.
    pub(super) one: bool,
}

impl Select<'_> {
    /// The statement and its arguments.
    ///
    /// # Errors
    /// 400 that names the field.
    pub(super) fn build(&self) -> Result<SqlQuery, ApiError> {
        let table = Table::parse(self.table, self.alias, "table")?;
        let mut sql = String::from("SELECT ");
        match list(self.columns, "select")? {
            None => sql.push('*'),
            Some(columns) => sql.push_str(&columns),
        }
        push(&mut sql, format_args!("\nFROM {}", table.sql()?));
        for (index, join) in self.joins.iter().enumerate() {
            push_join(&mut sql, join, &format!("joins[{index}]"))?;
        }
        let mut args = Vec::new();
        self.push_conditions(&mut sql, &mut args, &table)?;
        if let Some(group_by) = list(self.group_by, "group_by")? {
            push(&mut sql, format_args!("\nGROUP BY {group_by}"));
        }
        if let Some(order_by) = list(self.order_by, "order_by")? {
            push(&mut sql, format_args!("\nORDER BY {order_by}"));
        }
        let limit = match self.limit {
            Some(limit) if !self.one || (0..=1).contains(&limit) => Some(limit),
            _ if self.one => Some(1),
            // There is no OFFSET without a LIMIT.
            _ => self.offset.map(|_| -1),
        };
        if let Some(limit) = limit {
            push(&mut sql, format_args!("\nLIMIT {limit}"));
        }
        if let Some(offset) = self.offset {
            push(&mut sql, format_args!(" OFFSET {offset}"));
        }
        Ok(SqlQuery { sql, args })
    }

    fn push_conditions(
        &self,
        sql: &mut String,
        args: &mut Vec<SqlValue>,
        table: &Table<'_>,
    ) -> Result<(), ApiError> {
        let criteria = self.criteria.map_or(&[][..], |c| &c.0);
        let mut all = Vec::new();
        for (key, value) in criteria {
            let column = table.column(key)?;
            match value_of(value, &format!("criteria.{key}"))? {
                SqlValue::Null => all.push(format!("{column} IS NULL")),
                value => {
                    all.push(format!("{column} = ?"));
                    args.push(value);
                }
            }
        }
        let criteria = all.join(" AND ");
        let mut wheres = String::new();
        for (index, one) in self.wheres.iter().enumerate() {
            let path = format!("where[{index}]");
            let and = match one.conj.as_deref().unwrap_or("").trim() {
                "" => "AND",
                conj if conj.eq_ignore_ascii_case("AND") => "AND",
                conj if conj.eq_ignore_ascii_case("OR") => "OR",
                _ => {
                    return Err(ApiError::validation(format!(
                        "{path}.conj: must be \"AND\" or \"OR\""
                    )));
                }
            };
            if index > 0 {
                push(&mut wheres, format_args!(" {and} "));
            }
            let expr = given(&one.expr, &format!("{path}.expr"))?;
            push(&mut wheres, format_args!("({expr}\n)"));
            if let Some(given) = one.args {
                args.extend(args_of(given, &format!("{path}.args"))?);
            }
        }
        let conditions = match (criteria.is_empty(), wheres.is_empty()) {
            (true, true) => return Ok(()),
            (false, true) => criteria,
            (true, false) => wheres,
            (false, false) => format!("({criteria}) AND ({wheres})"),
        };
        push(sql, format_args!("\nWHERE {conditions}"));
        if args.len() > SQL_PARAMETERS_MAX {
            return Err(ApiError::validation(format!(
                "criteria and where have {} values together, the limit is {SQL_PARAMETERS_MAX}",
                args.len()
            )));
        }
        Ok(())
    }
}

fn push(sql: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a string does not fail.
    let _ = sql.write_fmt(text);
}

fn push_join(sql: &mut String, join: &Join, path: &str) -> Result<(), ApiError> {
    let kind = join.kind.as_deref().unwrap_or("").trim();
    let kind = kind.to_ascii_uppercase();
    let words: Vec<&str> = kind.split_whitespace().collect();
    let kind = match words.as_slice() {
        [] | ["JOIN"] | ["INNER"] | ["INNER", "JOIN"] => "JOIN",
        ["LEFT"] | ["LEFT", "JOIN"] | ["LEFT", "OUTER"] | ["LEFT", "OUTER", "JOIN"] => "LEFT JOIN",
        ["RIGHT"] | ["RIGHT", "JOIN"] | ["RIGHT", "OUTER"] | ["RIGHT", "OUTER", "JOIN"] => {
            "RIGHT JOIN"
        }
        ["FULL"] | ["FULL", "JOIN"] | ["FULL", "OUTER"] | ["FULL", "OUTER", "JOIN"] => "FULL JOIN",
        ["CROSS"] | ["CROSS", "JOIN"] => "CROSS JOIN",
        _ => {
            return Err(ApiError::validation(format!(
                "{path}.kind: must be \"INNER\", \"LEFT\", \"RIGHT\", \"FULL\" or \"CROSS\""
            )));
        }
    };
    let table = Table::parse(&join.table, None, &format!("{path}.table"))?;
    push(sql, format_args!("\n{kind} {}", table.sql()?));
    match join.on.as_deref().map(str::trim) {
        None | Some("") if kind == "CROSS JOIN" => {}
        on => {
            let on = given(on.unwrap_or(""), &format!("{path}.on"))?;
            push(sql, format_args!(" ON ({on}\n)"));
        }
    }
    Ok(())
}

/// A table and what it is called in the statement.
struct Table<'a> {
    name: &'a str,
    alias: Option<&'a str>,
    /// The field it comes from.
    field: String,
}

impl<'a> Table<'a> {
    fn parse(text: &'a str, alias: Option<&'a str>, field: &str) -> Result<Self, ApiError> {
        let alias = alias.map(str::trim).filter(|alias| !alias.is_empty());
        let text = given(text, field)?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let (name, alias) = match (words.as_slice(), alias) {
            ([name, other], None) if plain(name) && plain(other) => (*name, Some(*other)),
            ([name, word, other], None)
                if plain(name) && word.eq_ignore_ascii_case("AS") && plain(other) =>
            {
                (*name, Some(*other))
            }
            _ => (text, alias),
        };
        Ok(Self {
            name,
            alias,
            field: field.to_owned(),
        })
    }

    fn sql(&self) -> Result<String, ApiError> {
        let name = quoted(self.name, &self.field)?;
        match self.alias {
            None => Ok(name),
            Some(alias) => Ok(format!("{name} AS {}", quoted(alias, "alias")?)),
        }
    }

    /// A column of it, or of another table that the key names: `t.c`. Always with
    /// its table: alone, a quoted name of no column would be a text to SQLite.
    fn column(&self, key: &str) -> Result<String, ApiError> {
        let (table, column) = match key.split_once('.') {
            Some((table, column)) => (table.trim(), column.trim()),
            None => (self.alias.unwrap_or(self.name), key.trim()),
        };
        if table.is_empty() || column.is_empty() {
            return Err(ApiError::validation(format!(
                "criteria: {key:?} is no column's name"
            )));
        }
        let table = quoted(table, "criteria")?;
        Ok(format!("{table}.{}", quoted(column, "criteria")?))
    }
}

/// Whether SQL can hold it as a name without quotes.
fn plain(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next();
    first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A name as an identifier of SQL, whatever it holds.
///
/// # Errors
/// 400 for a NUL, at which SQLite would take the statement to end.
pub(super) fn quoted(name: &str, field: &str) -> Result<String, ApiError> {
    if name.contains('\0') {
        return Err(ApiError::validation(format!(
            "{field}: a name cannot hold a NUL character"
        )));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// Text that must be there.
pub(super) fn given<'a>(text: &'a str, field: &str) -> Result<&'a str, ApiError> {
    match text.trim() {
        "" => Err(ApiError::validation(format!("{field}: is required"))),
        text if text.contains('\0') => Err(ApiError::validation(format!(
            "{field}: SQL cannot hold a NUL character"
        ))),
        text => Ok(text),
    }
}

/// Pieces of SQL with commas between them; none when there are none.
fn list(items: &[String], field: &str) -> Result<Option<String>, ApiError> {
    let mut all = String::new();
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            all.push_str(", ");
        }
        all.push_str(given(item, &format!("{field}[{index}]"))?);
        all.push('\n');
    }
    Ok(Some(all).filter(|all| !all.is_empty()))
}

/// An array of arguments; errors name `path`.
pub(super) fn args_of(args: &RawValue, path: &str) -> Result<Vec<SqlValue>, ApiError> {
    parse_args(args.get().as_bytes()).map_err(|mut error| {
        error.message = error.message.replacen("args", path, 1);
        refused(error)
    })
}

/// One value; errors name `path`.
fn value_of(value: &RawValue, path: &str) -> Result<SqlValue, ApiError> {
    let array = format!("[{}]", value.get());
    let parsed = parse_args(array.as_bytes()).map_err(|mut error| {
        error.message = error.message.replacen("args[0]", path, 1);
        refused(error)
    })?;
    Ok(parsed.into_iter().next().unwrap_or(SqlValue::Null))
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;

//! A database file as SQL text, for export and import of files that are not ours to serve.
//!
//! The file comes from anywhere: it is opened read-only, checked first, nothing in it is
//! run (no view, no trigger, no generated column), and what it says its schema is goes on only if
//! it is one statement.

mod lines;
mod literals;
mod pieces;
mod row;
mod schema;
mod split;

use std::path::Path;

use orama_proto::sql::{OpKind, SqlOp, SqlValue};
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

pub use self::lines::{SqlLines, SqlStatement, SqlTooLong};
pub use self::literals::with_arguments;
use self::pieces::Pieces;
use self::schema::{Schema, Table};
pub(super) use self::split::first_word;
pub use self::split::{SqlPiece, split_sql, sql_pieces, turns_foreign_keys_off};
use super::raw;

/// A file that cannot be dumped.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// SQLite says why.
    #[error("{0}")]
    File(String),
    /// Something in it that SQL text or our databases cannot have.
    #[error("{0}")]
    Unsupported(String),
}

impl From<rusqlite::Error> for DumpError {
    fn from(error: rusqlite::Error) -> Self {
        Self::File(error.to_string())
    }
}

/// One statement that makes a part of the database again.
#[derive(Debug, Clone, PartialEq)]
pub struct DumpStatement {
    /// The statement, with a `?` for every argument.
    sql: String,
    args: Vec<SqlValue>,
}

impl DumpStatement {
    /// As an op of a transaction: values are arguments.
    pub fn into_op(self) -> SqlOp {
        SqlOp {
            kind: OpKind::Exec,
            sql: self.sql,
            args: self.args,
        }
    }

    /// Its arguments.
    pub fn args(&self) -> &[SqlValue] {
        &self.args
    }

    /// As text, values written out; without a semicolon, which may follow directly. No longer than a
    /// statement may be, but for one of a schema that is.
    pub fn to_sql(&self) -> String {
        let mut text = row::written_out(&self.sql, &self.args);
        text.push_str(split::end_of_comment(&self.sql));
        text
    }
}

/// Statements that make a database again.
pub struct Dump {
    conn: Connection,
    schema: Schema,
}

impl Dump {
    /// Opens and checks any SQLite file. Blocks for as long as reading all of it takes.
    ///
    /// Refused are damaged files and ones with virtual tables (they are named). Tables of
    /// ours and SQLite's own are left out.
    pub fn open(path: &Path) -> Result<Self, DumpError> {
        // Before the process opens its first file, wherever that is.
        raw::register().map_err(|fault| DumpError::File(fault.to_string()))?;
        let conn = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
        conn.execute_batch(
            "PRAGMA query_only = ON; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;
             PRAGMA ignore_check_constraints = ON",
        )?;
        conn.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        conn.set_limit(Limit::SQLITE_LIMIT_WORKER_THREADS, 0)?;
        conn.busy_timeout(std::time::Duration::from_secs(5))?;
        // One moment for everything that follows.
        conn.execute_batch("BEGIN")?;
        let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Err(DumpError::File(format!("the file is damaged: {found}")));
        }
        let schema = Schema::read(&conn)?;
        Ok(Self { conn, schema })
    }

    /// Hands over the statements, in an order in which they can be run one after the other: tables (those
    /// that others refer to first) and indexes, rows, counters of AUTOINCREMENT, views, triggers, the
    /// numbers of the header. Indexes come before the rows: to sort all keys of a large table at once
    /// takes more than a transaction may.
    ///
    /// No order serves foreign keys between rows that refer to each other, or to later rows of their own table:
    /// whoever runs the statements does not enforce them (see [`turns_foreign_keys_off`]).
    ///
    /// A row too long for a statement goes in pieces through a table that is made and dropped for it.
    ///
    /// # Errors
    /// What the file answers, and whatever `take` answers: then nothing more is read.
    pub fn each<E: From<DumpError>>(
        &self,
        mut take: impl FnMut(DumpStatement) -> Result<(), E>,
    ) -> Result<(), E> {
        let schema = &self.schema;
        for table in &schema.tables {
            take(plain(table.sql.clone()))?;
        }
        for sql in &schema.indexes {
            take(plain(sql.clone()))?;
        }
        let mut pieces = Pieces::beside(&schema.names);
        for table in &schema.tables {
            self.rows(table, &mut pieces, &mut take)?;
        }
        pieces.end(&mut take)?;
        for table in schema.tables.iter().filter(|table| table.autoincrement) {
            // The rows have set it to the largest rowid that is there now.
            take(DumpStatement {
                sql: "DELETE FROM sqlite_sequence WHERE name = ?".to_owned(),
                args: vec![SqlValue::Text(table.name.clone())],
            })?;
            if let Some(counter) = &table.counter {
                take(DumpStatement {
                    sql: "INSERT INTO sqlite_sequence(name, seq) VALUES(?, ?)".to_owned(),
                    args: vec![SqlValue::Text(table.name.clone()), counter.clone()],
                })?;
            }
        }
        for sql in schema.views.iter().chain(&schema.triggers) {
            take(plain(sql.clone()))?;
        }
        for (pragma, number) in &schema.numbers {
            if *number != 0 {
                take(plain(format!("PRAGMA {pragma}={number}")))?;
            }
        }
        Ok(())
    }

    fn rows<E: From<DumpError>>(
        &self,
        table: &Table,
        pieces: &mut Pieces,
        take: &mut impl FnMut(DumpStatement) -> Result<(), E>,
    ) -> Result<(), E> {
        let file = |e: rusqlite::Error| DumpError::from(e);
        let (select, insert) = row::statements(table);
        let mut statement = self.conn.prepare(&select).map_err(file)?;
        let columns = statement.column_count();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(file)? {
            let mut cells = row::cells(row, columns)?;
            let in_pieces = pieces.take_long(&table.name, &insert, &mut cells, take)?;
            take(row::insert(&insert, cells))?;
            if in_pieces {
                pieces.clear(take)?;
            }
        }
        Ok(())
    }
}

fn plain(sql: String) -> DumpStatement {
    DumpStatement {
        sql,
        args: Vec::new(),
    }
}

#[cfg(test)]
mod tests;

//! The file that is imported: what it is, the statements it comes to, and what of it
//! no database here takes. All of that is found out before anything is sent.

use std::io::Read;
use std::path::Path;

use orama_cluster::{
    Dump, DumpError, SqlPiece, sql_pieces, turns_foreign_keys_off, with_arguments,
};
use orama_proto::limits::{SQL_PARAMETERS_MAX, SQL_REQUEST_MAX_BYTES, SQL_STATEMENT_MAX_BYTES};
use orama_proto::sql::{OpKind, SqlOp, SqlValue};
use tokio::sync::mpsc;

use super::batch::{BATCH_MAX_JSON_BYTES, Batch, Keys, Place, encoded};
use crate::cli::error::CliError;
use crate::cli::prompt::file_bytes;

/// Largest file of SQL: it is read as a whole.
const SQL_FILE_MAX_BYTES: usize = 1 << 30;
/// What every SQLite file begins with, unless it is encrypted.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Statements that no transaction takes, by their first word.
const REFUSED: [&str; 6] = [
    "attach",
    "detach",
    "vacuum",
    "savepoint",
    "release",
    "rollback",
];

/// What a file holds, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli::db) enum Kind {
    /// Statements.
    Sql,
    /// An SQLite file.
    Database,
}

impl Kind {
    /// By the ending.
    ///
    /// # Errors
    /// For another ending.
    pub(in crate::cli::db) fn of(file: &Path) -> Result<Self, CliError> {
        let ending = file.extension().and_then(|e| e.to_str()).unwrap_or("");
        match ending.to_ascii_lowercase().as_str() {
            "sql" => Ok(Self::Sql),
            "db" | "sqlite" | "sqlite3" => Ok(Self::Database),
            _ => Err(CliError::Usage(format!(
                "{}: the name must end in .sql, .db, .sqlite or .sqlite3",
                file.display()
            ))),
        }
    }
}

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error("{0}")]
    Dump(#[from] DumpError),
    /// A statement that cannot be imported.
    #[error("{0}: {1}")]
    Refused(Place, String),
    /// Whoever takes the transactions has gone, and says why.
    #[error("the import has ended")]
    Closed,
}

/// What there is to import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) statements: usize,
    /// Statements that are left out: the frame of a dump.
    pub(super) framed: usize,
}

/// An open file.
pub(super) enum Source {
    Sql(String),
    /// As it was at the moment it was opened, whatever is written to it meanwhile.
    Database(Box<Dump>),
}

impl Source {
    /// Opens a file. Blocks for as long as reading all of it takes.
    ///
    /// # Errors
    /// It cannot be read, or is not what its name says.
    pub(super) fn open(file: &Path) -> Result<Self, CliError> {
        let kind = Kind::of(file)?;
        let meta = std::fs::metadata(file).map_err(CliError::file("cannot read", file))?;
        let refused = |why: String| Err(CliError::Failed(format!("{}: {why}", file.display())));
        if meta.is_dir() {
            return refused("it is a directory".into());
        }
        let mut head = Vec::new();
        // Opening what is no file, such as a pipe, would take its beginning away.
        if meta.is_file() {
            std::fs::File::open(file)
                .and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut head))
                .map_err(CliError::file("cannot read", file))?;
        }
        match kind {
            Kind::Sql if head == MAGIC => {
                refused("it is an SQLite database; give it a name that ends in .db".into())
            }
            Kind::Sql => {
                let bytes = file_bytes(file, SQL_FILE_MAX_BYTES)?;
                match String::from_utf8(bytes) {
                    Ok(text) => Ok(Self::Sql(text)),
                    Err(e) => {
                        let at = e.utf8_error().valid_up_to();
                        let before = e.as_bytes().get(..at).unwrap_or_default();
                        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
                        refused(format!("not UTF-8 in line {line}, at byte {at}"))
                    }
                }
            }
            Kind::Database if head.is_empty() => {
                refused("it is empty; an SQLite database has a header".into())
            }
            Kind::Database if head != MAGIC => refused(
                "it is not an SQLite database, or it is encrypted; SQL text needs a name that ends in .sql"
                    .into(),
            ),
            Kind::Database => match Dump::open(file) {
                Ok(dump) => Ok(Self::Database(Box::new(dump))),
                Err(error) => refused(error.to_string()),
            },
        }
    }

    /// Looks at all of it.
    ///
    /// # Errors
    /// Something that cannot be imported.
    pub(super) fn check(&self) -> Result<Found, Stop> {
        let mut statements = 0;
        let framed = self.each(|place, op, _| {
            statements = place.number;
            checked(place, &op).map(drop)
        })?;
        Ok(Found { statements, framed })
    }

    /// Hands over its statements in transactions, from this one on. A database has its rows in no
    /// order that foreign keys would allow; SQL says itself whether they are to be enforced.
    ///
    /// # Errors
    /// It cannot be read, or nobody takes them.
    pub(super) fn read(&self, from: usize, to: &mpsc::Sender<Batch>) -> Result<(), Stop> {
        let mut batch = Batch::new(Keys::Enforced);
        self.each(|place, op, keys| {
            if place.number < from {
                return Ok(());
            }
            let (json, bytes) = checked(place, &op)?;
            if batch.keys != keys || !batch.takes(&json, bytes) {
                to.blocking_send(std::mem::replace(&mut batch, Batch::new(keys)))
                    .map_err(|_| Stop::Closed)?;
            }
            batch.push(&json, bytes, place);
            Ok(())
        })?;
        to.blocking_send(batch).map_err(|_| Stop::Closed)
    }

    /// All statements in order. Answers how many were left out.
    fn each(
        &self,
        mut take: impl FnMut(Place, SqlOp, Keys) -> Result<(), Stop>,
    ) -> Result<usize, Stop> {
        let mut number = 0;
        let mut framed = 0;
        match self {
            Self::Sql(text) => {
                let mut keys = Keys::Enforced;
                for piece in sql_pieces(text) {
                    if piece.is_dump_frame() {
                        framed += 1;
                        if turns_foreign_keys_off(piece.sql) {
                            keys = Keys::Off;
                        } else if piece
                            .words(2)
                            .any(|word| word.eq_ignore_ascii_case("foreign_keys"))
                        {
                            keys = Keys::Enforced;
                        }
                        continue;
                    }
                    number += 1;
                    let line = Some(piece.line);
                    let place = Place { number, line };
                    let op = of_piece(&piece).map_err(|why| Stop::Refused(place, why))?;
                    take(place, op, keys)?;
                }
            }
            Self::Database(dump) => dump.each::<Stop>(|statement| {
                number += 1;
                let place = Place { number, line: None };
                // JSON has no word for infinity, SQL has a number for it.
                let op = if statement.args().iter().all(is_finite) {
                    statement.into_op()
                } else {
                    shortened(&statement.to_sql()).map_err(|why| Stop::Refused(place, why))?
                };
                take(place, op, Keys::Off)
            })?,
        }
        Ok(framed)
    }
}

fn is_finite(value: &SqlValue) -> bool {
    !matches!(value, SqlValue::Real(real) if !real.is_finite())
}

/// A statement as JSON and its bytes, if one transaction can hold it.
fn checked(place: Place, op: &SqlOp) -> Result<(String, usize), Stop> {
    let (json, bytes) = encoded(op);
    let what = match table_of(&op.sql) {
        Some(table) => format!("the row of table {table}"),
        None => "the statement".to_owned(),
    };
    let refused = |why: String| Err(Stop::Refused(place, format!("{what} has {why}")));
    if op.sql.len() > SQL_STATEMENT_MAX_BYTES {
        return refused(too_long(op.sql.len(), SQL_STATEMENT_MAX_BYTES));
    }
    if bytes > SQL_REQUEST_MAX_BYTES {
        return refused(too_long(bytes, SQL_REQUEST_MAX_BYTES));
    }
    if json.len() > BATCH_MAX_JSON_BYTES {
        let why = too_long(json.len(), BATCH_MAX_JSON_BYTES);
        return refused(format!("control characters, and as JSON {why}"));
    }
    if op.args.len() > SQL_PARAMETERS_MAX {
        let args = op.args.len();
        return refused(format!("{args} values, the limit is {SQL_PARAMETERS_MAX}"));
    }
    Ok((json, bytes))
}

fn too_long(bytes: usize, limit: usize) -> String {
    format!("{bytes} bytes, the limit is {limit}")
}

/// A statement of a file of SQL, or why it cannot be one of an import.
fn of_piece(piece: &SqlPiece<'_>) -> Result<SqlOp, String> {
    if piece.sql.starts_with('.') {
        return Err("commands of the sqlite3 shell are not SQL".into());
    }
    let words: Vec<String> = piece.words(2).map(str::to_ascii_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [first, ..] if REFUSED.contains(&first) => Err(format!(
            "{} cannot be imported: an import has its own transactions, in one database",
            first.to_ascii_uppercase()
        )),
        ["pragma", name] if !matches!(name, "user_version" | "application_id") => {
            Err(format!("PRAGMA {name} cannot be imported"))
        }
        _ => shortened(piece.sql),
    }
}

/// A statement, its long values as arguments if it is too long with them.
fn shortened(sql: &str) -> Result<SqlOp, String> {
    let (sql, args) = if sql.len() <= SQL_STATEMENT_MAX_BYTES {
        (sql.to_owned(), Vec::new())
    } else {
        with_arguments(sql, SQL_STATEMENT_MAX_BYTES, SQL_PARAMETERS_MAX).ok_or_else(|| {
            let why = too_long(sql.len(), SQL_STATEMENT_MAX_BYTES);
            match table_of(sql) {
                Some(table) => format!(
                    "the INSERT into table {table} has {why}, and not by a few long values; make it several"
                ),
                None => format!("the statement has {why}"),
            }
        })?
    };
    Ok(SqlOp {
        kind: OpKind::Exec,
        sql,
        args,
    })
}

/// The table of an INSERT, as it is written.
fn table_of(sql: &str) -> Option<&str> {
    /// Names are not longer, or not for people.
    const NAME_MAX: usize = 200;
    let piece = sql_pieces(sql).next()?;
    let mut words = piece.words(4);
    let first = words.next()?;
    if !first.eq_ignore_ascii_case("insert") && !first.eq_ignore_ascii_case("replace") {
        return None;
    }
    // INSERT [OR what] INTO
    let into = words.find(|word| word.eq_ignore_ascii_case("into"))?;
    let at = (into.as_ptr() as usize).checked_sub(piece.sql.as_ptr() as usize)? + into.len();
    let rest = piece.sql.get(at..)?.trim_start();
    let quote = rest.chars().next()?;
    let end = match quote {
        '"' | '`' | '\'' => rest.get(1..)?.find(quote)? + 2,
        '[' => rest.find(']')? + 1,
        _ => rest.find(|c: char| c.is_whitespace() || c == '(')?,
    };
    rest.get(..end.min(NAME_MAX))
}

//! Arguments of `orama db …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `orama db …`
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Run one statement that reads, and show its rows
    #[command(after_long_help = QUERY_HELP)]
    Query {
        /// The statement and its arguments
        #[command(flatten)]
        statement: StatementArgs,
        /// How fresh the rows must be
        #[command(flatten)]
        read: ReadArgs,
        /// Print the rows as CSV (RFC 4180) with a head line; NULL is an empty field
        #[arg(long, conflicts_with = "json")]
        csv: bool,
    },
    /// Run one statement that changes something, and show what it did
    #[command(after_long_help = EXEC_HELP)]
    Exec {
        /// The statement and its arguments
        #[command(flatten)]
        statement: StatementArgs,
    },
    /// Read statements line by line and run them; `.help` tells more
    ///
    /// A statement ends with a semicolon and may take several lines. Each is a
    /// transaction of its own. On a terminal a statement that fails does not end
    /// the shell; otherwise the first failure does, and its line is named.
    #[command(after_long_help = SHELL_HELP)]
    Shell {
        /// How fresh the rows must be
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Run the statements of FILE.sql, or put in what the SQLite file FILE.db has
    ///
    /// All of the file is looked at before anything is sent. Then its
    /// statements are sent in transactions of up to 100. When one fails, or the
    /// command is interrupted, the ones before it stay; the line is named, and
    /// the number of the statement with which to go on.
    #[command(after_long_help = IMPORT_HELP)]
    Import(ImportArgs),
    /// Write the whole database to FILE.db as an SQLite file, or to FILE.sql as statements
    ///
    /// Of one moment. The file is there as a whole or not at all, for its
    /// owner to read only.
    #[command(after_long_help = EXPORT_HELP)]
    Export {
        /// FILE.db, FILE.sqlite, FILE.sqlite3 or FILE.sql
        file: PathBuf,
        /// Replace the file when it exists
        #[arg(long, short)]
        force: bool,
    },
}

const QUERY_HELP: &str = "\
Examples:
  orama db query 'SELECT * FROM users WHERE name = ? AND age > ?' Ada 30
  orama db query 'SELECT * FROM users WHERE phone = ?' +4912345
  orama db query 'SELECT ?' \"'7'\"                 # the text 7
  orama db query 'SELECT ?, ?' --args '[1.50, null]'
  orama db query - --level none --freshness 2s < report.sql
  orama db query 'SELECT * FROM users' --csv > users.csv

In the table, NULL is no value and 'NULL' the text; characters that cannot be
seen are escaped, and long values cut: at the width of the terminal, elsewhere
at 1000 characters. --json and --csv cut nothing. A BLOB is shown in base64.";

const EXEC_HELP: &str = "\
Examples:
  orama db exec 'CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT, photo BLOB)'
  orama db exec 'INSERT INTO users(name, photo) VALUES(?, ?)' Ada \"x'00ff'\"
  orama db exec 'DELETE FROM users WHERE id = ? RETURNING *' 7";

const SHELL_HELP: &str = "\
Examples:
  orama db shell
  orama db shell < migration.sql
  rlwrap orama db shell                          # with a history of lines";

const IMPORT_HELP: &str = "\
Examples:
  orama db import backup.sql --dry-run
  orama db import backup.sql
  orama db import backup.sql --from 101          # after a failure in statement 101
  sqlite3 app.db .dump > app.sql && orama db import app.sql

BEGIN, COMMIT and what ANALYZE found are left out: `sqlite3 FILE .dump` writes
them around its statements, and an import has its own transactions. Foreign
keys are enforced unless FILE.sql begins with PRAGMA foreign_keys=OFF, as a dump
does; an SQLite file is put in without them. Rows that refer to none are
counted at the end. A statement may have 256 KiB, an INSERT with long values
960 KiB.";

const EXPORT_HELP: &str = "\
Examples:
  orama db export backup.db
  orama db export backup.sql --force";

/// `orama db import`
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// FILE.sql, FILE.db, FILE.sqlite or FILE.sqlite3
    pub file: PathBuf,
    /// Begin with the N-th statement, to go on where an import ended
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true, value_parser = from_one)]
    pub from: usize,
    /// Look at the file and send nothing
    #[arg(long)]
    pub dry_run: bool,
}

fn from_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("the first statement has the number 1".into()),
        Ok(number) => Ok(number),
    }
}

/// A statement on the command line.
#[derive(Debug, Clone, Default, Args)]
pub struct StatementArgs {
    /// The statement; - reads it from stdin
    #[arg(allow_hyphen_values = true)]
    pub sql: String,
    /// Arguments for its `?`: numbers, null, x'00ff' for a BLOB, anything else is text
    ///
    /// A number is one only in the form in which it would be printed: 7, -7, 1.5.
    /// Everything else is text as it stands: 007, +49, 1.50, 1e3, 0x10, true, and whole
    /// numbers of more than 64 bits. '7', with the quotes inside, is the text 7.
    #[arg(value_name = "ARG", allow_negative_numbers = true)]
    pub values: Vec<String>,
    /// All arguments as a JSON array instead, such as '[1.50, \"7\", null]'
    #[arg(long, value_name = "JSON", conflicts_with = "values")]
    pub args: Option<String>,
}

/// How fresh a read must be.
#[derive(Debug, Clone, Default, Args)]
pub struct ReadArgs {
    /// none: what the node has; weak: what the leader has; linearizable (strong is the same): all that was acknowledged [default: linearizable]
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub level: Option<String>,
    /// With --level none: refuse rows of a replica that heard nothing from its leader for longer, such as 2s
    #[arg(long, value_name = "TIME")]
    pub freshness: Option<String>,
    /// With --freshness: refuse them too while the replica is behind
    #[arg(long, requires = "freshness")]
    pub freshness_strict: bool,
}

fn level(text: &str) -> Result<String, String> {
    let level = text.to_ascii_lowercase();
    match level.as_str() {
        "none" | "weak" | "strong" | "linearizable" => Ok(level),
        _ => Err("it is none, weak, or linearizable (strong is the same)".into()),
    }
}

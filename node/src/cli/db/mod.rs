//! `orama db …`: the SQL database of a namespace.

mod answer;
mod csv;
mod export;
mod grid;
mod import;
mod shell;
mod values;

use std::time::{Duration, Instant};

use orama_proto::limits::{SQL_READ_MAX_SECS, SQL_STATEMENT_MAX_BYTES, SQL_WRITE_MAX_SECS};
use reqwest::Method;
use serde::Serialize;
use serde_json::value::RawValue;

use super::App;
use super::args::{DbCommand, ReadArgs, StatementArgs};
use super::client::{Answer, Client};
use super::error::CliError;
use super::interrupt::Interrupt;
use super::output::{Output, seconds};
use super::prompt::stdin_bytes;
use crate::statement::first_word;

/// The gateway ends a statement, not the client.
const WITHIN: Duration = Duration::from_secs(if SQL_READ_MAX_SECS > SQL_WRITE_MAX_SECS {
    SQL_READ_MAX_SECS + 50
} else {
    SQL_WRITE_MAX_SECS + 50
});
/// Where the gateway sends statements that write.
const EXEC: &str = "/v1/rqlite/exec";
/// How it says that a query does.
const CHANGES: &str = "this changes the database";

/// Runs `orama db …`.
///
/// # Errors
/// See [`CliError`].
pub async fn run(app: &mut App, command: DbCommand) -> Result<(), CliError> {
    let client = app.client()?;
    match command {
        DbCommand::Query {
            statement,
            read,
            csv,
        } => {
            let statement = Statement::of(statement)?;
            let began = Instant::now();
            let answer = query(&client, &statement, &read).await.map_err(advised)?;
            if app.out.json() {
                return app.out.raw(&answer.body);
            }
            if csv {
                let rows: answer::Items<'_> = answer.parse_borrowed()?;
                return csv::write(&mut app.out, &rows);
            }
            show_rows(&mut app.out, &answer, Some(began.elapsed()))
        }
        DbCommand::Exec { statement } => {
            let statement = Statement::of(statement)?;
            let began = Instant::now();
            let answer = exec(&client, &statement).await?;
            if app.out.json() {
                return app.out.raw(&answer.body);
            }
            show_effect(&mut app.out, &answer, Some(began.elapsed()))
        }
        DbCommand::Shell { read } => shell::run(app, &client, read).await,
        DbCommand::Import(args) => import::run(app, &client, args, &mut Interrupt::new()?).await,
        DbCommand::Export { file, force } => {
            export::run(app, &client, &file, force, &mut Interrupt::new()?).await
        }
    }
}

/// A statement with its arguments in JSON.
#[derive(Debug, Default, Serialize)]
struct Statement {
    sql: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Box<RawValue>>,
}

impl Statement {
    /// Without arguments.
    fn plain(sql: &str) -> Self {
        Self {
            sql: sql.to_owned(),
            args: None,
        }
    }

    /// From the command line.
    fn of(given: StatementArgs) -> Result<Self, CliError> {
        let sql = if given.sql == "-" {
            let bytes = stdin_bytes(SQL_STATEMENT_MAX_BYTES)?;
            String::from_utf8(bytes)
                .map_err(|_| CliError::Usage("the statement from stdin is not UTF-8".into()))?
        } else {
            given.sql
        };
        let args = match given.args {
            Some(text) => Some(values::array(&text)?),
            None if given.values.is_empty() => None,
            None => Some(values::of_words(&given.values)?),
        };
        Ok(Self { sql, args })
    }

    /// Whether it looks as if it only reads.
    fn reads(&self) -> bool {
        let word = first_word(&self.sql).to_ascii_uppercase();
        matches!(
            word.as_str(),
            "SELECT" | "WITH" | "VALUES" | "PRAGMA" | "EXPLAIN"
        )
    }
}

/// Sends a statement that reads.
async fn query(
    client: &Client,
    statement: &Statement,
    read: &ReadArgs,
) -> Result<Answer, CliError> {
    #[derive(Serialize)]
    struct Body<'a> {
        sql: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        level: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        freshness: Option<&'a str>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        freshness_strict: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        args: Option<&'a RawValue>,
    }
    let body = Body {
        sql: &statement.sql,
        level: read.level.as_deref(),
        freshness: read.freshness.as_deref(),
        freshness_strict: read.freshness_strict,
        args: statement.args.as_deref(),
    };
    client
        .json_within(Method::POST, &["rqlite", "query"], &body, WITHIN)
        .await
}

/// Sends a statement that writes.
async fn exec(client: &Client, statement: &Statement) -> Result<Answer, CliError> {
    client
        .json_within(Method::POST, &["rqlite", "exec"], statement, WITHIN)
        .await
}

/// Whether the gateway refused a query because it writes.
fn writes(error: &CliError) -> bool {
    matches!(error, CliError::Api(failure) if failure.status == 400
        && (failure.message.contains(EXEC) || failure.message.starts_with(CHANGES)))
}

/// A refusal with the command that is meant.
fn advised(mut error: CliError) -> CliError {
    if writes(&error)
        && let CliError::Api(failure) = &mut error
    {
        failure.advice = Some("`orama db exec` runs statements that write".into());
    }
    error
}

fn show_rows(out: &mut Output, answer: &Answer, took: Option<Duration>) -> Result<(), CliError> {
    let rows: answer::Items<'_> = answer.parse_borrowed()?;
    let grid = grid::Grid::of(rows.columns, &rows.items);
    for line in grid.render(grid::terminal_width()) {
        out.line(line)?;
    }
    let count = match rows.items.len() {
        1 => "1 row".to_owned(),
        n => format!("{n} rows"),
    };
    out.line(with_time(count, took))
}

fn show_effect(out: &mut Output, answer: &Answer, took: Option<Duration>) -> Result<(), CliError> {
    let done: answer::Effect<'_> = answer.parse_borrowed()?;
    if let Some(rows) = &done.rows
        && !rows.is_empty()
    {
        let grid = grid::Grid::of(Vec::new(), rows);
        for line in grid.render(grid::terminal_width()) {
            out.line(line)?;
        }
        if done.rows_cut {
            out.warn("the statement returned more rows than are answered; it was made as a whole");
        }
    }
    let mut text = match done.rows_affected {
        1 => "1 row affected".to_owned(),
        n => format!("{n} rows affected"),
    };
    if done.last_insert_id != 0 {
        text.push_str(&format!(", last insert id {}", done.last_insert_id));
    }
    out.line(with_time(text, took))
}

fn with_time(text: String, took: Option<Duration>) -> String {
    match took {
        Some(took) => format!("({text}, {})", seconds(took)),
        None => format!("({text})"),
    }
}

#[cfg(test)]
mod tests;

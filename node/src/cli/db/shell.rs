//! `orama db shell`: statements from stdin, one after the other.

#[cfg(test)]
use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::Instant;

use orama_cluster::sql_pieces;
use orama_proto::limits::SQL_STATEMENT_MAX_BYTES;

use super::{Statement, exec, is_write_refused, query, show_effect, show_rows};
use crate::cli::App;
use crate::cli::args::ReadArgs;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::prompt::next_line;

const HELP: &str = "\
A statement ends with a semicolon and may take several lines.
.tables          list tables and views
.schema [TABLE]  show the statements that made them
.level [LEVEL]   how fresh rows must be: none, weak or linearizable
.timer on|off    show how long a statement took
.help            this text
.quit            end; so does the end of the input";

/// Tables and views; SQLite's own and the platform's are left out.
const TABLES: &str = "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') \
    AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_orama\\_%' ESCAPE '\\' \
    ORDER BY name";
/// The statements that made everything.
const SCHEMA: &str = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL \
    AND tbl_name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND tbl_name NOT LIKE '\\_orama\\_%' ESCAPE '\\'";

/// Runs the shell.
///
/// # Errors
/// When the input cannot be read; on a terminal nothing else, because whoever
/// types has seen what failed.
pub(super) async fn run(app: &mut App, client: &Client, read: ReadArgs) -> Result<(), CliError> {
    let terminal = std::io::stdin().is_terminal();
    let mut shell = Shell::new(read, terminal);
    if terminal {
        app.out.progress(format_args!(
            "Connected to {}. `.help` tells more.",
            client.url()
        ));
    }
    shell.run(app, client, Lines::Stdin).await
}

/// Where the lines come from.
enum Lines {
    Stdin,
    #[cfg(test)]
    Given(VecDeque<String>),
}

impl Lines {
    async fn next(&mut self) -> Result<Option<String>, CliError> {
        match self {
            Self::Stdin => next_line().await,
            #[cfg(test)]
            Self::Given(lines) => Ok(lines.pop_front()),
        }
    }
}

/// Whether the shell goes on.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Line,
    End,
}

/// State of a shell.
struct Shell {
    read: ReadArgs,
    /// Whether somebody types.
    terminal: bool,
    timer: bool,
    input: Input,
    failed: usize,
}

impl Shell {
    fn new(read: ReadArgs, terminal: bool) -> Self {
        Self {
            read,
            terminal,
            timer: terminal,
            input: Input::default(),
            failed: 0,
        }
    }

    async fn run(
        &mut self,
        app: &mut App,
        client: &Client,
        mut lines: Lines,
    ) -> Result<(), CliError> {
        loop {
            if self.terminal {
                let more = !self.input.is_blank();
                app.out.ask(if more { "   ...> " } else { "orama> " });
            }
            let Some(line) = lines.next().await? else {
                break;
            };
            if self.line(app, client, &line).await? == Next::End {
                break;
            }
        }
        if self.terminal {
            app.out.progress("");
        }
        // The last statement of a file may have no semicolon.
        if let Some(rest) = self.input.rest() {
            self.attempt(app, client, &Statement::plain(&rest)).await?;
        }
        match self.failed {
            0 => Ok(()),
            _ if self.terminal => Ok(()),
            1 => Err(CliError::Failed("a statement failed".into())),
            n => Err(CliError::Failed(format!("{n} statements failed"))),
        }
    }

    async fn line(&mut self, app: &mut App, client: &Client, line: &str) -> Result<Next, CliError> {
        if self.input.is_blank() && line.trim_start().starts_with('.') {
            return self.command(app, client, line.trim()).await;
        }
        let statements = match self.input.push(line) {
            Ok(statements) => statements,
            Err(error) => {
                self.complain(app, &error)?;
                return Ok(Next::Line);
            }
        };
        for statement in statements {
            self.attempt(app, client, &Statement::plain(&statement))
                .await?;
        }
        Ok(Next::Line)
    }

    /// A line that begins with a dot.
    async fn command(
        &mut self,
        app: &mut App,
        client: &Client,
        line: &str,
    ) -> Result<Next, CliError> {
        let mut words = line.trim_end_matches(';').split_whitespace();
        let command = words.next().unwrap_or_default();
        let argument = words.next();
        match (command, argument) {
            (".quit" | ".exit", None) => return Ok(Next::End),
            (".help", _) => app.out.line(HELP)?,
            (".tables", None) => {
                self.attempt(app, client, &Statement::plain(TABLES)).await?;
            }
            (".schema", table) => {
                let result = self.schema(app, client, table).await;
                self.judge(app, result)?;
            }
            (".timer", Some("on")) => self.timer = true,
            (".timer", Some("off")) => self.timer = false,
            (".level", Some(level @ ("none" | "weak" | "strong" | "linearizable"))) => {
                self.read.level = Some(level.to_owned());
            }
            (".level", None) => {
                let level = self.read.level.as_deref().unwrap_or("linearizable");
                app.out.line(level)?;
            }
            _ => self.complain(
                app,
                &CliError::Usage(format!("{line:?} is no command here; `.help` lists them")),
            )?,
        }
        Ok(Next::Line)
    }

    async fn schema(
        &self,
        app: &mut App,
        client: &Client,
        table: Option<&str>,
    ) -> Result<(), CliError> {
        let mut statement = Statement::plain(SCHEMA);
        if let Some(table) = table {
            statement.sql.push_str(" AND tbl_name = ? COLLATE NOCASE");
            let table = table.trim_matches('"').to_owned();
            statement.args = Some(super::values::array(
                &serde_json::Value::from(vec![table]).to_string(),
            )?);
        }
        statement.sql.push_str(" ORDER BY tbl_name, rowid");
        let answer = query(client, &statement, &self.read).await?;
        if app.out.json() {
            return app.out.raw(&answer.body);
        }
        #[derive(serde::Deserialize)]
        struct Made {
            items: Vec<One>,
        }
        #[derive(serde::Deserialize)]
        struct One {
            sql: String,
        }
        for one in answer.parse::<Made>()?.items {
            app.out
                .line(format!("{};", crate::cli::output::printable(&one.sql)))?;
        }
        Ok(())
    }

    /// Runs a statement; its failure is told and does not end the shell.
    async fn attempt(
        &mut self,
        app: &mut App,
        client: &Client,
        statement: &Statement,
    ) -> Result<(), CliError> {
        let result = self.execute(app, client, statement).await;
        self.judge(app, result)
    }

    async fn execute(
        &self,
        app: &mut App,
        client: &Client,
        statement: &Statement,
    ) -> Result<(), CliError> {
        let began = Instant::now();
        if statement.reads() {
            match query(client, statement, &self.read).await {
                // WITH … INSERT looks like a query and is none.
                Err(error) if is_write_refused(&error) => {}
                answer => {
                    let answer = answer?;
                    if app.out.json() {
                        return app.out.raw(&answer.body);
                    }
                    let took = self.timer.then(|| began.elapsed());
                    return show_rows(&mut app.out, &answer, took);
                }
            }
        }
        let answer = exec(client, statement).await?;
        if app.out.json() {
            return app.out.raw(&answer.body);
        }
        let took = self.timer.then(|| began.elapsed());
        show_effect(&mut app.out, &answer, took)
    }

    fn judge(&mut self, app: &mut App, result: Result<(), CliError>) -> Result<(), CliError> {
        match result {
            Ok(()) => Ok(()),
            Err(error) => self.complain(app, &error),
        }
    }

    fn complain(&mut self, app: &mut App, error: &CliError) -> Result<(), CliError> {
        // Nobody reads any more: that ends everything.
        if matches!(error, CliError::StdoutClosed) {
            return Err(CliError::StdoutClosed);
        }
        self.failed += 1;
        app.out.failure(error);
        Ok(())
    }
}

/// Lines until they are statements.
#[derive(Default)]
struct Input {
    text: String,
}

impl Input {
    fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// Adds a line and takes out what is complete with it.
    fn push(&mut self, line: &str) -> Result<Vec<String>, CliError> {
        self.text.push_str(line);
        self.text.push('\n');
        // What a line without one does not end stays as it is.
        let mut complete = Vec::new();
        if line.contains(';') {
            let mut rest = None;
            for piece in sql_pieces(&self.text) {
                if piece.complete {
                    complete.push(piece.sql.to_owned());
                    rest = None;
                } else {
                    rest = Some(piece.sql.to_owned());
                }
            }
            match rest {
                Some(rest) => {
                    self.text = rest;
                    self.text.push('\n');
                }
                None if complete.is_empty() => self.drop_comments(),
                None => self.text.clear(),
            }
        } else {
            self.drop_comments();
        }
        if self.text.len() > SQL_STATEMENT_MAX_BYTES {
            self.text.clear();
            return Err(CliError::Failed(format!(
                "the statement is longer than the limit of {SQL_STATEMENT_MAX_BYTES} bytes"
            )));
        }
        Ok(complete)
    }

    /// Comments alone are not the beginning of a statement, so that a command may follow.
    fn drop_comments(&mut self) {
        let text = self.text.trim();
        let open = text.rfind("/*") > text.rfind("*/");
        if !open && sql_pieces(text).next().is_none() {
            self.text.clear();
        }
    }

    /// What is left at the end, if it is something.
    fn rest(&mut self) -> Option<String> {
        let text = std::mem::take(&mut self.text);
        sql_pieces(&text).next().map(|piece| piece.sql.to_owned())
    }
}

#[cfg(test)]
#[path = "shell_tests.rs"]
mod tests;

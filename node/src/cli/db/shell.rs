//! `orama db shell`: statements from stdin, one after the other. Whoever types goes on after a
//! failure; a script ends with its first.

mod input;

use std::io::IsTerminal;
use std::time::Instant;

use orama_cluster::{SqlLines, SqlTooLong};
use orama_proto::limits::SQL_STATEMENT_MAX_BYTES;

use self::input::{Event, Input};
use super::{Statement, exec, query, show_effect, show_rows, writes};
use crate::cli::App;
use crate::cli::args::ReadArgs;
use crate::cli::client::Client;
use crate::cli::error::CliError;

const HELP: &str = "\
A statement ends with a semicolon and may take several lines. Each is a
transaction of its own. Ctrl-C gives up the statement that is open or is
waited for, Ctrl-D ends the shell.
.tables          list tables and views
.schema [TABLE]  show the statements that made them
.level [LEVEL]   how fresh rows must be: none, weak or linearizable (or strong)
.timer on|off    show how long a statement took
.help            this text
.quit            end; .exit is the same";

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
/// types has seen what failed. Otherwise the first failure, with its line.
pub(super) async fn run(app: &mut App, client: &Client, read: ReadArgs) -> Result<(), CliError> {
    let terminal = std::io::stdin().is_terminal();
    let mut shell = Shell::new(read, terminal);
    if terminal {
        app.out.progress(format_args!(
            "Connected to {}. `.help` tells more.",
            client.url()
        ));
    }
    shell.run(app, client, Input::stdin(terminal)?).await
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
    lines: SqlLines,
}

impl Shell {
    fn new(read: ReadArgs, terminal: bool) -> Self {
        Self {
            read,
            terminal,
            timer: terminal,
            lines: SqlLines::new(SQL_STATEMENT_MAX_BYTES),
        }
    }

    async fn run(
        &mut self,
        app: &mut App,
        client: &Client,
        mut input: Input,
    ) -> Result<(), CliError> {
        loop {
            if self.terminal {
                let open = !self.lines.is_blank();
                app.out.ask(if open { "   ...> " } else { "orama> " });
            }
            match input.next().await {
                Ok(Event::Line(line)) => {
                    if self.line(app, client, &mut input, &line).await? == Next::End {
                        return Ok(());
                    }
                }
                Ok(Event::Interrupt) => {
                    // The terminal has shown ^C, and dropped what was typed of the line.
                    app.out.progress("");
                    if !self.lines.clear() {
                        app.out.progress("Ctrl-D or .quit ends the shell.");
                    }
                }
                Ok(Event::End) => break,
                Err(error) => return Err(error.at(place(self.lines.taken() + 1))),
            }
        }
        if self.terminal {
            app.out.progress("");
            if self.lines.clear() {
                app.out.warn("the statement that was open was not run");
            }
            return Ok(());
        }
        // The last statement of a script may have no semicolon.
        match self.lines.rest() {
            Ok(Some(last)) => {
                let statement = Statement::plain(&last.sql);
                self.attempt(app, client, &mut input, &statement, last.line)
                    .await
            }
            Ok(None) => Ok(()),
            Err(line) => Err(CliError::Failed(
                "the statement or comment that begins here has no end; it was not run".into(),
            )
            .at(place(line))),
        }
    }

    async fn line(
        &mut self,
        app: &mut App,
        client: &Client,
        input: &mut Input,
        line: &str,
    ) -> Result<Next, CliError> {
        if self.lines.is_blank() && line.trim_start().starts_with('.') {
            let at = self.lines.taken() + 1;
            // It counts as a line, and leaves nothing open.
            self.lines.push("");
            return match self.command(app, client, input, line.trim()).await {
                Ok(next) => Ok(next),
                Err(error) => self.failed(app, error, at).map(|()| Next::Line),
            };
        }
        for found in self.lines.push(line) {
            match found {
                Ok(found) => {
                    let statement = Statement::plain(&found.sql);
                    self.attempt(app, client, input, &statement, found.line)
                        .await?;
                }
                Err(SqlTooLong { line }) => {
                    let then = match self.terminal {
                        true => "it is passed over up to its semicolon",
                        false => "`orama db import` sends long values apart from it",
                    };
                    let error = CliError::Failed(format!(
                        "the statement is longer than the limit of {SQL_STATEMENT_MAX_BYTES} bytes; {then}"
                    ));
                    self.failed(app, error, line)?;
                }
            }
        }
        Ok(Next::Line)
    }

    /// A line that begins with a dot.
    async fn command(
        &mut self,
        app: &mut App,
        client: &Client,
        input: &mut Input,
        line: &str,
    ) -> Result<Next, CliError> {
        let mut words = line.trim_end_matches(';').split_whitespace();
        let command = words.next().unwrap_or_default().to_ascii_lowercase();
        let given = words.next();
        // What is said in one word of ours is said in any case.
        let word = given.map(str::to_ascii_lowercase);
        let wrong = || {
            Err(CliError::Usage(format!(
                "{line:?} is no command here; `.help` lists them"
            )))
        };
        if words.next().is_some() {
            return wrong();
        }
        match (command.as_str(), word.as_deref()) {
            (".quit" | ".exit", None) => return Ok(Next::End),
            (".help", None) => app.out.line(HELP)?,
            (".tables", None) => {
                self.waited(app, client, input, &Statement::plain(TABLES))
                    .await?;
            }
            (".schema", _) => self.schema(app, client, given).await?,
            (".timer", Some("on")) => self.timer = true,
            (".timer", Some("off")) => self.timer = false,
            (".level", Some(level @ ("none" | "weak" | "strong" | "linearizable"))) => {
                self.read.level = Some(level.to_owned());
            }
            (".level", None) => {
                let level = self.read.level.as_deref().unwrap_or("linearizable");
                app.out.line(level)?;
            }
            _ => return wrong(),
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
        let made = answer.parse::<Made>()?.items;
        if let (Some(table), true) = (table, made.is_empty()) {
            return Err(CliError::Failed(format!("there is no table {table}")));
        }
        for one in made {
            app.out
                .line(format!("{};", crate::cli::output::printable(&one.sql)))?;
        }
        Ok(())
    }

    /// Runs a statement, and tells its failure.
    async fn attempt(
        &mut self,
        app: &mut App,
        client: &Client,
        input: &mut Input,
        statement: &Statement,
        line: usize,
    ) -> Result<(), CliError> {
        match self.waited(app, client, input, statement).await {
            Ok(()) => Ok(()),
            Err(error) => self.failed(app, error, line),
        }
    }

    /// Runs a statement until it is done or whoever waits has enough.
    async fn waited(
        &self,
        app: &mut App,
        client: &Client,
        input: &mut Input,
        statement: &Statement,
    ) -> Result<(), CliError> {
        tokio::select! {
            result = self.execute(app, client, statement) => result,
            () = input.interrupted() => {
                let unknown = if statement.reads() { "" } else { "; whether it was made is not known" };
                Err(CliError::Failed(format!("the statement is not waited for any more{unknown}")))
            }
        }
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
                Err(error) if writes(&error) => {}
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

    /// Tells a failure to whoever types; ends a script.
    fn failed(&self, app: &mut App, error: CliError, line: usize) -> Result<(), CliError> {
        // Nobody reads any more: that ends everything.
        if matches!(error, CliError::StdoutClosed) {
            return Err(error);
        }
        if !self.terminal {
            return Err(error.at(place(line)));
        }
        app.out.failure(&error);
        Ok(())
    }
}

fn place(line: usize) -> String {
    format!("line {line}")
}

#[cfg(test)]
#[path = "shell_tests.rs"]
mod tests;

//! `orama db import`: a file of SQL, or what an SQLite file has, in transactions.
//!
//! A transaction that fails ends the import: the ones before it stay, nothing
//! of it does, and both are said. Nothing is sent twice.

use std::path::Path;
use std::time::{Duration, Instant};

use orama_cluster::{Dump, DumpError, sql_pieces};
use orama_proto::limits::{SQL_BODY_MAX_BYTES, SQL_OPS_MAX, SQL_STATEMENT_MAX_BYTES};
use orama_proto::sql::{SqlOp, SqlValue};
use tokio::sync::mpsc;

use super::WITHIN;
use crate::cli::App;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::prompt::file_bytes;

/// Largest file of SQL: it is read as a whole.
const SQL_FILE_MAX_BYTES: usize = 1 << 30;
/// Texts and values of one transaction, below the server's limit.
const BATCH_MAX_BYTES: usize = 900 << 10;
/// The same as JSON, where a character may take six bytes.
const BATCH_MAX_JSON_BYTES: usize = SQL_BODY_MAX_BYTES - (64 << 10);
/// Pause between two lines of progress.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// Transactions that are read ahead.
const AHEAD: usize = 2;

/// What a file holds, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
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
    pub(super) fn of(file: &Path) -> Result<Self, CliError> {
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

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub(super) async fn run(app: &mut App, client: &Client, file: &Path) -> Result<(), CliError> {
    let mut import = Import::new(client);
    match Kind::of(file)? {
        Kind::Sql => {
            let bytes = file_bytes(file, SQL_FILE_MAX_BYTES)?;
            let text = String::from_utf8(bytes).map_err(|e| {
                let at = e.utf8_error().valid_up_to();
                CliError::Failed(format!("{}: not UTF-8 at byte {at}", file.display()))
            })?;
            import.text(app, &text).await?;
        }
        Kind::Database => import.database(app, file).await?,
    }
    let (statements, transactions) = (import.statements, import.transactions);
    if app.out.json() {
        return app.out.value(&serde_json::json!({
            "statements": statements,
            "transactions": transactions,
        }));
    }
    app.out.line(format!(
        "Imported {statements} statement(s) in {transactions} transaction(s)."
    ))
}

/// Where a statement comes from, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Line(usize),
    Number(usize),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Number(number) => write!(f, "statement {number}"),
        }
    }
}

/// Statements that are sent together.
#[derive(Debug, Default)]
struct Batch {
    /// `{"ops":[…` without its end.
    json: String,
    places: Vec<Place>,
    bytes: usize,
}

impl Batch {
    /// Whether there is room for a statement; one alone always fits, and the server judges it.
    fn takes(&self, json: &str, bytes: usize) -> bool {
        self.places.is_empty()
            || (self.places.len() < SQL_OPS_MAX
                && self.bytes + bytes <= BATCH_MAX_BYTES
                && self.json.len() + json.len() < BATCH_MAX_JSON_BYTES)
    }

    fn push(&mut self, json: &str, bytes: usize, place: Place) {
        self.json.push_str(if self.places.is_empty() {
            "{\"ops\":["
        } else {
            ","
        });
        self.json.push_str(json);
        self.bytes += bytes;
        self.places.push(place);
    }

    fn into_body(mut self) -> Vec<u8> {
        self.json.push_str("]}");
        self.json.into_bytes()
    }
}

/// A statement as JSON, and the bytes of its text and values.
fn encoded(op: &SqlOp) -> (String, usize) {
    let mut json = format!(
        "{{\"kind\":\"exec\",\"sql\":{}",
        serde_json::Value::from(op.sql.as_str())
    );
    let mut bytes = op.sql.len();
    if !op.args.is_empty() {
        let args: Vec<String> = op.args.iter().map(|arg| value(arg, &mut bytes)).collect();
        json.push_str(&format!(",\"args\":[{}]", args.join(",")));
    }
    json.push('}');
    (json, bytes)
}

fn value(value: &SqlValue, bytes: &mut usize) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    *bytes += 8;
    match value {
        SqlValue::Null => "null".into(),
        SqlValue::Integer(whole) => whole.to_string(),
        // With a point or an exponent: without one it would be an integer.
        SqlValue::Real(real) => format!("{real:?}"),
        SqlValue::Text(text) => {
            *bytes += text.len();
            serde_json::Value::from(text.as_str()).to_string()
        }
        SqlValue::Blob(blob) => {
            *bytes += blob.len();
            format!("{{\"blob\":\"{}\"}}", STANDARD.encode(blob))
        }
    }
}

/// An import under way.
struct Import<'a> {
    client: &'a Client,
    statements: usize,
    transactions: usize,
    /// Where the last statement that is in came from.
    last: Option<Place>,
    said: Instant,
}

impl<'a> Import<'a> {
    fn new(client: &'a Client) -> Self {
        Self {
            client,
            statements: 0,
            transactions: 0,
            last: None,
            said: Instant::now(),
        }
    }

    async fn text(&mut self, app: &mut App, text: &str) -> Result<(), CliError> {
        // All of it is looked at before anything is sent.
        let (mut total, mut framed) = (0, 0);
        for piece in sql_pieces(text) {
            if piece.sql.len() > SQL_STATEMENT_MAX_BYTES {
                return Err(CliError::Failed(format!(
                    "line {}: the statement has {} bytes, the limit is {SQL_STATEMENT_MAX_BYTES}; nothing was imported",
                    piece.line,
                    piece.sql.len()
                )));
            }
            if piece.is_dump_frame() {
                framed += 1;
            } else {
                total += 1;
            }
        }
        if framed > 0 {
            app.out.warn(format_args!(
                "{framed} statement(s) such as BEGIN, COMMIT and PRAGMA foreign_keys are left out: an import has its own transactions"
            ));
        }
        let mut batch = Batch::default();
        for piece in sql_pieces(text).filter(|piece| !piece.is_dump_frame()) {
            let op = SqlOp {
                kind: orama_proto::sql::OpKind::Exec,
                sql: piece.sql.to_owned(),
                args: Vec::new(),
            };
            let (json, bytes) = encoded(&op);
            if !batch.takes(&json, bytes) {
                self.send(app, std::mem::take(&mut batch), Some(total))
                    .await?;
            }
            batch.push(&json, bytes, Place::Line(piece.line));
        }
        self.send(app, batch, Some(total)).await
    }

    async fn database(&mut self, app: &mut App, file: &Path) -> Result<(), CliError> {
        let path = file.to_owned();
        let (to, mut batches) = mpsc::channel(AHEAD);
        let reading = tokio::task::spawn_blocking(move || read(&path, &to));
        while let Some(batch) = batches.recv().await {
            self.send(app, batch, None).await?;
        }
        match reading.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(CliError::Failed(format!(
                "{}: {error}{}",
                file.display(),
                self.so_far()
            ))),
            Err(e) => Err(CliError::Failed(format!("reading the file ended: {e}"))),
        }
    }

    /// Sends a transaction.
    async fn send(
        &mut self,
        app: &mut App,
        batch: Batch,
        total: Option<usize>,
    ) -> Result<(), CliError> {
        let (Some(first), Some(last)) = (batch.places.first(), batch.places.last()) else {
            return Ok(());
        };
        let (first, last) = (*first, *last);
        let places = batch.places.clone();
        let path = ["rqlite", "transaction"];
        let sent = self.client.bytes(&path, batch.into_body(), WITHIN).await;
        if let Err(error) = sent {
            return Err(self.ended(error, &places, first, last));
        }
        self.statements += places.len();
        self.transactions += 1;
        self.last = Some(last);
        if self.said.elapsed() >= SAY_EVERY && !app.out.json() {
            self.said = Instant::now();
            match total {
                Some(total) => app
                    .out
                    .progress(format_args!("{} of {total} statements", self.statements)),
                None => app
                    .out
                    .progress(format_args!("{} statements", self.statements)),
            }
        }
        Ok(())
    }

    /// What is in, and what of the last transaction.
    fn ended(&self, error: CliError, places: &[Place], first: Place, last: Place) -> CliError {
        let refused = matches!(&error, CliError::Api(f) if f.status < 500);
        let of_it = if refused {
            format!("nothing from {first} to {last} was made")
        } else {
            format!("whether {first} to {last} were made is not known")
        };
        let so_far = self.so_far();
        match error {
            CliError::Api(mut failure) => {
                let place = failure.failed_index.and_then(|index| places.get(index));
                let place = match place {
                    Some(place) => place.to_string(),
                    None => format!("{first} to {last}"),
                };
                failure.message = format!("{place}: {}; {of_it}{so_far}", failure.message);
                CliError::Api(failure)
            }
            CliError::Unreachable { url, reason } => CliError::Unreachable {
                url,
                reason: format!("{reason}; {of_it}{so_far}"),
            },
            other => CliError::Failed(format!("{other}; {of_it}{so_far}")),
        }
    }

    fn so_far(&self) -> String {
        match (self.statements, self.last) {
            (0, _) | (_, None) => "; nothing was imported before".into(),
            (n, Some(last)) => format!("; the {n} statement(s) before, up to {last}, are in"),
        }
    }
}

/// Why reading an SQLite file ended.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("{0}")]
    Dump(#[from] DumpError),
    /// Whoever takes the transactions has gone, and says why.
    #[error("the import has ended")]
    Closed,
}

/// Reads an SQLite file and hands over its statements in transactions.
fn read(path: &Path, to: &mpsc::Sender<Batch>) -> Result<(), Stop> {
    let dump = Dump::open(path)?;
    let mut batch = Batch::default();
    let mut number = 0;
    dump.each::<Stop>(|statement| {
        number += 1;
        let text = statement.to_sql();
        let mut op = statement.into_op();
        // JSON has no word for infinity, SQL has a number for it.
        if op
            .args
            .iter()
            .any(|arg| matches!(arg, SqlValue::Real(r) if !r.is_finite()))
        {
            op.sql = text;
            op.args.clear();
        }
        let (json, bytes) = encoded(&op);
        if !batch.takes(&json, bytes) {
            to.blocking_send(std::mem::take(&mut batch))
                .map_err(|_| Stop::Closed)?;
        }
        batch.push(&json, bytes, Place::Number(number));
        Ok(())
    })?;
    to.blocking_send(batch).map_err(|_| Stop::Closed)
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;

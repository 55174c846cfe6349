//! `orama db import`: a file of SQL, or what an SQLite file has, in transactions.
//!
//! All of the file is looked at before anything is sent. A transaction that fails ends the
//! import: the ones before it stay, nothing of it does, and both are said, with what to go on
//! from. Nothing is sent twice.

mod batch;
mod source;

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use self::batch::{Batch, Keys, Place};
pub(super) use self::source::Kind;
use self::source::{Found, Source, Stop};
use super::{Statement, WITHIN, query};
use crate::cli::App;
use crate::cli::args::{ImportArgs, ReadArgs};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::interrupt::Interrupt;

/// Pause between two lines of progress.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// Transactions that are read ahead.
const AHEAD: usize = 2;

/// What SQLite says of a row whose parent is not there.
const KEY_FAILED: &str = "FOREIGN KEY";
const KEYS_ADVICE: &str = "where rows refer to later ones, begin the file with `PRAGMA foreign_keys=OFF;`, as sqlite3's .dump does";

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub(super) async fn run(
    app: &mut App,
    client: &Client,
    args: ImportArgs,
    interrupt: &mut Interrupt,
) -> Result<(), CliError> {
    let path = args.file.clone();
    let looked = blocking(move || look(&path));
    let (source, found) = tokio::select! {
        looked = looked => looked??,
        () = interrupt.next() => {
            return Err(CliError::Failed("interrupted; nothing was imported".into()));
        }
    };
    if found.framed > 0 {
        app.out.warn(format_args!(
            "{} statement(s) such as BEGIN and COMMIT are left out: an import has its own transactions",
            found.framed
        ));
    }
    if args.from > found.statements.max(1) {
        return Err(CliError::Usage(format!(
            "--from {}: {} has {} statement(s)",
            args.from,
            args.file.display(),
            found.statements
        )));
    }
    if args.dry_run {
        return told(app, found, 0, 0, true);
    }
    let mut import = Import {
        client,
        from: args.from,
        total: found.statements,
        statements: 0,
        transactions: 0,
        last: None,
        unchecked: false,
        said: Instant::now(),
        stop: false,
    };
    import.all(app, &args.file, source, interrupt).await?;
    if import.unchecked {
        look_at_keys(app, client).await;
    }
    told(app, found, import.statements, import.transactions, false)
}

/// Opens the file and looks at all of it.
fn look(file: &Path) -> Result<(Source, Found), CliError> {
    let nothing =
        |why: &dyn std::fmt::Display| CliError::Failed(format!("{why}; nothing was imported"));
    let source = Source::open(file).map_err(|error| match error {
        CliError::Failed(why) => nothing(&why),
        other => other,
    })?;
    let found = source
        .check()
        .map_err(|stop| nothing(&format_args!("{}: {stop}", file.display())))?;
    Ok((source, found))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CliError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| CliError::Failed(format!("reading the file ended: {e}")))
}

/// Says which rows refer to ones that are not there, once nothing more will come.
async fn look_at_keys(app: &mut App, client: &Client) {
    #[derive(serde::Deserialize)]
    struct Counted {
        items: [Count; 1],
    }
    #[derive(serde::Deserialize)]
    struct Count {
        n: u64,
    }
    let statement = Statement::plain("SELECT count(*) AS n FROM pragma_foreign_key_check");
    let counted = query(client, &statement, &ReadArgs::default())
        .await
        .and_then(|answer| answer.parse::<Counted>());
    match counted {
        Ok(Counted { items: [Count { n: 0 }] }) => {}
        Ok(Counted { items: [Count { n }] }) => app.out.warn(format_args!(
            "{n} row(s) refer to rows that are not there; `orama db query 'PRAGMA foreign_key_check'` lists them"
        )),
        Err(error) => app.out.warn(format_args!(
            "whether all foreign keys lead to rows could not be found out: {error}"
        )),
    }
}

fn told(
    app: &mut App,
    found: Found,
    statements: usize,
    transactions: usize,
    dry_run: bool,
) -> Result<(), CliError> {
    if app.out.json() {
        let mut answer = serde_json::json!({
            "statements": if dry_run { found.statements } else { statements },
            "transactions": transactions,
        });
        if dry_run && let Some(answer) = answer.as_object_mut() {
            answer.insert("dry_run".into(), true.into());
        }
        return app.out.value(&answer);
    }
    if dry_run {
        return app.out.line(format!(
            "{} statement(s) could be sent; nothing was imported.",
            found.statements
        ));
    }
    app.out.line(format!(
        "Imported {statements} statement(s) in {transactions} transaction(s)."
    ))
}

/// An import under way.
struct Import<'a> {
    client: &'a Client,
    /// The first statement that is sent, from 1.
    from: usize,
    /// Statements of the file.
    total: usize,
    statements: usize,
    transactions: usize,
    /// Where the last statement that is in came from.
    last: Option<Place>,
    /// Whether foreign keys were off in any of it.
    unchecked: bool,
    said: Instant,
    /// Whether no further transaction is begun.
    stop: bool,
}

impl Import<'_> {
    async fn all(
        &mut self,
        app: &mut App,
        file: &Path,
        source: Source,
        interrupt: &mut Interrupt,
    ) -> Result<(), CliError> {
        let (to, mut batches) = mpsc::channel(AHEAD);
        let from = self.from;
        let reading = tokio::task::spawn_blocking(move || source.read(from, &to));
        loop {
            let batch = tokio::select! {
                batch = batches.recv(), if !self.stop => batch,
                () = interrupt.next(), if !self.stop => {
                    self.stop = true;
                    continue;
                }
                else => {
                    return Err(CliError::Failed(format!("interrupted{}", self.so_far())));
                }
            };
            let Some(batch) = batch else { break };
            self.send(app, batch, interrupt).await?;
        }
        match reading.await {
            Ok(Ok(()) | Err(Stop::Closed)) => Ok(()),
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
        interrupt: &mut Interrupt,
    ) -> Result<(), CliError> {
        let places = batch.places.clone();
        let Some(last) = places.last() else {
            return Ok(());
        };
        let (own_ops, keys) = (batch.own_ops(), batch.keys);
        let path = ["rqlite", "transaction"];
        let request = self.client.bytes(&path, batch.into_body(), WITHIN);
        tokio::pin!(request);
        let sent = loop {
            tokio::select! {
                sent = &mut request => break sent,
                () = interrupt.next() => {
                    if self.stop {
                        break Err(CliError::Failed("interrupted twice".into()));
                    }
                    self.stop = true;
                    app.out.progress("Waiting for the transaction under way; interrupt again to leave it.");
                }
            }
        };
        if let Err(error) = sent {
            return Err(self.ended(error, own_ops, keys, &places));
        }
        self.statements += places.len();
        self.transactions += 1;
        self.last = Some(*last);
        self.unchecked |= keys == Keys::Off;
        // What came with the last transaction stops nothing.
        self.stop &= last.number < self.total;
        if self.said.elapsed() >= SAY_EVERY && !app.out.json() {
            self.said = Instant::now();
            app.out
                .progress(format_args!("{} of {} statements", last.number, self.total));
        }
        Ok(())
    }

    /// What is in, and what of the last transaction.
    fn ended(&self, error: CliError, own_ops: usize, keys: Keys, places: &[Place]) -> CliError {
        let (Some(first), Some(last)) = (places.first(), places.last()) else {
            return error;
        };
        let known = matches!(&error, CliError::Api(failure) if failure.changed_nothing());
        let so_far = self.so_far();
        let of_it = if known {
            format!("nothing from {first} to {last} was made{so_far}")
        } else {
            format!(
                "whether {first} to {last} were made is not known: look, then go on with --from {} or --from {}{}",
                first.number,
                last.number + 1,
                self.before()
            )
        };
        match error {
            CliError::Api(mut failure) => {
                let place = failure
                    .failed_index
                    .and_then(|index| places.get(index.checked_sub(own_ops)?));
                let place = match place {
                    Some(place) => place.to_string(),
                    None => format!("{first} to {last}"),
                };
                // What else may be done is said.
                failure.advice = (keys == Keys::Enforced && failure.message.contains(KEY_FAILED))
                    .then(|| KEYS_ADVICE.to_owned());
                failure.message = format!("{place}: {}; {of_it}", failure.message);
                CliError::Api(failure)
            }
            CliError::Unreachable { url, reason } => CliError::Unreachable {
                url,
                reason: format!("{reason}; {of_it}"),
            },
            other => CliError::Failed(format!("{other}; {of_it}")),
        }
    }

    fn before(&self) -> String {
        match self.last {
            None => "; nothing was imported before".into(),
            Some(last) => format!(
                "; the {} statement(s) before, up to {last}, are in",
                self.statements
            ),
        }
    }

    fn so_far(&self) -> String {
        match self.last {
            None => self.before(),
            Some(last) => format!("{}: go on with --from {}", self.before(), last.number + 1),
        }
    }
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;

//! `orama function logs`: oldest first, as a terminal reads; `--follow` goes on.

use std::time::Duration;

use orama_proto::Timestamp;
use orama_proto::api::LogsResponse;
use orama_proto::invocation::{InvocationRecord, LogLevel, LogLine};
use orama_proto::limits::LOGS_MAX;

use super::super::App;
use super::super::args::LogsArgs;
use super::super::client::{Answer, Client};
use super::super::error::{CliError, Exit};
use super::super::output::{Output, printable};
use super::follow::Cursor;
use super::named;

/// Between two questions of `--follow`.
const INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1_000 });

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub async fn run(app: &mut App, args: LogsArgs) -> Result<(), CliError> {
    let name = named(&args.name)?.to_string();
    let client = app.client()?;
    if args.follow {
        return follow(app, &client, &name, &args).await;
    }
    let limit = args.limit as usize;
    if app.out.json() {
        let answer = ask(&client, &name, &args, limit, None, args.wasm_only).await?;
        return app.out.raw(&answer.body);
    }
    let answer = ask(&client, &name, &args, limit, None, false).await?;
    let answer = answer.parse::<LogsResponse>()?;
    if let Some(text) = missing(&answer.silent) {
        app.out.warn(text);
    }
    let mut records = answer.invocations;
    records.sort_by(|a, b| a.id.cmp(&b.id));
    if args.wasm_only {
        let lines: Vec<&LogLine> = records.iter().flat_map(|r| &r.wasm_logs).collect();
        if lines.is_empty() {
            return app
                .out
                .line(format!("No logs found for function \"{name}\"."));
        }
        let shown = &lines[lines.len().saturating_sub(limit)..];
        for line in shown {
            app.out.line(log_line(line))?;
        }
        return app.out.line(format!("\nShowing {} log(s)", shown.len()));
    }
    if records.is_empty() {
        return app
            .out
            .line(format!("No invocations found for function \"{name}\"."));
    }
    for one in &records {
        print(&mut app.out, one)?;
    }
    app.out
        .line(format!("\nShowing {} invocation(s)", records.len()))
}

/// Says which nodes' invocations are not among those that are shown.
fn missing(silent: &[String]) -> Option<String> {
    (!silent.is_empty()).then(|| {
        format!(
            "these nodes did not answer, their invocations are missing: {}",
            printable(&silent.join(", "))
        )
    })
}

async fn ask(
    client: &Client,
    name: &str,
    args: &LogsArgs,
    limit: usize,
    after: Option<&str>,
    wasm_only: bool,
) -> Result<Answer, CliError> {
    let limit = limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(after.map(|id| ("after", id)));
    query.extend(args.request_id.as_deref().map(|id| ("request_id", id)));
    query.extend(wasm_only.then_some(("wasm_only", "1")));
    client.get(&["functions", name, "logs"], &query).await
}

async fn follow(
    app: &mut App,
    client: &Client,
    name: &str,
    args: &LogsArgs,
) -> Result<(), CliError> {
    let mut cursor = Cursor::default();
    let mut limit = args.limit as usize;
    let mut lost = false;
    // Said when it changes, not every second.
    let mut silent = Vec::new();
    loop {
        match ask(client, name, args, limit, cursor.after(), false).await {
            Ok(answer) => {
                if lost {
                    app.out.progress("Connected again.");
                    lost = false;
                }
                let answer = answer.parse::<LogsResponse>()?;
                if answer.silent != silent {
                    silent = answer.silent;
                    if let Some(text) = missing(&silent) {
                        app.out.warn(text);
                    }
                }
                let news = cursor.take(answer.invocations, limit);
                if news.gap {
                    app.out.warn(
                        "invocations come faster than they can be listed; some are not shown",
                    );
                }
                for one in &news.records {
                    show(&mut app.out, one, args.wasm_only)?;
                }
                limit = LOGS_MAX;
            }
            // A node that restarts comes back; what it logged meanwhile is
            // there then. Only the first question must succeed.
            Err(error) if limit == LOGS_MAX && error.exit() == Some(Exit::Unavailable) => {
                if !lost {
                    app.out.warn(format_args!("{error}; trying again"));
                    lost = true;
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// One record of `--follow`; as JSON, one per line.
fn show(out: &mut Output, one: &InvocationRecord, wasm_only: bool) -> Result<(), CliError> {
    let encode = |e: serde_json::Error| CliError::Failed(e.to_string());
    match (out.json(), wasm_only) {
        (true, false) => out.value(&serde_json::to_value(one).map_err(encode)?),
        (json, true) => {
            for line in &one.wasm_logs {
                if json {
                    out.value(&serde_json::to_value(line).map_err(encode)?)?;
                } else {
                    out.line(log_line(line))?;
                }
            }
            Ok(())
        }
        (false, false) => print(out, one),
    }
}

fn print(out: &mut Output, one: &InvocationRecord) -> Result<(), CliError> {
    let attempt = match one.attempt {
        0 | 1 => String::new(),
        n => format!(" attempt={n}"),
    };
    out.line(format!(
        "[{}] {:<7}  request={} duration={}ms version={}{attempt} trigger={} input={}B output={}B memory={}MB",
        millis(one.started_at),
        one.status.as_str(),
        printable(one.request_id.as_str()),
        one.duration_ms,
        one.version,
        one.trigger_type.as_str(),
        one.input_size,
        one.output_size,
        one.memory_used_mb,
    ))?;
    if !one.error_message.is_empty() {
        out.line(format!("    error: {}", indented(&one.error_message)))?;
    }
    for line in &one.wasm_logs {
        out.line(format!("    {}", log_line(line)))?;
    }
    if one.dropped_log_lines > 0 {
        out.line(format!(
            "    ({} further line(s) were over the limit and not kept)",
            one.dropped_log_lines
        ))?;
    }
    Ok(())
}

fn log_line(line: &LogLine) -> String {
    let level = match line.level {
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    };
    format!(
        "[{}] {level}: {}",
        millis(line.timestamp),
        indented(&line.message)
    )
}

/// Several lines of one message stay recognisable as one.
fn indented(text: &str) -> String {
    printable(text.trim_end()).replace('\n', "\n        ")
}

fn millis(at: Timestamp) -> String {
    Timestamp(at.0 / 1_000 * 1_000).to_string()
}

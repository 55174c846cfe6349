//! Questions to the person at the terminal.

use std::io::{BufRead, IsTerminal, Read};
use std::process::{Command, Stdio};

use orama_proto::limits::SQL_STATEMENT_MAX_BYTES;
use zeroize::Zeroizing;

use super::App;
use super::error::CliError;
use super::target::Token;

/// Longest line that is read as an answer.
const LINE_MAX_BYTES: u64 = 64 * 1024;

/// Asks before something is lost.
///
/// # Errors
/// When the answer is not yes, or nobody can be asked.
pub async fn confirm(app: &mut App, force: bool, question: &str) -> Result<(), CliError> {
    if force {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage(
            "stdin is not a terminal, so nobody can confirm; add --force".into(),
        ));
    }
    app.out.ask(format_args!("{question} [y/N] "));
    let answer = line().await?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::Failed("cancelled".into())),
    }
}

/// Reads a credential: from the terminal without showing it, else a line of stdin.
///
/// # Errors
/// When there is none.
pub async fn credential(app: &mut App, question: &str) -> Result<Token, CliError> {
    let terminal = std::io::stdin().is_terminal();
    let hidden = terminal && {
        app.out.ask(format_args!("{question}: "));
        echo(false)
    };
    let answer = tokio::select! {
        answer = line() => answer,
        _ = tokio::signal::ctrl_c(), if hidden => Err(CliError::Failed("cancelled".into())),
    };
    if hidden {
        echo(true);
        app.out.progress("");
    }
    let text = Zeroizing::new(answer?.trim().to_owned());
    if text.is_empty() {
        return Err(CliError::Usage("no credential was given".into()));
    }
    Ok(text)
}

/// Switches the terminal's echo with stty, which every system with a terminal
/// has. Answers whether it did.
fn echo(on: bool) -> bool {
    Command::new("stty")
        .arg(if on { "echo" } else { "-echo" })
        .stdin(Stdio::inherit())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

async fn line() -> Result<Zeroizing<String>, CliError> {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = Zeroizing::new(String::new());
        std::io::BufRead::read_line(&mut std::io::stdin().lock().take(LINE_MAX_BYTES), &mut line)
            .map(|_| line)
    });
    match read.await {
        Ok(Ok(line)) => Ok(line),
        Ok(Err(e)) => Err(CliError::file("cannot read", "stdin")(e)),
        Err(e) => Err(CliError::Failed(format!("cannot read stdin: {e}"))),
    }
}

/// The next line without its end; none when there are no more. Blocks.
///
/// # Errors
/// When it is longer than a statement may be, or cannot be read.
pub fn next_line(from: &mut impl BufRead) -> Result<Option<String>, CliError> {
    let limit = SQL_STATEMENT_MAX_BYTES as u64 + 1;
    let mut line = Vec::new();
    from.take(limit)
        .read_until(b'\n', &mut line)
        .map_err(CliError::file("cannot read", "stdin"))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 == limit {
        return Err(CliError::Failed(format!(
            "it is longer than the limit of {SQL_STATEMENT_MAX_BYTES} bytes; `orama db import` takes longer ones from a file"
        )));
    }
    String::from_utf8(line)
        .map(Some)
        .map_err(|_| CliError::Failed("it is not UTF-8".into()))
}

/// All of stdin, at most `limit` bytes.
///
/// # Errors
/// When there is more, or it cannot be read.
pub fn stdin_bytes(limit: usize) -> Result<Vec<u8>, CliError> {
    bounded(std::io::stdin().lock(), limit, "stdin")
}

/// A file's bytes, at most `limit` of them.
///
/// # Errors
/// When there are more, or it cannot be read.
pub fn file_bytes(path: &std::path::Path, limit: usize) -> Result<Vec<u8>, CliError> {
    let file = std::fs::File::open(path).map_err(CliError::file("cannot read", path))?;
    bounded(file, limit, &path.display().to_string())
}

fn bounded(from: impl Read, limit: usize, name: &str) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    from.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(CliError::file("cannot read", name))?;
    if bytes.len() > limit {
        return Err(CliError::Failed(format!(
            "{name} is longer than the limit of {limit} bytes"
        )));
    }
    Ok(bytes)
}

//! Where a shell's lines come from.

#[cfg(test)]
use std::collections::VecDeque;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::error::CliError;
use crate::cli::prompt::next_line;

/// What comes in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A line without its end.
    Line(String),
    /// There are no more lines.
    End,
    /// Ctrl-C on a terminal.
    Interrupt,
}

/// Lines and interrupts.
pub(super) enum Input {
    /// A thread reads ahead by a line, so that a statement can be interrupted.
    Stdin {
        lines: mpsc::Receiver<Result<Option<String>, CliError>>,
        /// None where nobody types: there SIGINT ends the process.
        interrupt: Option<Signal>,
    },
    #[cfg(test)]
    Given(VecDeque<Event>),
}

impl Input {
    /// The process's own.
    ///
    /// # Errors
    /// Signals cannot be received, or no thread can be had.
    pub(super) fn stdin(terminal: bool) -> Result<Self, CliError> {
        let failed = |e| CliError::Failed(format!("cannot start: {e}"));
        let interrupt = match terminal {
            true => Some(signal(SignalKind::interrupt()).map_err(failed)?),
            false => None,
        };
        let (to, lines) = mpsc::channel(1);
        std::thread::Builder::new()
            .name("stdin".into())
            .spawn(move || {
                let mut stdin = std::io::stdin().lock();
                loop {
                    let line = next_line(&mut stdin);
                    let last = !matches!(line, Ok(Some(_)));
                    if to.blocking_send(line).is_err() || last {
                        break;
                    }
                }
            })
            .map_err(failed)?;
        Ok(Self::Stdin { lines, interrupt })
    }

    /// The next of them.
    ///
    /// # Errors
    /// A line cannot be read.
    pub(super) async fn next(&mut self) -> Result<Event, CliError> {
        match self {
            Self::Stdin { lines, interrupt } => {
                tokio::select! {
                    line = lines.recv() => match line.transpose()?.flatten() {
                        Some(line) => Ok(Event::Line(line)),
                        None => Ok(Event::End),
                    },
                    () = interrupted(interrupt) => Ok(Event::Interrupt),
                }
            }
            #[cfg(test)]
            Self::Given(events) => Ok(events.pop_front().unwrap_or(Event::End)),
        }
    }

    /// Waits for an interrupt.
    pub(super) async fn interrupted(&mut self) {
        match self {
            Self::Stdin { interrupt, .. } => interrupted(interrupt).await,
            #[cfg(test)]
            Self::Given(events) => {
                if events.front() != Some(&Event::Interrupt) {
                    return std::future::pending().await;
                }
                events.pop_front();
            }
        }
    }
}

async fn interrupted(signal: &mut Option<Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

//! Signals that end a command which has something to tell or to tidy up first.

use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(test)]
use tokio::sync::mpsc;

use super::error::CliError;

/// SIGINT, SIGTERM and SIGHUP, instead of dying of them.
pub enum Interrupt {
    /// The process's own.
    Signals([Signal; 3]),
    /// A test's.
    #[cfg(test)]
    Given(mpsc::Receiver<()>),
}

impl Interrupt {
    /// From now on.
    ///
    /// # Errors
    /// When signals cannot be received.
    pub fn new() -> Result<Self, CliError> {
        let receive = |kind| {
            signal(kind).map_err(|e| CliError::Failed(format!("cannot receive signals: {e}")))
        };
        Ok(Self::Signals([
            receive(SignalKind::interrupt())?,
            receive(SignalKind::terminate())?,
            receive(SignalKind::hangup())?,
        ]))
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        match self {
            Self::Signals([interrupt, terminate, hangup]) => {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
            }
            #[cfg(test)]
            Self::Given(given) => {
                if given.recv().await.is_none() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

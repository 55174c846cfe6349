//! SIGTERM and SIGINT: the first asks for an orderly stop, the second for an
//! immediate one.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that ask the node to stop.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes the signals over from their default, which is to die.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one; answers its name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Ends the process where it stands.
pub(super) fn stop_now() -> ! {
    #[expect(
        clippy::disallowed_methods,
        reason = "asked for twice; what must survive is on disk already"
    )]
    std::process::exit(1)
}

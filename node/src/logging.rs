//! The node's log: lines on stderr, for people or for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Libraries whose INFO is our DEBUG; a filter of the user's comes after and wins. openraft
/// calls it an error that a peer is away or that it was asked to stop: what matters of
/// it is reported by the groups themselves.
const QUIET: &str =
    "openraft=off,sled=warn,actix_server=warn,actix_web=warn,wasmtime=warn,cranelift=warn";

/// Starts logging. Call once.
///
/// # Errors
/// When the filter does not parse.
pub fn start(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.log))
        .map_err(|e| anyhow::anyhow!("--log: {:?} is not a tracing filter: {e}", config.log))?;
    let format = config.log_format.unwrap_or_else(|| {
        if std::io::stderr().is_terminal() {
            LogFormat::Text
        } else {
            LogFormat::Json
        }
    });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| anyhow::anyhow!("the log cannot be started: {e}"))
}

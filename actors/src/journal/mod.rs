//! Invocation records on their way to disk, off the reply path. See `OVERVIEW.md`.

mod actor;
mod handle;
mod metrics;
mod queue;

pub(crate) use handle::{Journal, JournalOptions};

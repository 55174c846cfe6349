//! Invocation records on their way to disk, off the reply path, and from all
//! nodes to whoever asks for them. See `OVERVIEW.md`.

mod actor;
mod gather;
mod handle;
mod metrics;
mod queue;
#[cfg(test)]
mod sample;

pub(crate) use gather::{FLUSH_WITHIN, Gather};
pub(crate) use handle::{Journal, JournalOptions};

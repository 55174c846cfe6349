//! Invocations: who may, where there is room, in which thread, how often. See `OVERVIEW.md`.

mod admission;
mod attempt;
mod confirm;
mod invoke;
mod metrics;
mod modules;
mod resolve;
mod retry;
mod thread;
mod turns;

pub(crate) use admission::{Admission, InFlight, Limits, Place};
pub(crate) use attempt::Request;
pub(crate) use confirm::Confirmations;
pub(crate) use invoke::Invoker;
pub(crate) use metrics::Metrics;
#[cfg(test)]
pub(crate) use modules::Blobs;
pub(crate) use modules::{LoadError, Modules};
#[cfg(test)]
pub(crate) use resolve::Catalog;
pub(crate) use thread::Workers;
pub(crate) use turns::{OneAtATime, Turn};

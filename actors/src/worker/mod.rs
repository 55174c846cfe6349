//! Invocations: who may, where there is room, in which thread, how often. See `OVERVIEW.md`.

mod admission;
mod attempt;
mod invoke;
mod metrics;
mod modules;
mod retry;
mod router;
mod thread;
mod turns;

pub(crate) use admission::{Admission, Limits};
pub(crate) use invoke::Invoker;
pub(crate) use metrics::Metrics;
pub(crate) use modules::{LoadError, Modules};
pub(crate) use thread::Workers;
pub(crate) use turns::{OneAtATime, Turn};

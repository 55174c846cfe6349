//! What clients saw of a cluster, and whether one machine could have shown it
//! to them: recorded histories and their checkers.
//!
//! - [`Recorder`] collects [`Event`]s of registers from many tasks;
//!   [`check`] decides for each key by itself whether the history is linearizable.
//!   [`clients`] are who makes such histories.
//! - [`versions`] does the same for a counter that every acknowledged change
//!   raises: the versions of a function.
//! - [`lists`] does it for lists that only grow, whose order readers see.

pub mod clients;
pub mod lists;
mod register;
#[cfg(test)]
mod register_tests;
mod search;
pub mod versions;

pub use register::{Violation, check};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

/// What a client asked of a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Its value.
    Read,
    /// To be this value, whatever it was.
    Write(String),
    /// To be `new` if it was `expected`; `None` is no value.
    Swap {
        /// What it must have been.
        expected: Option<String>,
        /// What it is to be.
        new: String,
    },
}

/// What the client learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A read's answer.
    Saw(Option<String>),
    /// The change happened.
    Done,
    /// The swap found another value than the expected one.
    Differed,
    /// Certainly without effect.
    Failed,
    /// It took effect at some moment after its start, or will, or never.
    Unknown,
}

/// One operation of one client. Times are nanoseconds of one clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The register.
    pub key: String,
    /// Who asked, for people.
    pub client: String,
    /// What was asked.
    pub action: Action,
    /// What was learned.
    pub outcome: Outcome,
    /// When it was sent.
    pub start: u64,
    /// When the answer, or the lack of one, was known.
    pub end: u64,
}

/// Collects events of many tasks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    began: Instant,
    events: Arc<Mutex<Vec<Event>>>,
    values: Arc<AtomicU64>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            events: Arc::default(),
            values: Arc::default(),
        }
    }
}

impl Recorder {
    /// Now, on the clock of the history.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
    /// A value that nobody wrote before: the checker relies on it.
    pub fn fresh_value(&self, client: &str) -> String {
        format!("{client}-{}", self.values.fetch_add(1, Ordering::Relaxed))
    }
    /// Adds what a client did.
    pub fn record(&self, event: Event) {
        self.events.lock().push(event);
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.events.lock().len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.events.lock().is_empty()
    }
    /// All of them, in the order in which they ended.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }
}

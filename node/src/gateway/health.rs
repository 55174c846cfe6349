//! Whether this node serves: starting, ready, draining, removed. Shared by the
//! gateway and the metrics server.

use std::sync::Arc;
use std::time::Instant;

use orama_proto::Timestamp;
use parking_lot::RwLock;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// With what it waits for.
    Starting(&'static str),
    Ready,
    Draining,
    Removed,
}

/// The node's state and age. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: RwLock<State>,
    started_at: Timestamp,
    since: Instant,
}

impl Health {
    /// A node that is starting.
    pub fn starting() -> Self {
        Self(Arc::new(Inner {
            state: RwLock::new(State::Starting("it opens what it stores")),
            started_at: Timestamp::now(),
            since: Instant::now(),
        }))
    }
    /// The node is still starting, and this is why it takes long.
    pub fn set_waiting(&self, why: &'static str) {
        let mut state = self.0.state.write();
        if matches!(*state, State::Starting(_)) {
            *state = State::Starting(why);
        }
    }
    /// The node answers requests.
    pub fn set_ready(&self) {
        *self.0.state.write() = State::Ready;
    }
    /// The node is about to stop; stays so.
    pub fn set_draining(&self) {
        *self.0.state.write() = State::Draining;
    }
    /// The node was removed from its cluster and is about to stop; stays so.
    pub fn set_removed(&self) {
        *self.0.state.write() = State::Removed;
    }
    fn state(&self) -> State {
        *self.0.state.read()
    }
    /// Whether requests should be sent here.
    pub fn is_ready(&self) -> bool {
        self.state() == State::Ready
    }
    /// Whether the node is about to stop.
    pub fn is_draining(&self) -> bool {
        matches!(self.state(), State::Draining | State::Removed)
    }
    /// The state as a word.
    pub fn word(&self) -> &'static str {
        match self.state() {
            State::Starting(_) => "starting",
            State::Ready => "ok",
            State::Draining => "draining",
            State::Removed => "removed",
        }
    }
    /// The state as a sentence, for probes that are answered with 503.
    pub fn sentence(&self) -> String {
        match self.state() {
            State::Starting(why) => format!("the node is starting: {why}"),
            State::Removed => "the node was removed from its cluster and stops".into(),
            State::Ready | State::Draining => format!("the node is {}", self.word()),
        }
    }
    /// When the process started.
    pub fn started_at(&self) -> Timestamp {
        self.0.started_at
    }
    /// Age, as in `1h2m3s`.
    pub fn uptime(&self) -> String {
        let seconds = self.0.since.elapsed().as_secs();
        let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        match (hours, minutes) {
            (0, 0) => format!("{rest}s"),
            (0, _) => format!("{minutes}m{rest}s"),
            _ => format!("{hours}h{minutes}m{rest}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_says_what_it_waits_for_until_it_is_over() {
        let health = Health::starting();
        health.set_waiting("it looks for its cluster");
        assert_eq!(
            health.sentence(),
            "the node is starting: it looks for its cluster"
        );
        health.set_ready();
        health.set_waiting("late");
        assert!(health.is_ready());
        health.set_removed();
        assert!(!health.is_ready() && health.is_draining());
        assert_eq!(health.word(), "removed");
    }
}

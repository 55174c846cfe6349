//! Whether this node serves: starting, ready, draining. Shared by the gateway
//! and the metrics server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use orama_proto::Timestamp;

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// The node's state and age. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: AtomicU8,
    started_at: Timestamp,
    since: Instant,
}

impl Health {
    /// A node that is starting.
    pub fn starting() -> Self {
        Self(Arc::new(Inner {
            state: AtomicU8::new(STARTING),
            started_at: Timestamp::now(),
            since: Instant::now(),
        }))
    }
    /// The node answers requests.
    pub fn set_ready(&self) {
        self.0.state.store(READY, Ordering::Release);
    }
    /// The node is about to stop; stays so.
    pub fn set_draining(&self) {
        self.0.state.store(DRAINING, Ordering::Release);
    }
    /// Whether requests should be sent here.
    pub fn is_ready(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == READY
    }
    /// Whether the node is about to stop.
    pub fn is_draining(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == DRAINING
    }
    /// The state as a word.
    pub fn word(&self) -> &'static str {
        match self.0.state.load(Ordering::Acquire) {
            STARTING => "starting",
            READY => "ok",
            _ => "draining",
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

//! What nodes tell each other about how busy they are, a few times a second.

use serde::{Deserialize, Serialize};

/// Version of [`LoadReport`] on the wire.
pub const LOAD_VERSION: u8 = 1;

/// How busy a node is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LoadReport {
    /// Guests that run.
    pub running: u32,
    /// Invocations that wait for a place.
    pub queued: u32,
    /// Guests that may run at once.
    pub capacity: u32,
    /// Median duration of recent invocations, microseconds.
    pub latency_us: u32,
    /// Takes no forwarded invocations: it drains or leaves.
    pub closed: bool,
}

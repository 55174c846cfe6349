//! How fresh this replica is: when it last heard from its leader, and how much it
//! heard of that it has not applied yet. For reads that take what is here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, ServerState};
use parking_lot::Mutex;

use super::group::{Group, LEASE};

/// What the leader said last.
#[derive(Debug, Default)]
pub(super) struct Heard {
    at: Mutex<Option<Instant>>,
    /// The highest index it said is committed.
    committed: AtomicU64,
}

impl Heard {
    /// A message of the present leader arrived at `at`. Its commit mark is true for ever.
    pub(super) fn note(&self, at: Instant, committed: Option<u64>) {
        let mut last = self.at.lock();
        *last = (*last).max(Some(at));
        drop(last);
        if let Some(index) = committed {
            self.committed.fetch_max(index, Ordering::AcqRel);
        }
    }
}

impl Group {
    /// Time since this replica last heard from its leader: zero on a leader that a majority
    /// answered within its lease; `None` when it never did since the start.
    pub(crate) fn heard(&self) -> Option<Duration> {
        let metrics = self.inner.raft.metrics();
        let now = metrics.borrow_watched();
        if now.state == ServerState::Leader && now.running_state.is_ok() {
            let me = self.inner.shared.node.0;
            if now.membership_config.voter_ids().eq([me]) {
                return Some(Duration::ZERO);
            }
            let since = now.last_quorum_acked.as_ref()?.elapsed();
            return Some(if since < LEASE { Duration::ZERO } else { since });
        }
        drop(now);
        let at = *self.inner.heard.at.lock();
        at.map(|at| at.elapsed())
    }

    /// Entries that this replica knows to be committed and has not applied.
    pub(crate) fn behind(&self) -> u64 {
        let known = {
            let metrics = self.inner.raft.metrics();
            let now = metrics.borrow_watched();
            let local = now.local_committed.as_ref().map_or(0, |at| at.index);
            let cluster = now.cluster_committed.as_ref().map_or(0, |at| at.index);
            local.max(cluster)
        };
        let heard = self.inner.heard.committed.load(Ordering::Acquire);
        known.max(heard).saturating_sub(self.applied_index())
    }
}

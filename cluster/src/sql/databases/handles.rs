//! What a node may have open for its databases: so many writers, the least recently used of
//! which are closed when there are more, and so many readers. All its groups share the bounds,
//! because the process has one limit of open files.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

use super::super::{EngineFault, Writer};
use super::metrics::Metrics;
use super::readers::Pool;
use super::slot::{Slot, Work};

/// Databases that are open for writing, unless the process may open too few files.
const WRITERS_MAX: usize = 512;
/// Read connections, unless the process may open too few files.
const READERS_MAX: usize = 256;
/// Connections of each kind there may be at least, whatever the process may open.
const LEAST: usize = 8;
/// Files that a connection has open: the database, its log, the log's index.
const FILES_EACH: u64 = 3;
/// One file in so many of the process's is for connections to databases. The others are for
/// clients, peers, logs, blobs.
const SHARE: u64 = 2;
/// Having no handles left is logged at most so often.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Bounds of what a node holds open, for all of its groups: clones share them.
#[derive(Clone)]
pub(crate) struct DatabasesOptions {
    pub(super) node: Arc<Node>,
}

/// What is open on a node.
pub(super) struct Node {
    writers_max: usize,
    pub(super) readers_max: usize,
    /// The last number that was given to a group.
    groups: AtomicU64,
    writers: Mutex<Writers>,
    pub(super) readers: Pool,
    warned: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Writers {
    turn: u64,
    /// By when they were used last, with the number of their group.
    slots: BTreeMap<u64, (u64, Arc<Slot>)>,
}

impl DatabasesOptions {
    /// With these bounds: databases with an open writer, open readers.
    pub(crate) fn new(writers_max: usize, readers_max: usize) -> Self {
        Self {
            node: Arc::new(Node {
                writers_max: writers_max.max(1),
                readers_max: readers_max.max(1),
                groups: AtomicU64::new(0),
                writers: Mutex::default(),
                readers: Pool::default(),
                warned: Mutex::default(),
            }),
        }
    }
}

impl Default for DatabasesOptions {
    /// The bounds that fit the limit of open files that the process has now.
    fn default() -> Self {
        let (writers, readers) = bounds(getrlimit(Resource::Nofile).current);
        Self::new(writers, readers)
    }
}

impl fmt::Debug for DatabasesOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabasesOptions")
            .field("writers_max", &self.node.writers_max)
            .field("readers_max", &self.node.readers_max)
            .finish_non_exhaustive()
    }
}

/// Writers and readers that fit a limit of open files (`None`: there is none).
fn bounds(limit: Option<u64>) -> (usize, usize) {
    let connections = limit.unwrap_or(u64::MAX) / SHARE / FILES_EACH;
    let readers = connections / 3;
    let fit = |wanted: u64, max: usize| usize::try_from(wanted).unwrap_or(max).clamp(LEAST, max);
    (
        fit(connections - readers, WRITERS_MAX),
        fit(readers, READERS_MAX),
    )
}

impl Node {
    /// Opens something. When there are no file handles left, everything that is idle on the node is
    /// closed and it is tried once more.
    pub(super) fn opening<T>(
        &self,
        metrics: &Metrics,
        open: impl Fn() -> Result<T, EngineFault>,
    ) -> Result<T, EngineFault> {
        match open() {
            Err(fault @ EngineFault::Handles) => {
                let closed = self.close_idle(metrics) + self.readers.close_all(metrics);
                metrics.exhausted.inc();
                let mut warned = self.warned.lock();
                if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                    *warned = Some(Instant::now());
                    tracing::warn!(closed, error = %fault, "idle connections to databases were closed");
                }
                drop(warned);
                open()
            }
            other => other,
        }
    }

    /// Closes the writers that nobody uses; answers how many.
    fn close_idle(&self, metrics: &Metrics) -> usize {
        let mut closing = Vec::new();
        self.changing(metrics, |writers| writers.close(usize::MAX, &mut closing));
        closing.len()
    }

    /// Changes which writers are open; the gauge follows.
    fn changing(&self, metrics: &Metrics, change: impl FnOnce(&mut Writers)) {
        let mut writers = self.writers.lock();
        let before = writers.slots.len();
        change(&mut writers);
        metrics.open.add(difference(before, writers.slots.len()));
    }
}

impl Writers {
    /// Takes so many writers out, the least recently used first. Those in use are passed over.
    fn close(&mut self, mut extra: usize, closing: &mut Vec<Option<Box<Writer>>>) {
        if extra == 0 {
            return;
        }
        self.slots.retain(|_, (_, candidate)| {
            let work = (extra > 0).then(|| candidate.work.try_lock()).flatten();
            let Some(mut work) = work else {
                return true;
            };
            extra -= 1;
            closing.push(work.writer.take());
            work.turn = 0;
            false
        });
    }
}

/// What a gauge is to be raised by.
pub(super) fn difference(before: usize, after: usize) -> i64 {
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    number(after) - number(before)
}

/// The writers of one group.
pub(super) struct Handles {
    pub(super) node: Arc<Node>,
    /// The group's number on this node.
    pub(super) group: u64,
    metrics: Metrics,
}

impl Handles {
    pub(super) fn new(node: Arc<Node>, metrics: &Metrics) -> Self {
        Self {
            group: node.groups.fetch_add(1, Ordering::Relaxed) + 1,
            node,
            metrics: metrics.clone(),
        }
    }

    /// Notes that a slot's writer is used, and closes others, of any group, when there are too
    /// many. Those in use are passed over, this slot's own too: its lock is taken. Closing is
    /// cheap: nothing is checkpointed then (`NO_CKPT_ON_CLOSE`).
    pub(super) fn used(&self, slot: &Arc<Slot>, work: &mut Work) {
        let mut closing = Vec::new();
        self.node.changing(&self.metrics, |writers| {
            writers.slots.remove(&work.turn);
            writers.turn += 1;
            work.turn = writers.turn;
            let used = (self.group, Arc::clone(slot));
            writers.slots.insert(work.turn, used);
            let extra = writers.slots.len().saturating_sub(self.node.writers_max);
            writers.close(extra, &mut closing);
        });
        self.metrics.evicted.inc_by(closing.len() as u64);
    }

    /// Closes a slot's writer.
    pub(super) fn close(&self, work: &mut Work) {
        work.writer = None;
        self.node.changing(&self.metrics, |writers| {
            writers.slots.remove(&work.turn);
        });
        work.turn = 0;
    }

    /// Opens something, with another try when there are no file handles left.
    pub(super) fn opening<T>(
        &self,
        open: impl Fn() -> Result<T, EngineFault>,
    ) -> Result<T, EngineFault> {
        self.node.opening(&self.metrics, open)
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.node.writers.lock().slots.len()
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        let mut left = Vec::new();
        self.node.changing(&self.metrics, |writers| {
            writers.slots.retain(|_, (group, slot)| {
                let mine = *group == self.group;
                if mine {
                    left.push(Arc::clone(slot));
                }
                !mine
            });
        });
        // Closed with their slots, and not under the lock that all groups share.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_follow_the_limit_of_open_files() {
        assert_eq!(bounds(None), (WRITERS_MAX, READERS_MAX));
        assert_eq!(bounds(Some(65_536)), (WRITERS_MAX, READERS_MAX));
        assert_eq!(bounds(Some(1024)), (114, 56));
        assert_eq!(bounds(Some(0)), (LEAST, LEAST));
        for limit in (256..100_000).step_by(97) {
            let (writers, readers) = bounds(Some(limit));
            assert!((writers + readers) as u64 * FILES_EACH <= limit / SHARE);
            assert!(writers <= WRITERS_MAX && readers <= READERS_MAX);
        }
    }
}

//! Read connections: several for a database, so many over all groups of a node, closed when idle.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::super::{EngineFault, Reader};
use super::handles::{Handles, Node, difference};
use super::metrics::Metrics;
use super::slot::Slot;

/// A connection that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// How often one who waits looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// The read connections of a node.
#[derive(Default)]
pub(super) struct Pool {
    connections: Mutex<Connections>,
    free: Condvar,
}

#[derive(Default)]
struct Connections {
    /// Open ones, those in use included.
    open: usize,
    /// The least recently used first.
    idle: VecDeque<Idle>,
}

/// The read connections of a group.
pub(super) struct Readers {
    node: Arc<Node>,
    group: u64,
    /// Changed and asked under the pool's lock.
    closed: AtomicBool,
    metrics: Metrics,
}

struct Idle {
    /// The number of its group.
    group: u64,
    /// `None`: of databases that do not exist.
    slot: Option<Arc<Slot>>,
    reader: Reader,
    since: Instant,
}

/// A connection in use; it is closed when it is not given back.
pub(super) struct Lent<'a> {
    readers: &'a Readers,
    slot: Option<Arc<Slot>>,
    reader: Option<Reader>,
    /// Whether its place among the open ones is still its own.
    counted: bool,
}

/// Why there is no connection.
pub(super) enum NoReader {
    /// All are in use until the deadline, or nobody waits any more.
    Late,
    Fault(EngineFault),
}

fn same(a: Option<&Arc<Slot>>, b: Option<&Arc<Slot>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

impl Pool {
    /// Closes those idle ones; answers how many.
    fn close_idle(&self, metrics: &Metrics, which: impl Fn(&Idle) -> bool) -> usize {
        let mut closing = Vec::new();
        let mut pool = self.connections.lock();
        let idle = std::mem::take(&mut pool.idle);
        for one in idle {
            match which(&one) {
                true => closing.push(one),
                false => pool.idle.push_back(one),
            }
        }
        pool.set_open(metrics, |open| open - closing.len());
        drop(pool);
        if !closing.is_empty() {
            self.free.notify_all();
        }
        closing.len()
    }

    /// Closes all that nobody uses; answers how many.
    pub(super) fn close_all(&self, metrics: &Metrics) -> usize {
        self.close_idle(metrics, |_| true)
    }
}

impl Connections {
    /// Changes how many are open; the gauge follows.
    fn set_open(&mut self, metrics: &Metrics, change: impl FnOnce(usize) -> usize) {
        let before = self.open;
        self.open = change(before);
        metrics.readers.add(difference(before, self.open));
    }
}

impl Readers {
    pub(super) fn new(handles: &Handles, metrics: &Metrics) -> Self {
        Self {
            node: Arc::clone(&handles.node),
            group: handles.group,
            closed: AtomicBool::new(false),
            metrics: metrics.clone(),
        }
    }

    /// Lends a connection to this file. Waits while there are too many.
    pub(super) fn lend(
        &self,
        slot: Option<&Arc<Slot>>,
        deadline: Instant,
        cancelled: &AtomicBool,
    ) -> Result<Lent<'_>, NoReader> {
        let mut lent = self.acquire(slot, deadline, cancelled)?;
        if lent.reader.is_none() {
            let opened = self.node.opening(&self.metrics, || match slot {
                Some(slot) => Reader::open(&slot.path),
                None => Reader::empty(),
            });
            lent.reader = Some(opened.map_err(NoReader::Fault)?);
        }
        Ok(lent)
    }

    /// A place among the open ones, with a connection if an idle one fits.
    fn acquire(
        &self,
        slot: Option<&Arc<Slot>>,
        deadline: Instant,
        cancelled: &AtomicBool,
    ) -> Result<Lent<'_>, NoReader> {
        let lent = |reader| Lent {
            readers: self,
            slot: slot.cloned(),
            reader,
            counted: true,
        };
        let shared = &self.node.readers;
        let mut pool = shared.connections.lock();
        loop {
            if self.closed.load(Ordering::Relaxed) {
                return Err(NoReader::Fault(super::table::closed()));
            }
            let fits = |idle: &Idle| same(idle.slot.as_ref(), slot);
            let found = pool.idle.iter().rposition(fits);
            if let Some(idle) = found.and_then(|at| pool.idle.remove(at)) {
                return Ok(lent(Some(idle.reader)));
            }
            if pool.open < self.node.readers_max {
                pool.set_open(&self.metrics, |open| open + 1);
                return Ok(lent(None));
            }
            if let Some(evicted) = pool.idle.pop_front() {
                drop(pool);
                drop(evicted);
                return Ok(lent(None));
            }
            let now = Instant::now();
            if now >= deadline || cancelled.load(Ordering::Relaxed) {
                return Err(NoReader::Late);
            }
            shared.free.wait_until(&mut pool, deadline.min(now + LOOK));
        }
    }

    /// Closes idle connections to this file.
    pub(super) fn forget(&self, slot: &Arc<Slot>) {
        let its = |idle: &Idle| idle.slot.as_ref().is_some_and(|s| Arc::ptr_eq(s, slot));
        self.node.readers.close_idle(&self.metrics, its);
    }

    /// Closes what nobody used for a while, of any group.
    pub(super) fn close_old(&self) {
        let old = |idle: &Idle| idle.since.elapsed() >= IDLE;
        self.node.readers.close_idle(&self.metrics, old);
    }

    /// Closes everything of this group; those in use as soon as they are given back.
    pub(super) fn close(&self) {
        let shared = &self.node.readers;
        {
            let _pool = shared.connections.lock();
            self.closed.store(true, Ordering::Relaxed);
        }
        shared.close_idle(&self.metrics, |idle| idle.group == self.group);
        // Who waits for one hears of it.
        shared.free.notify_all();
    }

    #[cfg(test)]
    pub(super) fn idle_of_gone(&self) -> usize {
        let pool = self.node.readers.connections.lock();
        let gone = |idle: &&Idle| idle.slot.as_ref().is_some_and(|slot| slot.gone());
        pool.idle.iter().filter(gone).count()
    }
    /// As if nobody had used the idle ones for so long.
    #[cfg(test)]
    pub(super) fn age(&self, by: Duration) {
        for idle in &mut self.node.readers.connections.lock().idle {
            idle.since = idle.since.checked_sub(by).unwrap();
        }
    }
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.node.readers.connections.lock().open
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.close();
    }
}

impl Lent<'_> {
    pub(super) fn reader(&mut self) -> Option<&mut Reader> {
        self.reader.as_mut()
    }

    /// Gives the connection back for others to use.
    pub(super) fn give_back(mut self) {
        let readers = self.readers;
        let mut pool = readers.node.readers.connections.lock();
        // Asked under the lock: who deletes a file says that it is gone first, and then closes what
        // is idle here.
        let gone = self.slot.as_ref().is_some_and(|slot| slot.gone());
        if readers.closed.load(Ordering::Relaxed) || gone {
            // Closing takes the lock.
            drop(pool);
            return;
        }
        let Some(reader) = self.reader.take() else {
            return;
        };
        pool.idle.push_back(Idle {
            group: readers.group,
            slot: self.slot.take(),
            reader,
            since: Instant::now(),
        });
        // The place goes with it.
        self.counted = false;
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        // Closed before somebody else opens one in its place.
        self.reader = None;
        let shared = &self.readers.node.readers;
        if self.counted {
            let mut pool = shared.connections.lock();
            pool.set_open(&self.readers.metrics, |open| open - 1);
        }
        shared.free.notify_one();
    }
}

//! Read connections of a group: several for a database, so many over all of them, closed when idle.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::super::{EngineFault, Reader};
use super::metrics::{Metrics, Share};
use super::slot::Slot;

/// A connection that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// How often one who waits looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

pub(super) struct Readers {
    max: usize,
    pool: Mutex<Pool>,
    free: Condvar,
    share: Share,
}

#[derive(Default)]
struct Pool {
    /// Open ones, those in use included.
    open: usize,
    /// The least recently used first.
    idle: VecDeque<Idle>,
    closed: bool,
}

struct Idle {
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

impl Readers {
    pub(super) fn new(max: usize, metrics: &Metrics) -> Self {
        Self {
            max: max.max(1),
            pool: Mutex::default(),
            free: Condvar::new(),
            share: Share::new(&metrics.readers),
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
            let opened = match slot {
                Some(slot) => Reader::open(&slot.path),
                None => Reader::empty(),
            };
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
        let mut pool = self.pool.lock();
        loop {
            if pool.closed {
                return Err(NoReader::Fault(super::table::closed()));
            }
            let fits = |idle: &Idle| same(idle.slot.as_ref(), slot);
            let found = pool.idle.iter().rposition(fits);
            if let Some(idle) = found.and_then(|at| pool.idle.remove(at)) {
                return Ok(lent(Some(idle.reader)));
            }
            if pool.open < self.max {
                pool.open += 1;
                self.share.set(pool.open);
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
            self.free.wait_until(&mut pool, deadline.min(now + LOOK));
        }
    }

    /// Closes idle connections to this file.
    pub(super) fn forget(&self, slot: &Arc<Slot>) {
        self.close_idle(|idle| idle.slot.as_ref().is_some_and(|s| Arc::ptr_eq(s, slot)));
    }

    /// Closes what nobody used for a while.
    pub(super) fn close_old(&self) {
        self.close_idle(|idle| idle.since.elapsed() >= IDLE);
    }

    fn close_idle(&self, which: impl Fn(&Idle) -> bool) {
        let mut closing = Vec::new();
        let mut pool = self.pool.lock();
        let idle = std::mem::take(&mut pool.idle);
        for one in idle {
            match which(&one) {
                true => closing.push(one),
                false => pool.idle.push_back(one),
            }
        }
        pool.open -= closing.len();
        self.share.set(pool.open);
        drop(pool);
        if !closing.is_empty() {
            self.free.notify_all();
        }
    }

    /// Closes everything; those in use as soon as they are given back.
    pub(super) fn close(&self) {
        self.pool.lock().closed = true;
        self.close_idle(|_| true);
    }

    #[cfg(test)]
    pub(super) fn idle_of_gone(&self) -> usize {
        let pool = self.pool.lock();
        let gone = |idle: &&Idle| idle.slot.as_ref().is_some_and(|slot| slot.gone());
        pool.idle.iter().filter(gone).count()
    }
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.pool.lock().open
    }
}

impl Lent<'_> {
    pub(super) fn reader(&mut self) -> Option<&mut Reader> {
        self.reader.as_mut()
    }

    /// Gives the connection back for others to use.
    pub(super) fn give_back(mut self) {
        let mut pool = self.readers.pool.lock();
        // Asked under the lock: who deletes a file says that it is gone first, and then closes what
        // is idle here.
        let gone = self.slot.as_ref().is_some_and(|slot| slot.gone());
        if pool.closed || gone {
            // Closing takes the lock.
            drop(pool);
            return;
        }
        let Some(reader) = self.reader.take() else {
            return;
        };
        pool.idle.push_back(Idle {
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
        let mut pool = self.readers.pool.lock();
        if self.counted {
            pool.open -= 1;
            self.readers.share.set(pool.open);
        }
        drop(pool);
        self.readers.free.notify_one();
    }
}

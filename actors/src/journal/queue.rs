//! The journal's queue: filled by every invocation, emptied by the actor.
//!
//! A record wakes the actor only when it is the first of a batch or fills
//! one. Waking for each would cost every invocation a system call and the
//! machine two thread switches, for a reader that gathers anyway.

use orama_proto::invocation::InvocationRecord;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// What waits to be written.
#[derive(Default)]
struct Waiting {
    records: Vec<InvocationRecord>,
    /// Stand behind every record put before them, which is what makes reads
    /// see one's own writes.
    flushes: Vec<oneshot::Sender<()>>,
    closed: bool,
}

/// A queue with many writers and one reader.
pub(super) struct Queue {
    /// Held for a push or a swap, never across anything slow.
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// Records that may wait.
    capacity: usize,
    /// Records of one batch.
    batch: usize,
}

impl Queue {
    pub(super) fn new(capacity: usize, batch: usize) -> Self {
        Self {
            waiting: Mutex::new(Waiting::default()),
            wake: Notify::new(),
            capacity,
            batch: batch.max(1),
        }
    }

    /// Puts a record in; gives it back when the queue is full or closed.
    pub(super) fn push(&self, record: InvocationRecord) -> Result<(), Box<InvocationRecord>> {
        let mut waiting = self.waiting.lock();
        if waiting.closed || waiting.records.len() >= self.capacity {
            return Err(Box::new(record));
        }
        waiting.records.push(record);
        let count = waiting.records.len();
        drop(waiting);
        if count == 1 || count == self.batch {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Answers when everything put before is written. None when the queue is closed.
    pub(super) fn flush(&self) -> Option<oneshot::Receiver<()>> {
        let (done, when) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return None;
        }
        waiting.flushes.push(done);
        drop(waiting);
        self.wake.notify_one();
        Some(when)
    }

    /// No more records; the reader takes what is left and ends.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.wake.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    /// Waits for something to do. False when the queue is closed and empty.
    pub(super) async fn ready(&self) -> bool {
        loop {
            {
                let waiting = self.waiting.lock();
                if !waiting.records.is_empty() || !waiting.flushes.is_empty() {
                    return true;
                }
                if waiting.closed {
                    return false;
                }
            }
            self.wake.notified().await;
        }
    }

    /// Waits for company: until a batch is full, somebody waits for the disk,
    /// or it is `until`.
    pub(super) async fn company(&self, until: Instant) {
        loop {
            {
                let waiting = self.waiting.lock();
                let full = waiting.records.len() >= self.batch;
                if full || !waiting.flushes.is_empty() || waiting.closed {
                    return;
                }
            }
            if tokio::time::timeout_at(until, self.wake.notified())
                .await
                .is_err()
            {
                return;
            }
        }
    }

    /// Takes one batch, and those who wait for it if it is the last. What
    /// comes next is put into `spare`, an empty vector with room: one that
    /// grows does so under the lock, in the invocations' time.
    pub(super) fn take(
        &self,
        spare: Vec<InvocationRecord>,
    ) -> (Vec<InvocationRecord>, Vec<oneshot::Sender<()>>) {
        let mut waiting = self.waiting.lock();
        if waiting.records.len() > self.batch {
            let rest = waiting.records.split_off(self.batch);
            let batch = std::mem::replace(&mut waiting.records, rest);
            return (batch, Vec::new());
        }
        (
            std::mem::replace(&mut waiting.records, spare),
            std::mem::take(&mut waiting.flushes),
        )
    }
}

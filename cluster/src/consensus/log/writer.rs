//! The one thread that writes the log of all groups.
//!
//! It takes whatever is queued, makes one durable frame of it, and only then
//! tells everybody who waits. While it syncs, the next batch gathers, so the
//! number of changes per sync rises with the load by itself.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::storage::IOFlushed;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::appender::Appender;
use super::engine::Op;
use super::tail::Tail;
use crate::consensus::fault::HaltReason;
use crate::consensus::metrics::Metrics;
use crate::consensus::types::Types;

/// Operations that may wait; appending waits while the queue is full.
pub(super) const QUEUE: usize = 1024;
/// A batch takes no more than so many bytes of records, one append at least.
const BATCH_BYTES: usize = 8 << 20;

/// With several writers about, a commit waits so long for more of them: a sync, and the
/// messages that follow from it, then serve more entries.
const LINGER: Duration = Duration::from_micros(250);
/// Entries and marks that somebody waits for, per commit on average, from which on there
/// are several writers about. Commit marks, for which nobody waits, are no company: a lone
/// writer with peers would wait for them at every write.
const COMPANY: f64 = 1.5;

/// Who is told about the end of an operation.
pub(super) enum Done {
    /// openraft, about entries up to this index.
    Appended {
        callback: IOFlushed<Types>,
        tail: Arc<Mutex<Tail>>,
        last: u64,
    },
    /// Whoever waits for it.
    Reply(oneshot::Sender<io::Result<()>>),
    /// Nobody: it may wait for the next commit that somebody needs.
    Lazy,
}

impl Done {
    /// How many somebody waits for: openraft gathers entries that come at one moment in
    /// one append, so they are counted, not their operations.
    fn awaited(&self, op: &Op) -> u64 {
        match (self, op) {
            (Self::Lazy, _) => 0,
            (Self::Appended { last, .. }, Op::Append { first, .. }) => {
                last.saturating_sub(*first).saturating_add(1)
            }
            _ => 1,
        }
    }
}

/// An operation in the queue.
pub(super) enum Request {
    /// A change of the file.
    Write { op: Op, done: Done },
    /// Writes what is lazy and ends the thread.
    Close(oneshot::Sender<io::Result<()>>),
}

#[expect(
    clippy::disallowed_methods,
    reason = "the writer's own thread has nothing else to do"
)]
fn linger() {
    std::thread::sleep(LINGER);
}

fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

/// A panic must be an answer too: without one everybody who waits would wait for ever.
fn guarded<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(io::Error::other("the writer of the Raft log panicked")))
}

struct Writer {
    appender: Appender,
    halt: HaltReason,
    metrics: Metrics,
    /// After the first failure nothing is written any more: what the file
    /// holds beyond the last acknowledged commit is not known.
    broken: Option<io::Error>,
    ops: Vec<Op>,
    waiting: Vec<Done>,
    /// How much of what is gathered somebody waits for.
    awaited: u64,
    /// The same per commit, the last few counting most.
    usual: f64,
}

impl Writer {
    fn gather(&mut self, op: Op, done: Done) -> usize {
        let bytes = op.size();
        self.awaited += done.awaited(&op);
        self.ops.push(op);
        self.waiting.push(done);
        bytes
    }

    fn commit(&mut self) -> io::Result<()> {
        let result = match &self.broken {
            Some(error) => Err(copy(error)),
            None => {
                let start = Instant::now();
                let result = guarded(|| self.appender.commit(&self.ops));
                let metrics = &self.metrics;
                metrics.sync_seconds.observe(start.elapsed().as_secs_f64());
                metrics.batch_operations.observe(self.ops.len() as f64);
                result.map(|entries| {
                    metrics.batch_entries.observe(entries as f64);
                    metrics.log_bytes.set(self.appender.disk_bytes());
                })
            }
        };
        if let Err(error) = &result
            && self.broken.is_none()
        {
            tracing::error!(error = %error, "the Raft log cannot be written; its groups stop");
            self.halt.set_io(error);
            self.broken = Some(copy(error));
        }
        self.usual += (self.awaited as f64 - self.usual) / 8.0;
        self.ops.clear();
        self.awaited = 0;
        for done in self.waiting.drain(..) {
            let result = result.as_ref().copied().map_err(copy);
            match done {
                Done::Appended {
                    callback,
                    tail,
                    last,
                } => {
                    if result.is_ok() {
                        tail.lock().durable_through(last);
                    }
                    callback.io_completed(result);
                }
                // A waiter that has gone away needs no answer.
                Done::Reply(reply) => drop(reply.send(result)),
                Done::Lazy => {}
            }
        }
        result
    }

    fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(first) = queue.blocking_recv() {
            if self.usual >= COMPANY {
                linger();
            }
            let mut next = Some(first);
            let mut bytes = 0;
            while let Some(request) = next.take() {
                match request {
                    Request::Write { op, done } => bytes += self.gather(op, done),
                    Request::Close(reply) => {
                        let result = self.finish();
                        // Whoever closed the log may have gone away.
                        drop(reply.send(result));
                        return;
                    }
                }
                if self.ops.len() < QUEUE && bytes < BATCH_BYTES {
                    next = queue.try_recv().ok();
                }
            }
            // Lazy marks alone are worth no sync, as long as they are few.
            if self.awaited > 0 || self.ops.len() >= QUEUE {
                drop(self.commit());
            }
        }
        // Nobody is left to be told; the reason was logged.
        drop(self.finish());
    }

    /// Writes what is lazy and the mark of an orderly end, and lets go of the files.
    fn finish(mut self) -> io::Result<()> {
        let written = match self.ops.is_empty() {
            true => Ok(()),
            false => self.commit(),
        };
        let sound = self.broken.is_none();
        written.and(guarded(|| self.appender.close(sound)))
    }
}

/// Starts the thread. It ends when it is closed or every sender is gone.
pub(super) fn start(
    appender: Appender,
    halt: HaltReason,
    metrics: Metrics,
) -> io::Result<mpsc::Sender<Request>> {
    let (sender, queue) = mpsc::channel(QUEUE);
    let writer = Writer {
        appender,
        halt,
        metrics,
        broken: None,
        ops: Vec::new(),
        waiting: Vec::new(),
        awaited: 0,
        usual: 1.0,
    };
    std::thread::Builder::new()
        .name("raft-log".into())
        .spawn(move || writer.run(queue))?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::types::Position;
    use orama_proto::GroupId;

    #[test]
    fn only_what_somebody_waits_for_is_company() {
        let group = GroupId(1);
        let at = Position {
            term: 1,
            leader: 1,
            index: 7,
        };
        assert_eq!(Done::Lazy.awaited(&Op::Committed { group, at }), 0);
        let (reply, _answer) = oneshot::channel();
        assert_eq!(Done::Reply(reply).awaited(&Op::Erase { group }), 1);
        let append = Op::Append {
            group,
            first: 5,
            records: Vec::new(),
        };
        let done = Done::Appended {
            callback: IOFlushed::noop(),
            tail: Arc::default(),
            last: 7,
        };
        assert_eq!(done.awaited(&append), 3);
    }
}

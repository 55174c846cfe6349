//! The journal as the rest of the node sees it: a place to put records that
//! never makes anyone wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use actix::Arbiter;
use orama_cluster::{JournalError, JournalStore};
use orama_proto::Timestamp;
use orama_proto::api::ActorInfo;
use orama_proto::invocation::InvocationRecord;
use orama_proto::limits::{JOURNAL_PER_FUNCTION, JOURNAL_RETENTION_DAYS, MIB};
use parking_lot::Mutex;
use prometheus::Registry;

use super::actor::supervise;
use super::metrics::Metrics;
use super::queue::Queue;

/// Settings of the journal.
#[derive(Debug, Clone)]
pub(crate) struct JournalOptions {
    /// Records that may wait to be written.
    pub(crate) queue: usize,
    /// Bytes of records that may wait to be written.
    pub(crate) queue_bytes: usize,
    /// Records of one commit.
    pub(crate) batch: usize,
    /// How long a record waits for company.
    pub(crate) gather: Duration,
    /// How often one batch is tried before it is given up.
    pub(crate) tries: u32,
    /// Pause after a failed try; grows to 32 times this.
    pub(crate) retry_after: Duration,
    /// How often retention is enforced.
    pub(crate) prune_every: Duration,
    /// Age at which a record is removed.
    pub(crate) keep_for: Duration,
    /// Records kept of one function.
    pub(crate) keep_per_function: usize,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            queue: 8_192,
            queue_bytes: 64 * MIB,
            batch: 4_096,
            gather: Duration::from_millis(20),
            tries: 20,
            retry_after: Duration::from_millis(100),
            prune_every: Duration::from_secs(10 * 60),
            keep_for: Duration::from_secs(u64::from(JOURNAL_RETENTION_DAYS) * 24 * 60 * 60),
            keep_per_function: JOURNAL_PER_FUNCTION,
        }
    }
}

/// Where batches go; blocking. The file of this node, or a fake in tests.
pub(super) trait Sink: Send + Sync + 'static {
    fn append(&self, records: &[InvocationRecord]) -> Result<(), JournalError>;
    fn prune(&self, before: Timestamp, per_function: usize) -> Result<u64, JournalError>;
}

impl Sink for JournalStore {
    fn append(&self, records: &[InvocationRecord]) -> Result<(), JournalError> {
        JournalStore::append(self, records)
    }
    fn prune(&self, before: Timestamp, per_function: usize) -> Result<u64, JournalError> {
        JournalStore::prune(self, before, per_function)
    }
}

/// Shared by the handle and the actor.
pub(super) struct Shared {
    pub(super) options: JournalOptions,
    pub(super) metrics: Metrics,
    pub(super) queue: Queue,
    pub(super) bytes: AtomicUsize,
    pub(super) handled: AtomicU64,
    pub(super) restarts: AtomicU64,
}

impl Shared {
    /// A record has left the queue, on to disk or lost.
    pub(super) fn release(&self, records: &[InvocationRecord]) {
        let bytes = records.iter().map(weight).sum();
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.metrics.queued_bytes.sub(bytes as i64);
        self.metrics.queued.sub(records.len() as i64);
    }
}

/// Roughly what a record occupies in memory.
pub(super) fn weight(record: &InvocationRecord) -> usize {
    let lines: usize = record.wasm_logs.iter().map(|l| l.message.len() + 48).sum();
    512 + record.error_message.len() + record.caller_wallet.len() + lines
}

struct Parts {
    shared: Arc<Shared>,
    /// Held to end the thread on [`Journal::stop`].
    thread: Mutex<Option<Arbiter>>,
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

/// Handle of the journal. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Parts>);

impl Journal {
    /// Starts the journal on `thread`, which ends with it.
    pub(crate) fn start(
        store: JournalStore,
        options: JournalOptions,
        thread: Arbiter,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        Self::with_sink(Arc::new(store), options, thread, registry)
    }

    pub(super) fn with_sink(
        sink: Arc<dyn Sink>,
        options: JournalOptions,
        thread: Arbiter,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let shared = Arc::new(Shared {
            queue: Queue::new(options.queue, options.batch),
            options,
            metrics: Metrics::register(registry)?,
            bytes: AtomicUsize::new(0),
            handled: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
        });
        let for_actor = Arc::clone(&shared);
        thread.spawn_fn(move || {
            actix::spawn(supervise(for_actor, sink));
        });
        Ok(Self(Arc::new(Parts {
            shared,
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// Puts a record into the queue, or counts it as lost. Never waits.
    pub(crate) fn record(&self, record: InvocationRecord) {
        let shared = &*self.0.shared;
        let bytes = weight(&record);
        let before = shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > shared.options.queue_bytes {
            shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
            shared.metrics.bytes_full.inc();
            return;
        }
        shared.metrics.queued.inc();
        shared.metrics.queued_bytes.add(bytes as i64);
        if shared.queue.push(record).is_err() {
            shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
            shared.metrics.queued.dec();
            shared.metrics.queued_bytes.sub(bytes as i64);
            shared.metrics.queue_full.inc();
        }
    }

    /// Waits until every record put before this call is on disk (or given
    /// up). Answers whether that came to pass in time.
    pub(crate) async fn flush(&self, within: Duration) -> bool {
        let flushed = async {
            let written = self.0.shared.queue.flush()?;
            written.await.ok()
        };
        matches!(tokio::time::timeout(within, flushed).await, Ok(Some(())))
    }

    /// Ends the journal's thread. What is still queued is lost: flush first.
    pub(crate) fn stop(&self) {
        self.0.shared.queue.close();
        if let Some(thread) = self.0.thread.lock().take() {
            thread.stop();
        }
    }

    /// State of the actor.
    pub(crate) fn info(&self) -> ActorInfo {
        let metrics = &self.0.shared.metrics;
        let queued = u64::try_from(metrics.queued.get()).unwrap_or(0);
        let state = match queued {
            _ if self.0.shared.queue.is_closed() => "stopped",
            0 => "idle",
            _ => "running",
        };
        ActorInfo {
            name: "journal".to_owned(),
            state: state.to_owned(),
            mailbox: queued,
            handled: self.0.shared.handled.load(Ordering::Relaxed),
            restarts: self.0.shared.restarts.load(Ordering::Relaxed),
        }
    }

    #[cfg(test)]
    pub(crate) fn dropped(&self) -> u64 {
        self.0.shared.metrics.dropped()
    }
}

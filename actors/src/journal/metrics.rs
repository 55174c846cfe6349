//! What the journal counts.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

pub(super) struct Metrics {
    pub(super) written: IntCounter,
    pub(super) pruned: IntCounter,
    pub(super) queued: IntGauge,
    pub(super) queued_bytes: IntGauge,
    pub(super) commit_seconds: Histogram,
    pub(super) commit_failures: IntCounter,
    pub(super) queue_full: IntCounter,
    pub(super) bytes_full: IntCounter,
    pub(super) not_written: IntCounter,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let dropped = IntCounterVec::new(
            Opts::new(
                "orama_journal_dropped_total",
                "Invocation records lost, by reason.",
            ),
            &["reason"],
        )?;
        let buckets = prometheus::exponential_buckets(0.0005, 2.0, 14)?;
        let metrics = Self {
            written: IntCounter::new(
                "orama_journal_records_total",
                "Invocation records on disk since start.",
            )?,
            pruned: IntCounter::new(
                "orama_journal_pruned_total",
                "Invocation records removed by retention.",
            )?,
            queued: IntGauge::new(
                "orama_journal_queued",
                "Invocation records not yet on disk.",
            )?,
            queued_bytes: IntGauge::new(
                "orama_journal_queued_bytes",
                "Size of the invocation records not yet on disk.",
            )?,
            commit_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "orama_journal_commit_seconds",
                    "Time one batch of records takes to reach the disk.",
                )
                .buckets(buckets),
            )?,
            commit_failures: IntCounter::new(
                "orama_journal_commit_failures_total",
                "Batches that failed and were kept for another try.",
            )?,
            queue_full: dropped.with_label_values(&["queue_full"]),
            bytes_full: dropped.with_label_values(&["bytes_full"]),
            not_written: dropped.with_label_values(&["not_written"]),
        };
        registry.register(Box::new(dropped))?;
        registry.register(Box::new(metrics.written.clone()))?;
        registry.register(Box::new(metrics.pruned.clone()))?;
        registry.register(Box::new(metrics.queued.clone()))?;
        registry.register(Box::new(metrics.queued_bytes.clone()))?;
        registry.register(Box::new(metrics.commit_seconds.clone()))?;
        registry.register(Box::new(metrics.commit_failures.clone()))?;
        Ok(metrics)
    }

    /// Records lost for any reason.
    pub(super) fn dropped(&self) -> u64 {
        self.queue_full.get() + self.bytes_full.get() + self.not_written.get()
    }
}

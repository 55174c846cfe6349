//! What the consensus layer counts. Labels are the group's name only.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Metrics of the log and of every group of the node.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) applied_index: IntGaugeVec,
    pub(crate) last_log_index: IntGaugeVec,
    pub(crate) term: IntGaugeVec,
    pub(crate) proposals: IntCounterVec,
    pub(crate) commit_seconds: HistogramVec,
    pub(crate) batch_operations: Histogram,
    pub(crate) batch_entries: Histogram,
    pub(crate) log_bytes: IntGauge,
    pub(crate) sync_seconds: Histogram,
    pub(crate) snapshots: IntCounterVec,
    pub(crate) rebuilds: IntCounterVec,
    pub(crate) leading: IntGaugeVec,
    pub(crate) elections: IntCounterVec,
    pub(crate) forwarded: IntCounterVec,
    pub(crate) reads: IntCounterVec,
    pub(crate) read_rounds: IntCounterVec,
    pub(crate) snapshot_bytes: IntCounterVec,
}

/// 50 µs to about 1.6 s.
fn latencies() -> Vec<f64> {
    (0..16).map(|i| 50e-6 * f64::from(1 << i)).collect()
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &["group"])?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let commit_seconds = HistogramVec::new(
            HistogramOpts::new(
                "orama_raft_commit_seconds",
                "Time from proposing a change until it is durable and applied.",
            )
            .buckets(latencies()),
            &["group"],
        )?;
        registry.register(Box::new(commit_seconds.clone()))?;
        let log_bytes = IntGauge::new(
            "orama_raft_log_bytes",
            "Bytes that the segments of the log take on disk.",
        )?;
        registry.register(Box::new(log_bytes.clone()))?;
        Ok(Self {
            applied_index: gauge(
                "orama_raft_applied_index",
                "Index of the last applied entry.",
            )?,
            last_log_index: gauge(
                "orama_raft_last_log_index",
                "Index of the last entry of the log.",
            )?,
            term: gauge("orama_raft_term", "Current term.")?,
            proposals: counter(
                "orama_raft_proposals_total",
                "Proposed changes by result.",
                &["group", "result"],
            )?,
            commit_seconds,
            batch_operations: histogram(
                "orama_raft_log_batch_operations",
                "Operations that shared one sync of the log.",
                (0..11).map(|i| f64::from(1 << i)).collect(),
            )?,
            batch_entries: histogram(
                "orama_raft_log_batch_entries",
                "Entries that shared one sync of the log.",
                (0..13).map(|i| f64::from(1 << i)).collect(),
            )?,
            log_bytes,
            sync_seconds: histogram(
                "orama_raft_log_sync_seconds",
                "Time of one durable commit of the log.",
                latencies(),
            )?,
            snapshots: counter(
                "orama_raft_snapshots_total",
                "Snapshots built, by result.",
                &["group", "result"],
            )?,
            rebuilds: counter(
                "orama_raft_state_rebuilds_total",
                "Times the state was rebuilt from snapshot and log.",
                &["group"],
            )?,
            leading: gauge("orama_raft_leading", "1 while this node leads the group.")?,
            elections: counter(
                "orama_raft_elections_total",
                "Times that a new leader, or one after a time without, was seen.",
                &["group"],
            )?,
            forwarded: counter(
                "orama_raft_forwarded_total",
                "Changes sent to a leader on another node, by result.",
                &["group", "result"],
            )?,
            reads: counter(
                "orama_raft_reads_total",
                "Confirmations that local reads are up to date, by result.",
                &["group", "result"],
            )?,
            read_rounds: counter(
                "orama_raft_read_rounds_total",
                "Read indexes asked for; all who wait share one.",
                &["group"],
            )?,
            snapshot_bytes: counter(
                "orama_raft_snapshot_bytes_total",
                "Bytes of snapshots between nodes, by direction.",
                &["group", "direction"],
            )?,
        })
    }
}

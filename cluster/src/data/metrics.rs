//! What the SQL databases count on a node. Never a namespace or a statement as a label.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::DataError;

/// Metrics of all data groups.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    transactions: IntCounterVec,
    pub(super) write_seconds: Histogram,
    pub(super) writes_under_way: IntGauge,
    pub(super) share_waits: IntCounterVec,
    pub(super) databases_limited: IntGauge,
    reads: IntCounterVec,
    pub(super) read_seconds: Histogram,
    pub(super) reads_waiting: IntGauge,
    pub(super) rows: IntCounter,
    pub(super) bytes: IntCounter,
    pub(super) divergences: IntCounter,
    rebuilds: IntCounterVec,
    pub(super) dropped: IntCounter,
    pub(super) exports: IntCounter,
    pub(super) parcels: IntGauge,
    pub(super) put_off_seconds: IntGauge,
}

/// 20 µs to about 10 s.
fn seconds() -> Vec<f64> {
    (0..20).map(|i| 20e-6 * f64::from(1 << i)).collect()
}

/// An error's label.
fn label(error: &DataError) -> &'static str {
    match error {
        DataError::NoGroup(_) => "no_group",
        DataError::Differs(_) => "differs",
        DataError::Unavailable(_) => "unavailable",
        DataError::Unknown(_) => "unknown",
        DataError::Limit { .. } => "limit",
        DataError::Stale(_) => "stale",
        DataError::Fenced(_) => "fenced",
        DataError::Full(_) => "full",
        DataError::Busy(_) => "busy",
        DataError::Stopped { .. } => "stopped",
    }
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let histogram = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(seconds());
            let histogram = Histogram::with_opts(options)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        Ok(Self {
            transactions: counters(
                "orama_sql_transactions_total",
                "Transactions asked for on this node, by result.",
                &["result"],
            )?,
            write_seconds: histogram(
                "orama_sql_write_seconds",
                "Time of a transaction until it is durable on a majority and applied here.",
            )?,
            writes_under_way: gauge(
                "orama_sql_writes_under_way",
                "Transactions that this node waits for.",
            )?,
            share_waits: counters(
                "orama_sql_share_waits_total",
                "Transactions that waited at this leader for their database's share of apply time, that gave up, that were refused.",
                &["result"],
            )?,
            databases_limited: gauge(
                "orama_sql_databases_limited",
                "Databases whose transactions wait at this leader for their share of apply time.",
            )?,
            reads: counters(
                "orama_sql_reads_total",
                "Reads asked for on this node, by level and result.",
                &["level", "result"],
            )?,
            read_seconds: histogram(
                "orama_sql_read_seconds",
                "Time of a read on this node's replica, waiting included.",
            )?,
            reads_waiting: gauge(
                "orama_sql_reads_waiting",
                "Reads that wait until another one ends.",
            )?,
            rows: counter("orama_sql_rows_answered_total", "Rows that reads answered.")?,
            bytes: counter(
                "orama_sql_bytes_answered_total",
                "Bytes of rows that reads answered.",
            )?,
            divergences: counter(
                "orama_sql_divergences_total",
                "Databases of this node that differed from the other replicas'.",
            )?,
            rebuilds: counters(
                "orama_sql_rebuilds_total",
                "Databases of this node that were rebuilt, by where their copy came from.",
                &["from"],
            )?,
            dropped: counter(
                "orama_sql_dropped_total",
                "Databases of deleted namespaces whose removal this node had replicated.",
            )?,
            exports: counter(
                "orama_sql_exports_total",
                "Copies of whole databases that this node made for others or for clients.",
            )?,
            put_off_seconds: gauge(
                "orama_sql_snapshots_put_off_seconds",
                "How long a group's snapshot has been waiting for a fenced database, the longest.",
            )?,
            parcels: gauge(
                "orama_sql_parcels",
                "Long answers and copies that wait to be fetched piece by piece.",
            )?,
        })
    }

    pub(super) fn transaction<T>(&self, result: &Result<T, DataError>, committed: bool) {
        let label = match result {
            Ok(_) if committed => "committed",
            Ok(_) => "rolled_back",
            Err(error) => label(error),
        };
        self.transactions.with_label_values(&[label]).inc();
    }

    pub(super) fn read<T>(&self, level: &str, result: &Result<T, DataError>) {
        let label = result.as_ref().map_or_else(label, |_| "ok");
        self.reads.with_label_values(&[level, label]).inc();
    }

    pub(super) fn rebuilt(&self, from: &str) {
        self.rebuilds.with_label_values(&[from]).inc();
    }
}

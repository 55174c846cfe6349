//! What all groups of a node have open, and what was done to keep it safe.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

/// Counters and gauges of all groups; registered once a node.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(super) databases: IntGauge,
    pub(super) open: IntGauge,
    pub(super) readers: IntGauge,
    pub(super) checkpoints: IntCounter,
    pub(super) long_logs: IntCounter,
    pub(super) floor_seconds: Histogram,
    pub(super) copies: IntCounter,
    pub(super) copied_bytes: IntCounter,
    pub(super) fenced: IntCounter,
    pub(super) replaced: IntCounter,
    pub(super) swept: IntCounter,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name, help| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let floor_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "orama_sql_floor_seconds",
                "Time to sync what was written since the last floor.",
            )
            .buckets(vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0]),
        )?;
        registry.register(Box::new(floor_seconds.clone()))?;
        Ok(Self {
            databases: gauge(
                "orama_sql_databases",
                "Databases with a replica on this node.",
            )?,
            open: gauge(
                "orama_sql_open_databases",
                "Databases that are open for writing.",
            )?,
            readers: gauge("orama_sql_open_readers", "Open connections for reading.")?,
            checkpoints: counter(
                "orama_sql_checkpoints_total",
                "Write-ahead logs that were written back into their databases.",
            )?,
            long_logs: counter(
                "orama_sql_long_logs_total",
                "Times a write-ahead log was long and a reader kept it from being cut.",
            )?,
            floor_seconds,
            copies: counter("orama_sql_copies_total", "Copies of databases made.")?,
            copied_bytes: counter("orama_sql_copied_bytes_total", "Bytes of the copies made.")?,
            fenced: counter(
                "orama_sql_fenced_total",
                "Databases fenced because they were damaged or differed from other replicas.",
            )?,
            replaced: counter(
                "orama_sql_replaced_total",
                "Databases whose file was replaced by a sound copy.",
            )?,
            swept: counter(
                "orama_sql_swept_files_total",
                "Files that nothing named, deleted at a start.",
            )?,
        })
    }
}

//! What the databases of a node count. Gauges are sums over its groups.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, PullingGauge, Registry};

/// Counters and gauges of all groups; registered once a node.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(super) databases: IntGauge,
    pub(super) bytes: IntGauge,
    pub(super) log_bytes: IntGauge,
    pub(super) open: IntGauge,
    pub(super) readers: IntGauge,
    pub(super) fenced: IntGauge,
    pub(super) quarantined: IntGauge,
    pub(super) fences: IntCounter,
    pub(super) replaced: IntCounter,
    pub(super) evicted: IntCounter,
    pub(super) checkpoints: IntCounter,
    pub(super) checkpoints_blocked: IntCounter,
    pub(super) checkpoint_seconds: Histogram,
    pub(super) harden_seconds: Histogram,
    pub(super) backups: IntCounter,
    pub(super) backup_bytes: IntCounter,
    pub(super) backup_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry
                .register(Box::new(counter.clone()))
                .map(|()| counter)
        };
        let seconds = |name: &str, help: &str| {
            let buckets = vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0];
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry
                .register(Box::new(histogram.clone()))
                .map(|()| histogram)
        };
        registry.register(Box::new(PullingGauge::new(
            "orama_sql_read_memory_bytes",
            "Bytes of large values and temporary files of the queries that run now.",
            Box::new(|| crate::sql::read_memory() as f64),
        )?))?;
        Ok(Self {
            databases: gauge("orama_sql_databases", "Databases on this node.")?,
            bytes: gauge("orama_sql_bytes", "Bytes of live databases, logs included.")?,
            log_bytes: gauge("orama_sql_log_bytes", "Bytes of write-ahead logs.")?,
            open: gauge("orama_sql_open_databases", "Databases open for writing.")?,
            readers: gauge("orama_sql_open_readers", "Open read connections.")?,
            fenced: gauge("orama_sql_fenced", "Databases that are fenced.")?,
            quarantined: gauge(
                "orama_sql_quarantined_files",
                "Damaged or differing database files that were set aside.",
            )?,
            fences: counter("orama_sql_fenced_total", "Times a database was fenced.")?,
            replaced: counter(
                "orama_sql_rebuilt_total",
                "Databases whose file was replaced by a copy.",
            )?,
            evicted: counter(
                "orama_sql_evictions_total",
                "Writers closed to stay within the bound.",
            )?,
            checkpoints: counter("orama_sql_checkpoints_total", "Checkpoints of databases.")?,
            checkpoints_blocked: counter(
                "orama_sql_checkpoints_blocked_total",
                "Checkpoints that readers kept from emptying the write-ahead log.",
            )?,
            checkpoint_seconds: seconds(
                "orama_sql_checkpoint_seconds",
                "Time of a database's checkpoint.",
            )?,
            harden_seconds: seconds("orama_sql_harden_seconds", "Time to raise a group's floor.")?,
            backups: counter("orama_sql_backups_total", "Backups of databases written.")?,
            backup_bytes: counter("orama_sql_backup_bytes_total", "Bytes of backups written.")?,
            backup_seconds: seconds("orama_sql_backup_seconds", "Time of a database's backup.")?,
        })
    }
}

/// Observes how long something took when it is dropped.
pub(super) struct Timed(Histogram, Instant);

impl Timed {
    pub(super) fn new(histogram: &Histogram) -> Self {
        Self(histogram.clone(), Instant::now())
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.0.observe(self.1.elapsed().as_secs_f64());
    }
}

/// One group's part of a gauge; given back when the group closes.
#[derive(Debug)]
pub(super) struct Share {
    gauge: IntGauge,
    mine: AtomicI64,
}

impl Share {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        Self {
            gauge: gauge.clone(),
            mine: AtomicI64::new(0),
        }
    }
    pub(super) fn set(&self, value: usize) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        let before = self.mine.swap(value, Ordering::Relaxed);
        self.gauge.add(value - before);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

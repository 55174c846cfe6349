//! How many calls there are, how they end, how long they take.

use std::time::{Duration, Instant};

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// Reading or writing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Read,
    Write,
}

/// What the facade counts.
pub(super) struct Metrics {
    calls: IntCounterVec,
    reads: Histogram,
    writes: Histogram,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let calls = IntCounterVec::new(
            Opts::new(
                "orama_sql_calls_total",
                "SQL calls of functions and clients that ended, by kind and result.",
            ),
            &["kind", "result"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "orama_sql_call_seconds",
                "Time from an SQL call to its answer, by kind.",
            )
            .buckets(vec![
                0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0,
            ]),
            &["kind"],
        )?;
        registry.register(Box::new(calls.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            calls,
            reads: seconds.with_label_values(&["read"]),
            writes: seconds.with_label_values(&["write"]),
        })
    }

    /// Counts a call; answers how long it took.
    pub(super) fn ended(&self, kind: Kind, result: &str, began: Instant) -> Duration {
        let took = began.elapsed();
        let (label, seconds) = match kind {
            Kind::Read => ("read", &self.reads),
            Kind::Write => ("write", &self.writes),
        };
        self.calls.with_label_values(&[label, result]).inc();
        seconds.observe(took.as_secs_f64());
        took
    }
}

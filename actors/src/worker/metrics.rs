//! What invocations count. The handles are resolved once: looking a label up
//! takes a lock, and every invocation would.

use std::time::Duration;

use orama_proto::invocation::{InvocationStatus, Trigger};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::admission::Refusal;

const TRIGGERS: [Trigger; 5] = [
    Trigger::Http,
    Trigger::Websocket,
    Trigger::Pubsub,
    Trigger::Cron,
    Trigger::Function,
];
const STATUSES: [InvocationStatus; 3] = [
    InvocationStatus::Success,
    InvocationStatus::Error,
    InvocationStatus::Timeout,
];

/// Counters of this node's invocations.
pub(crate) struct Metrics {
    ended: Vec<(InvocationStatus, Trigger, IntCounter)>,
    seconds: Histogram,
    /// Guests that hold a place.
    pub(super) running: IntGauge,
    /// Invocations that wait for a place.
    pub(super) queued: IntGauge,
    refused: Vec<(Refusal, IntCounter)>,
    /// Attempts after the first.
    pub(super) retries: IntCounter,
    /// Invocations whose caller went away.
    pub(super) cancelled: IntCounter,
    /// Modules that could not be loaded.
    pub(super) unavailable: IntCounter,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// When a name is taken.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let ended = IntCounterVec::new(
            Opts::new("orama_invocations_total", "Attempts that ended."),
            &["status", "trigger"],
        )?;
        let refused = IntCounterVec::new(
            Opts::new(
                "orama_invocations_refused_total",
                "Invocations that got no place, by reason.",
            ),
            &["reason"],
        )?;
        let buckets = vec![
            0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
            5.0, 10.0, 30.0, 60.0, 300.0,
        ];
        let counters = STATUSES
            .into_iter()
            .flat_map(|status| TRIGGERS.map(|trigger| (status, trigger)))
            .map(|(status, trigger)| {
                let counter = ended.with_label_values(&[status.as_str(), trigger.as_str()]);
                (status, trigger, counter)
            })
            .collect();
        let metrics = Self {
            ended: counters,
            seconds: Histogram::with_opts(
                HistogramOpts::new("orama_invocation_seconds", "Time a guest took.")
                    .buckets(buckets),
            )?,
            running: IntGauge::new("orama_invocations_running", "Guests running now.")?,
            queued: IntGauge::new(
                "orama_invocations_queued",
                "Invocations waiting for a place now.",
            )?,
            refused: Refusal::ALL
                .map(|r| (r, refused.with_label_values(&[r.reason()])))
                .to_vec(),
            retries: IntCounter::new(
                "orama_invocation_retries_total",
                "Attempts after a failed one.",
            )?,
            cancelled: IntCounter::new(
                "orama_invocations_cancelled_total",
                "Attempts stopped because the caller went away.",
            )?,
            unavailable: IntCounter::new(
                "orama_modules_unavailable_total",
                "Invocations whose module could not be loaded.",
            )?,
        };
        registry.register(Box::new(ended))?;
        registry.register(Box::new(refused))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.running.clone()))?;
        registry.register(Box::new(metrics.queued.clone()))?;
        registry.register(Box::new(metrics.retries.clone()))?;
        registry.register(Box::new(metrics.cancelled.clone()))?;
        registry.register(Box::new(metrics.unavailable.clone()))?;
        Ok(metrics)
    }

    pub(super) fn ended(&self, status: InvocationStatus, trigger: Trigger, took: Duration) {
        if let Some((_, _, counter)) = self
            .ended
            .iter()
            .find(|(s, t, _)| *s == status && *t == trigger)
        {
            counter.inc();
        }
        self.seconds.observe(took.as_secs_f64());
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        if let Some((_, counter)) = self.refused.iter().find(|(r, _)| *r == refusal) {
            counter.inc();
        }
    }

    #[cfg(test)]
    pub(super) fn refusals(&self) -> u64 {
        self.refused.iter().map(|(_, counter)| counter.get()).sum()
    }
}

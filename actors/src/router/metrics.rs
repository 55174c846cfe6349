//! What the router counts.

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

/// How an offer to a peer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Out {
    /// The guest succeeded there.
    Done,
    /// It failed there.
    Failed,
    /// The peer had no free place, or takes no more calls.
    Busy,
    /// The namespace had no free place there.
    NamespaceBusy,
    /// It did not have version or module ready.
    NotReady,
    /// It drains.
    Draining,
    /// It declined.
    Declined,
    /// There was no link.
    NotSent,
    /// No answer: it may have run.
    Lost,
}

/// How an invocation from a peer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum In {
    /// The guest succeeded.
    Done,
    /// It failed.
    Failed,
    /// Its caller went away.
    Cancelled,
    /// No free place.
    Busy,
    /// The namespace had no free place.
    NamespaceBusy,
    /// Version or module was not ready.
    NotReady,
    /// This node drains.
    Draining,
    /// Over the hop limit.
    Hops,
    /// It could not be read.
    Malformed,
}

const OUT: [(Out, &str); 9] = [
    (Out::Done, "done"),
    (Out::Failed, "failed"),
    (Out::Busy, "busy"),
    (Out::NamespaceBusy, "namespace_busy"),
    (Out::NotReady, "not_ready"),
    (Out::Draining, "draining"),
    (Out::Declined, "declined"),
    (Out::NotSent, "not_sent"),
    (Out::Lost, "lost"),
];
const IN: [(In, &str); 9] = [
    (In::Done, "done"),
    (In::Failed, "failed"),
    (In::Cancelled, "cancelled"),
    (In::Busy, "busy"),
    (In::NamespaceBusy, "namespace_busy"),
    (In::NotReady, "not_ready"),
    (In::Draining, "draining"),
    (In::Hops, "hops"),
    (In::Malformed, "malformed"),
];

/// Counters of this node's router. Handles are resolved once.
pub(super) struct Metrics {
    forwarded: Vec<(Out, IntCounter)>,
    taken: Vec<(In, IntCounter)>,
    /// Time of a forwarded invocation that was answered, seen from here.
    pub(super) seconds: Histogram,
    /// Offers to a second peer after a first that did not take it.
    pub(super) retries: IntCounter,
    /// Invocations with an idempotency key that were run again after a loss.
    pub(super) repeats: IntCounter,
    /// Members that could be offered an invocation at the last round.
    pub(super) eligible: IntGauge,
    /// Age of the oldest report of a linked member at the last round, seconds.
    pub(super) oldest: Gauge,
    /// Reports that were not sent because the last one was unanswered.
    pub(super) skipped: IntCounter,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let vec = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["outcome"]);
        let forwarded = vec(
            "orama_forwarded_out_total",
            "Invocations offered to other nodes, by how that ended.",
        )?;
        let taken = vec(
            "orama_forwarded_in_total",
            "Invocations offered by other nodes, by how that ended.",
        )?;
        let seconds = HistogramOpts::new(
            "orama_forwarded_seconds",
            "Time from sending an invocation to another node to its answer.",
        )
        .buckets(vec![
            0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
            5.0, 10.0, 30.0, 60.0, 300.0,
        ]);
        let metrics = Self {
            forwarded: OUT
                .map(|(out, name)| (out, forwarded.with_label_values(&[name])))
                .to_vec(),
            taken: IN
                .map(|(taking, name)| (taking, taken.with_label_values(&[name])))
                .to_vec(),
            seconds: Histogram::with_opts(seconds)?,
            retries: IntCounter::new(
                "orama_forward_retries_total",
                "Offers to another node after one that did not take the invocation.",
            )?,
            repeats: IntCounter::new(
                "orama_forward_repeats_total",
                "Invocations with an Idempotency-Key run again after a node stopped answering.",
            )?,
            eligible: IntGauge::new(
                "orama_forward_eligible_peers",
                "Members that would be offered an invocation now.",
            )?,
            oldest: Gauge::new(
                "orama_load_report_age_seconds",
                "Age of the oldest load report of a linked member.",
            )?,
            skipped: IntCounter::new(
                "orama_load_reports_skipped_total",
                "Load reports not sent because the peer has not answered the last one.",
            )?,
        };
        registry.register(Box::new(forwarded))?;
        registry.register(Box::new(taken))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.retries.clone()))?;
        registry.register(Box::new(metrics.repeats.clone()))?;
        registry.register(Box::new(metrics.eligible.clone()))?;
        registry.register(Box::new(metrics.oldest.clone()))?;
        registry.register(Box::new(metrics.skipped.clone()))?;
        Ok(metrics)
    }

    pub(super) fn forwarded(&self, how: Out) {
        if let Some((_, counter)) = self.forwarded.iter().find(|(out, _)| *out == how) {
            counter.inc();
        }
    }

    pub(super) fn taken(&self, how: In) {
        if let Some((_, counter)) = self.taken.iter().find(|(taking, _)| *taking == how) {
            counter.inc();
        }
    }

    #[cfg(test)]
    pub(super) fn count_out(&self, how: Out) -> u64 {
        let found = self.forwarded.iter().find(|(out, _)| *out == how);
        found.map_or(0, |(_, counter)| counter.get())
    }

    #[cfg(test)]
    pub(super) fn count_in(&self, how: In) -> u64 {
        let found = self.taken.iter().find(|(taking, _)| *taking == how);
        found.map_or(0, |(_, counter)| counter.get())
    }
}

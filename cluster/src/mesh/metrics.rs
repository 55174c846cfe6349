//! What the mesh counts. Whatever a call touches is looked up once, at the start.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::{CallError, Lane, Service};

/// From a round trip on loopback to a call that waits for a client's deadline.
const ROUND_TRIPS: [f64; 14] = [
    0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.05, 0.2, 0.8, 3.2, 12.8, 51.2,
];

/// How calls end, as label values.
const OUTCOMES: [&str; 7] = [
    "ok",
    "not_sent",
    "busy",
    "declined",
    "lost",
    "deadline",
    "too_large",
];

#[derive(Clone)]
pub(super) struct Metrics(Arc<Counters>);

struct Counters {
    links: IntGauge,
    reconnects: IntCounter,
    dials: IntCounterVec,
    admissions: IntCounterVec,
    refused: IntCounter,
    cuts: IntCounterVec,
    /// By lane.
    lanes: [LaneMetrics; 4],
    /// By service, then outcome.
    calls: Vec<Vec<IntCounter>>,
    served: Vec<IntCounter>,
}

/// One lane's part, over all peers.
#[derive(Clone)]
pub(super) struct LaneMetrics {
    pub(super) bytes_out: IntCounter,
    pub(super) bytes_in: IntCounter,
    pub(super) frames_out: IntCounter,
    pub(super) frames_in: IntCounter,
    pub(super) queued: IntGauge,
    pub(super) handling: IntGauge,
    round_trip: Histogram,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let gauge = |name: &str, help: &str| {
            let family = IntGaugeVec::new(Opts::new(name, help), &["lane"])?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let links = IntGauge::new("orama_mesh_links", "Peers with a link.")?;
        registry.register(Box::new(links.clone()))?;
        let refused = IntCounter::new(
            "orama_mesh_refused_connections_total",
            "Connections from outside that came to nothing, at whatever stage.",
        )?;
        registry.register(Box::new(refused.clone()))?;
        let reconnects = IntCounter::new(
            "orama_mesh_reconnects_total",
            "Links to kept peers that were made again after a break.",
        )?;
        registry.register(Box::new(reconnects.clone()))?;
        let bytes = counter(
            "orama_mesh_bytes_total",
            "Bytes of frames, by lane and direction.",
            &["lane", "direction"],
        )?;
        let frames = counter(
            "orama_mesh_frames_total",
            "Frames, by lane and direction.",
            &["lane", "direction"],
        )?;
        let queued = gauge("orama_mesh_queued_frames", "Frames waiting to be written.")?;
        let handling = gauge("orama_mesh_handling", "Calls of peers being handled.")?;
        let round_trips = HistogramVec::new(
            HistogramOpts::new(
                "orama_mesh_round_trip_seconds",
                "From a call to its answer, handling included.",
            )
            .buckets(ROUND_TRIPS.to_vec()),
            &["lane"],
        )?;
        registry.register(Box::new(round_trips.clone()))?;
        let calls = counter(
            "orama_mesh_calls_total",
            "Calls to peers, by service and outcome.",
            &["service", "outcome"],
        )?;
        let served = counter(
            "orama_mesh_served_total",
            "Calls of peers that were taken, by service.",
            &["service"],
        )?;
        let lanes = Lane::ALL.map(|lane| {
            let name = lane.as_str();
            LaneMetrics {
                bytes_out: bytes.with_label_values(&[name, "out"]),
                bytes_in: bytes.with_label_values(&[name, "in"]),
                frames_out: frames.with_label_values(&[name, "out"]),
                frames_in: frames.with_label_values(&[name, "in"]),
                queued: queued.with_label_values(&[name]),
                handling: handling.with_label_values(&[name]),
                round_trip: round_trips.with_label_values(&[name]),
            }
        });
        Ok(Self(Arc::new(Counters {
            links,
            reconnects,
            dials: counter(
                "orama_mesh_dials_total",
                "Connections attempted, by result.",
                &["result"],
            )?,
            admissions: counter(
                "orama_mesh_admissions_total",
                "Admissions attempted by either side, by result.",
                &["result"],
            )?,
            refused,
            cuts: counter(
                "orama_mesh_links_ended_total",
                "Links that ended, by reason.",
                &["reason"],
            )?,
            lanes,
            calls: Service::ALL
                .iter()
                .map(|service| {
                    OUTCOMES
                        .iter()
                        .map(|outcome| calls.with_label_values(&[service.as_str(), outcome]))
                        .collect()
                })
                .collect(),
            served: Service::ALL
                .iter()
                .map(|service| served.with_label_values(&[service.as_str()]))
                .collect(),
        })))
    }

    pub(super) fn lane(&self, lane: Lane) -> &LaneMetrics {
        &self.0.lanes[lane as usize]
    }
    pub(super) fn links(&self, count: usize) {
        self.0.links.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    pub(super) fn reconnect(&self) {
        self.0.reconnects.inc();
    }
    pub(super) fn dial(&self, result: &str) {
        self.0.dials.with_label_values(&[result]).inc();
    }
    pub(super) fn refused(&self) {
        self.0.refused.inc();
    }

    pub(super) fn admission(&self, result: &str) {
        self.0.admissions.with_label_values(&[result]).inc();
    }
    pub(super) fn ended(&self, reason: &str) {
        self.0.cuts.with_label_values(&[reason]).inc();
    }
    pub(super) fn served(&self, service: Service) {
        self.0.served[service as usize - 1].inc();
    }
    pub(super) fn call<T>(
        &self,
        lane: Lane,
        service: Service,
        result: &Result<T, CallError>,
        took: Duration,
    ) {
        let outcome = match result {
            Ok(_) => 0,
            Err(CallError::NotSent(_)) => 1,
            Err(CallError::Busy(_)) => 2,
            Err(CallError::Declined { .. }) => 3,
            Err(CallError::Lost(_)) => 4,
            Err(CallError::Deadline(_)) => 5,
            Err(CallError::TooLarge { .. }) => 6,
        };
        self.0.calls[service as usize - 1][outcome].inc();
        if result.is_ok() {
            self.lane(lane).round_trip.observe(took.as_secs_f64());
        }
    }
    /// For tests.
    #[cfg(test)]
    pub(super) fn admissions(&self, result: &str) -> u64 {
        self.0.admissions.with_label_values(&[result]).get()
    }
    #[cfg(test)]
    pub(super) fn cuts(&self, reason: &str) -> u64 {
        self.0.cuts.with_label_values(&[reason]).get()
    }
}

//! What transfers between nodes count.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

/// Handles of the metrics of transfers.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    /// `ok`, `missing`, `full`, `failed`.
    pub(super) fetches: IntCounterVec,
    pub(super) fetch_seconds: Histogram,
    pub(super) received: IntCounter,
    pub(super) served: IntCounter,
    /// Transfers whose bytes were not what was asked for.
    pub(super) wrong: IntCounter,
    /// `ok`, `too_few`.
    pub(super) spreads: IntCounterVec,
    pub(super) spread_seconds: Histogram,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let buckets = || vec![0.002, 0.01, 0.05, 0.2, 1.0, 5.0, 30.0];
        let metrics = Self {
            fetches: IntCounterVec::new(
                Opts::new(
                    "orama_blob_fetches_total",
                    "Blobs fetched from other nodes, by result.",
                ),
                &["result"],
            )?,
            fetch_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "orama_blob_fetch_seconds",
                    "Time to fetch a blob from other nodes and store it.",
                )
                .buckets(buckets()),
            )?,
            received: IntCounter::new(
                "orama_blob_received_bytes_total",
                "Bytes of blobs received from other nodes.",
            )?,
            served: IntCounter::new(
                "orama_blob_served_bytes_total",
                "Bytes of blobs sent to other nodes.",
            )?,
            wrong: IntCounter::new(
                "orama_blob_wrong_transfers_total",
                "Transfers that ended with other bytes than were asked for.",
            )?,
            spreads: IntCounterVec::new(
                Opts::new(
                    "orama_blob_spreads_total",
                    "Blobs given to a majority of the voters, by result.",
                ),
                &["result"],
            )?,
            spread_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "orama_blob_spread_seconds",
                    "Time until a majority of the voters held a blob.",
                )
                .buckets(buckets()),
            )?,
        };
        registry.register(Box::new(metrics.fetches.clone()))?;
        registry.register(Box::new(metrics.fetch_seconds.clone()))?;
        registry.register(Box::new(metrics.received.clone()))?;
        registry.register(Box::new(metrics.served.clone()))?;
        registry.register(Box::new(metrics.wrong.clone()))?;
        registry.register(Box::new(metrics.spreads.clone()))?;
        registry.register(Box::new(metrics.spread_seconds.clone()))?;
        Ok(metrics)
    }
}

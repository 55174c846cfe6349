//! What the blob store counts.

use std::time::Instant;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use super::BlobError;

/// Handles of the metrics `orama_blob_*`.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    puts: IntCounterVec,
    gets: IntCounterVec,
    put_seconds: Histogram,
    get_seconds: Histogram,
    written: IntCounter,
    read: IntCounter,
    pub(super) corrupt: IntCounter,
    pub(super) swept: IntCounter,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let buckets = || vec![0.0005, 0.002, 0.01, 0.05, 0.2, 1.0, 5.0];
        let metrics = Self {
            puts: IntCounterVec::new(
                Opts::new("orama_blob_puts_total", "Blobs put, by result."),
                &["result"],
            )?,
            gets: IntCounterVec::new(
                Opts::new("orama_blob_gets_total", "Blobs read, by result."),
                &["result"],
            )?,
            put_seconds: Histogram::with_opts(
                HistogramOpts::new("orama_blob_put_seconds", "Time to store a blob durably.")
                    .buckets(buckets()),
            )?,
            get_seconds: Histogram::with_opts(
                HistogramOpts::new("orama_blob_get_seconds", "Time to read and verify a blob.")
                    .buckets(buckets()),
            )?,
            written: IntCounter::new(
                "orama_blob_written_bytes_total",
                "Bytes of blobs written to disk.",
            )?,
            read: IntCounter::new(
                "orama_blob_read_bytes_total",
                "Bytes of blobs read and found good.",
            )?,
            corrupt: IntCounter::new(
                "orama_blob_corrupt_total",
                "Blob files found damaged and set aside.",
            )?,
            swept: IntCounter::new(
                "orama_blob_swept_total",
                "Blobs removed because nothing refers to them.",
            )?,
        };
        registry.register(Box::new(metrics.puts.clone()))?;
        registry.register(Box::new(metrics.gets.clone()))?;
        registry.register(Box::new(metrics.put_seconds.clone()))?;
        registry.register(Box::new(metrics.get_seconds.clone()))?;
        registry.register(Box::new(metrics.written.clone()))?;
        registry.register(Box::new(metrics.read.clone()))?;
        registry.register(Box::new(metrics.corrupt.clone()))?;
        registry.register(Box::new(metrics.swept.clone()))?;
        Ok(metrics)
    }

    /// Counts a put; `Ok(true)` wrote `len` bytes, `Ok(false)` found them there.
    pub(super) fn put(&self, since: Instant, len: usize, result: &Result<bool, BlobError>) {
        let result = match result {
            Ok(true) => {
                self.written.inc_by(len as u64);
                "stored"
            }
            Ok(false) => "present",
            Err(e) => name(e),
        };
        self.puts.with_label_values(&[result]).inc();
        self.put_seconds.observe(since.elapsed().as_secs_f64());
    }

    pub(super) fn get(&self, since: Instant, result: &Result<bytes::Bytes, BlobError>) {
        let result = match result {
            Ok(bytes) => {
                self.read.inc_by(bytes.len() as u64);
                "ok"
            }
            Err(e) => name(e),
        };
        self.gets.with_label_values(&[result]).inc();
        self.get_seconds.observe(since.elapsed().as_secs_f64());
    }
}

fn name(error: &BlobError) -> &'static str {
    match error {
        BlobError::Missing(_) => "missing",
        BlobError::Corrupt { .. } => "corrupt",
        BlobError::Full(_) => "full",
        BlobError::Io { .. } => "io",
    }
}

//! Counters of the runtime.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

/// One set per runtime.
pub(crate) struct Metrics {
    pub(crate) compilations: IntCounter,
    pub(crate) compile_seconds: Histogram,
    pub(crate) cache_hits: IntCounter,
    pub(crate) cache_damaged: IntCounter,
    pub(crate) modules_loaded: IntGauge,
    pub(crate) modules_evicted: IntCounter,
    pub(crate) running: IntGauge,
    pub(crate) refused: IntCounter,
}

impl Metrics {
    /// Makes the metrics and hands them to the registry.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok::<_, prometheus::Error>(metric)
        };
        let gauge = |name: &str, help: &str| {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok::<_, prometheus::Error>(metric)
        };
        let compile_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "orama_runtime_compile_seconds",
                "Time to validate and compile a module.",
            )
            .buckets(vec![0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0]),
        )?;
        registry.register(Box::new(compile_seconds.clone()))?;
        Ok(Self {
            compilations: counter(
                "orama_runtime_compilations_total",
                "Modules compiled; a module found in the cache is not compiled again.",
            )?,
            compile_seconds,
            cache_hits: counter(
                "orama_runtime_cache_hits_total",
                "Modules loaded from the compiled cache on disk.",
            )?,
            cache_damaged: counter(
                "orama_runtime_cache_damaged_total",
                "Compiled files that were damaged or foreign, and were removed.",
            )?,
            modules_loaded: gauge("orama_runtime_modules_loaded", "Modules ready in memory.")?,
            modules_evicted: counter(
                "orama_runtime_modules_evicted_total",
                "Modules dropped from memory to make room.",
            )?,
            running: gauge(
                "orama_runtime_instances",
                "Guests alive, waiting ones included.",
            )?,
            refused: counter(
                "orama_runtime_instances_refused_total",
                "Invocations for which no instance could be made.",
            )?,
        })
    }
}

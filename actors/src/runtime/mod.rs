//! Guests: validation, compilation, instances, limits. See OVERVIEW.md.

mod cache;
mod call;
mod compiler;
mod engine;
mod error;
mod failure;
pub(crate) mod guest;
pub(crate) mod import;
mod limiter;
pub(crate) mod memory;
mod metrics;
mod modules;
mod output;
mod prepared;
mod run;
pub(crate) mod slices;
#[cfg(test)]
mod tests;
mod ticker;
mod validate;
mod wasi;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use orama_proto::ContentId;

pub use call::{BoxFuture, Call, GuestError, HostServices, Outcome};
pub use compiler::{COMPILE_ARGUMENT, Compiler, compile_stdin};
pub use error::{ModuleError, RuntimeError};
pub(crate) use failure::Stop;
pub use prepared::PreparedModule;

use cache::Cache;
use metrics::Metrics;
use modules::Modules;
use ticker::Ticker;

/// Settings of the engine.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// Where compiled modules are kept.
    pub compiled_dir: PathBuf,
    /// How modules are compiled.
    pub compiler: Compiler,
    /// Instances that may exist at once.
    pub max_instances: u32,
    /// Loaded modules kept in memory.
    pub max_loaded_modules: usize,
}

/// The engine with its compiled modules. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    ticker: Ticker,
    modules: Arc<Modules>,
    metrics: Arc<Metrics>,
}

impl Runtime {
    /// Makes the engine and starts its clock.
    ///
    /// # Errors
    /// [`RuntimeError`] when the pool's address space cannot be reserved, the
    /// cache directory cannot be used or the metrics exist already.
    pub fn new(
        options: RuntimeOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, RuntimeError> {
        let failed = |e: wasmtime::Error| RuntimeError(format!("{e:#}"));
        let metrics =
            Arc::new(Metrics::register(registry).map_err(|e| RuntimeError(e.to_string()))?);
        let engine = engine::engine(options.max_instances.max(1)).map_err(failed)?;
        let dir = &options.compiled_dir;
        let cache = Cache::open(dir, &engine)
            .map_err(|e| RuntimeError(format!("{}: {e}", dir.display())))?;
        let ticker = Ticker::start(&engine).map_err(|e| RuntimeError(e.to_string()))?;
        let capacity = options.max_loaded_modules;
        let modules = Modules::new(engine, options.compiler, cache, capacity, metrics.clone())?;
        Ok(Self {
            inner: Arc::new(Inner {
                ticker,
                modules: Arc::new(modules),
                metrics,
            }),
        })
    }

    /// Validates and compiles an uploaded module, and keeps the result on
    /// disk. Bytes that were compiled before are not compiled again.
    /// `cid` must be the address of `wasm`.
    ///
    /// # Errors
    /// See [`ModuleError`].
    pub async fn prepare(
        &self,
        cid: ContentId,
        wasm: Bytes,
    ) -> Result<Arc<PreparedModule>, ModuleError> {
        match self.loaded(&cid) {
            Some(module) => Ok(module),
            None => {
                let now = self.inner.ticker.now();
                self.inner.modules.prepare(cid, wasm, now).await
            }
        }
    }

    /// A module already in memory. The hot path.
    pub fn loaded(&self, cid: &ContentId) -> Option<Arc<PreparedModule>> {
        self.inner.modules.loaded(cid, self.inner.ticker.now())
    }

    /// Loads a module from the compiled cache on disk; `None` when it is not there or does not fit this engine.
    ///
    /// # Errors
    /// See [`ModuleError`].
    pub async fn load(&self, cid: ContentId) -> Result<Option<Arc<PreparedModule>>, ModuleError> {
        match self.loaded(&cid) {
            Some(module) => Ok(Some(module)),
            None => {
                let now = self.inner.ticker.now();
                self.inner.modules.load(cid, now).await
            }
        }
    }

    /// Runs a guest in the calling thread, in a fresh instance. Needs a tokio runtime with timers.
    pub async fn run(&self, module: &PreparedModule, call: Call) -> Outcome {
        let _running = self.inner.ticker.enter();
        let _counted = Counted::new(&self.inner.metrics.running);
        let outcome = run::run(module, call).await;
        if run::is_refusal(&outcome) {
            self.inner.metrics.refused.inc();
        }
        outcome
    }

    /// Drops compiled files of modules not in `keep`. Answers how many.
    pub async fn sweep(&self, keep: HashSet<ContentId>) -> u64 {
        self.inner.modules.sweep(keep).await
    }
}

/// Counts something while it lives, also when its future is dropped.
struct Counted<'a>(&'a prometheus::IntGauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

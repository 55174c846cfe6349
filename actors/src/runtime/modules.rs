//! The modules in memory, and how they get there: from the disk, else by compiling.
//!
//! Whatever asks for the same module at the same time waits for one piece of
//! work, which is finished even when everybody who waits for it has gone away.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use orama_proto::ContentId;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{Engine, Linker};

use super::cache::{self, Cache, Cached};
use super::compiler::Compiler;
use super::error::{ModuleError, RuntimeError};
use super::guest::Guest;
use super::metrics::Metrics;
use super::prepared::PreparedModule;
use super::validate;

/// Modules compiled at once. One compilation already uses every core; the
/// second place is there so that one costly module does not stop everybody.
const COMPILE_AT_ONCE: usize = 2;
/// Modules read from the disk at once.
const LOAD_AT_ONCE: usize = 4;

struct Entry {
    module: Arc<PreparedModule>,
    used: AtomicU64,
}

/// The modules of a runtime.
pub(crate) struct Modules {
    engine: Engine,
    compiler: Compiler,
    linker: Linker<Guest>,
    cache: Cache,
    metrics: Arc<Metrics>,
    capacity: usize,
    loaded: RwLock<HashMap<ContentId, Entry>>,
    /// Work under way. The lock is held by the task that does it.
    flights: Mutex<HashMap<ContentId, Weak<tokio::sync::Mutex<()>>>>,
    compiling: Arc<Semaphore>,
    loading: Arc<Semaphore>,
}

impl Modules {
    pub(crate) fn new(
        engine: Engine,
        compiler: Compiler,
        cache: Cache,
        capacity: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self, RuntimeError> {
        let mut linker = Linker::new(&engine);
        super::import::link(&mut linker).map_err(|e| RuntimeError(format!("{e:#}")))?;
        Ok(Self {
            engine,
            compiler,
            linker,
            cache,
            metrics,
            capacity: capacity.max(1),
            loaded: RwLock::default(),
            flights: Mutex::default(),
            compiling: Arc::new(Semaphore::new(COMPILE_AT_ONCE)),
            loading: Arc::new(Semaphore::new(LOAD_AT_ONCE)),
        })
    }

    /// A module in memory; `now` is the time of its use.
    pub(crate) fn loaded(&self, cid: &ContentId, now: u64) -> Option<Arc<PreparedModule>> {
        let loaded = self.loaded.read();
        let entry = loaded.get(cid)?;
        // Most calls find the stamp set already and leave the cache line shared.
        if entry.used.load(Ordering::Relaxed) != now {
            entry.used.store(now, Ordering::Relaxed);
        }
        Some(entry.module.clone())
    }

    /// Loads from the disk.
    pub(crate) async fn load(
        self: &Arc<Self>,
        cid: ContentId,
        now: u64,
    ) -> Result<Option<Arc<PreparedModule>>, ModuleError> {
        let flight = self.flight(cid).lock_owned().await;
        if let Some(module) = self.loaded(&cid, now) {
            return Ok(Some(module));
        }
        let permit = permit(&self.loading).await?;
        let modules = self.clone();
        blocking(move || {
            let module = modules.read(&cid, now);
            drop((permit, flight));
            module
        })
        .await
    }

    /// Loads from the disk, or validates and compiles.
    pub(crate) async fn prepare(
        self: &Arc<Self>,
        cid: ContentId,
        wasm: Bytes,
        now: u64,
    ) -> Result<Arc<PreparedModule>, ModuleError> {
        let flight = self.flight(cid).lock_owned().await;
        if let Some(module) = self.loaded(&cid, now) {
            return Ok(module);
        }
        let permit = permit(&self.compiling).await?;
        let modules = self.clone();
        let work = async move {
            let module = modules.read_or_compile(cid, wasm, now).await;
            drop((permit, flight));
            module
        };
        tokio::spawn(work).await.unwrap_or_else(interrupted)
    }

    async fn read_or_compile(
        self: Arc<Self>,
        cid: ContentId,
        wasm: Bytes,
        now: u64,
    ) -> Result<Arc<PreparedModule>, ModuleError> {
        let (modules, bytes) = (self.clone(), wasm.clone());
        let found = blocking(move || match modules.read(&cid, now)? {
            Some(module) => Ok(Some(module)),
            None => validate::check(&bytes)
                .map(|()| None)
                .map_err(ModuleError::Invalid),
        });
        if let Some(module) = found.await? {
            return Ok(module);
        }
        let started = Instant::now();
        let wasm_bytes = wasm.len();
        let code = self.compiler.compile(&self.engine, wasm).await?;
        let elapsed = started.elapsed();
        self.metrics.compilations.inc();
        self.metrics.compile_seconds.observe(elapsed.as_secs_f64());
        let code_bytes = code.len();
        tracing::info!(%cid, wasm_bytes, code_bytes, ?elapsed, "compiled a module");
        blocking(move || self.keep(&cid, &code, now)).await
    }

    /// Removes compiled files that are not wanted. What is in memory stays until it is evicted.
    pub(crate) async fn sweep(self: &Arc<Self>, keep: HashSet<ContentId>) -> u64 {
        let modules = self.clone();
        let swept = blocking(move || {
            let removed = modules.cache.sweep(&keep).map_err(unavailable)?;
            let mut loaded = modules.loaded.write();
            loaded.retain(|cid, _| keep.contains(cid));
            modules.metrics.modules_loaded.set(count(loaded.len()));
            Ok(removed)
        })
        .await;
        swept.unwrap_or_else(|error| {
            tracing::warn!(%error, "compiled modules cannot be swept; the next sweep tries again");
            0
        })
    }

    fn flight(&self, cid: ContentId) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.flights.lock();
        flights.retain(|_, flight| flight.strong_count() > 0);
        if let Some(flight) = flights.get(&cid).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::new(tokio::sync::Mutex::new(()));
        flights.insert(cid, Arc::downgrade(&flight));
        flight
    }

    fn read(&self, cid: &ContentId, now: u64) -> Result<Option<Arc<PreparedModule>>, ModuleError> {
        let why = match self.cache.load(&self.engine, cid).map_err(unavailable)? {
            Cached::Module(module) => match PreparedModule::link(&self.linker, &module) {
                Ok(prepared) => {
                    self.metrics.cache_hits.inc();
                    return Ok(Some(self.insert(*cid, prepared, now)));
                }
                Err(why) => {
                    self.cache.remove(cid).map_err(unavailable)?;
                    why
                }
            },
            Cached::Absent => return Ok(None),
            Cached::Damaged(why) | Cached::Unfit(why) => why,
        };
        self.metrics.cache_damaged.inc();
        tracing::warn!(%cid, why, "removed a compiled module that cannot be used");
        Ok(None)
    }

    /// Stores machine code and makes a module of it.
    fn keep(
        &self,
        cid: &ContentId,
        code: &[u8],
        now: u64,
    ) -> Result<Arc<PreparedModule>, ModuleError> {
        self.cache.store(cid, code).map_err(unavailable)?;
        // Run from the file like after a restart: its pages are shared and can be dropped by the kernel.
        let module = match self.cache.load(&self.engine, cid).map_err(unavailable)? {
            Cached::Module(module) => module,
            Cached::Absent => return Err(lost("it has vanished")),
            Cached::Damaged(why) => return Err(lost(&why)),
            // Limits of the pool that validation does not foresee, such as too many globals.
            Cached::Unfit(why) => {
                return Err(ModuleError::Invalid(format!(
                    "the module is more than an instance can hold: {why}"
                )));
            }
        };
        let prepared = PreparedModule::link(&self.linker, &module)
            .map_err(|e| ModuleError::Invalid(format!("failed to instantiate module: {e}")))?;
        Ok(self.insert(*cid, prepared, now))
    }

    fn insert(&self, cid: ContentId, module: PreparedModule, now: u64) -> Arc<PreparedModule> {
        let module = Arc::new(module);
        let entry = Entry {
            module: module.clone(),
            used: AtomicU64::new(now),
        };
        let mut evicted = Vec::new();
        {
            let mut loaded = self.loaded.write();
            loaded.insert(cid, entry);
            while loaded.len() > self.capacity {
                let oldest = loaded
                    .iter()
                    .filter(|(other, _)| **other != cid)
                    .min_by_key(|(_, entry)| entry.used.load(Ordering::Relaxed))
                    .map(|(other, _)| *other);
                match oldest.and_then(|other| loaded.remove(&other)) {
                    Some(entry) => evicted.push(entry),
                    None => break,
                }
            }
            self.metrics.modules_loaded.set(count(loaded.len()));
        }
        self.metrics.modules_evicted.inc_by(evicted.len() as u64);
        // Unmapping takes a while and is done without the lock.
        drop(evicted);
        module
    }
}

async fn permit(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ModuleError> {
    // Never closed; said as an error all the same rather than assumed.
    semaphore
        .clone()
        .acquire_owned()
        .await
        .map_err(|e| ModuleError::Unavailable(e.to_string()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ModuleError> + Send + 'static,
) -> Result<T, ModuleError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(interrupted)
}

fn interrupted<T>(e: tokio::task::JoinError) -> Result<T, ModuleError> {
    Err(ModuleError::Unavailable(format!(
        "loading was interrupted: {e}"
    )))
}

fn unavailable(e: std::io::Error) -> ModuleError {
    if cache::is_full(&e) {
        ModuleError::Full
    } else {
        ModuleError::Unavailable(format!("the cache of compiled modules: {e}"))
    }
}

fn lost(why: &str) -> ModuleError {
    ModuleError::Unavailable(format!(
        "the compiled module cannot be read back from the disk: {why}"
    ))
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

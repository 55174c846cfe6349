//! Guests: validation, compilation, instances, limits.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orama_proto::function::{FunctionSpec, FunctionVersion};
use orama_proto::invocation::{LogLine, Principal, Trigger};
use orama_proto::{ContentId, Namespace, RequestId, SecretName, Timestamp};
use zeroize::Zeroizing;

/// Settings of the engine.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// Where compiled modules are kept.
    pub compiled_dir: PathBuf,
    /// Instances that may exist at once.
    pub max_instances: u32,
    /// Loaded modules kept in memory.
    pub max_loaded_modules: usize,
}

/// The engine cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine cannot start: {0}")]
pub struct RuntimeError(pub String);

/// A module is not acceptable, or cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The author's fault; the text names module, field and limit. Answers 400.
    #[error("{0}")]
    Invalid(String),
    /// This node's fault; try again. Answers 503 at invoke, 500 at deploy.
    #[error("{0}")]
    Unavailable(String),
    /// The disk is full.
    #[error("no space left to store the compiled module")]
    Full,
}

/// A module that is compiled and linked, ready to be instantiated.
pub struct PreparedModule {}

impl PreparedModule {
    /// Checks what depends on a version's settings: the declared memory fits its limit.
    ///
    /// # Errors
    /// [`ModuleError::Invalid`].
    pub fn check(&self, spec: &FunctionSpec) -> Result<(), ModuleError> {
        todo!()
    }
}

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What host functions ask of the node. One implementation in the platform; a small one in tests.
pub trait HostServices: Send + Sync + 'static {
    /// A secret of the namespace in the clear; `None` when missing. An `Err` text goes to the guest's log.
    fn secret<'a>(
        &'a self,
        namespace: &'a Namespace,
        name: &'a SecretName,
    ) -> BoxFuture<'a, Result<Option<Zeroizing<Vec<u8>>>, String>>;
}

/// One attempt to run a guest.
pub struct Call {
    /// The request.
    pub request_id: RequestId,
    /// Which version, with its settings.
    pub function: Arc<FunctionVersion>,
    /// Who calls.
    pub principal: Arc<Principal>,
    /// What set it off.
    pub trigger: Trigger,
    /// stdin.
    pub input: Bytes,
    /// The node.
    pub services: Arc<dyn HostServices>,
    /// Permit of this worker thread that a guest must hold for every slice after its first few.
    pub slow_lane: Arc<tokio::sync::Semaphore>,
}

/// Why a guest did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// Ran out of time.
    #[error("function execution timeout")]
    Timeout {
        /// The limit.
        after: Duration,
    },
    /// A non-zero exit code, with the end of stderr and stdout.
    #[error("the function exited with code {code}{}", if detail.is_empty() { String::new() } else { format!(": {detail}") })]
    Exit {
        /// The code.
        code: i32,
        /// The end of its stderr, else its stdout, bounded.
        detail: String,
    },
    /// A trap, with its reason and the end of stderr.
    #[error("the function trapped: {0}")]
    Trap(String),
    /// It failed after being refused memory.
    #[error("memory limit exceeded ({limit_mb} MB){}", if detail.is_empty() { String::new() } else { format!(": {detail}") })]
    Memory {
        /// The limit.
        limit_mb: u32,
        /// What followed.
        detail: String,
    },
    /// It wrote more than it may.
    #[error("output too large: the limit is {limit} bytes")]
    OutputTooLarge {
        /// The limit.
        limit: usize,
    },
    /// The node could not make an instance.
    #[error("no instance could be made: {0}")]
    Instance(String),
}

/// What an attempt left behind, however it ended.
#[derive(Debug)]
pub struct Outcome {
    /// stdout, or why there is none.
    pub result: Result<Bytes, GuestError>,
    /// When the guest started.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// Bytes written to stdout, also when it failed.
    pub output_size: u64,
    /// Peak of linear memory, bytes.
    pub memory_peak: usize,
    /// Its log.
    pub logs: Vec<LogLine>,
    /// Lines over the limit.
    pub dropped_log_lines: u64,
}

/// The engine with its compiled modules. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {}

impl Runtime {
    /// Makes the engine and starts its clock.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub fn new(
        options: RuntimeOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, RuntimeError> {
        todo!()
    }
    /// Validates and compiles an uploaded module, and keeps the result on
    /// disk. Bytes that were compiled before are not compiled again.
    ///
    /// # Errors
    /// See [`ModuleError`].
    pub async fn prepare(
        &self,
        cid: ContentId,
        wasm: Bytes,
    ) -> Result<Arc<PreparedModule>, ModuleError> {
        todo!()
    }
    /// A module already in memory. The hot path.
    pub fn loaded(&self, cid: &ContentId) -> Option<Arc<PreparedModule>> {
        todo!()
    }
    /// Loads a module from the compiled cache on disk; `None` when it is not there or does not fit this engine.
    ///
    /// # Errors
    /// See [`ModuleError`].
    pub async fn load(&self, cid: ContentId) -> Result<Option<Arc<PreparedModule>>, ModuleError> {
        todo!()
    }
    /// Runs a guest in the calling thread, in a fresh instance.
    pub async fn run(&self, module: &PreparedModule, call: Call) -> Outcome {
        todo!()
    }
    /// Drops compiled files of modules not in `keep`. Answers how many.
    pub async fn sweep(&self, keep: std::collections::HashSet<ContentId>) -> u64 {
        todo!()
    }
}

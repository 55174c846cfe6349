//! Everything that belongs to one invocation, held by its instance's store.
//!
//! Nothing of a call lives anywhere else: when the store is dropped, the
//! caller, its secrets and its log are gone with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use orama_proto::RequestId;
use orama_proto::Timestamp;
use orama_proto::function::FunctionVersion;
use orama_proto::invocation::{LogLevel, Principal};
use wasmtime::{Memory, ModuleExport, TypedFunc};

use super::call::{Call, HostServices};
use super::limiter::MemoryAccount;
use super::output::{LineStream, Log, Output};
use super::slices::Lane;
use super::wasi::Stdio;

/// When a guest must be done, and the limit that says so.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) after: Duration,
}

/// Where stdout goes.
pub(crate) enum Stdout {
    /// It is the result.
    Result(Output),
    /// The result comes another way, so this is for the log.
    Log(LineStream),
}

/// How the guest takes bytes from the host.
#[derive(Clone)]
pub(crate) enum Allocator {
    /// The module exports none.
    None,
    /// Not looked up yet in this instance.
    Export(ModuleExport),
    /// Ready.
    Ready(TypedFunc<u32, u32>),
    /// It is running; it cannot be entered a second time.
    Busy,
}

/// What a guest has had to do with its database.
#[derive(Default)]
pub(crate) struct DatabaseUse {
    /// Index of its last write; its reads see at least that.
    pub(crate) written: u64,
    /// Failures so far.
    pub(crate) told: u32,
}

/// The data of a guest's store.
pub(crate) struct Guest {
    pub(crate) request_id: RequestId,
    pub(crate) function: Arc<FunctionVersion>,
    pub(crate) principal: Arc<Principal>,
    pub(crate) services: Arc<dyn HostServices>,
    /// False while a reactor initialises: there is no caller then.
    pub(crate) in_call: bool,

    pub(crate) stdin: Bytes,
    pub(crate) stdin_read: usize,
    pub(crate) stdout: Stdout,
    /// Size of the result that a reactor returned, also when it is too large.
    pub(crate) returned: u64,
    pub(crate) stderr: LineStream,
    pub(crate) stdio: Stdio,
    pub(crate) log: Log,
    pub(crate) database: DatabaseUse,

    pub(crate) started_at: Timestamp,
    pub(crate) started: Instant,
    pub(crate) deadline: Deadline,
    pub(crate) lane: Lane,
    pub(crate) account: MemoryAccount,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocator: Allocator,
}

impl Guest {
    /// Starts the guest's clock.
    pub(crate) fn new(call: Call, allocator: Allocator, stdout: Stdout) -> Self {
        let started = Instant::now();
        let after = Duration::from_secs(u64::from(call.function.spec.timeout_seconds));
        Self {
            deadline: Deadline {
                at: started + after,
                after,
            },
            account: MemoryAccount::new(call.function.spec.memory_limit_bytes()),
            lane: Lane::new(call.slow_lane),
            request_id: call.request_id,
            function: call.function,
            principal: call.principal,
            services: call.services,
            in_call: true,
            stdin: call.input,
            stdin_read: 0,
            stdout,
            returned: 0,
            stderr: LineStream::new(LogLevel::Error),
            stdio: Stdio::default(),
            log: Log::default(),
            database: DatabaseUse::default(),
            started_at: Timestamp::now(),
            started,
            memory: None,
            allocator,
        }
    }
}

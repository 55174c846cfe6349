//! What goes into an attempt to run a guest, and what comes out of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use orama_cluster::{Answer, SqlQuery, Written};
use orama_proto::function::FunctionVersion;
use orama_proto::invocation::{LogLine, Principal, Trigger};
use orama_proto::sql::{ReadOptions, SqlCode, SqlError, SqlOp};
use orama_proto::{Namespace, RequestId, SecretName, Timestamp};
use zeroize::Zeroizing;

use crate::sql::SqlCaller;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What host functions ask of the node. One implementation in the platform; small ones in tests,
/// which have no databases unless they say so.
pub trait HostServices: Send + Sync + 'static {
    /// A secret of the namespace in the clear; `None` when missing. An `Err` text goes to the guest's log.
    fn secret<'a>(
        &'a self,
        namespace: &'a Namespace,
        name: &'a SecretName,
    ) -> BoxFuture<'a, Result<Option<Zeroizing<Vec<u8>>>, String>>;

    /// Makes a transaction in the caller's database. See [`crate::sql::Sql::execute`].
    fn sql_execute<'a>(
        &'a self,
        caller: SqlCaller<'a>,
        ops: Vec<SqlOp>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Written, SqlError>> {
        let _ = (caller, ops, deadline);
        Box::pin(async { Err(no_databases()) })
    }

    /// Runs queries on the caller's database; dropping the future ends them. See
    /// [`crate::sql::Sql::query`].
    fn sql_query<'a>(
        &'a self,
        caller: SqlCaller<'a>,
        queries: Vec<SqlQuery>,
        read: ReadOptions,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Answer, SqlError>> {
        let _ = (caller, queries, read, deadline);
        Box::pin(async { Err(no_databases()) })
    }
}

fn no_databases() -> SqlError {
    SqlError::new(SqlCode::Unavailable, "no databases here")
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
    #[error("the function exited with code {code}{}", followed(detail))]
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
    #[error("memory limit exceeded ({limit_mb} MB){}", followed(detail))]
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

fn followed(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!(": {detail}")
    }
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

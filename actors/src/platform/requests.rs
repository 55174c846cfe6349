//! What the platform is started with and asked for, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orama_proto::function::FunctionSpec;
use orama_proto::invocation::{InvocationRecord, Principal, Trigger};
use orama_proto::{FunctionName, Namespace, RequestId};
use zeroize::Zeroizing;

/// Settings of the platform.
#[derive(Clone)]
pub struct PlatformOptions {
    /// Where compiled modules are kept.
    pub compiled_dir: std::path::PathBuf,
    /// How modules are compiled.
    pub compiler: crate::runtime::Compiler,
    /// Master keys, the active one first: id and 32 bytes. Parsed by [`crate::vault::MasterKeys::parse`].
    pub master_keys: crate::vault::MasterKeys,
    /// Bearer token of the administrative API.
    pub admin_token: Zeroizing<String>,
    /// Guests that may run at once on this node.
    pub max_running: usize,
    /// Guests of one namespace that may run at once on this node.
    pub max_running_per_namespace: usize,
    /// Invocations of one namespace that may wait for a place.
    pub max_queued_per_namespace: usize,
    /// How long an invocation may wait for a place.
    pub max_queue_wait: Duration,
    /// Bytes that the database of a namespace may have; counted in pages of 4 KiB.
    pub database_max_bytes: u64,
}

/// A module to be deployed.
pub struct Deploy {
    /// The tenant.
    pub namespace: Namespace,
    /// The function.
    pub name: FunctionName,
    /// Its settings, valid.
    pub spec: FunctionSpec,
    /// The module.
    pub wasm: Bytes,
    /// Who deploys.
    pub created_by: String,
}

/// An invocation to be run.
pub struct Invoke {
    /// The request.
    pub request_id: RequestId,
    /// The tenant.
    pub namespace: Namespace,
    /// The function.
    pub name: FunctionName,
    /// A version, or the latest active one.
    pub version: Option<u64>,
    /// Who calls.
    pub principal: Arc<Principal>,
    /// What set it off.
    pub trigger: Trigger,
    /// stdin.
    pub input: Bytes,
    /// The caller gave an `Idempotency-Key`: running it twice does no harm.
    pub repeatable: bool,
}

/// Invocation records of the whole cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logs {
    /// Newest first.
    pub records: Vec<InvocationRecord>,
    /// Members, by name, whose records are missing because they did not answer.
    pub silent: Vec<String>,
}

/// An invocation that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// stdout.
    pub output: Bytes,
    /// Milliseconds of the last attempt.
    pub duration_ms: u64,
    /// Name of the node that ran it.
    pub node: Arc<str>,
}

/// The platform cannot start; the text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The engine.
    #[error(transparent)]
    Runtime(#[from] crate::runtime::RuntimeError),
    /// Master keys.
    #[error(transparent)]
    Vault(#[from] crate::vault::VaultError),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

//! An invocation: who calls, how it ended, what it left behind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{FunctionName, Namespace, RequestId, Timestamp};

/// Version of [`InvocationRecord`] in the journal.
pub const RECORD_VERSION: u8 = 1;

/// What set an invocation off (CONTRACT 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// An HTTP request.
    Http,
    /// A WebSocket frame.
    Websocket,
    /// A message on a topic.
    Pubsub,
    /// A schedule.
    Cron,
    /// Another function.
    Function,
}

impl Trigger {
    /// The name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Websocket => "websocket",
            Self::Pubsub => "pubsub",
            Self::Cron => "cron",
            Self::Function => "function",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvocationStatus {
    /// The guest returned, or exited with 0.
    Success,
    /// It trapped, exited with another code, or broke a limit.
    Error,
    /// It ran out of time.
    Timeout,
}

impl InvocationStatus {
    /// The name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// `log_info`.
    Info,
    /// The host noticed something the author should know.
    Warn,
    /// `log_error`, and what the guest wrote to stderr.
    Error,
}

/// A line of an invocation's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Severity.
    pub level: LogLevel,
    /// The text, cut at its limit.
    pub message: String,
    /// When it was written.
    pub timestamp: Timestamp,
}

/// One attempt of one invocation, as the journal keeps it and the API shows it (CONTRACT 2.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvocationRecord {
    /// Unique to the attempt; sorts by time (UUID v7).
    pub id: String,
    /// The same for all attempts of a request.
    pub request_id: RequestId,
    /// The tenant.
    pub namespace: Namespace,
    /// The function.
    pub function: FunctionName,
    /// Which version ran.
    pub version: u64,
    /// 1 for the first.
    pub attempt: u32,
    /// What set it off.
    pub trigger_type: Trigger,
    /// The caller's wallet, empty for an anonymous one.
    pub caller_wallet: String,
    /// Bytes on stdin.
    pub input_size: u64,
    /// Bytes on stdout.
    pub output_size: u64,
    /// When the guest started.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Timestamp,
    /// Milliseconds the guest took.
    pub duration_ms: u64,
    /// How it ended.
    pub status: InvocationStatus,
    /// Why, when it did not end well.
    pub error_message: String,
    /// Peak of linear memory, MiB, rounded up.
    pub memory_used_mb: u32,
    /// What it logged.
    pub wasm_logs: Vec<LogLine>,
    /// Lines over the limit, not kept.
    pub dropped_log_lines: u64,
}

/// Who a request comes from, once its credential has been checked. Made by
/// the gateway, once per request; everything behind it trusts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Principal {
    /// No credential.
    Anonymous,
    /// An API key of a namespace.
    ApiKey {
        /// The key's namespace.
        namespace: Namespace,
        /// The key's public identifier.
        key_id: String,
    },
    /// A verified token.
    Jwt {
        /// The token's namespace.
        namespace: Namespace,
        /// Its `sub` claim: the wallet.
        subject: String,
        /// Its `custom` claims.
        claims: BTreeMap<String, String>,
    },
    /// The operator's token.
    Admin,
    /// The platform itself: triggers, schedules.
    System,
}

impl Principal {
    /// The namespace the credential belongs to.
    pub fn namespace(&self) -> Option<&Namespace> {
        match self {
            Self::ApiKey { namespace, .. } | Self::Jwt { namespace, .. } => Some(namespace),
            Self::Anonymous | Self::Admin | Self::System => None,
        }
    }
    /// What `get_caller_wallet` answers (CONTRACT 1.6): the token's subject,
    /// the namespace for an API key, else nothing.
    pub fn wallet(&self) -> &str {
        match self {
            Self::Jwt { subject, .. } => subject,
            Self::ApiKey { namespace, .. } => namespace.as_str(),
            Self::Anonymous | Self::Admin | Self::System => "",
        }
    }
    /// What `get_caller_jwt_subject` answers.
    pub fn jwt_subject(&self) -> &str {
        match self {
            Self::Jwt { subject, .. } => subject,
            _ => "",
        }
    }
    /// What `get_caller_claim` answers.
    pub fn claim(&self, name: &str) -> &str {
        match self {
            Self::Jwt { claims, .. } => claims.get(name).map_or("", String::as_str),
            _ => "",
        }
    }
}

//! The one error shape on the wire (CONTRACT 2.1) and its codes.
//!
//! Every module has an error type of its own; whoever maps it to a response
//! makes an [`ApiError`] of it. The gateway is the only place that writes one
//! to a socket, and the CLI the only one that reads one back.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What went wrong, as clients match on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// The request breaks a rule that the message names.
    ValidationFailed,
    /// No credential, or a wrong one.
    Unauthorized,
    /// A valid credential that may not do this.
    Forbidden,
    /// No such thing, or none that this credential may see.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// It exists already, or changed meanwhile.
    Conflict,
    /// A body, module, name list or quota is over its limit.
    PayloadTooLarge,
    /// Too many requests or invocations; try later.
    RateLimited,
    /// A namespace's storage quota or the disk is full.
    StorageQuotaExceeded,
    /// A fault of this node.
    Internal,
    /// The guest failed: trap, exit code, memory or output limit.
    FunctionExecutionFailed,
    /// A deploy that failed for a reason that is not the module's.
    FunctionDeployFailed,
    /// The node cannot serve this now; try again.
    ServiceUnavailable,
    /// The function exists and cannot be loaded now; try again.
    FunctionUnavailable,
    /// The function ran out of its time.
    Timeout,
}

impl ErrorCode {
    /// The HTTP status of this code.
    pub fn status(self) -> u16 {
        match self {
            Self::ValidationFailed => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::PayloadTooLarge => 413,
            Self::RateLimited => 429,
            Self::Internal | Self::FunctionExecutionFailed | Self::FunctionDeployFailed => 500,
            Self::ServiceUnavailable | Self::FunctionUnavailable => 503,
            Self::Timeout => 504,
            Self::StorageQuotaExceeded => 507,
        }
    }

    /// Whether the same request may succeed later.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::ServiceUnavailable
                | Self::FunctionUnavailable
                | Self::Timeout
        )
    }

    /// The code as it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ValidationFailed => "VALIDATION_FAILED",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::Conflict => "CONFLICT",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::RateLimited => "RATE_LIMITED",
            Self::StorageQuotaExceeded => "STORAGE_QUOTA_EXCEEDED",
            Self::Internal => "INTERNAL",
            Self::FunctionExecutionFailed => "FUNCTION_EXECUTION_FAILED",
            Self::FunctionDeployFailed => "FUNCTION_DEPLOY_FAILED",
            Self::ServiceUnavailable => "SERVICE_UNAVAILABLE",
            Self::FunctionUnavailable => "FUNCTION_UNAVAILABLE",
            Self::Timeout => "TIMEOUT",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error as a client sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind.
    pub code: ErrorCode,
    /// For people; names the field and the limit where there is one.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The request this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Seconds to wait before the next try; also sent as `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<f64>,
}

impl ApiError {
    /// An error of this kind.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retryable: code.retryable(),
            request_id: None,
            retry_after: None,
        }
    }
    /// A 400 that names what is wrong.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ValidationFailed, message)
    }
    /// A 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }
    /// The same error, telling the client when to come back.
    #[must_use]
    pub fn after(mut self, seconds: f64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl From<crate::NameError> for ApiError {
    fn from(error: crate::NameError) -> Self {
        Self::validation(error.to_string())
    }
}

/// The body of every error answer:
/// `{"ok":false,"error":{…},"message":…,"request_id":…}`. The two top-level
/// copies serve clients that read a plain text (CONTRACT 2.1).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorEnvelope {
    /// Always false.
    pub ok: bool,
    /// The error.
    pub error: ApiError,
    /// The error's message again.
    #[serde(default)]
    pub message: String,
    /// The error's request id again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl From<ApiError> for ErrorEnvelope {
    fn from(error: ApiError) -> Self {
        Self {
            ok: false,
            message: error.message.clone(),
            request_id: error.request_id.clone(),
            error,
        }
    }
}

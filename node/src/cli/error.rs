//! Why a command failed: what is printed, what is advised, and the exit code.

use std::path::PathBuf;
use std::process::ExitCode;

/// Exit codes, CONTRACT 14.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Anything that has no code of its own.
    Error = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No credential, or not one that may do this.
    Auth = 3,
    /// What the command names does not exist.
    NotFound = 4,
    /// The gateway cannot be reached or cannot serve now.
    Unavailable = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// An error answer of the gateway. Lenient where the gateway may be another
/// program or version: the code is text, and a body that is no envelope is
/// shown as it came, cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiFailure {
    /// HTTP status.
    pub status: u16,
    /// The error's code, empty when the answer has none.
    pub code: String,
    /// For people.
    pub message: String,
    /// The request, when the answer names it.
    pub request_id: Option<String>,
    /// What the reader may do about it, when the command knows.
    pub advice: Option<String>,
    /// The statement of a transaction that was rolled back which failed.
    pub failed_index: Option<usize>,
    /// Whether the same may be asked again, when the answer says so. Of a gateway that cannot
    /// serve now, "no" means that it does not know what became of the request.
    pub retryable: Option<bool>,
}

impl ApiFailure {
    /// Whether it is certain that a write was not made.
    pub fn changed_nothing(&self) -> bool {
        match self.status {
            // A proxy may have given up waiting.
            408 => false,
            400..=499 => true,
            503 => self.retryable == Some(true),
            // Ours: the statement ran out of its time, the database or a disk is full.
            504 | 507 => !self.code.is_empty(),
            _ => false,
        }
    }
}

impl std::fmt::Display for ApiFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "API error ({}): {}", self.status, self.message)?;
        if !self.code.is_empty() {
            write!(f, " [{}]", self.code)?;
        }
        match &self.request_id {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line is wrong in a way clap cannot see.
    #[error("{0}")]
    Usage(String),
    /// No credential for what was asked.
    #[error("authentication required: {0}")]
    Auth(String),
    /// No operator's token for what was asked.
    #[error("authentication required: this needs the operator's token of {0}")]
    Operator(String),
    /// Something local that the command names does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The gateway gave an error answer.
    #[error("{0}")]
    Api(ApiFailure),
    /// The gateway did not answer.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// Its URL.
        url: String,
        /// The innermost cause.
        reason: String,
    },
    /// The gateway answered something that cannot be read.
    #[error("unexpected answer from {url}: {reason}")]
    BadAnswer {
        /// Its URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or directory cannot be used.
    #[error("{action} {path}: {source}", path = path.display())]
    File {
        /// Such as `cannot read`.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No compiler for the project.
    #[error("{message}")]
    Toolchain {
        /// What is missing.
        message: String,
        /// How to get it.
        hint: String,
    },
    /// The cluster answered, and something in it is wrong: the first thing of that.
    #[error("the cluster is not well: {0}")]
    Unhealthy(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
    /// Whoever reads stdout has gone; not an error.
    #[error("stdout is closed")]
    StdoutClosed,
}

impl CliError {
    /// A file error in one line.
    pub fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    /// The same error, with the place in a file or input that it belongs to.
    pub fn at(self, place: impl std::fmt::Display) -> Self {
        match self {
            Self::Api(mut failure) => {
                failure.message = format!("{place}: {}", failure.message);
                Self::Api(failure)
            }
            Self::Unreachable { url, reason } => Self::Unreachable {
                url,
                reason: format!("{reason} ({place})"),
            },
            Self::BadAnswer { url, reason } => Self::BadAnswer {
                url,
                reason: format!("{reason} ({place})"),
            },
            Self::Usage(text) => Self::Usage(format!("{place}: {text}")),
            Self::Failed(text) => Self::Failed(format!("{place}: {text}")),
            other => other,
        }
    }

    /// The exit code; none when there is nothing to complain about.
    pub fn exit(&self) -> Option<Exit> {
        Some(match self {
            Self::StdoutClosed => return None,
            Self::Usage(_) => Exit::Usage,
            Self::Auth(_) | Self::Operator(_) => Exit::Auth,
            Self::NotFound(_) => Exit::NotFound,
            Self::Unreachable { .. } => Exit::Unavailable,
            Self::Api(failure) => match failure.status {
                401 | 403 => Exit::Auth,
                404 => Exit::NotFound,
                429 | 502 | 503 => Exit::Unavailable,
                // A function's own timeout is the function's failure; a
                // proxy's 504 has no code of ours.
                504 if failure.code.is_empty() => Exit::Unavailable,
                _ => Exit::Error,
            },
            Self::BadAnswer { .. }
            | Self::File { .. }
            | Self::Toolchain { .. }
            | Self::Unhealthy(_)
            | Self::Failed(_) => Exit::Error,
        })
    }

    /// What the reader may do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Auth(_) => {
                Some("run `orama auth login`, or set ORAMA_TOKEN to an API key".into())
            }
            Self::Operator(_) => Some(
                "set ORAMA_ADMIN_TOKEN, or store it with `orama auth login --admin-token TOKEN`"
                    .into(),
            ),
            Self::Unreachable { .. } => Some(
                "is the node running? `orama dev` starts one; `orama env current` shows where commands go"
                    .into(),
            ),
            Self::Toolchain { hint, .. } => Some(hint.clone()),
            Self::Api(failure) if failure.advice.is_some() => failure.advice.clone(),
            Self::Api(failure) => match failure.status {
                401 => Some("the credential was refused; `orama auth login` stores another".into()),
                503 if failure.retryable == Some(false) => {
                    Some("look at what became of it before you try again".into())
                }
                429 | 503 => Some("this may pass; try again".into()),
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(status: u16, code: &str) -> CliError {
        CliError::Api(ApiFailure {
            status,
            code: code.into(),
            message: "m".into(),
            request_id: Some("r".into()),
            advice: None,
            failed_index: None,
            retryable: None,
        })
    }

    #[test]
    fn statuses_have_their_exit_codes() {
        for (status, code, exit) in [
            (400, "VALIDATION_FAILED", Exit::Error),
            (401, "UNAUTHORIZED", Exit::Auth),
            (403, "FORBIDDEN", Exit::Auth),
            (404, "NOT_FOUND", Exit::NotFound),
            (429, "RATE_LIMITED", Exit::Unavailable),
            (500, "FUNCTION_EXECUTION_FAILED", Exit::Error),
            (503, "SERVICE_UNAVAILABLE", Exit::Unavailable),
            (504, "TIMEOUT", Exit::Error),
            (504, "", Exit::Unavailable),
        ] {
            assert_eq!(api(status, code).exit(), Some(exit), "{status} {code}");
        }
    }

    #[test]
    fn a_write_is_known_not_to_be_made_or_is_not_known() {
        let failure = |status, code, retryable| {
            let CliError::Api(mut failure) = api(status, code) else {
                unreachable!()
            };
            failure.retryable = retryable;
            failure
        };
        for (status, code, retryable, known) in [
            (400, "VALIDATION_FAILED", Some(false), true),
            (408, "", None, false),
            (409, "CONFLICT", Some(false), true),
            (500, "INTERNAL", Some(false), false),
            (502, "", None, false),
            (503, "SERVICE_UNAVAILABLE", Some(true), true),
            (503, "SERVICE_UNAVAILABLE", Some(false), false),
            (503, "", None, false),
            (504, "TIMEOUT", Some(false), true),
            (504, "", None, false),
            (507, "STORAGE_QUOTA_EXCEEDED", None, true),
        ] {
            let failure = failure(status, code, retryable);
            assert_eq!(failure.changed_nothing(), known, "{status} {code}");
        }
        let hint = CliError::Api(failure(503, "", Some(false))).hint().unwrap();
        assert!(!hint.contains("may pass"), "{hint}");
    }

    #[test]
    fn an_api_error_names_status_code_and_request() {
        assert_eq!(
            api(404, "NOT_FOUND").to_string(),
            "API error (404): m [NOT_FOUND] (request r)"
        );
    }
}

//! The one place where this crate's errors become what a client sees.
//!
//! A client's mistake is answered with the rule it breaks. A fault of the node
//! is answered with what it means for the client; its cause, which may name
//! paths and keys, goes to the log, here and once.

mod cluster;
mod sql;

use std::sync::atomic::{AtomicU64, Ordering};

use orama_cluster::{BlobError, JournalError, ProposeError};
use orama_proto::command::MetaRefusal;
use orama_proto::function::FunctionVersion;
use orama_proto::{ApiError, ErrorCode, FunctionName, RequestId, Timestamp};

use crate::runtime::{GuestError, ModuleError};
use crate::vault::VaultError;
use crate::worker::LoadError;

pub(crate) use cluster::{confirm, data, operation, too_few};
pub use sql::sql;

/// Seconds after which a client should try again what this node could not do now.
const RETRY_AFTER_SECS: f64 = 1.0;

/// Lets one message in ten seconds through. For faults that every request
/// meets again: the log shows them, metrics and records count them.
pub(crate) struct Seldom(AtomicU64);

impl Seldom {
    const SECS: u64 = 10;

    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether it is time for a message.
    pub(crate) fn due(&self) -> bool {
        self.due_at(Timestamp::now().secs())
    }

    fn due_at(&self, now: u64) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        // A clock that was set back must not silence the log.
        (now < last || now - last >= Self::SECS)
            && self
                .0
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

fn internal() -> ApiError {
    ApiError::new(
        ErrorCode::Internal,
        "an internal error; the node's log has the cause",
    )
}

fn disk_full() -> ApiError {
    ApiError::new(
        ErrorCode::StorageQuotaExceeded,
        "the node's disk is full; nothing was stored",
    )
}

fn unavailable(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::ServiceUnavailable, message).after(RETRY_AFTER_SECS)
}

/// A guest that failed (CONTRACT 2.5).
pub(crate) fn guest(error: &GuestError, request_id: &RequestId, name: &FunctionName) -> ApiError {
    let about = |cause: String| {
        format!("execution error for function '{name}' (request {request_id}): {cause}")
    };
    match error {
        GuestError::Timeout { after } => ApiError::new(
            ErrorCode::Timeout,
            about(format!("{error} (limit {} s)", after.as_secs())),
        ),
        GuestError::Exit { .. }
        | GuestError::Trap(_)
        | GuestError::Memory { .. }
        | GuestError::OutputTooLarge { .. } => {
            ApiError::new(ErrorCode::FunctionExecutionFailed, about(error.to_string()))
        }
        GuestError::Instance(cause) => {
            static SELDOM: Seldom = Seldom::new();
            if SELDOM.due() {
                tracing::warn!(%request_id, function = %name, cause, "no instance could be made");
            }
            unavailable(about("no instance could be made now".to_owned()))
        }
    }
}

/// A function that is not known here, while it is not known whether this node knows all there is.
pub(crate) fn unconfirmed(missing: &ApiError) -> ApiError {
    unavailable(format!(
        "{}; this could not be confirmed, because the cluster's leader does not answer",
        missing.message
    ))
}

/// A node that was running an invocation and does not answer any more. Not
/// retryable: whoever sends it again may make it run twice.
pub(crate) fn lost(node: &str, request_id: &RequestId, name: &FunctionName) -> ApiError {
    let mut error = ApiError::new(
        ErrorCode::ServiceUnavailable,
        format!(
            "node {node:?}, which ran function '{name}' (request {request_id}), stopped answering; \
             it may have run. With an Idempotency-Key it would have been run again"
        ),
    );
    error.retryable = false;
    error
}

/// A module that cannot be had for an invocation.
pub(crate) fn module_at_invoke(
    error: &LoadError,
    request_id: &RequestId,
    function: &FunctionVersion,
) -> ApiError {
    let FunctionVersion {
        namespace,
        name,
        version,
        ..
    } = function;
    let why = match error {
        LoadError::Blob(BlobError::Missing(_)) => "its module is on no node that can be reached",
        LoadError::Blob(BlobError::Corrupt { .. }) => "its module is damaged on this node",
        LoadError::Blob(BlobError::Full(_)) | LoadError::Module(ModuleError::Full) => {
            "the node's disk is full"
        }
        LoadError::Blob(BlobError::Io { .. }) => "its module cannot be read",
        LoadError::Module(_) => "its module cannot be loaded",
        LoadError::Late => "its module is still being loaded",
    };
    static SELDOM: Seldom = Seldom::new();
    if SELDOM.due() {
        match error {
            // Its holders are out of reach or the transfer goes on: that ends by itself.
            LoadError::Blob(BlobError::Missing(_)) | LoadError::Late => {
                tracing::warn!(%request_id, %namespace, function = %name, version, %error, "a module is not available");
            }
            LoadError::Blob(_) | LoadError::Module(_) => {
                tracing::error!(%request_id, %namespace, function = %name, version, %error, "a module is not available");
            }
        }
    }
    ApiError::new(
        ErrorCode::FunctionUnavailable,
        format!("function '{name}' version {version} is unavailable: {why}"),
    )
    .after(RETRY_AFTER_SECS)
}

/// A module that cannot be deployed.
pub(crate) fn module_at_deploy(error: ModuleError) -> ApiError {
    match error {
        ModuleError::Invalid(why) => ApiError::validation(why),
        ModuleError::Full => disk_full(),
        ModuleError::Unavailable(cause) => {
            tracing::error!(cause, "a module could not be compiled");
            ApiError::new(
                ErrorCode::FunctionDeployFailed,
                "Failed to deploy: the module could not be compiled on this node",
            )
        }
    }
}

/// A module that cannot be stored.
pub(crate) fn blob_at_deploy(error: &BlobError) -> ApiError {
    match error {
        BlobError::Full(_) => {
            tracing::error!(%error, "the disk is full");
            disk_full()
        }
        BlobError::Missing(_) | BlobError::Corrupt { .. } | BlobError::Io { .. } => {
            tracing::error!(%error, "a module could not be stored");
            ApiError::new(
                ErrorCode::FunctionDeployFailed,
                "Failed to deploy: the module could not be stored on this node",
            )
        }
    }
}

/// A change of the metadata that was not made, or may not have been.
pub(crate) fn propose(error: ProposeError) -> ApiError {
    match error {
        ProposeError::Refused(refusal) => refused(&refusal),
        ProposeError::NoLeader => unavailable("the cluster has no leader now; nothing was changed"),
        ProposeError::Full => {
            tracing::error!("the disk that holds the Raft log is full");
            disk_full()
        }
        ProposeError::Stopped(cause) => {
            tracing::error!(cause, "the metadata group has stopped");
            unavailable(
                "the node cannot write its metadata; whether this change was made is not known",
            )
        }
        ProposeError::Unknown(cause) => {
            tracing::warn!(cause, "the outcome of a change is unknown");
            unavailable("the leader did not answer; whether this change was made is not known")
        }
        ProposeError::TooLarge { bytes, limit } => ApiError::new(
            ErrorCode::PayloadTooLarge,
            format!("the change has {bytes} bytes, the limit is {limit}"),
        ),
    }
}

fn refused(refusal: &MetaRefusal) -> ApiError {
    match refusal {
        MetaRefusal::Missing { what, name } => not_found(what, name),
        MetaRefusal::Exists { .. } | MetaRefusal::Conflict { .. } => {
            ApiError::new(ErrorCode::Conflict, refusal.to_string())
        }
        // Nothing to retry: the count must go down first.
        MetaRefusal::LimitReached { .. } => {
            ApiError::new(ErrorCode::Conflict, format!("limit reached: {refusal}"))
        }
    }
}

/// `Function not found: "x"` and the like (CONTRACT 2.6, 2.9).
pub(crate) fn not_found(what: &str, name: &str) -> ApiError {
    let mut chars = what.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    let what: String = first.into_iter().chain(chars).collect();
    ApiError::not_found(format!("{what} not found: {name:?}"))
}

/// Records that cannot be read.
pub(crate) fn journal(error: &JournalError) -> ApiError {
    tracing::error!(%error, "the journal cannot be read");
    internal()
}

/// A secret that cannot be sealed or opened.
pub(crate) fn vault(error: &VaultError) -> ApiError {
    match error {
        VaultError::Unavailable(cause) => {
            tracing::warn!(cause, "a vault does not answer");
            unavailable("the secrets of this namespace are not available now")
        }
        VaultError::MasterKeyFormat(_)
        | VaultError::MissingMasterKey { .. }
        | VaultError::WrongMasterKey { .. }
        | VaultError::Damaged(_) => {
            tracing::error!(%error, "a vault cannot open what is sealed");
            internal()
        }
    }
}

/// Something that must not happen; `what` is for the log.
pub(crate) fn unexpected(what: &str) -> ApiError {
    tracing::error!(what, "an internal error");
    internal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_proto::ContentId;
    use std::time::Duration;

    #[test]
    fn guests_errors_have_the_documented_text_and_code() {
        let (id, name) = (
            RequestId::from("r-1"),
            FunctionName::parse("hello").unwrap(),
        );
        let mapped = |error| guest(&error, &id, &name);
        let late = mapped(GuestError::Timeout {
            after: Duration::from_secs(2),
        });
        assert_eq!(
            late.message,
            "execution error for function 'hello' (request r-1): function execution timeout (limit 2 s)"
        );
        assert_eq!((late.code, late.code.status()), (ErrorCode::Timeout, 504));
        let memory = mapped(GuestError::Memory {
            limit_mb: 64,
            detail: String::new(),
        });
        assert_eq!(memory.code, ErrorCode::FunctionExecutionFailed);
        assert!(memory.message.ends_with("memory limit exceeded (64 MB)"));
        let instance = mapped(GuestError::Instance("/var/lib/orama: mmap".into()));
        assert_eq!(instance.code, ErrorCode::ServiceUnavailable);
        assert!(!instance.message.contains("/var") && instance.retryable);
    }

    #[test]
    fn refusals_of_the_metadata_have_their_codes() {
        let code = |refusal| propose(ProposeError::Refused(refusal));
        let text = String::from;
        let missing = code(MetaRefusal::Missing {
            what: text("secret"),
            name: text("A"),
        });
        assert_eq!(missing.code, ErrorCode::NotFound);
        assert_eq!(missing.message, "Secret not found: \"A\"");
        let exists = code(MetaRefusal::Exists {
            what: text("namespace"),
            name: text("aa"),
        });
        assert_eq!(exists.code, ErrorCode::Conflict);
        let limit = code(MetaRefusal::LimitReached {
            what: text("secrets"),
            limit: 1_000,
        });
        assert!(limit.code == ErrorCode::Conflict && limit.message.contains("1000"));
        assert_eq!(propose(ProposeError::Full).code.status(), 507);
        assert_eq!(propose(ProposeError::NoLeader).code.status(), 503);
        assert_eq!(
            propose(ProposeError::TooLarge { bytes: 2, limit: 1 })
                .code
                .status(),
            413
        );
    }

    #[test]
    fn repeated_faults_are_logged_seldom() {
        let seldom = Seldom::new();
        let due: Vec<_> = [100, 100, 109, 110, 111, 50, 51]
            .map(|now| seldom.due_at(now))
            .to_vec();
        assert_eq!(due, [true, false, false, true, false, true, false]);
    }

    #[test]
    fn causes_inside_the_node_stay_inside() {
        let cid = ContentId::of(b"x");
        let io = || BlobError::Io {
            cid,
            source: std::io::Error::other("/secret/path"),
        };
        for error in [
            blob_at_deploy(&io()),
            propose(ProposeError::Stopped("/secret/path".into())),
            journal(&JournalError::Storage("/secret/path".into())),
            vault(&VaultError::Unavailable("/secret/path".into())),
            module_at_deploy(ModuleError::Unavailable("/secret/path".into())),
            unexpected("/secret/path"),
        ] {
            assert!(!error.message.contains("/secret"), "{error}");
            assert!(error.code.status() >= 500);
        }
        let invalid = module_at_deploy(ModuleError::Invalid("`module[x]`".into()));
        assert_eq!(
            (invalid.code.status(), &*invalid.message),
            (400, "`module[x]`")
        );
    }
}

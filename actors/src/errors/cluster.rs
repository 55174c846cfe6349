//! The cluster's errors as a client sees them.

use orama_cluster::blobs::TooFewCopies;
use orama_cluster::meta::ConfirmError;
use orama_cluster::{DataError, OperationError};
use orama_proto::{ApiError, ErrorCode};

use super::{Seldom, disk_full, unavailable};

/// Local memory that could not be confirmed to be up to date.
pub(crate) fn confirm(error: &ConfirmError) -> ApiError {
    match error {
        ConfirmError::NoLeader => unavailable(
            "the cluster has no leader that can be reached now, so that this answer could be out of date; try again",
        ),
        ConfirmError::Stopped(cause) => {
            static SELDOM: Seldom = Seldom::new();
            if SELDOM.due() {
                tracing::error!(cause, "the metadata group has stopped");
            }
            unavailable("the node cannot read its metadata; ask another node")
        }
    }
}

/// A module that not enough nodes hold.
pub(crate) fn too_few(error: &TooFewCopies) -> ApiError {
    tracing::warn!(%error, "a module was not deployed");
    let TooFewCopies { held, needed, .. } = error;
    unavailable(format!(
        "the module reached {held} of the {needed} nodes that must hold it; nothing was published, try again"
    ))
}

/// An operation on the cluster.
pub(crate) fn operation(error: OperationError) -> ApiError {
    match error {
        OperationError::Missing(what) => ApiError::not_found(format!("there is no {what}")),
        OperationError::Refused(why) => ApiError::new(ErrorCode::Conflict, why),
        OperationError::Unavailable(why) => unavailable(why),
    }
}

/// A register of a data group.
pub(crate) fn data(error: DataError) -> ApiError {
    match error {
        DataError::NoGroup(_) => ApiError::not_found(error.to_string()),
        DataError::Differs(None) => ApiError::new(ErrorCode::Conflict, "the register has no value"),
        DataError::Differs(Some(present)) => ApiError::new(
            ErrorCode::Conflict,
            format!("the register's value is {present:?}"),
        ),
        DataError::Unavailable(_) => unavailable(format!("{error}; nothing was changed")),
        DataError::Unknown(group) => unavailable(format!(
            "group {group} did not answer in time; whether this change was made is not known"
        )),
        DataError::Limit { what, .. } if what.contains("value") => {
            ApiError::new(ErrorCode::PayloadTooLarge, error.to_string())
        }
        DataError::Limit { .. } => ApiError::validation(error.to_string()),
        DataError::Stale(_) | DataError::Fenced(_) => unavailable(error.to_string()),
        DataError::Busy(again) => unavailable(error.to_string()).after(again.as_secs_f64().ceil()),
        DataError::Full(_) => disk_full(),
        DataError::Stopped { group, why } => {
            tracing::error!(%group, why, "a data group has stopped");
            unavailable(format!(
                "group {group} has stopped on this node; whether this change was made is not known"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_proto::{ContentId, GroupId};

    #[test]
    fn each_has_its_status_and_says_what_is_known() {
        let status = |error: ApiError| error.code.status();
        let group = GroupId(2);
        assert_eq!(status(data(DataError::NoGroup(group))), 404);
        let differs = data(DataError::Differs(Some("a\"b".into())));
        assert_eq!(differs.message, "the register's value is \"a\\\"b\"");
        assert_eq!(status(differs), 409);
        assert_eq!(status(data(DataError::Differs(None))), 409);
        assert_eq!(status(data(DataError::Unavailable(group))), 503);
        let unknown = data(DataError::Unknown(group));
        assert!(unknown.message.contains("not known") && unknown.retryable);
        let limit = |what| status(data(DataError::Limit { what, limit: 1 }));
        assert_eq!((limit("value bytes"), limit("key bytes")), (413, 400));
        assert_eq!(status(data(DataError::Full(group))), 507);
        let stopped = data(DataError::Stopped {
            group,
            why: "/secret/path".into(),
        });
        assert!(!stopped.message.contains("/secret"));
        assert_eq!(status(confirm(&ConfirmError::NoLeader)), 503);
        let too_few = too_few(&TooFewCopies {
            cid: ContentId::of(b"x"),
            held: 1,
            needed: 2,
        });
        assert!(too_few.message.contains("1 of the 2"));
        assert_eq!((status(too_few.clone()), too_few.retryable), (503, true));
        let text = String::from;
        assert_eq!(
            status(operation(OperationError::Missing(text("node x")))),
            404
        );
        assert_eq!(status(operation(OperationError::Refused(text("no")))), 409);
        assert_eq!(
            status(operation(OperationError::Unavailable(text("no")))),
            503
        );
    }
}

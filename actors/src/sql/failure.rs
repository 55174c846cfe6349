//! What a caller is told when the database could not be reached or asked. A
//! failed write always says whether it may have happened.

use orama_cluster::DataError;
use orama_proto::Namespace;
use orama_proto::sql::{SqlCode, SqlError, SqlHint};

use crate::errors::Seldom;

const NOTHING: &str = "nothing was changed";
const NOT_KNOWN: &str = "whether it was written is not known";

/// A write that was not acknowledged.
pub(super) fn write_failed(error: DataError) -> SqlError {
    let unavailable = |why: &str| SqlError::new(SqlCode::Unavailable, format!("{why}; {NOTHING}"));
    match error {
        DataError::Unavailable(_) => {
            unavailable("the database has no leader that can be reached now")
        }
        DataError::Unknown(_) => unknown("the database did not answer in time"),
        DataError::Limit { .. } => {
            SqlError::new(SqlCode::PayloadTooLarge, format!("{error}; {NOTHING}"))
        }
        DataError::Fenced(why) => unavailable(&format!(
            "the database's copy that would be asked is being rebuilt ({why})"
        )),
        DataError::Stale(why) => unavailable(&why),
        DataError::Busy(_) => unavailable(&error.to_string()),
        DataError::Full(group) => {
            static SELDOM: Seldom = Seldom::new();
            if SELDOM.due() {
                tracing::error!(%group, "the disk of a data group's leader is full");
            }
            SqlError::new(
                SqlCode::StorageQuotaExceeded,
                format!("the disk of the database's leader is full; {NOTHING}"),
            )
        }
        DataError::NoGroup(_) | DataError::Differs(_) => unexpected(&error),
        DataError::Stopped { .. } => {
            stopped(&error);
            unavailable("the database has stopped on this node; another node may serve it")
        }
    }
}

/// What a function is told of an error: the way out is another host function.
pub(crate) fn told_to_guests(error: &SqlError) -> String {
    error.worded(|hint| match hint {
        SqlHint::Execute => "db_execute",
        SqlHint::Query => "db_query",
        SqlHint::Transaction => "db_transaction",
    })
}

/// A read that could not be done.
pub(super) fn read_failed(error: DataError) -> SqlError {
    let unavailable = |why: &str| SqlError::new(SqlCode::Unavailable, why);
    match error {
        DataError::Unavailable(_) => {
            unavailable("no copy of the database that may answer can be reached now")
        }
        DataError::Unknown(_) => unavailable("the database did not answer in time"),
        DataError::Limit { .. } => SqlError::new(SqlCode::PayloadTooLarge, error.to_string()),
        DataError::Fenced(_) => unavailable(&error.to_string()),
        DataError::Stale(_) => SqlError::new(SqlCode::Stale, error.to_string()),
        DataError::NoGroup(_) | DataError::Differs(_) => unexpected(&error),
        DataError::Busy(_) => unavailable(&error.to_string()),
        DataError::Full(_) => unavailable("the disk of a node that serves the database is full"),
        DataError::Stopped { .. } => {
            stopped(&error);
            unavailable("the database has stopped on this node; another node may serve it")
        }
    }
}

/// A write that nobody answered for.
pub(super) fn write_late() -> SqlError {
    unknown("the database did not answer in time")
}

/// A read that nobody answered.
pub(super) fn read_late() -> SqlError {
    SqlError::new(SqlCode::Unavailable, "the database did not answer in time")
}

/// Nobody could say whether there is such a namespace.
pub(super) fn unconfirmed(namespace: &Namespace) -> SqlError {
    SqlError::new(
        SqlCode::Unavailable,
        format!(
            "namespace {:?} is not known here, and the cluster's leader does not answer; {NOTHING}",
            namespace.as_str()
        ),
    )
}

/// It was deleted, or never made.
pub(super) fn no_namespace(namespace: &Namespace) -> SqlError {
    SqlError::invalid(format!("there is no namespace {:?}", namespace.as_str()))
}

fn unknown(why: &str) -> SqlError {
    SqlError::new(SqlCode::OutcomeUnknown, format!("{why}; {NOT_KNOWN}"))
}

fn stopped(error: &DataError) {
    static SELDOM: Seldom = Seldom::new();
    if SELDOM.due() {
        tracing::error!(%error, "a data group has stopped");
    }
}

fn unexpected(error: &DataError) -> SqlError {
    static SELDOM: Seldom = Seldom::new();
    if SELDOM.due() {
        tracing::error!(%error, "the database answered what it never should");
    }
    SqlError::new(
        SqlCode::Internal,
        "an internal error; the node's log has the cause",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_proto::GroupId;

    fn all() -> Vec<DataError> {
        let group = GroupId(3);
        vec![
            DataError::NoGroup(group),
            DataError::Differs(None),
            DataError::Unavailable(group),
            DataError::Unknown(group),
            DataError::Limit {
                what: "bytes of an entry",
                limit: 7,
            },
            DataError::Stale("3 s behind".into()),
            DataError::Fenced("it differed".into()),
            DataError::Full(group),
            DataError::Busy(std::time::Duration::from_secs(7)),
            DataError::Stopped {
                group,
                why: "/secret/path".into(),
            },
        ]
    }

    #[test]
    fn only_an_unknown_outcome_may_have_happened() {
        for error in all() {
            let may = matches!(error, DataError::Unknown(_));
            let internal = matches!(error, DataError::NoGroup(_) | DataError::Differs(_));
            let told = write_failed(error);
            assert_eq!(told.code == SqlCode::OutcomeUnknown, may, "{told:?}");
            let ending = if may { NOT_KNOWN } else { NOTHING };
            assert!(internal || told.message.ends_with(ending), "{told:?}");
            assert!(!told.message.contains("/secret"), "{told:?}");
        }
        assert_eq!(write_late().code, SqlCode::OutcomeUnknown);
    }

    #[test]
    fn reads_say_why_and_never_that_something_was_written() {
        for error in all() {
            let stale = matches!(error, DataError::Stale(_));
            let told = read_failed(error);
            assert_eq!(told.code == SqlCode::Stale, stale, "{told:?}");
            assert!(!told.message.contains("written"), "{told:?}");
            assert!(!told.message.contains("/secret"), "{told:?}");
        }
        assert_eq!(read_late().code, SqlCode::Unavailable);
    }
}

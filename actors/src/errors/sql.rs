//! SQL's errors as a client of the HTTP API sees them.

use orama_proto::sql::{SqlCode, SqlError};
use orama_proto::{ApiError, ErrorCode};

use super::{Seldom, internal, unavailable};

/// A statement that failed, or a database that cannot be asked.
///
/// A statement that ran out of its time or its steps will do so again, so that
/// the error is not retryable; nor is a write that may have happened.
pub fn sql(error: &SqlError) -> ApiError {
    let told = |code| ApiError::new(code, error.message.clone());
    match error.code {
        SqlCode::InvalidArgument | SqlCode::TooManyStatements => told(ErrorCode::ValidationFailed),
        SqlCode::PayloadTooLarge => told(ErrorCode::PayloadTooLarge),
        SqlCode::ConstraintViolation => told(ErrorCode::Conflict),
        SqlCode::DeadlineExceeded => ApiError {
            retryable: false,
            ..told(ErrorCode::Timeout)
        },
        SqlCode::Unavailable | SqlCode::Stale => unavailable(error.message.clone()),
        SqlCode::OutcomeUnknown => ApiError {
            retryable: false,
            ..told(ErrorCode::ServiceUnavailable)
        },
        SqlCode::StorageQuotaExceeded => told(ErrorCode::StorageQuotaExceeded),
        SqlCode::Internal => {
            static SELDOM: Seldom = Seldom::new();
            if SELDOM.due() {
                tracing::error!(error = error.message, "an SQL database failed");
            }
            internal()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_status() {
        for (code, status, retryable) in [
            (SqlCode::InvalidArgument, 400, false),
            (SqlCode::TooManyStatements, 400, false),
            (SqlCode::PayloadTooLarge, 413, false),
            (SqlCode::ConstraintViolation, 409, false),
            (SqlCode::DeadlineExceeded, 504, false),
            (SqlCode::Unavailable, 503, true),
            (SqlCode::Stale, 503, true),
            (SqlCode::OutcomeUnknown, 503, false),
            (SqlCode::StorageQuotaExceeded, 507, false),
            (SqlCode::Internal, 500, false),
        ] {
            let error = sql(&SqlError::new(code, "/why"));
            assert_eq!(
                (error.code.status(), error.retryable),
                (status, retryable),
                "{code:?}"
            );
            assert_eq!(error.message.contains("/why"), status != 500, "{code:?}");
            assert_eq!(error.retry_after.is_some(), retryable);
        }
    }
}

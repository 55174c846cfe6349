//! What is refused before it is sent: an entry of the log is bounded, and a
//! request that can only fail must not cost a round of consensus.

use orama_cluster::SqlQuery;
use orama_proto::limits::{
    SQL_OPS_MAX, SQL_PARAMETERS_MAX, SQL_REQUEST_MAX_BYTES, SQL_STATEMENT_MAX_BYTES,
};
use orama_proto::sql::{SqlCode, SqlError, SqlOp, SqlValue};

/// What a value takes in an entry besides its bytes: tag and length, or tag and number.
const VALUE_FRAME_BYTES: usize = 10;

/// A statement with its arguments.
pub(super) struct Statement<'a> {
    sql: &'a str,
    args: &'a [SqlValue],
}

impl<'a> From<&'a SqlOp> for Statement<'a> {
    fn from(op: &'a SqlOp) -> Self {
        Self {
            sql: &op.sql,
            args: &op.args,
        }
    }
}

impl<'a> From<&'a SqlQuery> for Statement<'a> {
    fn from(query: &'a SqlQuery) -> Self {
        Self {
            sql: &query.sql,
            args: &query.args,
        }
    }
}

/// Checks number and sizes.
pub(super) fn statements<'a>(
    statements: impl ExactSizeIterator<Item = Statement<'a>>,
) -> Result<(), SqlError> {
    let count = statements.len();
    if count == 0 {
        return Err(SqlError::invalid(format!(
            "no statements: 1 to {SQL_OPS_MAX} are expected"
        )));
    }
    if count > SQL_OPS_MAX {
        return Err(SqlError::new(
            SqlCode::TooManyStatements,
            format!("{count} statements, the limit is {SQL_OPS_MAX}"),
        ));
    }
    let mut bytes = 0usize;
    for (index, statement) in statements.enumerate() {
        // One statement is not called by its number.
        let path = |field: &str| match count {
            1 => field.to_owned(),
            _ => format!("ops[{index}].{field}"),
        };
        if statement.sql.trim().is_empty() {
            return Err(SqlError::invalid(format!("{} is empty", path("sql"))));
        }
        if statement.sql.len() > SQL_STATEMENT_MAX_BYTES {
            return Err(sql_too_large(&path("sql"), statement.sql.len()));
        }
        if statement.args.len() > SQL_PARAMETERS_MAX {
            return Err(SqlError::invalid(format!(
                "{}: {} arguments, the limit is {SQL_PARAMETERS_MAX}",
                path("args"),
                statement.args.len()
            )));
        }
        bytes += statement.sql.len();
        for (number, value) in statement.args.iter().enumerate() {
            if matches!(value, SqlValue::Real(real) if !real.is_finite()) {
                return Err(SqlError::invalid(format!(
                    "{}[{number}] is not a finite number",
                    path("args")
                )));
            }
            bytes += size(value);
        }
    }
    if bytes > SQL_REQUEST_MAX_BYTES {
        return Err(SqlError::new(
            SqlCode::PayloadTooLarge,
            format!(
                "statements and arguments have {bytes} bytes, the limit is {SQL_REQUEST_MAX_BYTES}"
            ),
        ));
    }
    Ok(())
}

/// A statement over its limit.
pub(crate) fn sql_too_large(path: &str, bytes: usize) -> SqlError {
    SqlError::new(
        SqlCode::PayloadTooLarge,
        format!("{path} has {bytes} bytes, the limit is {SQL_STATEMENT_MAX_BYTES}"),
    )
}

fn size(value: &SqlValue) -> usize {
    VALUE_FRAME_BYTES
        + match value {
            SqlValue::Null | SqlValue::Integer(_) | SqlValue::Real(_) => 0,
            SqlValue::Text(text) => text.len(),
            SqlValue::Blob(bytes) => bytes.len(),
        }
}

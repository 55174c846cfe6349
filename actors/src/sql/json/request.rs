//! The requests of `db_transaction` and `db_query_batch` (CONTRACT 1.7).
//!
//! Fields that are not known are ignored, as upstream does, so that a client
//! of another release still works; a field that comes twice is an error.

use std::time::Duration;

use orama_cluster::SqlQuery;
use orama_proto::limits::SQL_OPS_MAX;
use orama_proto::sql::{OpKind, ReadLevel, ReadOptions, SqlCode, SqlError, SqlOp};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::duration;
use super::value::{args, elements, kind, not_json, present, string, text};

/// Characters of a word of the request that a message shows.
const SHOWN_MAX_CHARS: usize = 32;

/// `{"ops":[{"kind","sql","args"}]}`.
#[derive(Debug, Clone, PartialEq)]
pub struct TransactionRequest {
    /// In order.
    pub ops: Vec<SqlOp>,
}

/// `{"ops":[{"sql","args"}],"consistency","freshness","freshness_strict"}`.
#[derive(Clone, PartialEq)]
pub struct BatchRequest {
    /// In order.
    pub queries: Vec<SqlQuery>,
    /// How fresh.
    pub read: ReadOptions,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    ops: Option<&'a RawValue>,
    #[serde(borrow)]
    consistency: Option<&'a RawValue>,
    #[serde(borrow)]
    freshness: Option<&'a RawValue>,
    #[serde(borrow)]
    freshness_strict: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OpFields<'a> {
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    sql: Option<&'a RawValue>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
}

impl TransactionRequest {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong, naming the op.
    pub fn parse(json: &[u8]) -> Result<Self, SqlError> {
        let fields: Fields<'_> = object(json)?;
        let op = |(index, raw)| -> Result<SqlOp, SqlError> {
            let path = format!("ops[{index}]");
            let fields = op_fields(raw, &path)?;
            let Some(given) = present(fields.kind) else {
                return Err(SqlError::invalid(format!(
                    "{path}.kind is missing: \"exec\" or \"query\""
                )));
            };
            let kind = match &*string(given, &format!("{path}.kind"))? {
                "exec" => OpKind::Exec,
                "query" => OpKind::Query,
                other => {
                    let shown = shown(other);
                    return Err(SqlError::invalid(format!(
                        "{path}.kind is {shown:?}: only \"exec\" and \"query\" are known"
                    )));
                }
            };
            Ok(SqlOp {
                kind,
                sql: sql(fields.sql, &path)?,
                args: args(fields.args, &format!("{path}.args"))?,
            })
        };
        let ops = ops(fields.ops)?;
        let ops = ops.into_iter().enumerate().map(op);
        Ok(Self {
            ops: ops.collect::<Result<_, _>>()?,
        })
    }
}

impl BatchRequest {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong, naming the op or field.
    pub fn parse(json: &[u8]) -> Result<Self, SqlError> {
        let fields: Fields<'_> = object(json)?;
        let read = read_options(&fields)?;
        let query = |(index, raw)| -> Result<SqlQuery, SqlError> {
            let path = format!("ops[{index}]");
            let fields = op_fields(raw, &path)?;
            Ok(SqlQuery {
                sql: sql(fields.sql, &path)?,
                args: args(fields.args, &format!("{path}.args"))?,
            })
        };
        let queries = ops(fields.ops)?;
        let queries = queries.into_iter().enumerate().map(query);
        Ok(Self {
            queries: queries.collect::<Result<_, _>>()?,
            read,
        })
    }
}

fn object(json: &[u8]) -> Result<Fields<'_>, SqlError> {
    let text = text(json, "the request")?;
    let error = match serde_json::from_str(text) {
        // serde would take an array for an object, too.
        Ok(fields) if text.trim_start().starts_with('{') => return Ok(fields),
        Ok(_) => None,
        Err(error) => Some(error),
    };
    // Reading it once more tells a syntax error from a wrong type.
    let raw: &RawValue = serde_json::from_str(text).map_err(|e| not_json("the request", &e))?;
    match (kind(raw), error) {
        ("an object", Some(_)) => Err(SqlError::invalid(
            "the request: one of ops, consistency, freshness, freshness_strict comes twice",
        )),
        (kind, _) => Err(SqlError::invalid(format!(
            "the request: {kind} where an object with \"ops\" is expected"
        ))),
    }
}

fn ops(raw: Option<&RawValue>) -> Result<Vec<&RawValue>, SqlError> {
    let Some(raw) = present(raw) else {
        return Err(SqlError::invalid(format!(
            "ops is missing: an array of 1 to {SQL_OPS_MAX}"
        )));
    };
    let (ops, count) = elements(raw, SQL_OPS_MAX, "ops")?;
    match count {
        0 => Err(SqlError::invalid(format!(
            "ops is empty: 1 to {SQL_OPS_MAX} are expected"
        ))),
        1..=SQL_OPS_MAX => Ok(ops),
        _ => Err(SqlError::new(
            SqlCode::TooManyStatements,
            format!("{count} ops, the limit is {SQL_OPS_MAX}"),
        )),
    }
}

fn op_fields<'a>(raw: &'a RawValue, path: &str) -> Result<OpFields<'a>, SqlError> {
    if kind(raw) != "an object" {
        let kind = kind(raw);
        return Err(SqlError::invalid(format!(
            "{path}: {kind} where an object is expected"
        )));
    }
    serde_json::from_str(raw.get())
        .map_err(|_| SqlError::invalid(format!("{path}: one of kind, sql, args comes twice")))
}

fn sql(raw: Option<&RawValue>, path: &str) -> Result<String, SqlError> {
    let path = format!("{path}.sql");
    match present(raw) {
        Some(raw) => match string(raw, &path)?.into_owned() {
            sql if sql.trim().is_empty() => Err(SqlError::invalid(format!("{path} is empty"))),
            sql => Ok(sql),
        },
        None => Err(SqlError::invalid(format!("{path} is missing"))),
    }
}

fn read_options(fields: &Fields<'_>) -> Result<ReadOptions, SqlError> {
    let mut read = ReadOptions::default();
    if let Some(raw) = present(fields.consistency) {
        let given = string(raw, "consistency")?;
        read.level = match &*given.to_ascii_lowercase() {
            "" | "linearizable" | "strong" => ReadLevel::Linearizable,
            "weak" => ReadLevel::Weak,
            "none" => ReadLevel::None,
            _ => {
                let shown = shown(&given);
                return Err(SqlError::invalid(format!(
                    "consistency is {shown:?}: only \"none\", \"weak\", \"strong\" and \"linearizable\" are known"
                )));
            }
        };
    }
    if let Some(raw) = present(fields.freshness) {
        read.freshness = freshness(&string(raw, "freshness")?)?;
    }
    if let Some(raw) = present(fields.freshness_strict) {
        read.strict = match raw.get() {
            "true" => true,
            "false" => false,
            _ => {
                let kind = kind(raw);
                return Err(SqlError::invalid(format!(
                    "freshness_strict: {kind} where true or false is expected"
                )));
            }
        };
    }
    Ok(read)
}

/// Empty and zero are no demand, as in rqlite.
fn freshness(text: &str) -> Result<Option<Duration>, SqlError> {
    if text.is_empty() {
        return Ok(None);
    }
    match duration::parse(text) {
        Some(duration) => Ok(Some(duration).filter(|d| !d.is_zero())),
        None => Err(SqlError::invalid(format!(
            "freshness is {:?}: a duration such as \"2s\", \"500ms\" or \"1m30s\" is expected",
            shown(text)
        ))),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX_CHARS).collect()
}

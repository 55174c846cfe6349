//! Bodies of `/v1/rqlite/*` (CONTRACT 2.10). A field that is not known is an
//! error that names it; values stay JSON until they are bound, so that 64-bit
//! integers stay exact.

use std::fmt;

use orama_actors::sql::TransactionRequest;
use orama_proto::ApiError;
use orama_proto::limits::{SQL_OPS_MAX, SQL_PARAMETERS_MAX};
use orama_proto::sql::{OpKind, SqlOp, SqlValue};
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::levels::Wanted;
use super::refused;
use super::select::{Select, args_of, given};
use crate::statement::first_word;

/// `query`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueryBody<'a> {
    #[serde(default)]
    pub(super) sql: String,
    #[serde(default, borrow)]
    args: Option<&'a RawValue>,
    level: Option<String>,
    consistency: Option<String>,
    freshness: Option<String>,
    freshness_strict: Option<bool>,
}

/// `exec`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExecBody<'a> {
    #[serde(default)]
    sql: String,
    #[serde(default, borrow)]
    args: Option<&'a RawValue>,
}

/// An object: serde would take a list, too, for the fields in the order of our source.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        if !raw.starts_with('{') {
            return Err(D::Error::custom("an object is expected"));
        }
        serde_json::from_str(raw).map(Self).map_err(|error| {
            // Lines and columns would be those of this object alone.
            let text = error.to_string();
            D::Error::custom(text.split(" at line ").next().unwrap_or_default())
        })
    }
}

fn object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let given: Option<Object<T>> = Option::deserialize(deserializer)?;
    Ok(given.map(|object| object.0))
}

fn objects<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let given: Option<Vec<Object<T>>> = Option::deserialize(deserializer)?;
    Ok(given.map(|all| all.into_iter().map(|object| object.0).collect()))
}

/// The fields of an op. Functions may send others, which are ignored as upstream does.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Op {
    #[serde(rename = "kind")]
    _kind: Option<IgnoredAny>,
    #[serde(rename = "sql")]
    _sql: Option<IgnoredAny>,
    #[serde(rename = "args")]
    _args: Option<IgnoredAny>,
}

/// Refuses fields of ops that are not known.
fn known_fields(ops: &RawValue) -> Result<(), ApiError> {
    let mut reader = serde_json::Deserializer::from_str(ops.get());
    let read: Result<Vec<Object<Op>>, _> = serde_path_to_error::deserialize(&mut reader);
    read.map(drop).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { path };
        let problem = error.into_inner().to_string();
        let problem = problem.split(" at line ").next().unwrap_or_default();
        ApiError::validation(format!("ops{place}: {problem}"))
    })
}

/// A table joined to another.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Join {
    /// `INNER` when not said.
    pub(super) kind: Option<String>,
    /// Which.
    #[serde(default)]
    pub(super) table: String,
    /// SQL.
    pub(super) on: Option<String>,
}

/// A condition.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Where<'a> {
    /// How it is tied to the one before: `AND` when not said.
    pub(super) conj: Option<String>,
    /// SQL.
    #[serde(default)]
    pub(super) expr: String,
    /// Its arguments.
    #[serde(default, borrow)]
    pub(super) args: Option<&'a RawValue>,
}

/// Columns and their values, in the order of the body.
#[derive(Debug, Default)]
pub(super) struct Criteria<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Criteria<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Criteria<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of columns and values")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all: Vec<(String, &RawValue)> = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if all.iter().any(|(known, _)| *known == key) {
                        return Err(A::Error::custom(format!("{key:?} comes twice")));
                    }
                    if all.len() == SQL_PARAMETERS_MAX {
                        let text = format!("more than {SQL_PARAMETERS_MAX} columns");
                        return Err(A::Error::custom(text));
                    }
                    all.push((key, map.next_value()?));
                }
                Ok(Criteria(all))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Options of `find` and `find-one`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FindOptions<'a> {
    select: Option<Vec<String>>,
    #[serde(default, deserialize_with = "objects")]
    joins: Option<Vec<Join>>,
    #[serde(default, borrow, rename = "where", deserialize_with = "objects")]
    wheres: Option<Vec<Where<'a>>>,
    group_by: Option<Vec<String>>,
    order_by: Option<Vec<String>>,
    limit: Option<i64>,
    offset: Option<i64>,
}

/// `find` and `find-one`. Options may also stand beside the table, where the
/// ones within `options` go before them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FindBody<'a> {
    #[serde(default)]
    table: String,
    #[serde(default, borrow)]
    criteria: Option<Criteria<'a>>,
    #[serde(default, borrow, deserialize_with = "object")]
    options: Option<FindOptions<'a>>,
    select: Option<Vec<String>>,
    #[serde(default, deserialize_with = "objects")]
    joins: Option<Vec<Join>>,
    #[serde(default, borrow, rename = "where", deserialize_with = "objects")]
    wheres: Option<Vec<Where<'a>>>,
    group_by: Option<Vec<String>>,
    order_by: Option<Vec<String>>,
    limit: Option<i64>,
    offset: Option<i64>,
    level: Option<String>,
    consistency: Option<String>,
    freshness: Option<String>,
    freshness_strict: Option<bool>,
}

/// `select`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SelectBody<'a> {
    #[serde(default)]
    table: String,
    alias: Option<String>,
    select: Option<Vec<String>>,
    #[serde(default, deserialize_with = "objects")]
    joins: Option<Vec<Join>>,
    #[serde(default, borrow, rename = "where", deserialize_with = "objects")]
    wheres: Option<Vec<Where<'a>>>,
    group_by: Option<Vec<String>>,
    order_by: Option<Vec<String>>,
    limit: Option<i64>,
    offset: Option<i64>,
    #[serde(default)]
    pub(super) one: bool,
    level: Option<String>,
    consistency: Option<String>,
    freshness: Option<String>,
    freshness_strict: Option<bool>,
}

/// `transaction`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TransactionBody<'a> {
    #[serde(default, borrow)]
    ops: Option<&'a RawValue>,
    #[serde(default)]
    statements: Option<Vec<String>>,
    /// Whether the answer has what every statement did.
    #[serde(default)]
    pub(super) return_results: bool,
    /// Taken, as clients of Orama send it; a transaction always stops at the first error.
    #[serde(rename = "stop_on_error")]
    _stop_on_error: Option<bool>,
    /// Taken likewise; nothing of a failed transaction stays.
    #[serde(rename = "partial_results")]
    _partial_results: Option<bool>,
}

/// `create-table`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateBody {
    #[serde(default)]
    schema: String,
}

/// `drop-table`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DropBody {
    #[serde(default)]
    table: String,
}

macro_rules! wanted {
    ($body:expr) => {
        Wanted {
            level: $body.level.take(),
            consistency: $body.consistency.take(),
            freshness: $body.freshness.take(),
            strict: $body.freshness_strict.take(),
        }
    };
}

impl QueryBody<'_> {
    /// How fresh.
    pub(super) fn wanted(&mut self) -> Wanted {
        wanted!(self)
    }

    /// The arguments.
    ///
    /// # Errors
    /// 400.
    pub(super) fn args(&self) -> Result<Vec<SqlValue>, ApiError> {
        self.args
            .map_or(Ok(Vec::new()), |args| args_of(args, "args"))
    }
}

impl ExecBody<'_> {
    /// The statement.
    ///
    /// # Errors
    /// 400.
    pub(super) fn op(self) -> Result<SqlOp, ApiError> {
        given(&self.sql, "sql")?;
        Ok(SqlOp {
            kind: OpKind::Exec,
            args: self
                .args
                .map_or(Ok(Vec::new()), |args| args_of(args, "args"))?,
            sql: self.sql,
        })
    }
}

impl<'a> FindBody<'a> {
    /// How fresh.
    pub(super) fn wanted(&mut self) -> Wanted {
        wanted!(self)
    }

    /// What is selected.
    pub(super) fn select(&mut self, one: bool) -> Select<'_> {
        let nested = self.options.get_or_insert_with(FindOptions::default);
        let columns = nested.select.as_deref().or(self.select.as_deref());
        let joins = nested.joins.as_deref().or(self.joins.as_deref());
        let wheres = nested.wheres.as_deref().or(self.wheres.as_deref());
        let group_by = nested.group_by.as_deref().or(self.group_by.as_deref());
        let order_by = nested.order_by.as_deref().or(self.order_by.as_deref());
        Select {
            table: &self.table,
            alias: None,
            columns: columns.unwrap_or_default(),
            joins: joins.unwrap_or_default(),
            criteria: self.criteria.as_ref(),
            wheres: wheres.unwrap_or_default(),
            group_by: group_by.unwrap_or_default(),
            order_by: order_by.unwrap_or_default(),
            limit: nested.limit.or(self.limit),
            offset: nested.offset.or(self.offset),
            one,
        }
    }
}

impl SelectBody<'_> {
    /// How fresh.
    pub(super) fn wanted(&mut self) -> Wanted {
        wanted!(self)
    }

    /// What is selected.
    pub(super) fn select(&self) -> Select<'_> {
        Select {
            table: &self.table,
            alias: self.alias.as_deref(),
            columns: self.select.as_deref().unwrap_or_default(),
            joins: self.joins.as_deref().unwrap_or_default(),
            criteria: None,
            wheres: self.wheres.as_deref().unwrap_or_default(),
            group_by: self.group_by.as_deref().unwrap_or_default(),
            order_by: self.order_by.as_deref().unwrap_or_default(),
            limit: self.limit,
            offset: self.offset,
            one: self.one,
        }
    }
}

impl TransactionBody<'_> {
    /// The statements, in order.
    ///
    /// # Errors
    /// 400 that names the op.
    pub(super) fn ops(&mut self) -> Result<Vec<SqlOp>, ApiError> {
        #[derive(Serialize)]
        struct Ops<'a> {
            ops: &'a RawValue,
        }
        let statements = self.statements.take().unwrap_or_default();
        let no_ops = self.ops.is_none_or(|ops| is_empty(ops.get()));
        match self.ops {
            Some(_) if !no_ops && !statements.is_empty() => Err(ApiError::validation(
                "statements: cannot be given together with ops",
            )),
            Some(ops) if statements.is_empty() => {
                if ops.get().starts_with('[') {
                    known_fields(ops)?;
                }
                let request = serde_json::to_vec(&Ops { ops })
                    .map_err(|e| ApiError::validation(format!("ops: {e}")))?;
                let request = TransactionRequest::parse(&request).map_err(refused)?;
                Ok(request.ops)
            }
            _ if statements.is_empty() => Err(ApiError::validation(format!(
                "ops: is required: 1 to {SQL_OPS_MAX} of {{\"kind\", \"sql\", \"args\"}}"
            ))),
            _ if statements.len() > SQL_OPS_MAX => Err(ApiError::validation(format!(
                "statements: {} statements, the limit is {SQL_OPS_MAX}",
                statements.len()
            ))),
            _ => {
                let op = |(index, sql): (usize, String)| {
                    given(&sql, &format!("statements[{index}]"))?;
                    Ok(SqlOp {
                        kind: OpKind::Exec,
                        sql,
                        args: Vec::new(),
                    })
                };
                statements.into_iter().enumerate().map(op).collect()
            }
        }
    }
}

/// Whether it is `null` or `[]`, however it is spaced.
fn is_empty(json: &str) -> bool {
    let mut json = json.bytes().filter(|b| !b.is_ascii_whitespace());
    match json.next() {
        Some(b'n') => true,
        Some(b'[') => json.next() == Some(b']'),
        _ => false,
    }
}

impl CreateBody {
    /// The statement, which must make something.
    ///
    /// # Errors
    /// 400.
    pub(super) fn op(self) -> Result<SqlOp, ApiError> {
        given(&self.schema, "schema")?;
        if !first_word(&self.schema).eq_ignore_ascii_case("CREATE") {
            return Err(ApiError::validation(
                "schema: must be a CREATE statement; /v1/rqlite/exec takes others",
            ));
        }
        Ok(SqlOp {
            kind: OpKind::Exec,
            sql: self.schema,
            args: Vec::new(),
        })
    }
}

impl DropBody {
    /// The statement.
    ///
    /// # Errors
    /// 400.
    pub(super) fn op(&self) -> Result<SqlOp, ApiError> {
        let table = given(&self.table, "table")?;
        Ok(SqlOp {
            kind: OpKind::Exec,
            sql: format!(
                "DROP TABLE IF EXISTS {}",
                super::select::quoted(table, "table")?
            ),
            args: Vec::new(),
        })
    }
}

#[cfg(test)]
#[path = "bodies_tests.rs"]
mod tests;

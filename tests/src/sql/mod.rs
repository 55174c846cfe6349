//! Databases of namespaces over HTTP: typed calls, and what an answer proves.
//!
//! - [`Database`]: a namespace's database through one node.
//! - [`replicas`]: what every replica says of it, and dumps of each of them.
//! - [`workload`]: random statements that would tell replicas apart.
//! - [`many`]: as many databases as a test wants.
//! - [`rows`], [`lists`], [`bank`]: clients whose operations are recorded and checked.

pub mod bank;
#[cfg(test)]
mod fake;
pub mod lists;
pub mod many;
pub mod replicas;
pub mod rows;
pub mod workload;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::Tenant;
use crate::client::{Reply, try_send};

/// How long a client waits for an answer when nothing is broken: longer than the node takes for any.
const PATIENCE: Duration = Duration::from_secs(15);

/// What an answer to a statement proves.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer<T> {
    /// It happened.
    Done(T),
    /// The statement is to blame; nothing happened. HTTP status and body.
    Failed(u16, Value),
    /// Certainly nothing happened; another try may do better.
    Refused(String),
    /// It may have happened, or will.
    Unknown(String),
}

impl<T> Answer<T> {
    /// What it answered; anything else fails the test.
    #[track_caller]
    pub fn done(self) -> T {
        match self {
            Self::Done(done) => done,
            Self::Failed(status, body) => panic!("the statement failed: {status} {body}"),
            Self::Refused(why) => panic!("refused: {why}"),
            Self::Unknown(why) => panic!("unknown: {why}"),
        }
    }
    /// What it answered, if it did.
    pub fn ok(self) -> Option<T> {
        match self {
            Self::Done(done) => Some(done),
            _ => None,
        }
    }
    /// Whether it happened.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
    /// The statement must have failed; answers status and body.
    #[track_caller]
    pub fn failed(self) -> (u16, Value) {
        match self {
            Self::Failed(status, body) => (status, body),
            _ => panic!("the statement should have failed"),
        }
    }
}

/// What a statement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Executed {
    /// Rows it changed.
    pub rows_affected: u64,
    /// Rowid of the last insert; 0 without one.
    pub last_insert_id: i64,
}

/// One statement of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    /// `exec` or `query`.
    pub kind: &'static str,
    /// The text.
    pub sql: String,
    /// Its arguments.
    pub args: Vec<Value>,
}

impl Op {
    /// Changes something.
    pub fn exec(sql: impl Into<String>, args: Vec<Value>) -> Self {
        Self {
            kind: "exec",
            sql: sql.into(),
            args,
        }
    }
    /// Reads.
    pub fn query(sql: impl Into<String>, args: Vec<Value>) -> Self {
        Self {
            kind: "query",
            sql: sql.into(),
            args,
        }
    }
}

/// The database of a namespace through one node. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    tenant: Tenant,
    patience: Duration,
}

impl Database {
    /// Of this tenant, through the tenant's node.
    pub fn of(tenant: &Tenant) -> Self {
        Self {
            tenant: tenant.clone(),
            patience: PATIENCE,
        }
    }
    /// The same, and an answer that takes longer counts as none.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.tenant.namespace
    }

    async fn post(&self, path: &str, body: Value) -> Result<Reply, reqwest::Error> {
        let request = self.tenant.request(Method::POST, path).json(&body);
        try_send(request.timeout(self.patience)).await
    }
    /// A call of `/v1/rqlite/NAME`; any answer.
    pub async fn call(&self, name: &str, body: Value) -> Reply {
        let reply = self.post(&format!("/v1/rqlite/{name}"), body).await;
        reply.unwrap_or_else(|e| panic!("no answer: {e:?}"))
    }

    /// One statement that changes something.
    pub async fn exec(&self, sql: &str, args: Vec<Value>) -> Answer<Executed> {
        let body = json!({ "sql": sql, "args": args });
        let answer = classify(self.post("/v1/rqlite/exec", body).await);
        map(answer, |body| executed(&body))
    }
    /// The rows of a query at a level: `none`, `weak` or `linearizable`.
    pub async fn query_at(&self, level: &str, sql: &str, args: Vec<Value>) -> Answer<Vec<Value>> {
        let body = json!({ "sql": sql, "args": args, "level": level });
        let answer = classify(self.post("/v1/rqlite/query", body).await);
        map(answer, |body| {
            let items = body["items"].as_array().unwrap_or_else(|| {
                panic!("items is an array, also without rows: {body}");
            });
            assert_eq!(body["count"], items.len(), "{body}");
            items.clone()
        })
    }
    /// The rows of a linearizable query.
    pub async fn query(&self, sql: &str, args: Vec<Value>) -> Answer<Vec<Value>> {
        self.query_at("linearizable", sql, args).await
    }
    /// The first column of the first row of a query at a level that must succeed.
    pub async fn value_at(&self, level: &str, sql: &str, args: Vec<Value>) -> Value {
        let rows = self.query_at(level, sql, args).await.done();
        first_column(&rows)
    }
    /// The same, linearizable.
    pub async fn value(&self, sql: &str, args: Vec<Value>) -> Value {
        self.value_at("linearizable", sql, args).await
    }
    /// All of it or nothing; answers what each op did.
    pub async fn transaction(&self, ops: &[Op]) -> Answer<Vec<Value>> {
        let ops: Vec<Value> = ops
            .iter()
            .map(|op| json!({ "kind": op.kind, "sql": op.sql, "args": op.args }))
            .collect();
        let body = json!({ "ops": ops, "return_results": true });
        let answer = classify(self.post("/v1/rqlite/transaction", body).await);
        map(answer, |body| {
            assert_eq!(body["status"], "ok", "{body}");
            let results = body["results"].as_array();
            results
                .unwrap_or_else(|| panic!("no results: {body}"))
                .clone()
        })
    }
    /// The whole database as an SQLite file.
    pub async fn export(&self) -> Reply {
        let request = self.tenant.request(Method::GET, "/v1/rqlite/export");
        let reply = try_send(request).await;
        reply.unwrap_or_else(|e| panic!("no answer: {e:?}"))
    }
}

/// The rows of a query's result in a transaction: itself, or within `rows`.
#[track_caller]
pub fn rows_of(result: &Value) -> &[Value] {
    let rows = result.as_array().or_else(|| result["rows"].as_array());
    rows.unwrap_or_else(|| panic!("no rows: {result}"))
}

/// The first column of the first row; null without rows.
pub fn first_column(rows: &[Value]) -> Value {
    let row = rows.first().and_then(Value::as_object);
    row.and_then(|row| row.values().next())
        .cloned()
        .unwrap_or_default()
}

fn executed(body: &Value) -> Executed {
    let count = body["rows_affected"].as_u64();
    Executed {
        rows_affected: count.unwrap_or_else(|| panic!("rows_affected is a number: {body}")),
        last_insert_id: body["last_insert_id"].as_i64().unwrap_or_default(),
    }
}

fn map<T, U>(answer: Answer<T>, with: impl FnOnce(T) -> U) -> Answer<U> {
    match answer {
        Answer::Done(done) => Answer::Done(with(done)),
        Answer::Failed(status, body) => Answer::Failed(status, body),
        Answer::Refused(why) => Answer::Refused(why),
        Answer::Unknown(why) => Answer::Unknown(why),
    }
}

fn classify(answer: Result<Reply, reqwest::Error>) -> Answer<Value> {
    let reply = match answer {
        Ok(reply) => reply,
        // Nothing was sent.
        Err(error) if error.is_connect() => return Answer::Refused(format!("{error:?}")),
        Err(error) => return Answer::Unknown(format!("{error:?}")),
    };
    match reply.status {
        200 => Answer::Done(reply.json()),
        // Of whom we are and how much we ask for, not of the statement.
        401 | 403 | 408 | 429 => Answer::Refused(format!("{reply:?}")),
        // The last: over the quota.
        400..500 | 507 => Answer::Failed(reply.status, reply.json()),
        _ => {
            let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            if body["error"]["retryable"] == true {
                Answer::Refused(format!("{reply:?}"))
            } else {
                Answer::Unknown(format!("{reply:?}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Result<Reply, reqwest::Error> {
        Ok(Reply {
            status,
            headers: Default::default(),
            body: body.into(),
        })
    }

    #[test]
    fn answers_prove_what_they_say_and_no_more() {
        assert!(classify(reply(200, "{}")).is_done());
        let failed = classify(reply(409, r#"{"status":"rollback"}"#));
        assert!(matches!(failed, Answer::Failed(409, _)));
        let refused = classify(reply(503, r#"{"error":{"retryable":true}}"#));
        assert!(matches!(refused, Answer::Refused(_)));
        for body in ["", "{}", r#"{"error":{"retryable":false}}"#] {
            assert!(matches!(classify(reply(503, body)), Answer::Unknown(_)));
        }
        assert_eq!(first_column(&[json!({ "n": 7 })]), 7);
        assert_eq!(first_column(&[]), Value::Null);
    }
}

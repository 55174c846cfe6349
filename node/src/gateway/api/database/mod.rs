//! `/v1/rqlite/*`: the SQL database of the caller's namespace (CONTRACT 2.10).

mod answers;
mod bodies;
mod levels;
mod select;

use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use bytes::Bytes;
use futures::stream;
use orama_actors::errors;
use orama_actors::sql::SqlCaller;
use orama_cluster::SqlQuery;
use orama_proto::limits::{SQL_BODY_MAX_BYTES, SQL_READ_MAX_SECS, SQL_WRITE_MAX_SECS};
use orama_proto::sql::{OpDone, ReadOptions, Rows, SqlCode, SqlError, SqlHint, SqlOp, SqlOutcome};
use orama_proto::{ApiError, ErrorCode, Namespace, Timestamp};
use serde::Serialize;

use super::Api;
use super::cluster::group_of;
use crate::gateway::body::{self, parse_json};
use crate::gateway::front::Call;
use crate::gateway::respond;
use bodies::{CreateBody, DropBody, ExecBody, FindBody, QueryBody, SelectBody, TransactionBody};
use levels::Wanted;

/// What a database consists of, for people and tools; the platform's own table is left out.
const SCHEMA: &str = "SELECT name, type, sql FROM sqlite_master \
    WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
    AND name NOT LIKE '\\_orama\\_%' ESCAPE '\\' ORDER BY name";

/// Answer of `GET /v1/admin/cluster/groups/{group}/databases`.
#[derive(Serialize)]
struct Databases {
    databases: Vec<DatabaseBody>,
    count: usize,
}

/// A database on one replica.
#[derive(Serialize)]
struct DatabaseBody {
    namespace: Namespace,
    born: Timestamp,
    node: String,
    applied: u64,
    hash: String,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fenced: Option<String>,
}

/// An error of SQL as the gateway answers it.
fn refused(error: SqlError) -> ApiError {
    errors::sql(&told_to_clients(error))
}

/// Its words, with the way out that a client has.
fn told_to_clients(mut error: SqlError) -> SqlError {
    error.message = error.worded(|hint| match hint {
        SqlHint::Execute => "POST /v1/rqlite/exec (orama db exec)",
        SqlHint::Query => "POST /v1/rqlite/query (orama db query)",
        SqlHint::Transaction => "POST /v1/rqlite/transaction",
    });
    error.hint = None;
    error
}

fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

impl Api {
    pub(super) async fn db_query(&self, mut call: Call) -> Result<HttpResponse, ApiError> {
        let (body, _share) = self.sql_body(&mut call).await?;
        let mut asked: QueryBody<'_> = parse_json("query", &body)?;
        let wanted = asked.wanted();
        select::given(&asked.sql, "sql")?;
        let query = SqlQuery {
            args: asked.args()?,
            sql: asked.sql,
        };
        answers::items(self.rows(&call, query, wanted).await?, "items")
    }

    pub(super) async fn db_find(
        &self,
        mut call: Call,
        one: bool,
    ) -> Result<HttpResponse, ApiError> {
        let (body, _share) = self.sql_body(&mut call).await?;
        let mut asked: FindBody<'_> = parse_json("find", &body)?;
        let wanted = asked.wanted();
        let query = asked.select(one).build()?;
        let rows = self.rows(&call, query, wanted).await?;
        if one {
            answers::object(rows)
        } else {
            answers::items(rows, "items")
        }
    }

    pub(super) async fn db_select(&self, mut call: Call) -> Result<HttpResponse, ApiError> {
        let (body, _share) = self.sql_body(&mut call).await?;
        let mut asked: SelectBody<'_> = parse_json("select", &body)?;
        let wanted = asked.wanted();
        let query = asked.select().build()?;
        let rows = self.rows(&call, query, wanted).await?;
        if asked.one {
            answers::object_and_items(rows)
        } else {
            answers::items(rows, "items")
        }
    }

    pub(super) async fn db_schema(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        let query = SqlQuery {
            sql: SCHEMA.to_owned(),
            args: Vec::new(),
        };
        let rows = self.rows(call, query, Wanted::default()).await?;
        answers::items(rows, "tables")
    }

    pub(super) async fn db_exec(&self, mut call: Call) -> Result<HttpResponse, ApiError> {
        let (body, _share) = self.sql_body(&mut call).await?;
        let op = parse_json::<ExecBody<'_>>("exec", &body)?.op()?;
        answers::executed(self.execute_one(&call, op).await?)
    }

    pub(super) async fn db_create_table(&self, mut call: Call) -> Result<HttpResponse, ApiError> {
        let (body, _share) = self.sql_body(&mut call).await?;
        let op = parse_json::<CreateBody>("create-table", &body)?.op()?;
        self.execute_one(&call, op).await?;
        respond::json(StatusCode::CREATED, &serde_json::json!({"status": "ok"}))
    }

    pub(super) async fn db_drop_table(&self, mut call: Call) -> Result<HttpResponse, ApiError> {
        let (body, _share) = self.sql_body(&mut call).await?;
        let op = parse_json::<DropBody>("drop-table", &body)?.op()?;
        self.execute_one(&call, op).await?;
        respond::ok(&serde_json::json!({"status": "ok"}))
    }

    pub(super) async fn db_transaction(&self, mut call: Call) -> Result<HttpResponse, ApiError> {
        let (body, _share) = self.sql_body(&mut call).await?;
        let mut asked: TransactionBody<'_> = parse_json("transaction", &body)?;
        let ops = asked.ops()?;
        match self.execute(&call, ops).await? {
            SqlOutcome::Committed(done) => answers::committed(done, asked.return_results),
            // Not the statements' doing: its namespace was just deleted.
            SqlOutcome::RolledBack { error, .. } if error.code == SqlCode::Unavailable => {
                Err(refused(error))
            }
            SqlOutcome::RolledBack { failed, error, .. } => {
                answers::rolled_back(failed, &told_to_clients(error), &call.request_id)
            }
        }
    }

    pub(super) async fn db_export(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        let namespace = call.namespace()?;
        let caller = SqlCaller {
            namespace: &namespace,
            request_id: &call.request_id,
        };
        let export = self.platform.sql().export(caller).await.map_err(refused)?;
        let bytes = export.bytes;
        let pieces = stream::unfold(export, |mut export| async move {
            let piece = export.next().await.transpose()?;
            Some((piece, export))
        });
        let mut response = HttpResponse::new(StatusCode::OK)
            .set_body(SizedStream::new(bytes, pieces))
            .map_into_boxed_body();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/vnd.sqlite3"),
        );
        // A namespace's name is letters, digits and hyphens.
        let file = format!("attachment; filename=\"{namespace}.db\"");
        if let Ok(value) = HeaderValue::from_str(&file) {
            headers.insert(CONTENT_DISPOSITION, value);
        }
        Ok(response)
    }

    pub(super) async fn group_databases(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        let group = group_of(call.capture(0))?;
        let found = self.platform.databases(group).await?;
        let databases: Vec<DatabaseBody> = found
            .into_iter()
            .map(|one| DatabaseBody {
                namespace: one.database.namespace,
                born: one.database.born,
                node: one.node.to_string(),
                applied: one.applied,
                hash: one.hash,
                bytes: one.bytes,
                fenced: one.fenced,
            })
            .collect();
        respond::ok(&Databases {
            count: databases.len(),
            databases,
        })
    }

    /// Reads a body, counted against the memory of all of them.
    async fn sql_body(
        &self,
        call: &mut Call,
    ) -> Result<(Bytes, Option<tokio::sync::SemaphorePermit<'_>>), ApiError> {
        body::refuse_encoding(call.request.headers())?;
        let share = match body::expected(call.request.headers(), SQL_BODY_MAX_BYTES) {
            0..=body::UNCOUNTED_BYTES => None,
            size => Some(self.bodies.take(size).await?),
        };
        let body = call.read(SQL_BODY_MAX_BYTES, "the request body").await?;
        Ok((body, share))
    }

    /// Runs one query.
    async fn rows(&self, call: &Call, query: SqlQuery, wanted: Wanted) -> Result<Rows, ApiError> {
        let read: ReadOptions = wanted.options(call.request.query_string())?;
        let namespace = call.namespace()?;
        let caller = SqlCaller {
            namespace: &namespace,
            request_id: &call.request_id,
        };
        let deadline = within(SQL_READ_MAX_SECS);
        let answer = self
            .platform
            .sql()
            .query(caller, vec![query], read, deadline);
        let mut results = answer.await.map_err(refused)?.results;
        match results.pop() {
            Some(result) => result.map_err(refused),
            None => Err(ApiError::new(ErrorCode::Internal, "no result came back")),
        }
    }

    async fn execute(&self, call: &Call, ops: Vec<SqlOp>) -> Result<SqlOutcome, ApiError> {
        let namespace = call.namespace()?;
        let caller = SqlCaller {
            namespace: &namespace,
            request_id: &call.request_id,
        };
        let deadline = within(SQL_WRITE_MAX_SECS);
        let written = self.platform.sql().execute(caller, ops, deadline).await;
        Ok(written.map_err(refused)?.outcome)
    }

    /// Runs one statement, whose failure is the call's.
    async fn execute_one(&self, call: &Call, op: SqlOp) -> Result<OpDone, ApiError> {
        match self.execute(call, vec![op]).await? {
            SqlOutcome::Committed(mut done) => done
                .pop()
                .ok_or_else(|| ApiError::new(ErrorCode::Internal, "no result came back")),
            SqlOutcome::RolledBack { error, .. } => Err(refused(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_shown_the_endpoint() {
        let error = SqlError::invalid("this changes the database").hinting(SqlHint::Execute);
        let error = refused(error);
        assert_eq!(error.code.status(), 400);
        assert_eq!(
            error.message,
            "this changes the database: use POST /v1/rqlite/exec (orama db exec)"
        );
    }
}

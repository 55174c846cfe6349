//! SQL as functions and the gateway use it: for a namespace by name, with its
//! limits, and with errors that say what their reader can do.
//!
//! What can be refused is refused here, before anything is sent; what becomes
//! of the rest is decided where the database is (`orama_cluster::data`).

mod check;
mod databases;
mod failure;
mod json;
mod metrics;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_cluster::{Answer, DataGroups, Export, MetaStore, SqlQuery, Written};
use orama_proto::limits::{SQL_READ_MAX_SECS, SQL_STEPS_MAX, SQL_WRITE_MAX_SECS};
use orama_proto::sql::{
    DatabaseId, ReadOptions, SqlCode, SqlError, SqlLimits, SqlOp, SqlOutcome, SqlTransaction,
};
use orama_proto::{Namespace, RequestId};
use prometheus::Registry;

pub(crate) use check::sql_too_large;
pub(crate) use failure::told_to_guests;
pub use json::{
    BatchRequest, TransactionRequest, batch_envelope, execute_envelope, parse_args, query_envelope,
    transaction_envelope,
};
pub(crate) use json::{cut, only};

use check::Statement;
use databases::{Databases, Node};
use failure::{read_failed, write_failed};
use metrics::{Kind, Metrics};

/// Bytes of a page of a database.
const PAGE_BYTES: u64 = 4096;
/// How long a copy of a whole database may take to begin.
const EXPORT_WITHIN: Duration = Duration::from_secs(60);
/// The database is given this much more than the deadline to say itself that
/// it was missed: it knows whether something may have happened.
const GRACE: Duration = Duration::from_millis(500);
/// How long the leader of the metadata has to say whether there is such a namespace.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct SqlCaller<'a> {
    /// Whose database.
    pub namespace: &'a Namespace,
    /// The request, for logs and the log entry.
    pub request_id: &'a RequestId,
}

/// Handle of the SQL databases. Cheap to clone.
#[derive(Clone)]
pub struct Sql(Arc<Inner>);

struct Inner {
    databases: Box<dyn Databases>,
    limits: SqlLimits,
    metrics: Metrics,
}

impl Sql {
    /// Over the node's data groups; `max_bytes` is what a database may have.
    ///
    /// # Errors
    /// When the metrics exist already.
    pub(crate) fn new(
        data: DataGroups,
        meta: MetaStore,
        max_bytes: u64,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        Self::over(Box::new(Node { data, meta }), max_bytes, registry)
    }

    fn over(
        databases: Box<dyn Databases>,
        max_bytes: u64,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let pages = u32::try_from(max_bytes / PAGE_BYTES).unwrap_or(u32::MAX);
        Ok(Self(Arc::new(Inner {
            databases,
            limits: SqlLimits {
                pages: pages.max(1),
                steps: SQL_STEPS_MAX,
            },
            metrics: Metrics::register(registry)?,
        })))
    }

    /// Makes a transaction of 1 to 100 statements. A rolled-back one is `Ok`: see its outcome.
    ///
    /// # Errors
    /// `UNAVAILABLE` (the message says whether it may have happened), `INVALID_ARGUMENT`,
    /// `TOO_MANY_STATEMENTS`, `PAYLOAD_TOO_LARGE` before anything was tried.
    pub async fn execute(
        &self,
        caller: SqlCaller<'_>,
        ops: Vec<SqlOp>,
        deadline: Instant,
    ) -> Result<Written, SqlError> {
        let began = Instant::now();
        let deadline = deadline.min(began + Duration::from_secs(SQL_WRITE_MAX_SECS));
        let statements = ops.len();
        let result = self.write(caller, ops, deadline).await;
        let outcome = match &result {
            Ok(written) => match &written.outcome {
                SqlOutcome::Committed(_) => "committed",
                SqlOutcome::RolledBack { .. } => "rolled_back",
            },
            Err(error) => failed(error),
        };
        let took = self.0.metrics.ended(Kind::Write, outcome, began);
        tracing::debug!(
            request_id = %caller.request_id, namespace = %caller.namespace, statements, outcome,
            index = result.as_ref().map_or(0, |written| written.index),
            error = why(&result), micros = took.as_micros(), "an SQL transaction"
        );
        result
    }

    async fn write(
        &self,
        caller: SqlCaller<'_>,
        ops: Vec<SqlOp>,
        deadline: Instant,
    ) -> Result<Written, SqlError> {
        check::statements(ops.iter().map(Statement::from))?;
        let database = self.database(caller.namespace, deadline).await?;
        let transaction = SqlTransaction {
            database,
            request_id: caller.request_id.clone(),
            limits: self.0.limits,
            ops,
        };
        let write = self.0.databases.execute(transaction, deadline);
        match before(deadline + GRACE, write).await {
            Some(Ok(written)) => Ok(written),
            Some(Err(error)) => Err(write_failed(error)),
            None => Err(failure::write_late()),
        }
    }

    /// Runs 1 to 100 queries on one moment of the database.
    ///
    /// # Errors
    /// What concerns all of them; what is wrong with one is in its result.
    pub async fn query(
        &self,
        caller: SqlCaller<'_>,
        queries: Vec<SqlQuery>,
        read: ReadOptions,
        deadline: Instant,
    ) -> Result<Answer, SqlError> {
        let began = Instant::now();
        let deadline = deadline.min(began + Duration::from_secs(SQL_READ_MAX_SECS));
        let statements = queries.len();
        let result = self.read(caller, queries, read, deadline).await;
        let outcome = match &result {
            Ok(answer) if answer.results.iter().all(Result::is_ok) => "answered",
            Ok(_) => "refused",
            Err(error) => failed(error),
        };
        let took = self.0.metrics.ended(Kind::Read, outcome, began);
        tracing::debug!(
            request_id = %caller.request_id, namespace = %caller.namespace, statements, outcome,
            level = ?read.level, error = why(&result), micros = took.as_micros(), "an SQL read"
        );
        result
    }

    async fn read(
        &self,
        caller: SqlCaller<'_>,
        queries: Vec<SqlQuery>,
        read: ReadOptions,
        deadline: Instant,
    ) -> Result<Answer, SqlError> {
        check::statements(queries.iter().map(Statement::from))?;
        let database = self.database(caller.namespace, deadline).await?;
        let read = self.0.databases.query(&database, queries, read, deadline);
        match before(deadline + GRACE, read).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(read_failed(error)),
            None => Err(failure::read_late()),
        }
    }

    /// A copy of the whole database as an SQLite file.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn export(&self, caller: SqlCaller<'_>) -> Result<Export, SqlError> {
        let deadline = Instant::now() + EXPORT_WITHIN;
        let database = self.database(caller.namespace, deadline).await?;
        let export = self.0.databases.export(&database, deadline).await;
        tracing::debug!(
            request_id = %caller.request_id, namespace = %caller.namespace, ok = export.is_ok(),
            "an SQL export"
        );
        export.map_err(read_failed)
    }

    /// Which database the namespace has. One that was made elsewhere a moment
    /// ago may be unknown here: the leader is asked once.
    async fn database(
        &self,
        namespace: &Namespace,
        deadline: Instant,
    ) -> Result<DatabaseId, SqlError> {
        let databases = &self.0.databases;
        let born = match databases.born(namespace) {
            Some(born) => Some(born),
            None => {
                let within = deadline.min(Instant::now() + CONFIRM_WITHIN);
                databases.confirm(within).await.map_err(|why| {
                    tracing::debug!(%namespace, why, "a namespace cannot be looked up");
                    failure::unconfirmed(namespace)
                })?;
                databases.born(namespace)
            }
        };
        match born {
            Some(born) => Ok(DatabaseId {
                namespace: namespace.clone(),
                born,
            }),
            None => Err(failure::no_namespace(namespace)),
        }
    }
}

/// What it answers before the deadline.
async fn before<T>(deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(deadline.into(), future).await.ok()
}

/// For metrics and logs: whose fault a failed call is.
fn failed(error: &SqlError) -> &'static str {
    match error.code {
        SqlCode::TooManyStatements
        | SqlCode::PayloadTooLarge
        | SqlCode::InvalidArgument
        | SqlCode::ConstraintViolation
        | SqlCode::DeadlineExceeded
        | SqlCode::StorageQuotaExceeded => "refused",
        SqlCode::Unavailable | SqlCode::OutcomeUnknown | SqlCode::Stale => "unavailable",
        SqlCode::Internal => "failed",
    }
}

fn why<T>(result: &Result<T, SqlError>) -> Option<&str> {
    result.as_ref().err().map(|error| error.message.as_str())
}

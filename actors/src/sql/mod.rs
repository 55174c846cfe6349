//! SQL as functions and the gateway use it: for a namespace by name, with its
//! limits, and with errors that say what their reader can do.

mod json;

use std::time::Instant;

use orama_cluster::{Answer, Export, SqlQuery, Written};
use orama_proto::sql::{ReadOptions, SqlError, SqlOp};
use orama_proto::{Namespace, RequestId};

pub use json::{
    BatchRequest, TransactionRequest, batch_envelope, execute_envelope, parse_args, query_envelope,
    transaction_envelope,
};

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
pub struct Sql {}

impl Sql {
    /// Makes a transaction of 1 to 100 statements. A rolled-back one is `Ok`: see its outcome.
    ///
    /// # Errors
    /// `UNAVAILABLE` (the message says whether it may have happened), `INVALID_ARGUMENT`,
    /// `TOO_MANY_STATEMENTS`, `PAYLOAD_TOO_LARGE` before anything was tried.
    pub async fn execute(
        &self,
        _caller: SqlCaller<'_>,
        _ops: Vec<SqlOp>,
        _deadline: Instant,
    ) -> Result<Written, SqlError> {
        todo!()
    }

    /// Runs 1 to 100 queries on one moment of the database.
    ///
    /// # Errors
    /// What concerns all of them; what is wrong with one is in its result.
    pub async fn query(
        &self,
        _caller: SqlCaller<'_>,
        _queries: Vec<SqlQuery>,
        _read: ReadOptions,
        _deadline: Instant,
    ) -> Result<Answer, SqlError> {
        todo!()
    }

    /// A copy of the whole database as an SQLite file.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn export(&self, _caller: SqlCaller<'_>) -> Result<Export, SqlError> {
        todo!()
    }
}

//! Arguments and envelopes in JSON, the same for host functions and HTTP (CONTRACT 1.4, 1.7).

use orama_cluster::{Answer, SqlQuery, Written};
use orama_proto::sql::{ReadOptions, SqlError, SqlOp, SqlValue};

/// Reads a JSON array of arguments; empty text and `null` are none. Integers stay exact to 64
/// bits; booleans are 1 and 0; `{"blob":"<base64>"}` is a BLOB.
///
/// # Errors
/// `INVALID_ARGUMENT` that names the argument.
pub fn parse_args(_json: &[u8]) -> Result<Vec<SqlValue>, SqlError> {
    todo!()
}

/// `{"ops":[{"kind","sql","args"}]}`.
#[derive(Debug, Clone, PartialEq)]
pub struct TransactionRequest {
    /// In order.
    pub ops: Vec<SqlOp>,
}

impl TransactionRequest {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong, naming the op.
    pub fn parse(_json: &[u8]) -> Result<Self, SqlError> {
        todo!()
    }
}

/// `{"ops":[{"sql","args"}],"consistency","freshness","freshness_strict"}`.
#[derive(Clone, PartialEq)]
pub struct BatchRequest {
    /// In order.
    pub queries: Vec<SqlQuery>,
    /// How fresh.
    pub read: ReadOptions,
}

impl BatchRequest {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong, naming the op or field.
    pub fn parse(_json: &[u8]) -> Result<Self, SqlError> {
        todo!()
    }
}

/// What `db_query_v2` answers.
pub fn query_envelope(_result: &Result<Answer, SqlError>) -> Vec<u8> {
    todo!()
}
/// What `db_execute_v2` answers.
pub fn execute_envelope(_result: &Result<Written, SqlError>) -> Vec<u8> {
    todo!()
}
/// What `db_transaction` answers.
pub fn transaction_envelope(_result: &Result<Written, SqlError>) -> Vec<u8> {
    todo!()
}
/// What `db_query_batch` answers.
pub fn batch_envelope(_result: &Result<Answer, SqlError>) -> Vec<u8> {
    todo!()
}

//! SQL over a data group: a transaction is proposed wherever its leader is, a
//! query runs on this node's replica or on another node's.

use std::time::{Duration, Instant};

use bytes::Bytes;
use orama_proto::sql::{
    DatabaseId, ReadOptions, Rows, SqlError, SqlOutcome, SqlTransaction, SqlValue,
};
use orama_proto::{GroupId, Namespace, NodeId};
use serde::{Deserialize, Serialize};

use super::{DataError, DataGroups};

/// One query of a read.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct SqlQuery {
    /// Exactly one statement.
    pub sql: String,
    /// Positional arguments.
    pub args: Vec<SqlValue>,
}

/// A transaction that is durable on a majority; what became of it was decided the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its entry: give it as [`ReadOptions::at_least`] to see it in reads of level `none`.
    pub index: u64,
    /// Committed or rolled back.
    pub outcome: SqlOutcome,
}

/// What a read answers: one result for each query, all of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// In the order of the queries.
    pub results: Vec<Result<Rows, SqlError>>,
    /// The replica that answered.
    pub node: NodeId,
}

/// A database on one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseStatus {
    /// Which.
    pub database: DatabaseId,
    /// Where.
    pub node: NodeId,
    /// Index of the last entry applied to it.
    pub applied: u64,
    /// Hash of all effects up to there, in hexadecimal digits.
    pub hash: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Why it is fenced, if it is.
    pub fenced: Option<String>,
}

/// A copy of a database, to be read piece by piece.
pub struct Export {
    /// Its length in bytes.
    pub bytes: u64,
}

impl Export {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the replica that has the copy is lost: begin again.
    pub async fn next(&mut self) -> Result<Option<Bytes>, DataError> {
        todo!()
    }
}

impl DataGroups {
    /// The group of a namespace's databases: the same for life, because the number of groups is.
    pub fn group_of(&self, _namespace: &Namespace) -> GroupId {
        todo!()
    }

    /// Makes a transaction; when this answers it is past fdatasync on a majority.
    ///
    /// # Errors
    /// See [`DataError`]. `Unknown`: it may have happened; everything else: it did not.
    pub async fn execute(
        &self,
        _transaction: SqlTransaction,
        _deadline: Instant,
    ) -> Result<Written, DataError> {
        todo!()
    }

    /// Runs queries on one moment of a database.
    ///
    /// # Errors
    /// See [`DataError`]. What is wrong with a query itself is in its result.
    pub async fn query(
        &self,
        _database: &DatabaseId,
        _queries: Vec<SqlQuery>,
        _read: ReadOptions,
        _deadline: Instant,
    ) -> Result<Answer, DataError> {
        todo!()
    }

    /// The databases of a group on every replica that answers within `wait`.
    ///
    /// # Errors
    /// `NoGroup`.
    pub async fn databases(
        &self,
        _group: GroupId,
        _wait: Duration,
    ) -> Result<Vec<DatabaseStatus>, DataError> {
        todo!()
    }

    /// A consistent copy of a whole database, as an SQLite file; linearizable.
    ///
    /// # Errors
    /// See [`DataError`].
    pub async fn export(
        &self,
        _database: &DatabaseId,
        _deadline: Instant,
    ) -> Result<Export, DataError> {
        todo!()
    }
}

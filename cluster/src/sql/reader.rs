//! Queries that change nothing, on a connection that cannot.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use orama_proto::sql::{Rows, SqlError, SqlValue};

use super::EngineFault;

/// One query.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) sql: String,
    pub(crate) args: Vec<SqlValue>,
}

/// A read-only connection. Blocks.
pub(crate) struct Reader {}

impl Reader {
    pub(crate) fn open(_path: &Path) -> Result<Self, EngineFault> {
        todo!()
    }
    /// Of a database that was never written to.
    pub(crate) fn empty() -> Result<Self, EngineFault> {
        todo!()
    }
    /// Runs the queries in one read transaction: all see the same moment. Each is answered for
    /// itself; `bytes` are shared by all. A query that would write is refused with a
    /// message that names db_execute.
    pub(crate) fn run(
        &mut self,
        _queries: &[Query],
        _rows: usize,
        _bytes: usize,
        _deadline: Instant,
        _cancelled: &Arc<AtomicBool>,
    ) -> Result<Vec<Result<Rows, SqlError>>, EngineFault> {
        todo!()
    }
}

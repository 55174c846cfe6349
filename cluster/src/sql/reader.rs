//! Queries that change nothing, on a connection that cannot.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use orama_proto::sql::{Rows, SqlCode, SqlError, SqlValue};

use super::EngineFault;
use super::connection::{Connection, Failure};
use super::rows::{self, Caps};

/// What a statement is answered that would change something.
const CHANGES: &str = "this statement changes data: use db_execute (POST /v1/rqlite/exec)";

/// One query.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) sql: String,
    pub(crate) args: Vec<SqlValue>,
}

/// A read-only connection. Blocks.
pub(crate) struct Reader {
    conn: Connection,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self, EngineFault> {
        Connection::reader(path).map(|conn| Self { conn })
    }

    /// Of a database that was never written to.
    pub(crate) fn empty() -> Result<Self, EngineFault> {
        Connection::empty().map(|conn| Self { conn })
    }

    /// Runs the queries in one read transaction: all see the same moment. Each is answered for
    /// itself; `bytes` are shared by all. A query that would write is refused with a
    /// message that names db_execute.
    pub(crate) fn run(
        &mut self,
        queries: &[Query],
        rows: usize,
        bytes: usize,
        deadline: Instant,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<Vec<Result<Rows, SqlError>>, EngineFault> {
        // A statement is a read transaction by itself.
        let together = queries.len() > 1;
        if !self.conn.transaction_gone() {
            self.ours("ROLLBACK")?;
        }
        if together {
            self.ours("BEGIN")?;
        }
        self.conn.begin_read(deadline, Arc::clone(cancelled));
        let answers = self.answers(queries, rows, bytes, deadline, cancelled);
        self.conn.end_read();
        if together && !self.conn.transaction_gone() {
            let ended = self.ours("COMMIT");
            return answers.and_then(|answers| ended.map(|()| answers));
        }
        answers
    }

    fn answers(
        &self,
        queries: &[Query],
        rows: usize,
        bytes: usize,
        deadline: Instant,
        cancelled: &AtomicBool,
    ) -> Result<Vec<Result<Rows, SqlError>>, EngineFault> {
        let mut answers = Vec::with_capacity(queries.len());
        let mut room = bytes;
        for query in queries {
            // Short queries are over before SQLite looks at the clock.
            let answer = if queries.len() > 1 && self.conn.transaction_gone() {
                // SQLite ends a transaction in which it had no memory left.
                Err(Failure::Statement(SqlError::new(
                    SqlCode::PayloadTooLarge,
                    "not run: an earlier query took more memory than a read may have, which ended the moment that all queries see",
                )))
            } else if Instant::now() >= deadline || cancelled.load(Ordering::Relaxed) {
                Err(Failure::Statement(SqlError::new(
                    SqlCode::DeadlineExceeded,
                    "the time for the read is over",
                )))
            } else {
                self.answer(query, Caps { rows, bytes: room })
            };
            answers.push(match answer {
                Ok(rows) => {
                    room = room.saturating_sub(rows.json.len());
                    Ok(rows)
                }
                Err(Failure::Statement(error)) => Err(error),
                Err(Failure::Fault(fault)) => return Err(fault),
            });
        }
        Ok(answers)
    }

    fn answer(&self, query: &Query, caps: Caps) -> Result<Rows, Failure> {
        let mut statement = self.conn.prepare(&query.sql)?;
        if !statement.readonly() {
            return Err(Failure::Statement(SqlError::invalid(CHANGES)));
        }
        rows::bind(&self.conn, &mut statement, &query.args)?;
        self.conn
            .run_tenant(|| rows::collect(&mut statement, caps))
            .map_err(|e| self.conn.failure(e))
    }

    fn ours(&self, sql: &'static str) -> Result<(), EngineFault> {
        match self.conn.ours(sql, &[]) {
            Ok(_) => Ok(()),
            Err(Failure::Fault(fault)) => Err(fault),
            Err(Failure::Statement(error)) => Err(EngineFault::Io(error.message)),
        }
    }
}

#[cfg(test)]
mod tests;

//! What the calls answer, written straight into bytes: rows are JSON already
//! and are copied in (CONTRACT 1.6, 1.7).
//!
//! Besides the fields of the contract: `rows` of an exec that returned some
//! (`RETURNING`), `rows_cut` when those are not all, and `outcome_unknown` when
//! a write may have happened although it was not acknowledged.

use std::io::Write;

use orama_cluster::{Answer, Written};
use orama_proto::limits::SQL_ROWS_MAX;
use orama_proto::sql::{OpDone, OpKind, Rows, SqlCode, SqlError, SqlOutcome};

use crate::sql::told_to_guests;

/// Bytes of an envelope besides its rows, roughly.
const FRAME_BYTES: usize = 256;

/// What `db_query_v2` answers.
pub fn query_envelope(result: &Result<Answer, SqlError>) -> Vec<u8> {
    match only(result) {
        Ok(rows) => {
            let mut out = Object::with_capacity(rows.json.len());
            out.rows(rows);
            out.end()
        }
        Err(error) => {
            let mut out = Object::with_capacity(error.message.len());
            out.raw("rows", b"[]");
            out.error(&error);
            out.end()
        }
    }
}

/// What `db_execute_v2` answers.
pub fn execute_envelope(result: &Result<Written, SqlError>) -> Vec<u8> {
    let failed = |error: &SqlError| {
        let mut out = Object::with_capacity(error.message.len());
        out.number("rows_affected", 0);
        out.error(error);
        out.end()
    };
    match result.as_ref().map(|written| &written.outcome) {
        Ok(SqlOutcome::Committed(done)) => match done.as_slice() {
            [done] => {
                let mut out = Object::with_capacity(rows_bytes(done));
                out.changed(done);
                out.end()
            }
            _ => failed(&surprise()),
        },
        Ok(SqlOutcome::RolledBack { error, .. }) => failed(error),
        Err(error) => failed(error),
    }
}

/// What `db_transaction` answers.
pub fn transaction_envelope(result: &Result<Written, SqlError>) -> Vec<u8> {
    let (done, failed) = match result.as_ref().map(|written| &written.outcome) {
        Ok(SqlOutcome::Committed(done)) => (done.as_slice(), None),
        Ok(SqlOutcome::RolledBack {
            failed,
            error,
            before,
        }) => (before.as_slice(), Some((Some(*failed), error))),
        Err(error) => (&[][..], Some((None, error))),
    };
    let bytes = done.iter().map(rows_bytes).sum();
    let mut out = Object::with_capacity(bytes);
    out.array("results", done, |out, done| match done.kind {
        OpKind::Exec => {
            out.raw("kind", b"\"exec\"");
            out.changed(done);
        }
        OpKind::Query => {
            out.raw("kind", b"\"query\"");
            match &done.rows {
                Some(rows) => out.rows(rows),
                None => out.raw("rows", b"[]"),
            }
        }
    });
    out.flag("committed", failed.is_none());
    if let Some((index, error)) = failed {
        if let Some(index) = index {
            out.number("failed_index", index);
        }
        out.error(error);
    }
    out.end()
}

/// What `db_query_batch` answers.
pub fn batch_envelope(result: &Result<Answer, SqlError>) -> Vec<u8> {
    match result {
        Ok(answer) => {
            let bytes = answer.results.iter().flatten().map(|r| r.json.len()).sum();
            let mut out = Object::with_capacity(bytes);
            out.array("results", &answer.results, |out, result| {
                out.raw("kind", b"\"query\"");
                match result {
                    Ok(rows) => out.rows(rows),
                    Err(error) => {
                        out.raw("rows", b"[]");
                        out.error(error);
                    }
                }
            });
            out.end()
        }
        Err(error) => {
            let mut out = Object::with_capacity(error.message.len());
            out.raw("results", b"[]");
            if error.code == SqlCode::Stale {
                out.flag("stale_rejected", true);
                out.text("stale_detail", &error.message);
            }
            out.error(error);
            out.end()
        }
    }
}

/// The rows of a read of one query.
pub(crate) fn only(result: &Result<Answer, SqlError>) -> Result<&Rows, SqlError> {
    match result {
        Ok(answer) => match answer.results.as_slice() {
            [Ok(rows)] => Ok(rows),
            [Err(error)] => Err(error.clone()),
            _ => Err(surprise()),
        },
        Err(error) => Err(error.clone()),
    }
}

/// Why rows are not all there are.
pub(crate) fn cut(rows: &Rows) -> SqlError {
    let why = if rows.count >= SQL_ROWS_MAX as u64 {
        format!("there are more than {SQL_ROWS_MAX} rows; the rest is not shown")
    } else {
        let count = rows.count;
        format!("the rows are too large; only the first {count} are shown")
    };
    SqlError::new(SqlCode::PayloadTooLarge, why)
}

/// One statement was asked and another number of results came.
fn surprise() -> SqlError {
    SqlError::new(
        SqlCode::Internal,
        "the database did not answer one result for one statement",
    )
}

fn rows_bytes(done: &OpDone) -> usize {
    done.rows.as_ref().map_or(0, |rows| rows.json.len()) + FRAME_BYTES
}

/// A JSON object that is being written.
struct Object {
    out: Vec<u8>,
}

impl Object {
    fn with_capacity(rows: usize) -> Self {
        let mut out = Vec::with_capacity(rows + FRAME_BYTES);
        out.push(b'{');
        Self { out }
    }

    fn key(&mut self, key: &str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A value that is JSON already.
    fn raw(&mut self, key: &str, json: &[u8]) {
        self.key(key);
        self.out.extend_from_slice(json);
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.raw(key, if value { b"true" } else { b"false" });
    }

    fn number(&mut self, key: &str, value: impl std::fmt::Display) {
        self.key(key);
        // Writing to a Vec cannot fail.
        let _ = write!(self.out, "{value}");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        let _ = serde_json::to_writer(&mut self.out, value);
    }

    fn array<T>(&mut self, key: &str, items: &[T], each: impl Fn(&mut Self, &T)) {
        self.key(key);
        self.out.push(b'[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            self.out.push(b'{');
            each(self, item);
            self.out.push(b'}');
        }
        self.out.push(b']');
    }

    fn error(&mut self, error: &SqlError) {
        self.text("error", &told_to_guests(error));
        self.text("code", error.code.as_str());
        if error.code == SqlCode::OutcomeUnknown {
            self.flag("outcome_unknown", true);
        }
    }

    fn rows(&mut self, rows: &Rows) {
        self.shown(rows);
        if rows.cut {
            self.error(&cut(rows));
        }
    }

    fn shown(&mut self, rows: &Rows) {
        // An answer without rows is `[]`, whoever made it.
        match rows.json.is_empty() {
            true => self.raw("rows", b"[]"),
            false => self.raw("rows", &rows.json),
        }
    }

    fn changed(&mut self, done: &OpDone) {
        self.number("rows_affected", done.rows_affected);
        if done.last_insert_id != 0 {
            self.number("last_insert_id", done.last_insert_id);
        }
        if let Some(rows) = &done.rows {
            self.shown(rows);
            // No `error`: callers take that for a write that did not happen.
            if rows.cut {
                self.flag("rows_cut", true);
            }
        }
    }

    fn end(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
}

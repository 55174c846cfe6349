//! One entry inside a transaction: its statements in order, all of them or none.

use orama_proto::limits::{SQL_ROWS_MAX, SQL_TRANSACTION_RESULT_MAX_BYTES};
use orama_proto::sql::{OpDone, OpKind, Rows, SqlCode, SqlError, SqlOp, SqlOutcome};

use super::{Item, fault};
use crate::sql::EngineFault;
use crate::sql::connection::{Connection, Failure};
use crate::sql::dump::turns_foreign_keys_off;
use crate::sql::rows::{self, Caps};

/// What became of an entry inside the transaction.
pub(super) enum Ran {
    /// All of it or nothing of it is in the transaction, which goes on.
    Settled { outcome: SqlOutcome, effects: u128 },
    /// SQLite rolled the whole transaction back, with all entries before this one.
    Ended(SqlOutcome),
}

/// Runs an entry. The transaction is open.
pub(super) fn run(conn: &Connection, item: &Item<'_>) -> Result<Ran, EngineFault> {
    let ran = conn
        .begin_entry(&item.stamp, &item.transaction.limits)
        .and_then(|()| record(conn, item.index))
        .and_then(|()| ops(conn, &item.transaction.ops))
        .and_then(|ran| conn.settle_foreign_keys().map(|()| ran));
    conn.end_entry();
    ran
}

/// Notes that the entry is applied, whatever becomes of its statements. Comes before them: it
/// loads the schema, which counts against no entry's budget, and settles what `changes()` says.
pub(super) fn record(conn: &Connection, index: u64) -> Result<(), EngineFault> {
    ours(
        conn,
        "UPDATE _orama_state SET applied = ?1 WHERE id = 1",
        &[&index.cast_signed()],
    )
}

/// Runs a statement of ours that answers nothing.
pub(super) fn ours(
    conn: &Connection,
    sql: &'static str,
    params: &[&dyn rusqlite::ToSql],
) -> Result<(), EngineFault> {
    conn.ours(sql, params).map(drop).map_err(fault)
}

/// Whether the transaction asks not to be held to foreign keys: what an import needs, whose rows may
/// refer to ones of a later transaction. Alone the statement would do nothing, and is refused.
fn unchecked(ops: &[SqlOp]) -> bool {
    match ops {
        [first, _, ..] => {
            first.kind == OpKind::Exec
                && first.args.is_empty()
                && turns_foreign_keys_off(&first.sql)
        }
        _ => false,
    }
}

fn ops(conn: &Connection, ops: &[SqlOp]) -> Result<Ran, EngineFault> {
    let unchecked = unchecked(ops);
    if unchecked {
        conn.enforce_foreign_keys(false)?;
    }
    ours(conn, "SAVEPOINT entry", &[])?;
    let mut done = Vec::with_capacity(ops.len());
    let mut room = SQL_TRANSACTION_RESULT_MAX_BYTES;
    let mut error = None;
    for op in ops {
        let ran = if unchecked && done.is_empty() {
            Ok(OpDone {
                kind: op.kind,
                rows_affected: 0,
                last_insert_id: 0,
                rows: None,
            })
        } else {
            run_op(conn, op, &mut room)
        };
        match ran {
            Ok(answer) => done.push(answer),
            Err(Failure::Statement(e)) => {
                error = Some(e);
                break;
            }
            Err(Failure::Fault(fault)) => return Err(fault),
        }
    }
    let mut failed = done.len() as u32;
    if error.is_none() {
        // Not left to COMMIT, which would answer for all entries of the batch.
        match conn.verify_entry() {
            Ok(()) => {}
            Err(Failure::Statement(e)) => {
                failed = failed.saturating_sub(1);
                done.truncate(failed as usize);
                error = Some(e);
            }
            Err(Failure::Fault(fault)) => return Err(fault),
        }
    }
    let gone = conn.transaction_gone();
    let Some(error) = error else {
        if gone {
            return Err(EngineFault::Io(
                "the transaction ended without an error".to_owned(),
            ));
        }
        ours(conn, "RELEASE entry", &[])?;
        return Ok(Ran::Settled {
            outcome: SqlOutcome::Committed(done),
            effects: conn.take_effects(),
        });
    };
    let outcome = SqlOutcome::RolledBack {
        failed,
        error,
        before: done,
    };
    if gone {
        conn.take_effects();
        return Ok(Ran::Ended(outcome));
    }
    ours(conn, "ROLLBACK TO entry", &[])?;
    ours(conn, "RELEASE entry", &[])?;
    conn.take_effects();
    Ok(Ran::Settled {
        outcome,
        effects: 0,
    })
}

/// Runs one statement; `room` is how many bytes of rows the transaction may still answer.
fn run_op(conn: &Connection, op: &SqlOp, room: &mut usize) -> Result<OpDone, Failure> {
    let mut statement = conn.prepare(&op.sql)?;
    if op.kind == OpKind::Query && !statement.readonly() {
        return Err(Failure::Statement(SqlError::invalid(
            "a query changes data: use kind exec",
        )));
    }
    if statement.column_names().any(is_made_up) {
        return Err(Failure::Statement(SqlError::invalid(
            "SQLite makes up a name for one of several equal columns: give each a name of its own (AS)",
        )));
    }
    rows::bind(conn, &mut statement, &op.args)?;
    let changes = conn.sql().total_changes();
    let rows = if statement.column_count() == 0 && op.kind == OpKind::Exec {
        conn.run_tenant(|| statement.raw_execute())
            .map_err(|e| conn.failure(e))?;
        None
    } else {
        let caps = Caps {
            rows: SQL_ROWS_MAX,
            bytes: *room,
        };
        let rows = conn
            .run_tenant(|| rows::collect(&mut statement, caps))
            .map_err(|e| conn.failure(e))?;
        if rows.cut {
            return Err(Failure::Statement(too_much(&rows)));
        }
        *room = room.saturating_sub(rows::bytes_of(&rows));
        Some(rows)
    };
    drop(statement);
    conn.verify_statement()?;
    // SQLite keeps the count of the last INSERT, UPDATE or DELETE through other statements.
    let changed = conn.sql().total_changes() != changes;
    Ok(OpDone {
        kind: op.kind,
        rows_affected: if changed { conn.sql().changes() } else { 0 },
        last_insert_id: conn.sql().last_insert_rowid(),
        rows,
    })
}

/// Whether SQLite may have drawn a column's name: of more than five equal ones in a subquery the
/// others get a random number, which would be another on each replica.
fn is_made_up(name: &str) -> bool {
    let number = name.rsplit_once(':').map_or("", |(_, number)| number);
    number.len() > 1 && number.bytes().all(|b| b.is_ascii_digit())
}

/// In a transaction nothing is cut: what the caller does not get to see must not happen.
fn too_much(rows: &Rows) -> SqlError {
    let message = if rows.count as usize >= SQL_ROWS_MAX {
        format!("the statement returns more than {SQL_ROWS_MAX} rows")
    } else {
        format!(
            "the transaction returns more than {SQL_TRANSACTION_RESULT_MAX_BYTES} bytes of rows"
        )
    };
    SqlError::new(SqlCode::PayloadTooLarge, message)
}

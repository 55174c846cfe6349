//! SQL for guests (CONTRACT 1.6, 1.7).
//!
//! `db_query` and `db_execute` are kept for functions that exist: they answer 0
//! for every failure. The others always answer an envelope that says what went
//! wrong. Every failure is told in the invocation's log as well.

use orama_cluster::{Answer, SqlQuery, Written};
use orama_proto::limits::SQL_BODY_MAX_BYTES;
use orama_proto::limits::SQL_STATEMENT_MAX_BYTES;
use orama_proto::sql::{OpDone, OpKind, ReadOptions, Rows, SqlCode, SqlError, SqlOp, SqlOutcome};
use wasmtime::Caller;

use super::bytes::{give, warn};
use crate::runtime::guest::Guest;
use crate::runtime::import::{Import, import};
use crate::runtime::memory::split;
use crate::runtime::slices;
use crate::sql::{
    self, BatchRequest, SqlCaller, TransactionRequest, batch_envelope, execute_envelope,
    parse_args, query_envelope, told_to_guests, transaction_envelope,
};

type Answered = Result<u64, wasmtime::Error>;

/// Failures of one invocation that its log shows; a function that retries must
/// not push its own lines out of it.
const TOLD_MAX: u32 = 100;
/// An answer up to this size is not tried again without its rows.
const SMALL_BYTES: usize = 64 * 1024;

pub(super) const TABLE: &[Import] = &[
    import!(bytes db_query(sql: u32, sql_len: u32, args: u32, args_len: u32) = query),
    import!(async db_execute(sql: u32, sql_len: u32, args: u32, args_len: u32) -> u32 = execute),
    import!(bytes db_query_v2(sql: u32, sql_len: u32, args: u32, args_len: u32) = query_v2),
    import!(bytes db_execute_v2(sql: u32, sql_len: u32, args: u32, args_len: u32) = execute_v2),
    import!(bytes db_transaction(ops: u32, ops_len: u32) = transaction),
    import!(bytes db_query_batch(ops: u32, ops_len: u32) = query_batch),
];

/// A string of the guest: where and how long.
#[derive(Clone, Copy)]
struct Text {
    ptr: u32,
    len: u32,
}

async fn query(
    mut caller: Caller<'_, Guest>,
    sql: u32,
    sql_len: u32,
    args: u32,
    args_len: u32,
) -> Answered {
    let (sql, args) = texts(sql, sql_len, args, args_len);
    let result = read_one(&mut caller, sql, args).await;
    let rows = sql::only(&result).and_then(|rows| match rows.cut {
        // Half an answer would be taken for all of it.
        true => Err(sql::cut(rows)),
        false => Ok(rows),
    });
    match rows {
        Ok(rows) if rows.json.is_empty() => give(&mut caller, b"[]").await,
        Ok(rows) => give(&mut caller, &rows.json).await,
        Err(error) => {
            tell(&mut caller, "db_query", None, &error);
            Ok(0)
        }
    }
}

async fn execute(
    mut caller: Caller<'_, Guest>,
    sql: u32,
    sql_len: u32,
    args: u32,
    args_len: u32,
) -> Result<u32, wasmtime::Error> {
    let (sql, args) = texts(sql, sql_len, args, args_len);
    let result = write_one(&mut caller, sql, args).await;
    tell_write(&mut caller, "db_execute", &result);
    let done = match &result {
        Ok(written) => match &written.outcome {
            SqlOutcome::Committed(done) => done.first(),
            SqlOutcome::RolledBack { .. } => None,
        },
        Err(_) => None,
    };
    // The result is an i32.
    let affected = done.map_or(0, |done| done.rows_affected.min(i32::MAX as u64));
    Ok(u32::try_from(affected).unwrap_or_default())
}

async fn query_v2(
    mut caller: Caller<'_, Guest>,
    sql: u32,
    sql_len: u32,
    args: u32,
    args_len: u32,
) -> Answered {
    let (sql, args) = texts(sql, sql_len, args, args_len);
    let result = read_one(&mut caller, sql, args).await;
    tell_read(&mut caller, "db_query_v2", &result);
    give_answer(&mut caller, result, query_envelope).await
}

async fn execute_v2(
    mut caller: Caller<'_, Guest>,
    sql: u32,
    sql_len: u32,
    args: u32,
    args_len: u32,
) -> Answered {
    let (sql, args) = texts(sql, sql_len, args, args_len);
    let result = write_one(&mut caller, sql, args).await;
    tell_write(&mut caller, "db_execute_v2", &result);
    give_written(&mut caller, result, execute_envelope).await
}

async fn transaction(mut caller: Caller<'_, Guest>, ops: u32, ops_len: u32) -> Answered {
    let ops = Text {
        ptr: ops,
        len: ops_len,
    };
    let result = match json(&mut caller, ops, "the request", TransactionRequest::parse) {
        Ok(request) => write(&mut caller, request.ops).await,
        Err(error) => Err(error),
    };
    tell_write(&mut caller, "db_transaction", &result);
    give_written(&mut caller, result, transaction_envelope).await
}

async fn query_batch(mut caller: Caller<'_, Guest>, ops: u32, ops_len: u32) -> Answered {
    let ops = Text {
        ptr: ops,
        len: ops_len,
    };
    let result = match json(&mut caller, ops, "the request", BatchRequest::parse) {
        Ok(request) => read(&mut caller, request.queries, request.read).await,
        Err(error) => Err(error),
    };
    tell_read(&mut caller, "db_query_batch", &result);
    give_answer(&mut caller, result, batch_envelope).await
}

fn texts(sql: u32, sql_len: u32, args: u32, args_len: u32) -> (Text, Text) {
    let sql = Text {
        ptr: sql,
        len: sql_len,
    };
    let args = Text {
        ptr: args,
        len: args_len,
    };
    (sql, args)
}

async fn read_one(
    caller: &mut Caller<'_, Guest>,
    sql: Text,
    args: Text,
) -> Result<Answer, SqlError> {
    let SqlOp { sql, args, .. } = statement(caller, OpKind::Query, sql, args)?;
    read(caller, vec![SqlQuery { sql, args }], ReadOptions::default()).await
}

async fn write_one(
    caller: &mut Caller<'_, Guest>,
    sql: Text,
    args: Text,
) -> Result<Written, SqlError> {
    let op = statement(caller, OpKind::Exec, sql, args)?;
    write(caller, vec![op]).await
}

/// A read sees what this invocation has written, at every level.
async fn read(
    caller: &mut Caller<'_, Guest>,
    queries: Vec<SqlQuery>,
    mut options: ReadOptions,
) -> Result<Answer, SqlError> {
    let guest = caller.data();
    let (services, function) = (guest.services.clone(), guest.function.clone());
    let request_id = guest.request_id.clone();
    let deadline = guest.deadline.at;
    options.at_least = guest.database.written;
    let who = SqlCaller {
        namespace: &function.namespace,
        request_id: &request_id,
    };
    let answer = services.sql_query(who, queries, options, deadline);
    slices::wait(caller, answer).await
}

async fn write(caller: &mut Caller<'_, Guest>, ops: Vec<SqlOp>) -> Result<Written, SqlError> {
    let guest = caller.data();
    let (services, function) = (guest.services.clone(), guest.function.clone());
    let request_id = guest.request_id.clone();
    let deadline = guest.deadline.at;
    let who = SqlCaller {
        namespace: &function.namespace,
        request_id: &request_id,
    };
    let written = services.sql_execute(who, ops, deadline);
    let written = slices::wait(caller, written).await?;
    let database = &mut caller.data_mut().database;
    database.written = database.written.max(written.index);
    Ok(written)
}

/// One statement with its arguments, out of the guest's memory.
fn statement(
    caller: &mut Caller<'_, Guest>,
    kind: OpKind,
    sql: Text,
    args: Text,
) -> Result<SqlOp, SqlError> {
    if sql.len as usize > SQL_STATEMENT_MAX_BYTES {
        return Err(sql::sql_too_large("sql", sql.len as usize));
    }
    let text = json(caller, sql, "sql", |bytes| {
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|e| SqlError::invalid(format!("sql: not UTF-8 at byte {}", e.valid_up_to())))
    })?;
    let args = match args.len {
        0 => Vec::new(),
        _ => json(caller, args, "the arguments", parse_args)?,
    };
    Ok(SqlOp {
        kind,
        sql: text,
        args,
    })
}

/// Parses a string of the guest where it lies.
fn json<T>(
    caller: &mut Caller<'_, Guest>,
    at: Text,
    what: &str,
    parse: impl FnOnce(&[u8]) -> Result<T, SqlError>,
) -> Result<T, SqlError> {
    if !caller.data().in_call {
        return Err(SqlError::invalid(
            "the database cannot be used while the module initialises",
        ));
    }
    if at.len as usize > SQL_BODY_MAX_BYTES {
        let len = at.len;
        return Err(SqlError::new(
            SqlCode::PayloadTooLarge,
            format!("{what}: {len} bytes, the limit is {SQL_BODY_MAX_BYTES}"),
        ));
    }
    let (memory, _) = split(caller);
    match memory.read(at.ptr, at.len) {
        Ok(bytes) => parse(bytes),
        Err(_) => Err(SqlError::invalid(format!(
            "{what}: not within the function's memory"
        ))),
    }
}

async fn give_answer(
    caller: &mut Caller<'_, Guest>,
    mut result: Result<Answer, SqlError>,
    envelope: impl Fn(&Result<Answer, SqlError>) -> Vec<u8>,
) -> Answered {
    let packed = give_sized(caller, envelope(&result)).await?;
    let (None, Ok(answer)) = (packed, &mut result) else {
        return Ok(packed.unwrap_or_default());
    };
    answer.results.iter_mut().flatten().for_each(leave_out);
    give(caller, &envelope(&result)).await
}

async fn give_written(
    caller: &mut Caller<'_, Guest>,
    mut result: Result<Written, SqlError>,
    envelope: impl Fn(&Result<Written, SqlError>) -> Vec<u8>,
) -> Answered {
    let packed = give_sized(caller, envelope(&result)).await?;
    let (None, Ok(written)) = (packed, &mut result) else {
        return Ok(packed.unwrap_or_default());
    };
    let (SqlOutcome::Committed(done) | SqlOutcome::RolledBack { before: done, .. }) =
        &mut written.outcome;
    let rows = done
        .iter_mut()
        .filter_map(|OpDone { rows, .. }| rows.as_mut());
    rows.for_each(leave_out);
    give(caller, &envelope(&result)).await
}

/// `None` when the guest had no memory for a large answer: a small one may
/// still tell it what happened.
async fn give_sized(
    caller: &mut Caller<'_, Guest>,
    envelope: Vec<u8>,
) -> Result<Option<u64>, wasmtime::Error> {
    let packed = give(caller, &envelope).await?;
    Ok((packed != 0 || envelope.len() <= SMALL_BYTES).then_some(packed))
}

fn leave_out(rows: &mut Rows) {
    if rows.count > 0 {
        rows.json = b"[]".to_vec();
        rows.count = 0;
        rows.cut = true;
    }
}

fn tell_read(caller: &mut Caller<'_, Guest>, function: &str, result: &Result<Answer, SqlError>) {
    match result {
        Ok(answer) => {
            let single = answer.results.len() == 1;
            for (index, result) in answer.results.iter().enumerate() {
                if let Err(error) = result {
                    tell(caller, function, (!single).then_some(index), error);
                }
            }
        }
        Err(error) => tell(caller, function, None, error),
    }
}

fn tell_write(caller: &mut Caller<'_, Guest>, function: &str, result: &Result<Written, SqlError>) {
    match result {
        Ok(Written {
            outcome:
                SqlOutcome::RolledBack {
                    failed,
                    error,
                    before,
                },
            ..
        }) => {
            let index =
                (function == "db_transaction" || !before.is_empty()).then_some(*failed as usize);
            tell(caller, function, index, error);
        }
        Ok(_) => {}
        Err(error) => tell(caller, function, None, error),
    }
}

/// Tells the author; the text never holds a value.
fn tell(caller: &mut Caller<'_, Guest>, function: &str, op: Option<usize>, error: &SqlError) {
    let told = &mut caller.data_mut().database.told;
    *told = told.saturating_add(1);
    let told = *told;
    if told > TOLD_MAX {
        return;
    }
    let code = error.code.as_str();
    let error = told_to_guests(error);
    let text = match op {
        Some(index) => format!("{function}: ops[{index}]: {code}: {error}"),
        None => format!("{function}: {code}: {error}"),
    };
    warn(caller, &text);
    if told == TOLD_MAX {
        warn(caller, "further failures of the database are not shown");
    }
}

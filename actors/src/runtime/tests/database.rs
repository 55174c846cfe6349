//! The database as guests reach it, without a database: what is asked, what is
//! handed back, what is told.

use std::sync::atomic::{AtomicUsize, Ordering};

use orama_proto::NodeId;
use orama_proto::sql::{OpDone, OpKind, ReadLevel, Rows, SqlOutcome, SqlValue};
use parking_lot::Mutex;

use super::*;
use crate::runtime::GuestError;

/// Records what it is asked. SQL decides the answer: `fail`, `never`, `cut`, `large`, or any other.
#[derive(Default)]
struct Database {
    writes: Mutex<Vec<Vec<SqlOp>>>,
    reads: Mutex<Vec<(Vec<SqlQuery>, ReadOptions)>>,
    gone: AtomicUsize,
}

struct Gone<'a>(&'a AtomicUsize);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn rows(sql: &str) -> Result<Rows, SqlError> {
    if sql == "fail" {
        return Err(SqlError::invalid("no such table: t"));
    }
    let json = match sql {
        "large" => format!(r#"[{{"a":"{}"}}]"#, "x".repeat(200_000)),
        _ => r#"[{"a":1}]"#.to_owned(),
    };
    Ok(Rows {
        columns: vec!["a".into()],
        json: json.into_bytes(),
        count: 1,
        cut: sql == "cut",
    })
}

impl HostServices for Database {
    fn secret<'a>(
        &'a self,
        _: &'a Namespace,
        _: &'a SecretName,
    ) -> BoxFuture<'a, Result<Option<Zeroizing<Vec<u8>>>, String>> {
        Box::pin(async { Ok(None) })
    }

    fn sql_execute<'a>(
        &'a self,
        caller: SqlCaller<'a>,
        ops: Vec<SqlOp>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Written, SqlError>> {
        assert_eq!(caller.namespace.as_str(), "tenant");
        assert!(deadline > Instant::now());
        Box::pin(async move {
            tokio::task::yield_now().await;
            let index = {
                let mut writes = self.writes.lock();
                writes.push(ops.clone());
                100 + writes.len() as u64
            };
            if ops.iter().any(|op| op.sql == "lost") {
                return Err(SqlError::new(SqlCode::OutcomeUnknown, "not known"));
            }
            let done = |op: &SqlOp| OpDone {
                kind: op.kind,
                rows_affected: 3,
                last_insert_id: 7,
                rows: rows(&op.sql)
                    .ok()
                    .filter(|_| op.kind == OpKind::Query || op.sql == "large"),
            };
            let outcome = match ops.iter().position(|op| op.sql == "fail") {
                Some(failed) => SqlOutcome::RolledBack {
                    failed: failed as u32,
                    error: SqlError::new(
                        SqlCode::ConstraintViolation,
                        "UNIQUE constraint failed: t.a",
                    ),
                    before: ops[..failed].iter().map(done).collect(),
                },
                None => SqlOutcome::Committed(ops.iter().map(done).collect()),
            };
            Ok(Written { index, outcome })
        })
    }

    fn sql_query<'a>(
        &'a self,
        _: SqlCaller<'a>,
        queries: Vec<SqlQuery>,
        read: ReadOptions,
        _: Instant,
    ) -> BoxFuture<'a, Result<Answer, SqlError>> {
        Box::pin(async move {
            let _gone = Gone(&self.gone);
            self.reads.lock().push((queries.clone(), read));
            if queries.iter().any(|query| query.sql == "never") {
                std::future::pending::<()>().await;
            }
            if queries.iter().any(|query| query.sql == "stale") {
                return Err(SqlError::new(SqlCode::Stale, "9 s behind"));
            }
            Ok(Answer {
                results: queries.iter().map(|query| rows(&query.sql)).collect(),
                node: NodeId(1),
            })
        })
    }
}

/// A call to be made: its arguments as text, or as a place in memory.
enum Arg<'a> {
    Text(&'a str),
    At(i64, i64),
}

use Arg::{At, Text};

/// Makes the calls in turn and writes each answer on a line, `none` for 0; of
/// db_execute the last digit.
fn guest(malloc: &str, calls: &[(&str, &[Arg<'_>])]) -> String {
    let mut text = String::from(
        r#"(module
  (import "env" "db_query" (func $db_query (param i32 i32 i32 i32) (result i64)))
  (import "host" "db_execute" (func $db_execute (param i32 i32 i32 i32) (result i32)))
  (import "orama" "db_query_v2" (func $db_query_v2 (param i32 i32 i32 i32) (result i64)))
  (import "env" "db_execute_v2" (func $db_execute_v2 (param i32 i32 i32 i32) (result i64)))
  (import "env" "db_transaction" (func $db_transaction (param i32 i32) (result i64)))
  (import "env" "db_query_batch" (func $db_query_batch (param i32 i32) (result i64)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 256) "none\n") (data (i32.const 270) "\ff\fe")
  (func $line (param $p i64)
    (i32.store (i32.const 0) (i32.wrap_i64 (i64.shr_u (local.get $p) (i64.const 32))))
    (i32.store (i32.const 4) (i32.wrap_i64 (local.get $p)))
    (i32.store (i32.const 8) (i32.const 260)) (i32.store (i32.const 12) (i32.const 1))
    (if (i64.eqz (local.get $p)) (then
      (i32.store (i32.const 0) (i32.const 256)) (i32.store (i32.const 4) (i32.const 4))))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 16))))
"#,
    );
    text.push_str(malloc);
    let (mut at, mut data, mut body) = (1024, String::new(), String::new());
    for (name, args) in calls {
        let mut places = String::new();
        for arg in *args {
            let (ptr, len) = match arg {
                At(ptr, len) => (*ptr, *len),
                Text(text) => {
                    let bytes: String = text.bytes().map(|b| format!("\\{b:02x}")).collect();
                    data.push_str(&format!("(data (i32.const {at}) \"{bytes}\")\n"));
                    let place = (at, text.len() as i64);
                    at += place.1;
                    place
                }
            };
            places.push_str(&format!("(i32.const {ptr}) (i32.const {len}) "));
        }
        let call = format!("(call ${name} {places})");
        body.push_str(&match *name {
            "db_execute" => format!(
                "(i32.store8 (i32.const 32) (i32.add (i32.const 48) (i32.rem_u {call} (i32.const 10))))
                 (call $line (i64.const {}))\n",
                (32i64 << 32) | 1
            ),
            _ => format!("(call $line {call})\n"),
        });
    }
    text.push_str(&data);
    text.push_str(&format!("(func (export \"_start\") {body}))"));
    text
}

const MALLOC: &str = r#"(func (export "malloc") (param i32) (result i32) (i32.const 65536))"#;

async fn run(database: &Arc<Database>, wat: &str) -> Outcome {
    let node = Node::new();
    let module = node.prepare(wat).await;
    let mut call = node.call(b"");
    call.services = Arc::clone(database) as Arc<dyn HostServices>;
    node.runtime.run(&module, call).await
}

/// The lines that the calls answered, and what the log says.
async fn answers(
    database: &Arc<Database>,
    calls: &[(&str, &[Arg<'_>])],
) -> (Vec<String>, Vec<String>) {
    let outcome = run(database, &guest(MALLOC, calls)).await;
    let output = outcome.result.as_ref().unwrap();
    let output = std::str::from_utf8(output).unwrap();
    let told = lines(&outcome, LogLevel::Warn);
    (
        output.lines().map(str::to_owned).collect(),
        told.into_iter().map(str::to_owned).collect(),
    )
}

#[tokio::test]
async fn every_call_answers() {
    let database = Arc::default();
    let ops = r#"{"ops":[{"kind":"exec","sql":"a","args":[1]},{"kind":"query","sql":"b"}]}"#;
    let batch = r#"{"ops":[{"sql":"a","args":["x"]},{"sql":"fail"}],"consistency":"none","freshness":"2s"}"#;
    let (answers, told) = answers(
        &database,
        &[
            ("db_query", &[Text("select"), Text("[1,\"x\"]")]),
            ("db_execute", &[Text("insert"), At(0, 0)]),
            ("db_query_v2", &[Text("select"), At(-1, 0)]),
            ("db_execute_v2", &[Text("insert"), Text("null")]),
            ("db_transaction", &[Text(ops)]),
            ("db_query_batch", &[Text(batch)]),
        ],
    )
    .await;
    assert_eq!(
        answers,
        [
            r#"[{"a":1}]"#,
            "3",
            r#"{"rows":[{"a":1}]}"#,
            r#"{"rows_affected":3,"last_insert_id":7}"#,
            r#"{"results":[{"kind":"exec","rows_affected":3,"last_insert_id":7},{"kind":"query","rows":[{"a":1}]}],"committed":true}"#,
            r#"{"results":[{"kind":"query","rows":[{"a":1}]},{"kind":"query","rows":[],"error":"no such table: t","code":"INVALID_ARGUMENT"}]}"#,
        ]
    );
    assert_eq!(
        told,
        ["db_query_batch: ops[1]: INVALID_ARGUMENT: no such table: t"]
    );
    let writes = database.writes.lock();
    let kinds: Vec<_> = writes.iter().flatten().map(|op| op.kind).collect();
    assert_eq!(
        kinds,
        [OpKind::Exec, OpKind::Exec, OpKind::Exec, OpKind::Query]
    );
    let reads = database.reads.lock();
    assert_eq!(
        reads[0].0[0].args,
        [SqlValue::Integer(1), SqlValue::Text("x".into())]
    );
    // A function sees what it has written, at every level.
    let at_least: Vec<_> = reads
        .iter()
        .map(|(_, read)| (read.level, read.at_least))
        .collect();
    assert_eq!(
        at_least,
        [
            (ReadLevel::Linearizable, 0),
            (ReadLevel::Linearizable, 101),
            (ReadLevel::None, 103)
        ]
    );
}

#[tokio::test]
async fn failures_are_zero_or_an_envelope_and_always_told() {
    let database = Arc::default();
    let failing = r#"{"ops":[{"kind":"exec","sql":"a"},{"kind":"exec","sql":"fail"}]}"#;
    let (answers, told) = answers(
        &database,
        &[
            ("db_query", &[Text("fail"), At(0, 0)]),
            ("db_query", &[Text("cut"), At(0, 0)]),
            ("db_query", &[Text("a"), Text("[[1]]")]),
            ("db_execute", &[Text("fail"), At(0, 0)]),
            ("db_query_v2", &[Text("fail"), At(0, 0)]),
            ("db_query_v2", &[Text("cut"), At(0, 0)]),
            ("db_execute_v2", &[Text("lost"), At(0, 0)]),
            ("db_transaction", &[Text(failing)]),
            ("db_transaction", &[Text("{")]),
            ("db_query_batch", &[Text(r#"{"ops":[{"sql":"stale"}]}"#)]),
        ],
    )
    .await;
    let starts = [
        "none",
        "none",
        "none",
        "0",
        r#"{"rows":[],"error":"no such table: t","code":"INVALID_ARGUMENT"}"#,
        r#"{"rows":[{"a":1}],"error":"the rows are too large"#,
        r#"{"rows_affected":0,"error":"not known","code":"UNAVAILABLE","outcome_unknown":true}"#,
        r#"{"results":[{"kind":"exec","rows_affected":3,"last_insert_id":7}],"committed":false,"failed_index":1,"error":"UNIQUE"#,
        r#"{"results":[],"committed":false,"error":"the request: not valid JSON"#,
        r#"{"results":[],"stale_rejected":true,"stale_detail":"9 s behind","error""#,
    ];
    assert_eq!(answers.len(), starts.len());
    for (answer, start) in answers.iter().zip(starts) {
        assert!(answer.starts_with(start), "{answer}");
    }
    let expected = [
        "db_query: INVALID_ARGUMENT: no such table: t",
        "db_query: PAYLOAD_TOO_LARGE: ",
        "db_query: INVALID_ARGUMENT: args[0]: an array",
        "db_execute: CONSTRAINT_VIOLATION: UNIQUE",
        "db_query_v2: INVALID_ARGUMENT: ",
        "db_execute_v2: UNAVAILABLE: not known",
        "db_transaction: ops[1]: CONSTRAINT_VIOLATION: ",
        "db_transaction: INVALID_ARGUMENT: the request",
        "db_query_batch: UNAVAILABLE: 9 s behind",
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (line, start) in told.iter().zip(expected) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[tokio::test]
async fn bad_places_are_refused_before_anything_is_asked() {
    let database = Arc::default();
    for (sql, args, words) in [
        (
            At(131_070, 10),
            At(0, 0),
            "sql: not within the function's memory",
        ),
        (At(-1, 1), At(0, 0), "sql: not within the function's memory"),
        (
            At(0, 262_145),
            At(0, 0),
            "sql has 262145 bytes, the limit is 262144",
        ),
        (At(0, -1), At(0, 0), "sql has 4294967295 bytes"),
        (At(270, 2), At(0, 0), "sql: not UTF-8 at byte 0"),
        (
            Text("a"),
            At(131_072, 1),
            "the arguments: not within the function's memory",
        ),
        (
            Text("a"),
            At(0, 4_194_305),
            "the arguments: 4194305 bytes, the limit is 4194304",
        ),
        (Text("a"), At(270, 2), "the arguments: not UTF-8 at byte 0"),
    ] {
        let pair = [sql, args];
        let (answers, told) = answers(
            &database,
            &[
                ("db_query", &pair[..]),
                ("db_execute", &pair[..]),
                ("db_query_v2", &pair[..]),
                ("db_execute_v2", &pair[..]),
            ],
        )
        .await;
        assert_eq!(answers[..2], ["none", "0"]);
        assert!(
            answers[2].starts_with(&format!(r#"{{"rows":[],"error":"{words}"#)),
            "{answers:?}"
        );
        assert!(
            answers[3].starts_with(&format!(r#"{{"rows_affected":0,"error":"{words}"#)),
            "{answers:?}"
        );
        assert_eq!(told.len(), 4, "{told:?}");
    }
    for place in [At(131_070, 10), At(-1, -1), At(270, 2), At(0, 0)] {
        let place = [place];
        let (answers, _) = answers(
            &database,
            &[
                ("db_transaction", &place[..]),
                ("db_query_batch", &place[..]),
            ],
        )
        .await;
        assert!(
            answers[0].contains(r#""committed":false,"error":"the request: "#),
            "{answers:?}"
        );
        assert!(
            answers[1].starts_with(r#"{"results":[],"error":"the request: "#),
            "{answers:?}"
        );
    }
    assert!(database.writes.lock().is_empty() && database.reads.lock().is_empty());
}

#[tokio::test]
async fn an_answer_too_large_for_the_guest_is_replaced_by_one_that_says_so() {
    let database: Arc<Database> = Arc::default();
    let calls: &[(&str, &[Arg<'_>])] = &[
        ("db_query_v2", &[Text("large"), At(0, 0)]),
        ("db_execute_v2", &[Text("large"), At(0, 0)]),
        ("db_query", &[Text("large"), At(0, 0)]),
    ];
    let (answers, _) = answers(&database, calls).await;
    let code = r#""code":"PAYLOAD_TOO_LARGE"}"#;
    assert!(
        answers[0].starts_with(r#"{"rows":[],"error":"#) && answers[0].ends_with(code),
        "{answers:?}"
    );
    // What was written is told all the same.
    assert!(
        answers[1].starts_with(r#"{"rows_affected":3,"last_insert_id":7,"rows":[],"error":"#),
        "{answers:?}"
    );
    assert_eq!(answers[2], "none");
}

#[tokio::test]
async fn a_guest_that_is_stopped_takes_its_read_with_it() {
    let database: Arc<Database> = Arc::default();
    let calls: &[(&str, &[Arg<'_>])] = &[("db_query_v2", &[Text("never"), At(0, 0)])];
    let outcome = run(&database, &guest(MALLOC, calls)).await;
    assert!(
        matches!(outcome.result, Err(GuestError::Timeout { .. })),
        "{outcome:?}"
    );
    assert_eq!(database.gone.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn without_an_allocator_only_db_execute_may_be_imported() {
    let node = Node::new();
    let execute = r#"(module (import "env" "db_execute" (func $e (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start") (drop (call $e (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0)))))"#;
    let outcome = node.run(execute, b"").await;
    assert!(outcome.result.is_ok(), "{outcome:?}");
    assert_eq!(
        lines(&outcome, LogLevel::Warn),
        ["db_execute: UNAVAILABLE: no databases here"]
    );
    let wasm = Bytes::from(wat::parse_str(guest("", &[])).unwrap());
    let error = node.runtime.prepare(ContentId::of(&wasm), wasm).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("db_query returns bytes"), "{error}");
}

#[tokio::test]
async fn a_function_that_fails_in_a_loop_does_not_fill_its_log() {
    let database: Arc<Database> = Arc::default();
    let calls: Vec<(&str, &[Arg<'_>])> = (0..150)
        .map(|_| ("db_execute", &[At(0, 0), At(-1, 1)][..]))
        .collect();
    let (_, told) = answers(&database, &calls).await;
    assert_eq!(told.len(), 101);
    assert!(told[100].contains("not shown"), "{told:?}");
}

#[tokio::test]
async fn while_a_reactor_initialises_there_is_no_database() {
    let database: Arc<Database> = Arc::default();
    let outcome = run(
        &database,
        r#"(module (import "env" "db_execute" (func $e (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 0) "insert")
        (func $call (drop (call $e (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 0))))
        (func (export "_initialize") (call $call))
        (func (export "handle") (param i32 i32) (result i64) (call $call) (i64.const 0)))"#,
    )
    .await;
    assert!(outcome.result.is_ok(), "{outcome:?}");
    let told = lines(&outcome, LogLevel::Warn);
    assert!(
        told.len() == 1 && told[0].contains("initialises"),
        "{told:?}"
    );
    assert_eq!(database.writes.lock().len(), 1);
}

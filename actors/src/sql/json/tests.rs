//! Requests and envelopes, byte by byte.

use std::time::Duration;

use orama_cluster::{Answer, Written};
use orama_proto::NodeId;
use orama_proto::sql::{
    OpDone, OpKind, ReadLevel, ReadOptions, Rows, SqlCode, SqlError, SqlOutcome, SqlValue,
};

use super::*;

fn args(json: &str) -> Result<Vec<SqlValue>, SqlError> {
    parse_args(json.as_bytes())
}

#[track_caller]
fn refused<T>(result: Result<T, SqlError>, code: SqlCode, words: &[&str]) {
    let Err(error) = result else {
        panic!("it was taken, {words:?}");
    };
    assert_eq!(error.code, code, "{error}");
    for word in words {
        assert!(error.message.contains(word), "{word:?}: {error}");
    }
}

const INVALID: SqlCode = SqlCode::InvalidArgument;

#[test]
fn arguments_keep_their_type_and_all_their_bits() {
    use SqlValue::{Blob, Integer, Null, Real, Text};
    let taken = args(
        r#"[null, true, false, 0, -1, 9007199254740993, 9223372036854775807, -9223372036854775808,
            1.0, -0.5, 1e3, 9.3e18, "", "a\"\u00e9\ud83d\ude00\u0000", {"blob": "AAEC/w=="}, {"blob":"AA"}, {"blob":""}]"#,
    )
    .unwrap();
    let expected = [
        Null,
        Integer(1),
        Integer(0),
        Integer(0),
        Integer(-1),
        Integer(9_007_199_254_740_993),
        Integer(i64::MAX),
        Integer(i64::MIN),
        Real(1.0),
        Real(-0.5),
        Real(1000.0),
        Real(9.3e18),
        Text(String::new()),
        Text("a\"é😀\0".into()),
        Blob(vec![0, 1, 2, 255]),
        Blob(vec![0]),
        Blob(vec![]),
    ];
    assert!(taken == expected, "{taken:?}");
    for none in ["", "  \n", "null", "[]", " [ ] "] {
        assert_eq!(args(none).unwrap(), [], "{none:?}");
    }
}

#[test]
fn wrong_arguments_are_named_and_not_shown() {
    for (json, words) in [
        ("[1,[2]]", &["args[1]", "array"][..]),
        (r#"[{"a":1}]"#, &["args[0]", "blob"]),
        (r#"[{"blob":"AA","x":1}]"#, &["args[0]"]),
        (r#"[{"blob":1}]"#, &["args[0].blob", "a number"]),
        (r#"[{"blob":"secret!"}]"#, &["args[0].blob", "base64"]),
        (
            "[0, 9223372036854775808]",
            &[
                "args[1]",
                "out of range",
                "-9223372036854775808",
                "9223372036854775807",
            ],
        ),
        ("[-9223372036854775809]", &["args[0]", "out of range"]),
        ("[18446744073709551616]", &["args[0]", "out of range"]),
        ("[1e999]", &["args[0]", "range"]),
        ("[NaN]", &["not valid JSON"]),
        ("[Infinity]", &["not valid JSON"]),
        ("[01]", &["not valid JSON"]),
        ("[1] 2", &["not valid JSON", "trailing"]),
        ("[1,]", &["not valid JSON"]),
        ("[1", &["not valid JSON"]),
        ("secret", &["not valid JSON"]),
        (r#"{"secret":1}"#, &["args", "an object", "array"]),
        (r#""secret""#, &["args", "a string"]),
        ("1", &["args", "a number"]),
        (r#"["\ud800secret"]"#, &["args[0]", "escape"]),
    ] {
        let result = args(json);
        if let Err(error) = &result {
            assert!(!error.message.contains("secret"), "{error}");
        }
        refused(result, INVALID, words);
    }
    refused(parse_args(b"[\"\xff\"]"), INVALID, &["UTF-8 at byte 2"]);
    let many = format!("[{}0]", "0,".repeat(1_000));
    refused(args(&many), INVALID, &["1001", "1000"]);
    let deep = format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000));
    refused(args(&deep), INVALID, &["args[0]", "array"]);
}

#[test]
fn a_transactions_ops_are_read() {
    let request = TransactionRequest::parse(
        br#" {"future":[{}],"ops":[{"kind":"exec","sql":"INSERT","args":[1],"x":{}},
              {"sql":"SELECT","kind":"query"},{"kind":"query","sql":"-- none","args":null}]} "#,
    )
    .unwrap();
    let kinds: Vec<_> = request.ops.iter().map(|op| op.kind).collect();
    assert_eq!(kinds, [OpKind::Exec, OpKind::Query, OpKind::Query]);
    assert_eq!(request.ops[0].args, [SqlValue::Integer(1)]);
    assert_eq!(request.ops[1].sql, "SELECT");

    let parse = |json: &str| TransactionRequest::parse(json.as_bytes());
    for (json, words) in [
        ("", &["not valid JSON"][..]),
        ("[]", &["an array", "ops"]),
        ("{}", &["ops is missing"]),
        (r#"{"ops":null}"#, &["ops is missing"]),
        (r#"{"ops":[]}"#, &["ops is empty"]),
        (r#"{"ops":{}}"#, &["ops", "an object"]),
        (r#"{"ops":[],"ops":[]}"#, &["twice"]),
        (r#"{"ops":[[]]}"#, &["ops[0]", "an array"]),
        (r#"{"ops":[{"sql":"S"}]}"#, &["ops[0].kind"]),
        (
            r#"{"ops":[{"kind":"exec","sql":"S"},{"kind":"drop","sql":"S"}]}"#,
            &["ops[1].kind", "\"drop\"", "exec", "query"],
        ),
        (
            r#"{"ops":[{"kind":1,"sql":"S"}]}"#,
            &["ops[0].kind", "a number"],
        ),
        (r#"{"ops":[{"kind":"exec"}]}"#, &["ops[0].sql is missing"]),
        (
            r#"{"ops":[{"kind":"exec","sql":7}]}"#,
            &["ops[0].sql", "a number"],
        ),
        (
            r#"{"ops":[{"kind":"exec","sql":"S","sql":"T"}]}"#,
            &["ops[0]", "twice"],
        ),
        (
            r#"{"ops":[{"kind":"exec","sql":"S","args":[[1]]}]}"#,
            &["ops[0].args[0]"],
        ),
        (
            r#"{"ops":[{"kind":"exec","sql":"S","args":{"a":1}}]}"#,
            &["ops[0].args", "an object"],
        ),
    ] {
        refused(parse(json), INVALID, words);
    }
    let ops = |count: usize| {
        let op = r#"{"kind":"exec","sql":"S"}"#;
        format!(r#"{{"ops":[{}]}}"#, vec![op; count].join(","))
    };
    assert_eq!(parse(&ops(100)).unwrap().ops.len(), 100);
    refused(
        parse(&ops(101)),
        SqlCode::TooManyStatements,
        &["101", "100"],
    );
    refused(
        TransactionRequest::parse(b"{\"ops\":\"\xc3\"}"),
        INVALID,
        &["UTF-8"],
    );
}

#[test]
fn a_batch_says_how_fresh() {
    let read = |fields: &str| {
        BatchRequest::parse(format!(r#"{{"ops":[{{"sql":"S"}}]{fields}}}"#).as_bytes())
            .map(|request| request.read)
    };
    let level = |level| ReadOptions {
        level,
        ..ReadOptions::default()
    };
    for (fields, expected) in [
        ("", level(ReadLevel::Linearizable)),
        (r#","consistency":"""#, level(ReadLevel::Linearizable)),
        (r#","consistency":null"#, level(ReadLevel::Linearizable)),
        (r#","consistency":"strong""#, level(ReadLevel::Linearizable)),
        (
            r#","consistency":"linearizable""#,
            level(ReadLevel::Linearizable),
        ),
        (r#","consistency":"weak""#, level(ReadLevel::Weak)),
        (r#","consistency":"none""#, level(ReadLevel::None)),
        (
            r#","consistency":"none","freshness":"1m30s","freshness_strict":true"#,
            ReadOptions {
                level: ReadLevel::None,
                freshness: Some(Duration::from_secs(90)),
                strict: true,
                at_least: 0,
            },
        ),
        (
            r#","freshness":"","freshness_strict":false"#,
            level(ReadLevel::Linearizable),
        ),
        (r#","freshness":"0s""#, level(ReadLevel::Linearizable)),
    ] {
        assert_eq!(read(fields).unwrap(), expected, "{fields}");
    }
    for (fields, words) in [
        (
            r#","consistency":"eventual""#,
            &["consistency", "eventual", "weak"][..],
        ),
        (r#","consistency":1"#, &["consistency", "a number"]),
        (r#","freshness":"2 s""#, &["freshness", "500ms"]),
        (r#","freshness":"-2s""#, &["freshness"]),
        (r#","freshness":2"#, &["freshness", "a number"]),
        (
            r#","freshness_strict":"yes""#,
            &["freshness_strict", "a string"],
        ),
        (r#","freshness":"1s","freshness":"1s""#, &["twice"]),
    ] {
        refused(read(fields), INVALID, words);
    }
}

fn rows(json: &str, count: u64) -> Rows {
    Rows {
        columns: vec!["a".into()],
        json: json.as_bytes().to_vec(),
        count,
        cut: false,
    }
}

fn answer(results: Vec<Result<Rows, SqlError>>) -> Result<Answer, SqlError> {
    Ok(Answer {
        results,
        node: NodeId(1),
    })
}

fn written(outcome: SqlOutcome) -> Result<Written, SqlError> {
    Ok(Written { index: 7, outcome })
}

fn done(kind: OpKind, affected: u64, id: i64, rows: Option<Rows>) -> OpDone {
    OpDone {
        kind,
        rows_affected: affected,
        last_insert_id: id,
        rows,
    }
}

#[track_caller]
fn is(bytes: Vec<u8>, expected: &str) {
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

fn error(code: SqlCode, message: &str) -> SqlError {
    SqlError::new(code, message)
}

#[test]
fn envelopes_of_reads() {
    is(
        query_envelope(&answer(vec![Ok(rows(r#"[{"a":1}]"#, 1))])),
        r#"{"rows":[{"a":1}]}"#,
    );
    is(
        query_envelope(&answer(vec![Ok(Rows::default())])),
        r#"{"rows":[]}"#,
    );
    let wrong = error(INVALID, "no such table: \"t\"\n");
    let failed = r#"{"rows":[],"error":"no such table: \"t\"\n","code":"INVALID_ARGUMENT"}"#;
    is(query_envelope(&answer(vec![Err(wrong.clone())])), failed);
    is(query_envelope(&Err(wrong.clone())), failed);
    let cut = Rows {
        cut: true,
        ..rows(r#"[{"a":1}]"#, 10_000)
    };
    is(
        query_envelope(&answer(vec![Ok(cut.clone())])),
        r#"{"rows":[{"a":1}],"error":"there are more than 10000 rows; the rest is not shown","code":"PAYLOAD_TOO_LARGE"}"#,
    );
    is(
        batch_envelope(&answer(vec![
            Ok(rows("[]", 0)),
            Err(wrong),
            Ok(Rows { count: 3, ..cut }),
        ])),
        concat!(
            r#"{"results":[{"kind":"query","rows":[]},"#,
            r#"{"kind":"query","rows":[],"error":"no such table: \"t\"\n","code":"INVALID_ARGUMENT"},"#,
            r#"{"kind":"query","rows":[{"a":1}],"error":"the rows are too large; only the first 3 are shown","code":"PAYLOAD_TOO_LARGE"}]}"#
        ),
    );
    is(
        batch_envelope(&Err(error(SqlCode::Stale, "2 s behind"))),
        r#"{"results":[],"stale_rejected":true,"stale_detail":"2 s behind","error":"2 s behind","code":"UNAVAILABLE"}"#,
    );
    is(
        batch_envelope(&Err(error(SqlCode::TooManyStatements, "101 ops"))),
        r#"{"results":[],"error":"101 ops","code":"TOO_MANY_STATEMENTS"}"#,
    );
}

#[test]
fn envelopes_of_writes() {
    let committed = |done| written(SqlOutcome::Committed(done));
    let inserted = done(OpKind::Exec, 1, 7, None);
    is(
        execute_envelope(&committed(vec![inserted.clone()])),
        r#"{"rows_affected":1,"last_insert_id":7}"#,
    );
    is(
        execute_envelope(&committed(vec![done(OpKind::Exec, 0, 0, None)])),
        r#"{"rows_affected":0}"#,
    );
    let returning = done(OpKind::Exec, 1, -5, Some(rows(r#"[{"a":1}]"#, 1)));
    is(
        execute_envelope(&committed(vec![returning])),
        r#"{"rows_affected":1,"last_insert_id":-5,"rows":[{"a":1}]}"#,
    );
    let cut = Rows {
        cut: true,
        ..rows("[]", 0)
    };
    let too_many = done(OpKind::Exec, 9, 0, Some(cut));
    is(
        execute_envelope(&committed(vec![too_many])),
        r#"{"rows_affected":9,"rows":[],"rows_cut":true}"#,
    );
    let unique = error(
        SqlCode::ConstraintViolation,
        "UNIQUE constraint failed: t.a",
    );
    let rolled_back = |failed, before| {
        written(SqlOutcome::RolledBack {
            failed,
            error: unique.clone(),
            before,
        })
    };
    is(
        execute_envelope(&rolled_back(0, vec![])),
        r#"{"rows_affected":0,"error":"UNIQUE constraint failed: t.a","code":"CONSTRAINT_VIOLATION"}"#,
    );
    let lost = error(SqlCode::OutcomeUnknown, "not known");
    is(
        execute_envelope(&Err(lost.clone())),
        r#"{"rows_affected":0,"error":"not known","code":"UNAVAILABLE","outcome_unknown":true}"#,
    );
    let read = done(OpKind::Query, 0, 7, Some(rows(r#"[{"a":1}]"#, 1)));
    is(
        transaction_envelope(&committed(vec![inserted.clone(), read])),
        r#"{"results":[{"kind":"exec","rows_affected":1,"last_insert_id":7},{"kind":"query","rows":[{"a":1}]}],"committed":true}"#,
    );
    is(
        transaction_envelope(&rolled_back(1, vec![inserted])),
        r#"{"results":[{"kind":"exec","rows_affected":1,"last_insert_id":7}],"committed":false,"failed_index":1,"error":"UNIQUE constraint failed: t.a","code":"CONSTRAINT_VIOLATION"}"#,
    );
    is(
        transaction_envelope(&Err(lost)),
        r#"{"results":[],"committed":false,"error":"not known","code":"UNAVAILABLE","outcome_unknown":true}"#,
    );
}

/// Whatever a guest hands over is taken or refused, and what is taken is JSON.
#[test]
fn broken_requests_are_refused() {
    let valid = br#"{"ops":[{"kind":"exec","sql":"a\u00e9\n","args":[1,-2.5e3,"x",null,{"blob":"AA=="}]},{"kind":"query","sql":"b"}],"consistency":"none","freshness":"1s"}"#;
    assert!(TransactionRequest::parse(valid).is_ok() && BatchRequest::parse(valid).is_ok());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut taken = 0;
    for _ in 0..20_000 {
        let mut bytes = valid.to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 if bytes.len() > 1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"\"[]{},:0\\"[random(9)]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let transaction = TransactionRequest::parse(&bytes).is_ok();
        if transaction || BatchRequest::parse(&bytes).is_ok() {
            taken += 1;
            let text = String::from_utf8_lossy(&bytes);
            // Not `Value`: it refuses numbers that nobody asks for here.
            assert!(
                serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok(),
                "{text}"
            );
        }
    }
    assert!(taken > 100, "{taken}");
}

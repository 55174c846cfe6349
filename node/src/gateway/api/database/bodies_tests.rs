//! What bodies become.

use super::*;
use crate::gateway::body::parse_json;

fn transaction(body: &str) -> Result<Vec<SqlOp>, ApiError> {
    parse_json::<TransactionBody<'_>>("transaction", body.as_bytes())?.ops()
}

#[test]
fn statements_take_the_place_of_ops() {
    let ops = transaction(r#"{"statements":["A","B"],"ops":[ ],"return_results":true}"#).unwrap();
    let texts: Vec<&str> = ops.iter().map(|op| op.sql.as_str()).collect();
    assert_eq!(texts, ["A", "B"]);
    assert!(ops.iter().all(|op| op.kind == OpKind::Exec));
    let ops = transaction(
        r#"{"ops":[{"kind":"exec","sql":"A","args":[9223372036854775807]},{"kind":"query","sql":"B"}],
            "stop_on_error":true,"partial_results":false}"#,
    )
    .unwrap();
    assert_eq!(ops[0].args, [SqlValue::Integer(i64::MAX)]);
    assert_eq!(ops[1].kind, OpKind::Query);
}

#[test]
fn wrong_transactions_are_named() {
    for (body, text) in [
        ("{}", "ops: is required"),
        (r#"{"ops":null}"#, "ops: is required"),
        (
            r#"{"ops":[{"kind":"exec","sql":"A"}],"statements":["B"]}"#,
            "statements: cannot",
        ),
        (r#"{"statements":["A",""]}"#, "statements[1]: is required"),
        (r#"{"ops":[{"kind":"drop","sql":"A"}]}"#, "ops[0].kind"),
        (r#"{"ops":[{"kind":"exec"}]}"#, "ops[0].sql"),
        (
            r#"{"ops":[{"kind":"exec","sql":"A","args":[[1]]}]}"#,
            "ops[0].args[0]",
        ),
        (r#"{"opps":[]}"#, "opps"),
        (
            r#"{"ops":[{"kind":"exec","sql":"A"},{"kind":"exec","sql":"A","params":[1]}]}"#,
            "ops[1]: unknown field `params`",
        ),
        (r#"{"ops":[["exec","A"]]}"#, "ops[0]: an object is expected"),
        (
            r#"{"ops":[{"kind":"exec","sql":" "}]}"#,
            "ops[0].sql is empty",
        ),
    ] {
        let error = transaction(body).unwrap_err();
        assert_eq!(error.code.status(), 400, "{body}");
        assert!(error.message.contains(text), "{body}: {error}");
    }
    let op = r#"{"kind":"exec","sql":"A"}"#;
    let many = format!(r#"{{"ops":[{}]}}"#, vec![op; 101].join(","));
    let error = transaction(&many).unwrap_err();
    assert!(error.message.contains("100"), "{error}");
    let many = format!(r#"{{"statements":[{}]}}"#, vec!["\"A\""; 101].join(","));
    let error = transaction(&many).unwrap_err();
    assert!(error.message.contains("statements: 101"), "{error}");
}

#[test]
fn statements_of_exec_are_exact() {
    let op = |body: &str| parse_json::<ExecBody<'_>>("exec", body.as_bytes())?.op();
    let one = op(r#"{"sql":"INSERT","args":[1, -9223372036854775808, 0.1, null, true, "t"]}"#);
    assert_eq!(
        one.unwrap().args,
        [
            SqlValue::Integer(1),
            SqlValue::Integer(i64::MIN),
            SqlValue::Real(0.1),
            SqlValue::Null,
            SqlValue::Integer(1),
            SqlValue::Text("t".into())
        ]
    );
    for (body, text) in [
        (r#"{"sql":" "}"#, "sql: is required"),
        (r#"{"args":[]}"#, "sql: is required"),
        (r#"{"sql":"A","args":7}"#, "args"),
        (r#"{"sql":"A","args":[NaN]}"#, "JSON"),
        (r#"{"sql":7}"#, "sql: invalid type"),
        (r#"{"sql":"A","arg":[]}"#, "arg"),
        ("7", "invalid type"),
    ] {
        let error = op(body).unwrap_err();
        assert_eq!(error.code.status(), 400, "{body}");
        assert!(error.message.contains(text), "{body}: {error}");
    }
    let not_utf8 = parse_json::<ExecBody<'_>>("exec", b"{\"sql\":\"\xff\"}").unwrap_err();
    assert_eq!(not_utf8.code.status(), 400);
}

#[test]
fn tables_are_made_by_create_and_dropped_by_name() {
    let create = |schema: &str| {
        CreateBody {
            schema: schema.into(),
        }
        .op()
    };
    assert!(create(" -- one\n /* two */ create table t(a)").is_ok());
    for wrong in ["", "DROP TABLE t", "-- CREATE", "/* CREATE", "CREATED x"] {
        let error = create(wrong).unwrap_err();
        assert!(error.message.starts_with("schema: "), "{wrong}: {error}");
    }
    let drop = |table: &str| {
        DropBody {
            table: table.into(),
        }
        .op()
        .map(|op| op.sql)
    };
    assert_eq!(
        drop("a\"; DROP TABLE b; --").unwrap(),
        "DROP TABLE IF EXISTS \"a\"\"; DROP TABLE b; --\""
    );
    assert!(drop(" ").is_err());
}

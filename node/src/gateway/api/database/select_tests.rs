//! What structured requests become.

use super::*;
use crate::gateway::api::database::bodies::{FindBody, SelectBody};
use crate::gateway::body::parse_json;

fn select(body: &str) -> Result<SqlQuery, ApiError> {
    parse_json::<SelectBody<'_>>("select", body.as_bytes())?
        .select()
        .build()
}

fn find(body: &str, one: bool) -> Result<SqlQuery, ApiError> {
    parse_json::<FindBody<'_>>("find", body.as_bytes())?
        .select(one)
        .build()
}

fn refusal(result: Result<SqlQuery, ApiError>) -> ApiError {
    match result {
        Ok(query) => panic!("{}", query.sql),
        Err(error) => error,
    }
}

/// The statement on one line.
fn flat(query: &SqlQuery) -> String {
    query.sql.replace('\n', " ")
}

#[test]
fn a_select_with_everything() {
    let query = select(
        r#"{"table":"users","alias":"u","select":["u.id","COUNT(*) AS n"],
            "joins":[{"kind":"LEFT","table":"posts p","on":"p.user = u.id"},
                     {"table":"tags","on":"1"}],
            "where":[{"expr":"u.age > ?","args":[9007199254740993]},
                     {"conj":"or","expr":"u.name = ? -- all","args":["x"]}],
            "group_by":["u.id"],"order_by":["n DESC","u.id"],"limit":5,"offset":2}"#,
    )
    .unwrap();
    assert_eq!(
        flat(&query),
        "SELECT u.id , COUNT(*) AS n  FROM \"users\" AS \"u\" \
         LEFT JOIN \"posts\" AS \"p\" ON (p.user = u.id ) JOIN \"tags\" ON (1 ) \
         WHERE (u.age > ? ) OR (u.name = ? -- all ) \
         GROUP BY u.id  ORDER BY n DESC , u.id  LIMIT 5 OFFSET 2"
    );
    // The comment ends with its line.
    assert!(query.sql.contains("-- all\n)"));
    assert_eq!(
        query.args,
        [
            SqlValue::Integer(9_007_199_254_740_993),
            SqlValue::Text("x".into())
        ]
    );
}

#[test]
fn criteria_are_quoted_qualified_and_bound() {
    let query = find(
        r#"{"table":"u\"x","criteria":{"name":"a","gone":null,"o.id":1}}"#,
        false,
    )
    .unwrap();
    assert_eq!(
        flat(&query),
        "SELECT * FROM \"u\"\"x\" WHERE \"u\"\"x\".\"name\" = ? \
         AND \"u\"\"x\".\"gone\" IS NULL AND \"o\".\"id\" = ?"
    );
    assert_eq!(
        query.args,
        [SqlValue::Text("a".into()), SqlValue::Integer(1)]
    );
    // What looks like SQL is a name.
    let hostile = find(
        r#"{"table":"t; DROP TABLE t","criteria":{"a = 1 OR 1":true}}"#,
        false,
    )
    .unwrap();
    assert_eq!(
        flat(&hostile),
        "SELECT * FROM \"t; DROP TABLE t\" WHERE \"t; DROP TABLE t\".\"a = 1 OR 1\" = ?"
    );
}

#[test]
fn options_stand_within_or_beside() {
    let within = find(
        r#"{"table":"t","options":{"order_by":["a"],"limit":3,"where":[{"expr":"b"},{"conj":"OR","expr":"c"}]},
            "criteria":{"d":1}}"#,
        false,
    )
    .unwrap();
    assert_eq!(
        flat(&within),
        "SELECT * FROM \"t\" WHERE (\"t\".\"d\" = ?) AND ((b ) OR (c )) ORDER BY a  LIMIT 3"
    );
    let beside = find(r#"{"table":"t","select":["a"],"offset":3}"#, false).unwrap();
    assert_eq!(flat(&beside), "SELECT a  FROM \"t\" LIMIT -1 OFFSET 3");
    let one = find(r#"{"table":"t","limit":20}"#, true).unwrap();
    assert_eq!(flat(&one), "SELECT * FROM \"t\" LIMIT 1");
    let none = find(r#"{"table":"t","limit":0}"#, true).unwrap();
    assert_eq!(flat(&none), "SELECT * FROM \"t\" LIMIT 0");
}

#[test]
fn what_is_wrong_is_named() {
    let wrong = |body: &str| refusal(select(body)).message;
    for (body, field) in [
        (r#"{"select":["a"]}"#, "table: is required"),
        (r#"{"table":"t","select":[" "]}"#, "select[0]: is required"),
        (r#"{"table":"t","joins":[{"table":"u"}]}"#, "joins[0].on"),
        (
            r#"{"table":"t","joins":[{"kind":"SIDE","table":"u","on":"1"}]}"#,
            "joins[0].kind",
        ),
        (
            r#"{"table":"t","joins":[{"kind":"LEFT BANANA","table":"u","on":"1"}]}"#,
            "joins[0].kind",
        ),
        (
            r#"{"table":"t","joins":[["LEFT","u","1"]]}"#,
            "joins[0]: an object is expected",
        ),
        (
            r#"{"table":"t","where":[{"expr":"a = ?","arg":[1]}]}"#,
            "where[0]: unknown field `arg`",
        ),
        (r#"{"table":"t","joins":[{"on":"1"}]}"#, "joins[0].table"),
        (r#"{"table":"t","where":[{"args":[1]}]}"#, "where[0].expr"),
        (
            r#"{"table":"t","where":[{"conj":"XOR","expr":"1"}]}"#,
            "where[0].conj",
        ),
        (r#"{"table":"t\u0000"}"#, "table: SQL cannot hold a NUL"),
        (r#"{"table":"t","limt":1}"#, "limt"),
        (r#"{"table":"t","limit":"1"}"#, "limit: invalid type"),
        (r#"{"table":"t","limit":1.5}"#, "limit: invalid type"),
    ] {
        let message = wrong(body);
        assert!(message.contains(field), "{body}: {message}");
    }
    let twice = refusal(find(r#"{"table":"t","criteria":{"a":1,"a":2}}"#, false));
    assert!(twice.message.contains("comes twice"), "{twice}");
    let nested = refusal(find(r#"{"table":"t","criteria":{"a":[1]}}"#, false));
    assert!(nested.message.contains("criteria.a"), "{nested}");
    let huge = refusal(find(
        r#"{"table":"t","criteria":{"a":9223372036854775808}}"#,
        false,
    ));
    assert!(huge.message.contains("criteria.a"), "{huge}");
    let columns: Vec<String> = (0..1001).map(|n| format!("\"c{n}\":1")).collect();
    let many = format!(r#"{{"table":"t","criteria":{{{}}}}}"#, columns.join(","));
    assert!(refusal(find(&many, false)).message.contains("1000"));
}

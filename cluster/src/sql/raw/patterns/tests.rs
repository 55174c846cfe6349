use proptest::prelude::*;
use rusqlite::Connection;
use rusqlite::types::Value as Any;

use super::*;

/// SQLite as it comes, and with our functions.
fn both() -> (Connection, Connection) {
    crate::sql::raw::register().unwrap();
    let theirs = Connection::open_in_memory().unwrap();
    let ours = Connection::open_in_memory().unwrap();
    for conn in [&theirs, &ours] {
        conn.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_LENGTH, 4096)
            .unwrap();
    }
    assert!(install(&ours));
    (theirs, ours)
}

const CALLS: [&str; 4] = [
    "?1 LIKE ?2",
    "?1 GLOB ?2",
    "?1 LIKE ?2 ESCAPE ?3",
    "?1 LIKE ?2 ESCAPE '\\'",
];

/// What a call gives: its type, its value as hexadecimal digits, or its error.
fn call(conn: &Connection, expression: &str, args: &[Given; 3]) -> Result<String, String> {
    let mut sql = expression.to_owned();
    for (n, given) in (1..).zip(args) {
        if let Given::Text(_) = given {
            // The only way to a text that is not UTF-8.
            sql = sql.replace(&format!("?{n}"), &format!("CAST(?{n} AS TEXT)"));
        }
    }
    let mut statement = conn
        .prepare(&format!(
            "SELECT typeof(v) || ':' || coalesce(hex(v), '') FROM (SELECT {sql} AS v)"
        ))
        .unwrap();
    for n in 1..=statement.parameter_count() {
        let value = match &args[n - 1] {
            Given::Text(bytes) | Given::Blob(bytes) => Any::Blob(bytes.clone()),
            Given::Number(number) => Any::Integer(*number),
            Given::Real(real) => Any::Real(*real),
            Given::Null => Any::Null,
        };
        statement.raw_bind_parameter(n, value).unwrap();
    }
    let mut rows = statement.raw_query();
    match rows.next() {
        Ok(Some(row)) => Ok(row.get::<_, String>(0).unwrap()),
        Ok(None) => unreachable!(),
        Err(error) => Err(error.to_string()),
    }
}

#[derive(Debug, Clone)]
enum Given {
    Text(Vec<u8>),
    Blob(Vec<u8>),
    Number(i64),
    Real(f64),
    Null,
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    // Few different ones, so that much matches; pieces of characters among them.
    let byte = prop::sample::select(vec![
        b'a', b'b', b'A', b'%', b'_', b'*', b'?', b'[', b']', b'^', b'-', b' ', b'\\', 0, 0x80,
        0xa4, 0xc3, 0xe2, 0x82, 0xac, 0xf0,
    ]);
    prop::collection::vec(byte, 0..12)
}

fn whole() -> impl Strategy<Value = Vec<u8>> {
    "[abA%_ ä€😀]{0,10}".prop_map(String::into_bytes)
}

fn given() -> impl Strategy<Value = Given> {
    prop_oneof![
        6 => whole().prop_map(Given::Text),
        4 => bytes().prop_map(Given::Text),
        2 => bytes().prop_map(Given::Blob),
        1 => (-20i64..2000).prop_map(Given::Number),
        1 => prop::sample::select(vec![0.5, 1e21, -1.0, 12.25]).prop_map(Given::Real),
        1 => Just(Given::Null),
    ]
}

#[test]
fn answers_are_those_of_sqlite() {
    let (theirs, ours) = both();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(3000)
    });
    runner
        .run(&[given(), given(), given()], |args| {
            for expression in CALLS {
                let expected = call(&theirs, expression, &args);
                let found = call(&ours, expression, &args);
                match &found {
                    // The exceptions that the head names.
                    Err(why) if why.contains("UTF-8") || why.contains("% or _") => continue,
                    _ => prop_assert_eq!(&expected, &found, "{} {:?}", expression, args),
                }
            }
            Ok(())
        })
        .unwrap();
    let args = ["Abc", "a%C", ""].map(|text| Given::Text(text.into()));
    assert_eq!(call(&ours, CALLS[0], &args).unwrap(), "integer:31");
}

/// What is hostile costs steps, what is not costs few.
#[test]
fn matching_is_counted() {
    crate::sql::raw::register().unwrap();
    let conn = Connection::open_in_memory().unwrap();
    assert!(install(&conn));
    let steps = |sql: &str| {
        meter::reset();
        conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        meter::take_steps()
    };
    assert!(steps("SELECT 'a short text' LIKE '%short%'") < 2);
    let text = "replace(hex(zeroblob(500000)), '0', 'a')";
    let hostile = format!("SELECT {text} LIKE '%{}b'", "a".repeat(250));
    assert!(steps(&hostile) > 200_000);
    let hostile = format!("SELECT {text} GLOB '*{}b'", "[a]".repeat(83));
    assert!(steps(&hostile) > 200_000);
}

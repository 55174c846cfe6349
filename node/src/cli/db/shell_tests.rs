//! Lines become statements, statements become calls.

use super::*;
use crate::cli::args::GlobalArgs;
use crate::cli::db::tests::Shared;
use crate::cli::files::Home;
use crate::cli::output::Output;
use crate::cli::scripted::Scripted;
use crate::cli::target::Variables;

fn pushed(lines: &[&str]) -> (Vec<String>, Option<String>) {
    let mut input = Input::default();
    let mut all = Vec::new();
    for line in lines {
        all.extend(input.push(line).unwrap());
    }
    (all, input.rest())
}

#[test]
fn statements_end_with_a_semicolon() {
    let (all, rest) = pushed(&["SELECT 1; SELECT", "2", "; -- three", "SELECT ';"]);
    assert_eq!(all, ["SELECT 1", "SELECT\n2"]);
    assert_eq!(rest.as_deref().map(str::trim_end), Some("SELECT ';"));
    let trigger = [
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN",
        "UPDATE a SET b = 1;",
        "END;",
    ];
    assert_eq!(
        pushed(&trigger).0,
        [trigger.join("\n").trim_end_matches(';')]
    );
    // Comments alone leave nothing, a semicolon within one ends nothing.
    let mut input = Input::default();
    assert!(input.push("-- only; words").unwrap().is_empty());
    assert!(input.is_blank());
    assert!(input.push("/* a;").unwrap().is_empty());
    assert_eq!(input.push("b */ SELECT 3;").unwrap(), ["SELECT 3"]);
    assert!(input.is_blank());
}

#[test]
fn a_statement_without_end_has_an_end() {
    let mut input = Input::default();
    let line = "x".repeat(100_000);
    let mut failed = false;
    for _ in 0..4 {
        failed |= input.push(&line).is_err();
    }
    assert!(failed && input.text.len() <= SQL_STATEMENT_MAX_BYTES);
}

struct Ran {
    result: Result<(), CliError>,
    out: String,
    err: String,
    asked: Vec<String>,
}

async fn ran(lines: &[&str], answers: Vec<(u16, &str)>) -> Ran {
    let answers = answers
        .into_iter()
        .map(|(status, body)| (status, body.to_owned()));
    let server = Scripted::start(answers.collect()).await;
    let dir = tempfile::tempdir().unwrap();
    let (out, err) = (Shared::default(), Shared::default());
    let mut app = App {
        home: Home::at(dir.path()),
        vars: Variables::default(),
        global: GlobalArgs::default(),
        out: Output::to(false, out.clone(), err.clone()),
    };
    let client = Client::new(reqwest::Url::parse(&server.url).unwrap(), None).unwrap();
    let mut shell = Shell::new(ReadArgs::default(), false);
    let lines = Lines::Given(lines.iter().map(|l| (*l).to_owned()).collect());
    let result = shell.run(&mut app, &client, lines).await;
    Ran {
        result,
        out: out.text(),
        err: err.text(),
        asked: server.requests(),
    }
}

#[tokio::test]
async fn reads_are_queries_and_the_rest_is_executed() {
    let done = r#"{"rows_affected":1,"last_insert_id":5,"execution_state":"ok"}"#;
    let refused = r#"{"ok":false,"error":{"code":"VALIDATION_FAILED","message":"the statement writes; use /v1/rqlite/exec","retryable":false}}"#;
    let ran = ran(
        &[
            "-- first",
            "select 1 AS a;",
            "INSERT INTO t VALUES(1); WITH x AS (SELECT 1)",
            "INSERT INTO t SELECT * FROM x;",
            ".level none",
            "VALUES(2)",
        ],
        vec![
            (200, r#"{"items":[{"a":1}],"count":1,"columns":["a"]}"#),
            (200, done),
            (400, refused),
            (200, done),
            (200, r#"{"items":[],"count":0,"columns":["column1"]}"#),
        ],
    )
    .await;
    ran.result.unwrap();
    assert_eq!(
        ran.out,
        "a\n-\n1\n(1 row)\n(1 row affected, last insert id 5)\n(1 row affected, last insert id 5)\ncolumn1\n-------\n(0 rows)\n"
    );
    let paths: Vec<&str> = ran
        .asked
        .iter()
        .map(|r| r.split_whitespace().nth(1).unwrap())
        .collect();
    assert_eq!(
        paths,
        ["query", "exec", "query", "exec", "query"].map(|p| format!("/v1/rqlite/{p}"))
    );
    assert!(ran.asked[4].ends_with(r#"{"sql":"VALUES(2)","level":"none"}"#));
}

#[tokio::test]
async fn a_failure_is_told_and_the_shell_goes_on() {
    let failed = r#"{"ok":false,"error":{"code":"VALIDATION_FAILED","message":"no such table: t","retryable":false}}"#;
    let ran = ran(
        &[
            "SELECT * FROM t;",
            ".nonsense",
            "SELECT 1;",
            ".quit",
            "SELECT 2;",
        ],
        vec![(400, failed), (200, r#"{"items":[{"1":1}]}"#)],
    )
    .await;
    assert_eq!(ran.result.unwrap_err().to_string(), "2 statements failed");
    assert_eq!(ran.asked.len(), 2);
    assert!(ran.err.contains("no such table: t"), "{}", ran.err);
    assert!(ran.err.contains(".nonsense"), "{}", ran.err);
    assert!(ran.out.contains("(1 row)"), "{}", ran.out);
}

#[tokio::test]
async fn commands_show_tables_and_schema() {
    let ran = ran(
        &[
            ".tables",
            ".schema \"T\"",
            ".help",
            ".level",
            ".timer on",
            "SELECT 1;",
        ],
        vec![
            (
                200,
                r#"{"items":[{"name":"t","type":"table"}],"columns":["name","type"]}"#,
            ),
            (200, r#"{"items":[{"sql":"CREATE TABLE t(a)"}]}"#),
            (200, r#"{"items":[],"columns":["1"]}"#),
        ],
    )
    .await;
    ran.result.unwrap();
    assert!(
        ran.out.contains("name  type\n----  -----\nt     table\n"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("CREATE TABLE t(a);\n"));
    assert!(ran.out.contains(".quit") && ran.out.contains("linearizable\n"));
    assert!(ran.out.ends_with(" ms)\n"), "{}", ran.out);
    assert!(
        ran.asked[1].ends_with(r#","args":["T"]}"#),
        "{}",
        ran.asked[1]
    );
}

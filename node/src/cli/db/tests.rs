//! `orama db query` and `exec`, whole commands.

use clap::Parser;

use crate::cli::args::Cli;
use crate::cli::error::Exit;
use crate::cli::harness::ran;

#[test]
fn command_lines_parse() {
    let parsed = |line: &str| Cli::try_parse_from(line.split(' '));
    for line in [
        "orama db query SELECT --level none --freshness 2s --freshness-strict",
        "orama db query SELECT 1 -2 x --json",
        "orama db query -",
        "orama db exec INSERT --args [1] -n shop",
        "orama db shell --level weak",
        "orama db import a.sql",
        "orama db export a.db --force",
    ] {
        assert!(parsed(line).is_ok(), "{line}");
    }
    for line in [
        "orama db",
        "orama db query",
        "orama db query SELECT --level fresh",
        "orama db query SELECT --freshness-strict",
        "orama db exec INSERT 1 --args [1]",
        "orama db exec INSERT --level none",
        "orama db import",
    ] {
        assert!(parsed(line).is_err(), "{line}");
    }
    // What is taken together keeps the words of the command itself.
    let help = Cli::try_parse_from(["orama", "db", "query", "--help"]).unwrap_err();
    let help = help.to_string();
    assert!(help.starts_with("Run one statement that reads"), "{help}");
}

#[tokio::test]
async fn a_query_is_a_table_or_the_body() {
    let body = r#"{"items":[{"id":1,"t":"x"},{"id":2,"t":null}],"count":2,"columns":["id","t"]}"#;
    let shown = ran(
        &[
            "db",
            "query",
            "SELECT ?, ?, ?",
            "7",
            "-1.5",
            "null",
            "--level",
            "none",
            "--freshness",
            "2s",
        ],
        vec![(200, body)],
    )
    .await;
    shown.result.unwrap();
    let lines: Vec<&str> = shown.out.lines().collect();
    assert_eq!(lines[..4], ["id  t", "--  ----", " 1  x", " 2  NULL"]);
    assert!(lines[4].starts_with("(2 rows, "), "{}", lines[4]);
    assert!(shown.asked[0].starts_with("POST /v1/rqlite/query "));
    assert!(
        shown.asked[0].ends_with(
            r#"{"sql":"SELECT ?, ?, ?","level":"none","freshness":"2s","args":[7,-1.5,null]}"#
        ),
        "{}",
        shown.asked[0]
    );
    let raw = ran(&["db", "query", "SELECT 1", "--json"], vec![(200, body)]).await;
    assert_eq!(raw.out, format!("{body}\n"));
}

#[tokio::test]
async fn an_effect_is_a_sentence_and_returned_rows() {
    let done = r#"{"rows_affected":2,"last_insert_id":9,"execution_state":"ok","rows":[{"id":8},{"id":9}]}"#;
    let shown = ran(
        &["db", "exec", "INSERT …", "--args", "[9223372036854775807]"],
        vec![(200, done)],
    )
    .await;
    shown.result.unwrap();
    assert!(
        shown
            .out
            .starts_with("id\n--\n 8\n 9\n(2 rows affected, last insert id 9, "),
        "{}",
        shown.out
    );
    assert!(shown.asked[0].ends_with(r#""args":[9223372036854775807]}"#));
}

#[tokio::test]
async fn errors_are_the_gateways() {
    let body = r#"{"ok":false,"error":{"code":"CONFLICT","message":"UNIQUE constraint failed: t.a","retryable":false}}"#;
    let failed = ran(&["db", "exec", "INSERT"], vec![(409, body)]).await;
    let error = failed.result.unwrap_err();
    assert_eq!(error.exit(), Some(Exit::Error));
    assert!(error.to_string().contains("t.a"));
    let body = r#"{"ok":false,"error":{"code":"VALIDATION_FAILED","message":"this changes the database: use /v1/rqlite/exec","retryable":false}}"#;
    let writes = ran(&["db", "query", "INSERT"], vec![(400, body)]).await;
    let hint = writes.result.unwrap_err().hint().unwrap();
    assert!(hint.contains("orama db exec"), "{hint}");
    let wrong = ran(&["db", "query", "S", "--args", "{}"], Vec::new()).await;
    assert_eq!(wrong.result.unwrap_err().exit(), Some(Exit::Usage));
}

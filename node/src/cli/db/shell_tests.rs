//! Lines become statements, statements become calls.

use super::*;
use crate::cli::args::GlobalArgs;
use crate::cli::error::Exit;
use crate::cli::files::Home;
use crate::cli::harness;
use crate::cli::scripted::Scripted;

struct Ran {
    result: Result<(), CliError>,
    out: String,
    err: String,
    asked: Vec<String>,
}

/// A script.
async fn ran(lines: &[&str], answers: Vec<(u16, &str)>) -> Ran {
    let lines = lines.iter().map(|l| Event::Line((*l).to_owned())).collect();
    with(false, lines, answers).await
}

async fn with(terminal: bool, events: Vec<Event>, answers: Vec<(u16, &str)>) -> Ran {
    let answers = answers
        .into_iter()
        .map(|(status, body)| (status, body.to_owned()));
    let server = Scripted::start(answers.collect()).await;
    let dir = tempfile::tempdir().unwrap();
    let (mut app, out, err) = harness::app(Home::at(dir.path()), GlobalArgs::default());
    let client = Client::new(reqwest::Url::parse(&server.url).unwrap(), None).unwrap();
    let mut shell = Shell::new(ReadArgs::default(), terminal);
    shell.timer = false;
    let result = shell
        .run(&mut app, &client, Input::Given(events.into()))
        .await;
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
            ".LEVEL NONE",
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

const NO_TABLE: &str = r#"{"ok":false,"error":{"code":"VALIDATION_FAILED","message":"no such table: t","retryable":false}}"#;

#[tokio::test]
async fn a_script_ends_with_its_first_failure() {
    let script = ["-- first", "SELECT 1; SELECT *", "FROM t;", "SELECT 2;"];
    let one = r#"{"items":[{"1":1}]}"#;
    let failed = ran(&script, vec![(200, one), (400, NO_TABLE)]).await;
    let error = failed.result.unwrap_err();
    assert_eq!(error.exit(), Some(Exit::Error));
    let error = error.to_string();
    assert!(error.contains("line 2: no such table: t"), "{error}");
    assert_eq!(failed.asked.len(), 2);
    assert!(failed.out.contains("(1 row)"), "{}", failed.out);
    for (script, place) in [
        (&["", ".nonsense", "SELECT 2;"][..], "line 2: "),
        (&[".level sometimes"], "line 1: "),
        (&["-- a", "", "SELECT '1;", "SELECT 2;"], "line 3: "),
        (&["/* a"], "line 1: "),
    ] {
        let failed = ran(script, Vec::new()).await;
        let error = failed.result.unwrap_err().to_string();
        assert!(error.starts_with(place), "{script:?}: {error}");
        assert!(failed.asked.is_empty());
    }
}

#[tokio::test]
async fn whoever_types_goes_on_after_a_failure() {
    let typed = [
        "SELECT * FROM t;",
        ".nonsense",
        "SELECT 1;",
        ".QUIT",
        "SELECT 2;",
    ];
    let typed = typed.map(|line| Event::Line(line.to_owned())).into();
    let answers = vec![(400, NO_TABLE), (200, r#"{"items":[{"1":1}]}"#)];
    let shown = with(true, typed, answers).await;
    shown.result.unwrap();
    assert_eq!(shown.asked.len(), 2);
    assert!(shown.err.contains("no such table: t"), "{}", shown.err);
    assert!(shown.err.contains(".nonsense"), "{}", shown.err);
    assert!(shown.out.contains("(1 row)"), "{}", shown.out);
}

#[tokio::test]
async fn an_interrupt_gives_up_what_is_open() {
    let line = |text: &str| Event::Line(text.to_owned());
    let events = vec![
        line("DELETE FROM t"),
        Event::Interrupt,
        line(".level"),
        line("UPDATE t SET a = 1;"),
        Event::Interrupt,
        line("DROP TABLE t"),
    ];
    let shown = with(true, events, Vec::new()).await;
    shown.result.unwrap();
    assert_eq!(shown.out, "linearizable\n");
    for told in ["whether it was made is not known", "open was not run"] {
        assert!(shown.err.contains(told), "{}", shown.err);
    }
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

//! Whole commands against a scripted gateway.

use std::io::Write;
use std::sync::Arc;

use clap::Parser;
use parking_lot::Mutex;

use crate::cli::args::Cli;
use crate::cli::credentials::{Credentials, Default as DefaultKey};
use crate::cli::error::{CliError, Exit};
use crate::cli::files::Home;
use crate::cli::output::Output;
use crate::cli::scripted::Scripted;
use crate::cli::target::Variables;
use crate::cli::{App, dispatch};

#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(super) struct Ran {
    pub(super) result: Result<(), CliError>,
    pub(super) out: String,
    pub(super) err: String,
    pub(super) asked: Vec<String>,
}

/// Runs a command line against a gateway with these answers.
pub(super) async fn ran(words: &[&str], answers: Vec<(u16, &str)>) -> Ran {
    let answers = answers
        .into_iter()
        .map(|(status, body)| (status, body.to_owned()));
    let server = Scripted::start(answers.collect()).await;
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    Credentials::update(&home, |all| {
        all.set_key(&server.url, "shop", "ak_test:shop", DefaultKey::Yes);
        Ok(())
    })
    .unwrap();
    let line = ["orama", "--api-url", &server.url]
        .into_iter()
        .chain(words.iter().copied());
    let cli = Cli::try_parse_from(line).unwrap();
    let (out, err) = (Shared::default(), Shared::default());
    let mut app = App {
        home,
        vars: Variables::default(),
        out: Output::to(cli.global.json, out.clone(), err.clone()),
        global: cli.global,
    };
    let result = dispatch(&mut app, cli.command).await;
    Ran {
        result,
        out: out.text(),
        err: err.text(),
        asked: server.requests(),
    }
}

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
    let wrong = ran(&["db", "query", "S", "--args", "{}"], Vec::new()).await;
    assert_eq!(wrong.result.unwrap_err().exit(), Some(Exit::Usage));
}

#[tokio::test]
async fn an_export_is_there_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.db");
    let path = file.display().to_string();
    let done = ran(&["db", "export", &path], vec![(200, "the file")]).await;
    done.result.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "the file");
    assert!(done.out.contains("(8 bytes)"), "{}", done.out);
    // It is not replaced by accident, nor by a failure.
    let again = ran(&["db", "export", &path], Vec::new()).await;
    assert_eq!(again.result.unwrap_err().exit(), Some(Exit::Usage));
    let failed = ran(&["db", "export", &path, "--force"], vec![(503, "{}")]).await;
    assert_eq!(failed.result.unwrap_err().exit(), Some(Exit::Unavailable));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "the file");
    // What is no SQLite file cannot become SQL.
    let sql = dir.path().join("a.sql").display().to_string();
    let refused = ran(&["db", "export", &sql], vec![(200, "the file")]).await;
    assert!(refused.result.unwrap_err().to_string().contains("as SQL"));
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

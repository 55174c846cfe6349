//! How a file is cut into transactions, and what is said when one fails.

use orama_proto::limits::SQL_STATEMENT_MAX_BYTES;

use super::*;
use crate::cli::harness::ran;

#[test]
fn endings_say_what_a_file_holds() {
    for (file, kind) in [
        ("a.SQL", Kind::Sql),
        ("a.b.db", Kind::Database),
        ("a.sqlite3", Kind::Database),
    ] {
        assert_eq!(Kind::of(Path::new(file)).unwrap(), kind);
    }
    for file in ["a", "a.csv", ".sql"] {
        assert!(Kind::of(Path::new(file)).is_err(), "{file}");
    }
}

#[tokio::test]
async fn a_file_is_sent_in_transactions_and_frames_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.sql");
    let mut text = String::from("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n");
    for n in 0..150 {
        text.push_str(&format!("INSERT INTO t VALUES({n});\n"));
    }
    text.push_str("COMMIT;\n");
    std::fs::write(&file, text).unwrap();
    let ok = r#"{"status":"ok"}"#;
    let path = file.display().to_string();
    let lost = r#"{"items":[{"n":2}],"columns":["n"]}"#;
    let answers = vec![(200, ok), (200, ok), (200, lost)];
    let ran = ran(&["db", "import", &path], answers).await;
    ran.result.unwrap();
    assert_eq!(ran.out, "Imported 150 statement(s) in 2 transaction(s).\n");
    assert!(ran.err.contains("3 statement(s)"), "{}", ran.err);
    assert!(ran.err.contains("2 row(s) refer to"), "{}", ran.err);
    assert_eq!(ran.asked.len(), 3);
    assert_eq!(ran.asked[0].matches("INSERT").count(), 99);
    for asked in &ran.asked[..2] {
        let body = asked.split("\r\n\r\n").nth(1).unwrap();
        assert!(
            body.starts_with(r#"{"ops":[{"kind":"exec","sql":"PRAGMA foreign_keys=OFF"},{"#),
            "{body}"
        );
    }
    assert!(!ran.asked.concat().contains("BEGIN"));
}

#[tokio::test]
async fn foreign_keys_are_enforced_where_the_file_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.sql");
    let path = file.display().to_string();
    let text = "CREATE TABLE t(a);\npragma foreign_keys = off;\nINSERT INTO t VALUES(1);\n\
         PRAGMA foreign_keys = ON;\nINSERT INTO t VALUES(2);\n";
    std::fs::write(&file, text).unwrap();
    let ok = r#"{"status":"ok"}"#;
    let none = r#"{"items":[{"n":0}]}"#;
    let answers = vec![(200, ok), (200, ok), (200, ok), (200, none)];
    let done = ran(&["db", "import", &path], answers).await;
    done.result.unwrap();
    let off: Vec<bool> = done.asked.iter().map(|r| r.contains("=OFF")).collect();
    assert_eq!(off, [false, true, false, false]);
    assert!(!done.err.contains("refer to"), "{}", done.err);
    // The statement that failed is the one after the one that is not of the file.
    let rollback = r#"{"status":"rollback","failed_index":1,"error":"no such table: t","code":"VALIDATION_FAILED"}"#;
    let failed = ran(&["db", "import", &path], vec![(200, ok), (400, rollback)]).await;
    let error = failed.result.unwrap_err().to_string();
    assert!(error.contains("line 3: no such table: t"), "{error}");
}

#[tokio::test]
async fn long_values_are_sent_as_arguments() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.sql");
    let path = file.display().to_string();
    let long = "it''s ".repeat(SQL_STATEMENT_MAX_BYTES / 4);
    std::fs::write(&file, format!("INSERT INTO t VALUES(1,'{long}');")).unwrap();
    let done = ran(&["db", "import", &path], vec![(200, r#"{"status":"ok"}"#)]).await;
    done.result.unwrap();
    let asked = &done.asked[0];
    assert!(
        asked.contains(r#""sql":"INSERT INTO t VALUES(1,?)","args":["it's it's "#),
        "{}",
        &asked[..500]
    );
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes, why) in [
        ("a.db", &b""[..], "it is empty"),
        ("b.db", b"SELECT 1;", "it is not an SQLite database"),
        (
            "c.sql",
            b"SQLite format 3\0 and so on",
            "it is an SQLite database",
        ),
    ] {
        let file = dir.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        let path = file.display().to_string();
        let refused = ran(&["db", "import", &path], Vec::new()).await;
        let error = refused.result.unwrap_err().to_string();
        assert!(
            error.contains(why) && error.ends_with("nothing was imported"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_failure_names_the_line_and_what_is_in() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.sql");
    let path = file.display().to_string();
    std::fs::write(&file, "INSERT INTO t VALUES(1);\n".repeat(103)).unwrap();
    let rollback = r#"{"status":"rollback","failed_index":1,"error":"UNIQUE constraint failed: t.a","code":"CONSTRAINT_VIOLATION"}"#;
    let failed = ran(
        &["db", "import", &path],
        vec![(200, r#"{"status":"ok"}"#), (409, rollback)],
    )
    .await;
    let error = failed.result.unwrap_err().to_string();
    for part in [
        "line 102: UNIQUE constraint failed: t.a",
        "nothing from line 101 to line 103 was made",
        "the 100 statement(s) before, up to line 100, are in",
        "CONSTRAINT_VIOLATION",
    ] {
        assert!(error.contains(part), "{error}");
    }
    // Nobody knows after a lost answer.
    let lost = ran(&["db", "import", &path], vec![(503, "{}")]).await;
    let error = lost.result.unwrap_err().to_string();
    assert!(
        error.contains("line 1 to line 100 were made is not known: look, then go on with --from 1 or --from 101; nothing was imported before"),
        "{error}"
    );
    // What is too long is found before anything is sent.
    let long = format!(
        "SELECT 1;\n\nSELECT '{}';",
        "x".repeat(SQL_STATEMENT_MAX_BYTES)
    );
    std::fs::write(&file, long).unwrap();
    let refused = ran(&["db", "import", &path], Vec::new()).await;
    let error = refused.result.unwrap_err().to_string();
    assert!(
        error.contains("a.sql: line 3: ") && error.ends_with("nothing was imported"),
        "{error}"
    );
    std::fs::write(&file, b"SELECT '\xff'").unwrap();
    let refused = ran(&["db", "import", &path], Vec::new()).await;
    assert!(refused.result.unwrap_err().to_string().contains("byte 8"));
}

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
    let ran = ran(&["db", "import", &path], vec![(200, ok), (200, ok)]).await;
    ran.result.unwrap();
    assert_eq!(ran.out, "Imported 150 statement(s) in 2 transaction(s).\n");
    assert!(ran.err.contains("3 statement(s)"), "{}", ran.err);
    assert_eq!(ran.asked.len(), 2);
    assert_eq!(ran.asked[0].matches("INSERT").count(), 100);
    assert!(!ran.asked.concat().contains("BEGIN"));
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
        error.contains("is not known; nothing was imported before"),
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
        error.starts_with("line 3: ") && error.ends_with("nothing was imported"),
        "{error}"
    );
    std::fs::write(&file, b"SELECT '\xff'").unwrap();
    let refused = ran(&["db", "import", &path], Vec::new()).await;
    assert!(refused.result.unwrap_err().to_string().contains("byte 8"));
}

//! Whose fault an error is.

use std::io::{Seek, SeekFrom, Write};

use super::*;
use crate::sql::raw::{fail_writes, stop_failing};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const MANY: &str = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 3000)
     INSERT INTO t (a) SELECT hex(zeroblob(1000)) FROM c";

#[test]
fn a_disk_that_is_full_or_fails_is_not_the_statements_fault() {
    for (errno, full) in [(ENOSPC, true), (EIO, false)] {
        // The cache overflows while the statement runs, or the commit writes all of it.
        for sql in [MANY, "INSERT INTO t (a) VALUES (1)"] {
            let place = Place::new();
            let conn = place.writer();
            entry(&conn, 1, "CREATE TABLE t (id INTEGER PRIMARY KEY, a)").unwrap();
            fail_writes(place.dir.path().to_str().unwrap(), 1, errno);
            let outcome = entry(&conn, 2, sql);
            stop_failing();
            match outcome.unwrap_err() {
                Failure::Fault(EngineFault::Full) => assert!(full, "{sql}"),
                Failure::Fault(EngineFault::Io(_)) => assert!(!full, "{sql}"),
                other => panic!("{other:?}"),
            }
            drop(conn);
            // Nothing of it is in the file, and the entry can be applied again.
            let conn = place.writer();
            let rows = read(&place.reader(), "SELECT count(*) FROM t").unwrap();
            assert_eq!(rows, [[Value::Integer(0)]]);
            entry(&conn, 2, sql).unwrap();
        }
    }
}

#[test]
fn a_database_over_its_quota_is_the_statements_fault() {
    let place = Place::new();
    let conn = place.writer();
    let small = SqlLimits {
        pages: 20,
        ..LIMITS
    };
    entry(&conn, 1, "CREATE TABLE t (id INTEGER PRIMARY KEY, a)").unwrap();
    for conn in [&conn, &place.writer()] {
        let error = refused(entry_with(conn, 2, &small, &[(MANY, &[])]));
        assert_eq!(error.code, SqlCode::StorageQuotaExceeded);
        assert!(error.message.contains("81920"), "{error}");
        // Reading and deleting still work, and so does writing when there is more room again.
        entry_with(conn, 3, &small, &[("DELETE FROM t", &[])]).unwrap();
    }
    entry(&conn, 4, MANY).unwrap();
    // Over the quota already: nothing more, but the replica goes on.
    assert_eq!(
        code(entry_with(&conn, 5, &small, &[(MANY, &[])])),
        SqlCode::StorageQuotaExceeded
    );
}

#[test]
fn a_damaged_file_is_recognised() {
    let place = Place::new();
    {
        let conn = place.writer();
        entry(&conn, 1, "CREATE TABLE t (id INTEGER PRIMARY KEY, a)").unwrap();
        entry(&conn, 2, MANY).unwrap();
        conn.sql()
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .unwrap();
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .open(place.path())
        .unwrap();
    file.seek(SeekFrom::Start(4096 * 3)).unwrap();
    file.write_all(&vec![0xee; 4096 * 400]).unwrap();
    let conn = place.writer();
    let outcome = entry(&conn, 3, "SELECT sum(length(a)) FROM t");
    let fault = outcome.unwrap_err();
    assert!(
        matches!(fault, Failure::Fault(EngineFault::Damaged(_))),
        "{fault:?}"
    );
    drop(conn);
    std::fs::write(place.path(), vec![7; 8192]).unwrap();
    let fault = Connection::writer(&place.path()).err().unwrap();
    assert!(matches!(fault, EngineFault::Damaged(_)), "{fault:?}");
}

#[test]
fn constraints_are_named_without_values() {
    let place = Place::new();
    let conn = place.writer();
    entry(
        &conn,
        1,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE, b NOT NULL DEFAULT 0, c CHECK (c < 3))",
    )
    .unwrap();
    entry(&conn, 2, "CREATE TABLE s (a INTEGER) STRICT").unwrap();
    entry(&conn, 3, "INSERT INTO t (a) VALUES ('secret')").unwrap();
    for (sql, message) in [
        ("INSERT INTO t (a) VALUES ('secret')", "t.a"),
        ("INSERT INTO t (b) VALUES (NULL)", "t.b"),
        ("INSERT INTO t (c) VALUES (4)", "CHECK"),
        ("INSERT INTO s VALUES ('secret')", "s.a"),
        ("INSERT OR ROLLBACK INTO t (a) VALUES ('secret')", "t.a"),
    ] {
        let error = refused(entry(&conn, 4, sql));
        assert_eq!(error.code, SqlCode::ConstraintViolation, "{sql}");
        assert!(error.message.contains(message), "{error}");
        assert!(!error.message.contains("secret"), "{error}");
    }
    let error = refused(entry_with(
        &conn,
        5,
        &LIMITS,
        &[(
            "SELECT json_extract('{}', ?1)",
            &["secret".to_owned().into()],
        )],
    ));
    assert!(!error.message.contains("secret"), "{error}");
}

#[test]
fn foreign_keys_are_checked_at_the_end_of_the_entry() {
    let place = Place::new();
    let conn = place.writer();
    entry(&conn, 1, "CREATE TABLE p (id INTEGER PRIMARY KEY)").unwrap();
    let child = "CREATE TABLE c (p REFERENCES p (id) DEFERRABLE INITIALLY DEFERRED)";
    entry(&conn, 2, child).unwrap();
    let orphan: (&str, &[Value]) = ("INSERT INTO c VALUES (1)", &[]);
    let parent: (&str, &[Value]) = ("INSERT INTO p VALUES (1)", &[]);
    assert_eq!(
        code(entry_with(&conn, 3, &LIMITS, &[orphan])),
        SqlCode::ConstraintViolation
    );
    entry_with(&conn, 4, &LIMITS, &[orphan, parent]).unwrap();
}

/// What the authorizer is not told.
#[test]
fn nothing_of_ours_is_reached_through_names_in_the_schema() {
    let place = Place::new();
    let conn = place.writer();
    entry(&conn, 1, "CREATE TABLE t (a)").unwrap();
    for sql in [
        "CREATE TABLE x (a REFERENCES _orama_state (applied) ON UPDATE CASCADE)",
        "CREATE TABLE x (a, FOREIGN KEY (a) REFERENCES \"_ORAMA_STATE\" (applied))",
        "ALTER TABLE t ADD COLUMN b REFERENCES _orama_state (id)",
        "ALTER TABLE t RENAME TO _orama_t",
    ] {
        let error = refused(entry(&conn, 2, sql));
        assert!(error.message.contains("reserved"), "{sql}: {error}");
    }
    // A trigger may name it, and fails when it fires.
    let sql = "CREATE TRIGGER tr AFTER INSERT ON t BEGIN UPDATE _orama_state SET applied = 0; END";
    entry(&conn, 3, sql).unwrap();
    let error = refused(entry(&conn, 4, "INSERT INTO t VALUES (1)"));
    assert!(error.message.contains("reserved"), "{error}");
}

#[test]
fn the_largest_row_number_is_refused() {
    let place = Place::new();
    let conn = place.writer();
    entry(&conn, 1, "CREATE TABLE t (id INTEGER PRIMARY KEY, a)").unwrap();
    entry(
        &conn,
        1,
        "CREATE TABLE c (id INTEGER PRIMARY KEY CHECK (id > 9223372036854775806), a)",
    )
    .unwrap();
    entry(
        &conn,
        1,
        "CREATE TABLE w (id INTEGER PRIMARY KEY, a) WITHOUT ROWID",
    )
    .unwrap();
    entry(&conn, 2, "INSERT INTO t (id) VALUES (9223372036854775806)").unwrap();
    for sql in [
        "INSERT INTO t (a) VALUES (1)",
        "INSERT INTO t (a) VALUES (1), (2)",
        "UPDATE t SET id = id + 1",
        // The second row gets a number that SQLite draws, and fails for it on most replicas.
        "INSERT INTO c (id) VALUES (9223372036854775807), (NULL)",
    ] {
        let error = refused(entry(&conn, 3, sql));
        assert!(
            error.message.contains("9223372036854775807"),
            "{sql}: {error}"
        );
    }
    entry(&conn, 4, "INSERT INTO w VALUES (9223372036854775807, 1)").unwrap();
    entry(
        &conn,
        5,
        "CREATE TABLE s (id INTEGER PRIMARY KEY AUTOINCREMENT)",
    )
    .unwrap();
    entry(&conn, 6, "INSERT INTO s VALUES (1)").unwrap();
    entry(
        &conn,
        7,
        "UPDATE sqlite_sequence SET seq = 9223372036854775807",
    )
    .unwrap();
    let outcome = entry(&conn, 8, "INSERT INTO s DEFAULT VALUES");
    assert_eq!(code(outcome), SqlCode::StorageQuotaExceeded);
}

#[test]
fn exactly_one_statement() {
    let place = Place::new();
    let conn = place.writer();
    for sql in [
        "SELECT 1",
        "SELECT 1;",
        " SELECT 1 ; -- x",
        ";; SELECT 1 ;;; /* x */ ;",
    ] {
        entry(&conn, 1, sql).unwrap();
    }
    for sql in [
        "SELECT 1; SELECT 2",
        "SELECT 1;;SELECT 2",
        "SELECT 1; /* */ ; -- \n DELETE FROM t",
    ] {
        let error = refused(entry(&conn, 1, sql));
        assert!(
            error.code == SqlCode::TooManyStatements || error.message.contains("no such table"),
            "{sql}: {error}"
        );
    }
    for sql in [
        "",
        " ",
        ";",
        "-- SELECT 1",
        "/* SELECT 1",
        "SELECT 1\0; x",
        "\u{feff}",
    ] {
        assert_eq!(
            code(entry(&conn, 1, sql)),
            SqlCode::InvalidArgument,
            "{sql:?}"
        );
    }
    let long = format!("SELECT '{}'", "x".repeat(SQL_STATEMENT_MAX_BYTES));
    assert_eq!(code(entry(&conn, 1, &long)), SqlCode::PayloadTooLarge);
    let error = refused(entry(&conn, 1, &format!("SELECT {}", "x".repeat(5000))));
    assert!(error.message.len() <= 1024, "{}", error.message.len());
}

/// A tenant's text never runs what was prepared for us.
#[test]
fn a_tenants_text_is_not_our_statement() {
    let place = Place::new();
    let conn = place.writer();
    conn.ours("UPDATE _orama_state SET hash = hash", &[])
        .unwrap();
    let outcome = entry(&conn, 1, "UPDATE _orama_state SET hash = hash");
    assert_eq!(code(outcome), SqlCode::InvalidArgument);
}

#[test]
fn a_reader_sees_commits_and_changes_nothing() {
    let place = Place::new();
    let writer = place.writer();
    let reader = place.reader();
    entry(&writer, 1, "CREATE TABLE t (a)").unwrap();
    entry(&writer, 2, "INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(
        read(&reader, "SELECT a FROM t").unwrap(),
        [[Value::Integer(1)]]
    );
    let error = refused(read(&reader, "INSERT INTO t VALUES (2) RETURNING a"));
    assert_eq!(error.hint, Some(SqlHint::Execute), "{error}");
    // The last one that closes leaves the log as it is; the next one finds everything.
    drop((writer, reader));
    assert_eq!(read(&place.reader(), "SELECT a FROM t").unwrap().len(), 1);
    let empty = Connection::empty().unwrap();
    assert_eq!(read(&empty, "SELECT 1 WHERE 0").unwrap().len(), 0);
    assert!(
        refused(read(&empty, "SELECT * FROM t"))
            .message
            .contains("no such table")
    );
}

//! Bad input: a clear error, nothing changed, the next entry works.

use orama_proto::limits::{SQL_ROWS_MAX, SQL_TRANSACTION_RESULT_MAX_BYTES};

use super::*;

/// Applies it in a batch between two good entries.
fn refused(ops: Vec<SqlOp>) -> (u32, SqlError) {
    let mut db = Db::new();
    db.done(vec![
        exec("CREATE TABLE t(a)"),
        exec("CREATE TABLE good(a)"),
    ]);
    let good = transaction(vec![exec("INSERT INTO good VALUES(1)")]);
    let bad = transaction(ops);
    let applied = db
        .writer
        .apply(&[item(2, &good), item(3, &bad), item(4, &good)])
        .unwrap();
    db.next = 5;
    let Some(SqlOutcome::RolledBack { failed, error, .. }) = applied[1].outcome.clone() else {
        panic!(
            "{:?} of {:?}",
            applied[1],
            bad.ops.iter().map(|op| &op.sql).collect::<Vec<_>>()
        );
    };
    assert_eq!(db.json("SELECT count(*) AS n FROM t"), r#"[{"n":0}]"#);
    assert_eq!(db.json("SELECT count(*) AS n FROM good"), r#"[{"n":2}]"#);
    (failed, error)
}

#[test]
fn what_is_not_allowed() {
    for sql in [
        "SELEKT 1",
        "",
        "-- nothing",
        "INSERT INTO nowhere VALUES(1)",
        "ATTACH 'other-tenant.db' AS o",
        "DETACH main",
        "VACUUM",
        "VACUUM INTO 'copy.db'",
        "PRAGMA writable_schema = ON",
        "PRAGMA foreign_keys = OFF",
        "SELECT load_extension('x')",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT entry",
        "RELEASE entry",
        "ROLLBACK TO entry",
        "UPDATE sqlite_schema SET sql = 'x'",
        "DELETE FROM _orama_state",
        "UPDATE _orama_state SET applied = 1 WHERE id = 1",
        "UPDATE _orama_state SET applied = ?1 WHERE id = 1",
        "SELECT * FROM _orama_state",
        "CREATE TRIGGER x AFTER UPDATE ON _orama_state BEGIN SELECT 1; END",
        "CREATE INDEX i ON _orama_state(applied)",
        "ALTER TABLE _orama_state ADD COLUMN x",
        "ALTER TABLE t RENAME TO _orama_state2",
        "DROP TABLE _orama_state",
        "CREATE TABLE x(a REFERENCES _orama_state)",
        "CREATE VIEW _orama_v AS SELECT 1",
        "CREATE VIRTUAL TABLE v USING fts5(a)",
        "CREATE TEMP TABLE x(a)",
    ] {
        let (failed, error) = refused(vec![exec("INSERT INTO t VALUES(1)"), exec(sql)]);
        assert_eq!(failed, 1, "{sql}");
        assert_eq!(error.code, SqlCode::InvalidArgument, "{sql}: {error}");
    }
}

/// SQLite asks about a trigger's body when a statement that fires it is prepared.
#[test]
fn a_trigger_reaches_no_farther_than_a_statement() {
    for body in [
        "UPDATE _orama_state SET applied = 0",
        "SELECT hash FROM _orama_state",
    ] {
        let mut db = Db::new();
        db.done(vec![exec("CREATE TABLE t(a)")]);
        let trigger = format!("CREATE TRIGGER x AFTER INSERT ON t BEGIN {body}; END");
        db.run(vec![exec(&trigger)]);
        let outcome = db.run(vec![exec("INSERT INTO t VALUES(1)")]);
        let created = dump(&db.path()).len() == 2;
        assert_eq!(created, matches!(outcome, SqlOutcome::RolledBack { .. }));
    }
}

#[test]
fn two_statements_in_one_op() {
    let (_, error) = refused(vec![exec(
        "INSERT INTO t VALUES(1); INSERT INTO t VALUES(2)",
    )]);
    assert_eq!(error.code, SqlCode::TooManyStatements);
}

#[test]
fn a_statement_that_is_too_long() {
    let sql = format!("INSERT INTO t VALUES('{}')", "x".repeat(1 << 20));
    let (_, error) = refused(vec![exec(&sql)]);
    assert_eq!(error.code, SqlCode::PayloadTooLarge, "{error}");
    assert!(error.message.len() < 300);
}

#[test]
fn what_never_ends() {
    let endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)";
    for ops in [
        vec![exec(&format!("INSERT INTO t {endless} SELECT x FROM c"))],
        vec![query(&format!("{endless} SELECT count(*) FROM c"))],
        vec![
            exec("CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO t SELECT a + 1 FROM t; END"),
            exec("INSERT INTO t VALUES(1)"),
            exec(&format!("INSERT INTO t {endless} SELECT x FROM c")),
        ],
    ] {
        let last = ops.len() as u32 - 1;
        let (failed, error) = refused(ops);
        assert_eq!(failed, last);
        assert_eq!(error.code, SqlCode::DeadlineExceeded, "{error}");
    }
}

#[test]
fn a_trigger_that_calls_itself_does_so_once() {
    // recursive_triggers is off and stays off.
    let mut db = Db::new();
    db.done(vec![
        exec("CREATE TABLE t(a)"),
        exec("CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO t VALUES(new.a + 1); END"),
        exec("INSERT INTO t VALUES(1)"),
    ]);
    assert_eq!(db.json("SELECT count(*) AS n FROM t"), r#"[{"n":2}]"#);
}

#[test]
fn answers_over_their_caps_undo_the_transaction() {
    let numbers = |n: usize| {
        format!("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {n})")
    };
    let (_, error) = refused(vec![
        exec("INSERT INTO t VALUES(1)"),
        query(&format!("{} SELECT x FROM c", numbers(1_000_000))),
    ]);
    assert_eq!(error.code, SqlCode::PayloadTooLarge);
    assert_eq!(
        error.message,
        format!("the statement returns more than {SQL_ROWS_MAX} rows")
    );
    let (_, error) = refused(vec![exec(&format!(
        "INSERT INTO t {} SELECT x FROM c RETURNING a",
        numbers(SQL_ROWS_MAX + 1)
    ))]);
    assert_eq!(error.code, SqlCode::PayloadTooLarge);

    let wide = "SELECT printf('%.*c', 600000, 'x') AS x";
    let mut db = Db::new();
    db.done(vec![query(wide); 6]);
    let (failed, error) = refused(vec![query(wide); 8]);
    assert_eq!((failed, error.code), (6, SqlCode::PayloadTooLarge));
    assert_eq!(
        error.message,
        format!(
            "the transaction returns more than {SQL_TRANSACTION_RESULT_MAX_BYTES} bytes of rows"
        )
    );
}

#[test]
fn a_database_over_its_quota() {
    let mut db = Db::new();
    let mut tx = transaction(vec![exec("CREATE TABLE t(a)")]);
    tx.limits.pages = 50;
    db.apply(&tx).unwrap();
    let insert = exec("INSERT INTO t VALUES(zeroblob(10000))");
    tx.ops = vec![insert.clone(); 5];
    let mut times = 0;
    let error = loop {
        match db.apply(&tx).unwrap() {
            SqlOutcome::Committed(_) => times += 1,
            SqlOutcome::RolledBack { error, .. } => break error,
        }
        assert!(times < 20);
    };
    assert_eq!(error.code, SqlCode::StorageQuotaExceeded, "{error}");
    assert_eq!(
        db.json("SELECT count(*) AS n FROM t"),
        format!("[{{\"n\":{}}}]", 5 * times)
    );
    // Deleting makes room again.
    tx.ops = vec![exec("DELETE FROM t"), insert];
    assert!(matches!(db.apply(&tx).unwrap(), SqlOutcome::Committed(_)));
}

#[test]
fn errors_do_not_say_arguments() {
    let mut db = Db::new();
    db.done(vec![exec(
        "CREATE TABLE t(a UNIQUE, b CHECK(b < 5), c INTEGER) STRICT"
            .replace(" STRICT", "")
            .as_str(),
    )]);
    let secret = || SqlValue::Text("s3cr3t".into());
    for (sql, args) in [
        ("INSERT INTO t(a) VALUES(?), (?)", vec![secret(), secret()]),
        ("INSERT INTO t(b) VALUES(?)", vec![secret()]),
        ("SELECT json(?)", vec![secret()]),
    ] {
        let (_, error) = db.fails(vec![op(OpKind::Exec, sql, args)]);
        assert!(!error.message.contains("s3cr3t"), "{error}");
    }
}

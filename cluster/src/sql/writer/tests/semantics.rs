//! What statements answer.

use super::*;

#[test]
fn counts_rows_and_ids() {
    let mut db = Db::new();
    let done = db.done(vec![
        exec("CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)"),
        exec("INSERT INTO t(a) VALUES('x'), ('y')"),
        exec("CREATE INDEX i ON t(a)"),
        exec("UPDATE t SET a = a || a WHERE id > 5"),
        exec("SELECT * FROM t"),
        exec("INSERT INTO t(id, a) VALUES(41, 'z') RETURNING id, a"),
        exec("DELETE FROM t"),
        query("SELECT count(*) AS n FROM t"),
    ]);
    let counts: Vec<_> = done
        .iter()
        .map(|d| (d.rows_affected, d.last_insert_id))
        .collect();
    assert_eq!(
        counts,
        [
            (0, 0),
            (2, 2),
            (0, 2),
            (0, 2),
            (0, 2),
            (1, 41),
            (3, 41),
            (0, 41)
        ]
    );
    let rows = |at: usize| String::from_utf8(done[at].rows.clone().unwrap().json).unwrap();
    assert!(done[1].rows.is_none());
    assert_eq!(rows(4), r#"[{"id":1,"a":"x"},{"id":2,"a":"y"}]"#);
    assert_eq!(rows(5), r#"[{"id":41,"a":"z"}]"#);
    assert_eq!(rows(7), r#"[{"n":0}]"#);
    // The next transaction inserted nothing.
    let done = db.done(vec![exec("UPDATE t SET a = 1")]);
    assert_eq!((done[0].rows_affected, done[0].last_insert_id), (0, 0));
    let done = db.done(vec![exec("CREATE TABLE u(a)"), exec("DROP TABLE u")]);
    assert!(done.iter().all(|d| d.rows_affected == 0));
}

#[test]
fn triggers_do_not_count() {
    let mut db = Db::new();
    db.done(vec![
        exec("CREATE TABLE a(x)"),
        exec("CREATE TABLE log(x)"),
        exec("CREATE TRIGGER t AFTER INSERT ON a BEGIN INSERT INTO log VALUES(1),(2),(3); END"),
        exec("CREATE VIEW v AS SELECT x FROM a"),
        exec("CREATE TRIGGER tv INSTEAD OF INSERT ON v BEGIN INSERT INTO a VALUES(new.x); END"),
    ]);
    let done = db.done(vec![
        exec("INSERT INTO a VALUES(1), (2)"),
        exec("INSERT INTO v VALUES(3)"),
    ]);
    assert_eq!(done[0].rows_affected, 2);
    assert_eq!(done[0].last_insert_id, 2);
    assert_eq!(done[1].rows_affected, 0);
    assert_eq!(db.json("SELECT count(*) AS n FROM log"), r#"[{"n":9}]"#);
}

#[test]
fn all_or_nothing_and_the_failed_op_is_named() {
    let mut db = Db::new();
    db.done(vec![exec("CREATE TABLE t(a UNIQUE)")]);
    let outcome = db.run(vec![
        exec("INSERT INTO t VALUES(1)"),
        query("SELECT a FROM t"),
        exec("CREATE TABLE u(a)"),
        exec("INSERT INTO t VALUES(1)"),
        exec("INSERT INTO t VALUES(2)"),
    ]);
    let SqlOutcome::RolledBack {
        failed,
        error,
        before,
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!(failed, 3);
    assert_eq!(error.code, SqlCode::ConstraintViolation);
    assert_eq!(before.len(), 3);
    assert_eq!(before[1].rows.as_ref().unwrap().json, br#"[{"a":1}]"#);
    assert_eq!(db.json("SELECT count(*) AS n FROM t"), r#"[{"n":0}]"#);
    let (failed, error) = db.fails(vec![exec("INSERT INTO u VALUES(1)")]);
    assert_eq!((failed, error.code), (0, SqlCode::InvalidArgument));
}

#[test]
fn a_query_must_not_write() {
    let mut db = Db::new();
    db.done(vec![exec("CREATE TABLE t(a)")]);
    for sql in [
        "INSERT INTO t VALUES(1) RETURNING a",
        "DELETE FROM t",
        "CREATE TABLE IF NOT EXISTS t(a)",
    ] {
        let (failed, error) = db.fails(vec![query("SELECT 1"), query(sql)]);
        assert_eq!((failed, error.code), (1, SqlCode::InvalidArgument));
        assert!(error.message.contains("use kind exec"), "{error}");
    }
}

#[test]
fn arguments_must_be_as_many_as_parameters() {
    let mut db = Db::new();
    let one = || SqlValue::Integer(1);
    for (sql, args, says) in [
        (
            "SELECT ?, ?, ?",
            vec![one(), one()],
            "the statement has 3 parameters, 2 arguments were given",
        ),
        (
            "SELECT :a",
            vec![],
            "the statement has 1 parameter, 0 arguments were given",
        ),
        (
            "SELECT 1",
            vec![SqlValue::Text("secret".into())],
            "the statement has no parameters, 1 argument was given",
        ),
        (
            "SELECT ?5",
            vec![one()],
            "the statement has 5 parameters, 1 argument was given",
        ),
    ] {
        let (_, error) = db.fails(vec![op(OpKind::Query, sql, args)]);
        assert_eq!(error, SqlError::invalid(says));
    }
}

#[test]
fn values_come_back_as_they_went_in() {
    let mut db = Db::new();
    db.done(vec![exec("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")]);
    let values = vec![
        (SqlValue::Null, "null"),
        (SqlValue::Integer(i64::MAX), "9223372036854775807"),
        (SqlValue::Integer(i64::MIN), "-9223372036854775808"),
        (SqlValue::Integer((1 << 53) + 1), "9007199254740993"),
        (SqlValue::Real(f64::NAN), "null"),
        (SqlValue::Real(f64::INFINITY), "\"Infinity\""),
        (SqlValue::Real(f64::NEG_INFINITY), "\"-Infinity\""),
        (SqlValue::Real(3.0), "3.0"),
        (SqlValue::Real(0.1 + 0.2), "0.30000000000000004"),
        (
            SqlValue::Text("a\0b\u{1f600}".into()),
            "\"a\\u0000b\u{1f600}\"",
        ),
        (SqlValue::Text(String::new()), "\"\""),
        (SqlValue::Blob(vec![0xff, 0]), "\"/wA=\""),
        (SqlValue::Blob(vec![]), "\"\""),
    ];
    for (value, json) in values {
        let sql = "INSERT INTO t(v) VALUES(?) RETURNING v, typeof(v) AS t";
        let done = db.done(vec![op(OpKind::Exec, sql, vec![value.clone()])]);
        let answer = String::from_utf8(done[0].rows.clone().unwrap().json).unwrap();
        let kind = match value {
            SqlValue::Integer(_) => "integer",
            SqlValue::Real(r) if !r.is_nan() => "real",
            SqlValue::Text(_) => "text",
            SqlValue::Blob(_) => "blob",
            _ => "null",
        };
        assert_eq!(answer, format!("[{{\"v\":{json},\"t\":\"{kind}\"}}]"));
    }
    assert_eq!(
        db.json("SELECT CAST(x'61ff62' AS TEXT) AS t"),
        "[{\"t\":\"a\u{fffd}b\"}]"
    );
}

#[test]
fn a_deferred_foreign_key_counts_for_its_own_entry() {
    let mut db = Db::new();
    db.done(vec![
        exec("CREATE TABLE p(id INTEGER PRIMARY KEY)"),
        exec("CREATE TABLE c(p REFERENCES p DEFERRABLE INITIALLY DEFERRED)"),
    ]);
    let entries = [
        transaction(vec![
            exec("INSERT INTO c VALUES(1)"),
            exec("INSERT INTO p VALUES(1)"),
        ]),
        transaction(vec![
            exec("INSERT INTO p VALUES(3)"),
            exec("INSERT INTO c VALUES(2)"),
        ]),
        transaction(vec![exec("INSERT INTO p VALUES(2)")]),
    ];
    let items: Vec<_> = (2..).zip(&entries).map(|(i, t)| item(i, t)).collect();
    let applied = db.writer.apply(&items).unwrap();
    db.next = 5;
    assert!(matches!(applied[0].outcome, Some(SqlOutcome::Committed(_))));
    let Some(SqlOutcome::RolledBack {
        failed: 1,
        error,
        before,
    }) = &applied[1].outcome
    else {
        panic!("{applied:?}");
    };
    assert_eq!(error.code, SqlCode::ConstraintViolation);
    assert_eq!(before.len(), 1);
    assert!(matches!(applied[2].outcome, Some(SqlOutcome::Committed(_))));
    assert_eq!(
        db.json("SELECT group_concat(id) AS i FROM p"),
        r#"[{"i":"1,2"}]"#
    );
}

#[test]
fn a_cached_statement_sees_new_columns() {
    let mut db = Db::new();
    db.done(vec![
        exec("CREATE TABLE t(a)"),
        exec("INSERT INTO t VALUES(1)"),
    ]);
    assert_eq!(db.json("SELECT * FROM t"), r#"[{"a":1}]"#);
    db.done(vec![exec("ALTER TABLE t ADD COLUMN b DEFAULT 2")]);
    assert_eq!(db.json("SELECT * FROM t"), r#"[{"a":1,"b":2}]"#);
    // And not those that were rolled back.
    db.fails(vec![exec("ALTER TABLE t ADD COLUMN c"), exec("nonsense")]);
    assert_eq!(db.json("SELECT * FROM t"), r#"[{"a":1,"b":2}]"#);
}

#[test]
fn entries_that_the_file_has_are_skipped() {
    let mut db = Db::new();
    let entries = [
        transaction(vec![exec("CREATE TABLE t(a)")]),
        transaction(vec![exec("INSERT INTO t VALUES(1)")]),
        transaction(vec![exec("INSERT INTO t VALUES(2)")]),
    ];
    let items: Vec<_> = (5..).zip(&entries).map(|(i, t)| item(i, t)).collect();
    assert!(db.writer.apply(&[]).unwrap().is_empty());
    let first = db.writer.apply(&items[..2]).unwrap();
    let path = db.path();
    drop(db.writer);
    db.writer = Writer::open(&path, true).unwrap();
    let again = db.writer.apply(&items).unwrap();
    assert_eq!(again[0].outcome, None);
    assert_eq!(again[1].outcome, None);
    assert_eq!(again[1].hash, first[1].hash);
    assert!(again[2].outcome.is_some());
    assert_eq!(db.writer.mark().applied, 7);
    assert_eq!(dump(&db.path()).len(), 3);
}

#[test]
fn a_dump_can_be_applied() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs.db");
    crate::sql::raw::register().unwrap();
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(
            "CREATE TABLE child(p REFERENCES parent(id));
             CREATE TABLE parent(id INTEGER PRIMARY KEY AUTOINCREMENT, a);
             INSERT INTO parent(a) VALUES('x'), (9e999), (x'00');
             DELETE FROM parent WHERE id = 3;
             INSERT INTO child VALUES(2);
             CREATE INDEX i ON child(p);
             CREATE TRIGGER t AFTER INSERT ON child BEGIN DELETE FROM parent WHERE id = 1; END;
             CREATE VIEW v AS SELECT * FROM child",
        )
        .unwrap();
    let mut ops = Vec::new();
    Dump::open(&path)
        .unwrap()
        .each::<DumpError>(|s| {
            ops.push(s.into_op());
            Ok(())
        })
        .unwrap();
    let mut db = Db::new();
    db.done(ops);
    assert_eq!(dump(&db.path()), dump(&path));
    assert_eq!(
        db.done(vec![exec("INSERT INTO parent DEFAULT VALUES")])[0].last_insert_id,
        4
    );
}

/// From the sixth equal name on SQLite draws a number, on each replica another one.
#[test]
fn names_that_sqlite_draws_are_refused() {
    let mut db = Db::new();
    let equal = "SELECT 1 a, 1 a, 1 a, 1 a, 1 a, 1 a, 1 a, 1 a";
    let (failed, error) = db.fails(vec![exec(&format!("CREATE TABLE t AS {equal}"))]);
    assert!(failed == 0 && error.message.contains("AS"), "{error}");
    let (_, error) = db.fails(vec![query(&format!("SELECT * FROM ({equal})"))]);
    assert!(error.message.contains("AS"), "{error}");
    // A few equal ones, and names that look alike, are nobody's business.
    db.done(vec![
        exec("CREATE TABLE t AS SELECT 1 a, 1 a, 1 a"),
        query("SELECT * FROM t"),
        query("SELECT 1 AS \"at 12:30 h\""),
    ]);
}

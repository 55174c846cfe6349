//! How much one statement may take.

use super::*;

/// Rows of half a megabyte that have to be sorted: `rows` of them.
fn sort(conn: &Connection, rows: usize) -> Result<Vec<Vec<Value>>, Failure> {
    let sql = format!(
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {rows})
         SELECT count(*) FROM (SELECT x, zeroblob(500000) AS b FROM c ORDER BY x % 7 LIMIT -1 OFFSET 0)
         WHERE length(b) > 1"
    );
    entry(conn, 1, &sql)
}

/// A sort that needs too much memory is ended, at the same row on a warm and on a fresh connection.
#[test]
fn scratch_memory_is_bounded_alike() {
    let place = Place::new();
    let warm = place.writer();
    let (mut enough, mut too_many) = (1, 300);
    sort(&warm, enough).unwrap();
    while too_many - enough > 1 {
        let middle = usize::midpoint(enough, too_many);
        match sort(&warm, middle) {
            Ok(_) => enough = middle,
            Err(Failure::Statement(error)) => {
                assert_eq!(error.code, SqlCode::PayloadTooLarge);
                too_many = middle;
            }
            Err(Failure::Fault(fault)) => panic!("{fault}"),
        }
    }
    assert!((20..200).contains(&enough), "{enough} rows of 500 kB");
    sort(&place.writer(), enough).unwrap();
    assert_eq!(
        code(sort(&place.writer(), too_many)),
        SqlCode::PayloadTooLarge
    );

    let reader = place.reader();
    let runaway = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)
         SELECT x, zeroblob(500000) AS b FROM c ORDER BY x % 7";
    assert_eq!(code(read(&reader, runaway)), SqlCode::PayloadTooLarge);
    read(&reader, "SELECT 1").unwrap();
}

/// Old pages are kept for the way back; how much of that was used before does not matter.
#[test]
fn what_can_be_undone_is_bounded() {
    let place = Place::new();
    let conn = place.writer();
    entry(&conn, 1, "CREATE TABLE t (id INTEGER PRIMARY KEY, a)").unwrap();
    entry(
        &conn,
        2,
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 1000)
         INSERT INTO t SELECT x, hex(zeroblob(1500)) FROM c",
    )
    .unwrap();
    let update = "UPDATE t SET a = 'x' || a";
    conn.begin_entry(&stamp(3), &LIMITS).unwrap();
    conn.ours("BEGIN", &[]).unwrap();
    conn.ours("SAVEPOINT entry", &[]).unwrap();
    *conn.scratch.borrow_mut() = raw::limit_scratch(SCRATCH_WRITE_MAX, 1 << 20);
    assert_eq!(code(step(&conn, update, &[])), SqlCode::PayloadTooLarge);
    conn.end_entry();
    if !conn.transaction_gone() {
        conn.ours("ROLLBACK", &[]).unwrap();
    }
    entry(&conn, 4, update).unwrap();
}

#[test]
fn values_arguments_and_depths_are_bounded() {
    let place = Place::new();
    let conn = place.writer();
    let big = SqlCode::PayloadTooLarge;
    for sql in [
        "SELECT zeroblob(2000000) || ''",
        "SELECT randomblob(2000000)",
        "SELECT replace(hex(zeroblob(500000)), '0', 'xxxx')",
    ] {
        assert_eq!(code(entry(&conn, 1, sql)), big, "{sql}");
    }
    entry(&conn, 1, "SELECT length(zeroblob(1048576))").unwrap();
    let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    let wide = format!("SELECT 1{}", ", 1".repeat(3000));
    let union = format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(500));
    let pattern = format!("SELECT 'a' LIKE '{}'", "%a".repeat(5000));
    for sql in [&deep, &wide, &union, &pattern, "SELECT ?1001"] {
        let error = refused(entry(&conn, 1, sql));
        assert_eq!(error.code, SqlCode::InvalidArgument, "{error}");
    }
}

/// The exact number of references that is allowed does not depend on what the connection compiled before.
#[test]
fn references_are_bounded_alike() {
    let place = Place::new();
    let conn = place.writer();
    entry(&conn, 1, "CREATE TABLE t (a, b)").unwrap();
    entry(&conn, 2, "CREATE VIEW v AS SELECT a + b AS s, a, b FROM t").unwrap();
    entry(&conn, 3, "CREATE TABLE log (n)").unwrap();
    let count = |columns: usize| {
        let columns = vec!["a"; columns].join(",");
        format!("SELECT count(*) FROM v WHERE s IN ({columns})")
    };
    let (mut enough, mut too_many) = (1, 60_000);
    while too_many - enough > 1 {
        let middle = usize::midpoint(enough, too_many);
        match entry(&conn, 4, &count(middle)) {
            Ok(_) => enough = middle,
            Err(Failure::Statement(error)) => {
                assert!(error.message.contains("50000 columns"), "{error}");
                too_many = middle;
            }
            Err(Failure::Fault(fault)) => panic!("{fault}"),
        }
    }
    let fresh = place.writer();
    entry(&fresh, 5, &count(enough)).unwrap();
    let fresh = place.writer();
    refused(entry(&fresh, 5, &count(too_many)));
    refused(read(&place.reader(), &count(too_many)));
    // Those of triggers count for the statement that sets them off.
    let body = format!("SELECT new.n IN ({})", vec!["new.n"; 30_000].join(","));
    for trigger in ["one", "two"] {
        let sql = format!("CREATE TRIGGER {trigger} AFTER INSERT ON log BEGIN {body}; END");
        entry(&conn, 6, &sql).unwrap();
    }
    let error = refused(entry(&conn, 7, "INSERT INTO log VALUES (1)"));
    assert!(error.message.contains("50000 columns"), "{error}");
    entry(&conn, 8, "DROP TRIGGER two").unwrap();
    entry(&conn, 9, "INSERT INTO log VALUES (1)").unwrap();
}

/// Each of these made SQLite compile for minutes, or take all memory, from a few hundred bytes.
#[test]
fn what_doubles_while_it_is_compiled_is_refused() {
    let place = Place::new();
    let conn = place.writer();
    let begin = Instant::now();
    let wide = vec!["1"; 900].join("+");
    let wide = vec![wide.as_str(); 100].join(",");
    entry(&conn, 1, &format!("CREATE VIEW v0 AS SELECT {wide}")).unwrap();
    let mut made = 0;
    let error = loop {
        let sql = format!(
            "CREATE VIEW v{} AS SELECT * FROM v{made} UNION ALL SELECT * FROM v{made}",
            made + 1
        );
        match entry(&conn, 2, &sql) {
            Ok(_) => made += 1,
            outcome => break refused(outcome),
        }
    };
    assert_eq!(error.code, SqlCode::PayloadTooLarge, "{error}");
    assert!((1..10).contains(&made), "{made} views");
    let union = vec![format!("SELECT * FROM v{made}"); 40].join(" UNION ALL ");
    for outcome in [
        entry(&conn, 3, &union),
        read(&place.reader(), &union),
        entry(
            &conn,
            4,
            &format!("CREATE TRIGGER x INSTEAD OF INSERT ON v0 BEGIN {union}; END"),
        ),
    ] {
        assert_eq!(code(outcome), SqlCode::PayloadTooLarge);
    }
    // A view that is named before it is there, and then becomes long.
    entry(
        &conn,
        5,
        "CREATE VIEW late AS SELECT * FROM later UNION ALL SELECT * FROM later",
    )
    .unwrap();
    entry(&conn, 6, "CREATE VIEW later AS SELECT 1").unwrap();
    entry(&conn, 7, "SELECT * FROM late").unwrap();
    let columns: Vec<String> = (0..40)
        .map(|n| match n {
            0 => "g0 AS (a + a)".to_owned(),
            n => format!("g{n} AS (g{} + g{})", n - 1, n - 1),
        })
        .collect();
    let table = format!("CREATE TABLE g (a, {})", columns.join(", "));
    assert_eq!(code(entry(&conn, 8, &table)), SqlCode::PayloadTooLarge);
    entry(&conn, 9, "CREATE TABLE g (a, g0 AS (a + a))").unwrap();
    let mut last = 0;
    let outcome = (1..40).find_map(|n| {
        let sql = format!("ALTER TABLE g ADD COLUMN g{n} AS (g{} + g{})", n - 1, n - 1);
        let outcome = entry(&conn, 11, &sql);
        last = n - 1;
        outcome.err()
    });
    assert!((8..20).contains(&last), "{last} columns");
    let error = refused(outcome.map_or(Ok(()), Err));
    assert_eq!(error.code, SqlCode::PayloadTooLarge, "{error}");
    entry(&conn, 12, "SELECT * FROM g").unwrap();
    // One is within the bound of a table, many are not within that of a program.
    let sum = format!("g{last} + g{last} + g{last}");
    let many = format!("SELECT {} FROM g", vec![sum; 300].join(","));
    for outcome in [entry(&conn, 12, &many), read(&place.reader(), &many)] {
        assert_eq!(code(outcome), SqlCode::PayloadTooLarge);
    }
    let check = conn
        .sql()
        .query_row("PRAGMA quick_check", [], |row| row.get::<_, String>(0));
    assert_eq!(check.unwrap(), "ok");
    entry(&conn, 12, "INSERT INTO g (a) VALUES (1)").unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(120),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn what_outgrows_sqlite_is_the_statements_failure() {
    let place = Place::new();
    let conn = place.writer();
    entry(&conn, 1, "CREATE TABLE t (a)").unwrap();
    let error = refused(entry(&conn, 2, "SELECT 'a' LIKE hex(zeroblob(129))"));
    assert!(error.message.contains("256 bytes"), "{error}");
    entry(&conn, 2, "SELECT 'a' LIKE hex(zeroblob(128))").unwrap();
    let deep = "SELECT json_pretty(replace(hex(zeroblob(490)), '0', '[') || replace(hex(zeroblob(400000)), '00', '1,') || '1' || replace(hex(zeroblob(490)), '0', ']'))";
    assert_eq!(code(entry(&conn, 3, deep)), SqlCode::PayloadTooLarge);
    entry(&conn, 4, "INSERT INTO t VALUES (1)").unwrap();
}

/// A step may read all of a value again: what a statement holds makes its steps dearer.
#[test]
fn steps_cost_more_beside_a_large_argument_or_literal() {
    let place = Place::new();
    let conn = place.writer();
    let compare = |rows: usize, value: &str| {
        format!(
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {rows})
             SELECT count(*) FROM c WHERE iif(x % 2, {value}, {value}) = {value}"
        )
    };
    let run = |conn: &Connection, sql: &str, args: &[orama_proto::sql::SqlValue]| {
        conn.begin_entry(&stamp(1), &LIMITS).unwrap();
        let outcome = conn.prepare(sql).and_then(|mut statement| {
            crate::sql::rows::bind(conn, &mut statement, args)?;
            let run = || statement.raw_query().next().map(drop);
            conn.run_tenant(run).map_err(|error| conn.failure(error))
        });
        conn.end_entry();
        outcome
    };
    let text = |bytes: usize| [orama_proto::sql::SqlValue::Text("a".repeat(bytes))];
    run(&conn, &compare(100_000, "?1"), &text(2000)).unwrap();
    run(&conn, &compare(1000, "?1"), &text(900_000)).unwrap();
    for conn in [&conn, &place.writer()] {
        let outcome = run(conn, &compare(100_000, "?1"), &text(900_000));
        assert_eq!(code(outcome), SqlCode::DeadlineExceeded);
        let literal = format!("'{}'", "a".repeat(80_000));
        let outcome = run(conn, &compare(400_000, &literal), &[]);
        assert_eq!(code(outcome), SqlCode::DeadlineExceeded);
        run(conn, &compare(100_000, "?1"), &text(2000)).unwrap();
    }
}

/// A function that is given so many megabytes.
fn wide(columns: usize) -> String {
    let values: Vec<String> = (0..columns)
        .map(|n| format!("hex(zeroblob({}))", 500_000 + n))
        .collect();
    format!("SELECT length(max({}))", values.join(", "))
}

/// What one statement holds in large values is bounded, at the same place on a warm and on a fresh
/// connection, and those that are not at fault go on.
#[test]
fn large_values_are_bounded_alike() {
    let place = Place::new();
    let warm = place.writer();
    entry(&warm, 1, "CREATE TABLE t (id INTEGER PRIMARY KEY, a)").unwrap();
    let (mut enough, mut too_many) = (30, 140);
    entry(&warm, 2, &wide(2)).unwrap();
    while too_many - enough > 1 {
        let middle = usize::midpoint(enough, too_many);
        match entry(&warm, 2, &wide(middle)) {
            Ok(_) => enough = middle,
            Err(Failure::Statement(error)) => {
                assert_eq!(error.code, SqlCode::PayloadTooLarge, "{error}");
                too_many = middle;
            }
            Err(Failure::Fault(fault)) => panic!("{fault}"),
        }
    }
    assert!((31..140).contains(&enough), "{enough} megabytes");
    entry(&place.writer(), 2, &wide(enough)).unwrap();
    let error = refused(entry(&place.writer(), 2, &wide(too_many)));
    assert!(error.message.contains("128 MiB"), "{error}");

    let reader = place.reader();
    let error = refused(read(&reader, &wide(199)));
    assert!(error.message.contains("64 MiB"), "{error}");
    read(&reader, "SELECT 1").unwrap();
    assert!(raw::reads() < 512 << 20, "given back");
}

/// Large values in ordinary numbers work, and cost steps.
#[test]
fn large_values_cost_steps() {
    let place = Place::new();
    let conn = place.writer();
    entry(&conn, 1, "CREATE TABLE t (id INTEGER PRIMARY KEY, a)").unwrap();
    entry(
        &conn,
        2,
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 20)
         INSERT INTO t SELECT x, randomblob(1000000) FROM c",
    )
    .unwrap();
    let spent = LIMITS.steps - conn.shared.steps_left();
    assert!((1_000_000 / 64..8_000_000).contains(&spent), "{spent}");
    entry(&conn, 3, "INSERT INTO t (a) SELECT a FROM t").unwrap();
    entry(&conn, 4, "UPDATE t SET a = a || 'x'").unwrap();
    let endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)
         SELECT count(hex(zeroblob(500000 + x % 2))) FROM c";
    assert_eq!(code(entry(&conn, 5, endless)), SqlCode::DeadlineExceeded);
    let rows = entry(&conn, 6, "SELECT count(*), max(octet_length(a)) FROM t").unwrap();
    assert_eq!(rows, [[Value::Integer(40), Value::Integer(1_000_001)]]);
}

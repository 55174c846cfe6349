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

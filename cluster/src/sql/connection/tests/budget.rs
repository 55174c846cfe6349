//! Steps and deadlines.

use super::*;
use crate::sql::connection::budget::TICK;

const COUNT: &str = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 3000)
     INSERT INTO t (a) SELECT x FROM c";

/// Ticks that `sql` takes on this connection.
fn ticks(conn: &Connection, number: u64, sql: &str) -> u64 {
    entry(conn, number, sql).unwrap();
    (LIMITS.steps - conn.shared.steps_left()) / TICK
}

fn with_ticks(ticks: u64) -> SqlLimits {
    SqlLimits {
        steps: ticks * TICK,
        ..LIMITS
    }
}

/// The budget ends a statement at the same step on a connection that has just opened the file,
/// and on one that has run it many times.
#[test]
fn the_budget_is_exact_and_the_same_on_a_fresh_and_a_warm_connection() {
    let place = Place::new();
    {
        let conn = place.writer();
        entry(&conn, 1, "CREATE TABLE t (id INTEGER PRIMARY KEY, a)").unwrap();
        entry(&conn, 2, "CREATE TABLE log (b)").unwrap();
        entry(
            &conn,
            3,
            "CREATE TRIGGER tr AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.a); END",
        )
        .unwrap();
    }
    let fresh = ticks(&place.writer(), 4, COUNT);
    assert!(fresh > 10, "{fresh} ticks measure little");

    let warm = place.writer();
    for number in 5..10 {
        assert_eq!(ticks(&warm, number, COUNT), fresh);
    }
    for conn in [&warm, &place.writer()] {
        let enough = entry_with(conn, 20, &with_ticks(fresh), &[(COUNT, &[])]);
        enough.unwrap();
        let short = entry_with(conn, 21, &with_ticks(fresh - 1), &[(COUNT, &[])]);
        let error = refused(short);
        assert_eq!(error.code, SqlCode::DeadlineExceeded);
        let steps = (fresh - 1) * TICK;
        assert!(error.message.contains(&format!("{steps} steps")), "{error}");
    }
}

/// Compiling costs nothing: a text that is long to compile, on a connection that has it and one that has not.
#[test]
fn compiling_is_outside_of_the_budget() {
    let place = Place::new();
    let conn = place.writer();
    entry(&conn, 1, "CREATE TABLE t (a)").unwrap();
    let rows = vec!["(1)"; 20_000].join(",");
    let sql = format!("INSERT INTO t VALUES {rows}");
    let first = ticks(&conn, 2, &sql);
    assert_eq!(ticks(&conn, 3, &sql), first);
    // The schema changes: what was compiled has to be compiled again.
    entry(&conn, 4, "CREATE TABLE u (a)").unwrap();
    assert_eq!(ticks(&conn, 5, &sql), first);
    assert_eq!(ticks(&place.writer(), 6, &sql), first);
}

#[test]
fn statements_share_the_budget_and_each_entry_has_its_own() {
    let place = Place::new();
    let conn = place.writer();
    entry(&conn, 1, "CREATE TABLE t (id INTEGER PRIMARY KEY, a)").unwrap();
    let one = ticks(&conn, 2, COUNT);
    let two = entry_with(&conn, 3, &with_ticks(one), &[(COUNT, &[]), (COUNT, &[])]);
    assert_eq!(code(two), SqlCode::DeadlineExceeded);
    entry_with(&conn, 4, &with_ticks(one), &[(COUNT, &[])]).unwrap();
}

#[test]
fn a_runaway_read_ends_at_its_deadline_or_when_cancelled() {
    let place = Place::new();
    drop(place.writer());
    let conn = place.reader();
    let runaway =
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c";
    let cancelled = Arc::new(AtomicBool::new(false));
    conn.begin_read(
        Instant::now() + Duration::from_millis(20),
        Arc::clone(&cancelled),
    );
    let error = refused(step(&conn, runaway, &[]));
    conn.end_read();
    assert_eq!(error.code, SqlCode::DeadlineExceeded);
    assert!(error.message.contains("longer"), "{error}");

    cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
    conn.begin_read(Instant::now() + Duration::from_secs(60), cancelled);
    let error = refused(step(&conn, runaway, &[]));
    conn.end_read();
    assert!(error.message.contains("cancelled"), "{error}");
    assert_eq!(read(&conn, "SELECT 1").unwrap(), [[Value::Integer(1)]]);
}

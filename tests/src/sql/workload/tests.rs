//! Plain SQLite as the judge of the statements.

use rusqlite::types::Value as Sql;

use super::*;

fn bound(value: &Value) -> Sql {
    match value {
        Value::Null => Sql::Null,
        Value::Bool(b) => Sql::Integer((*b).into()),
        Value::Number(n) if n.is_f64() => Sql::Real(n.as_f64().unwrap()),
        Value::Number(n) => Sql::Integer(n.as_i64().unwrap()),
        Value::String(text) => Sql::Text(text.clone()),
        _ => Sql::Blob(vec![0, 1, 2, 255]),
    }
}

fn run(conn: &rusqlite::Connection, op: &Op) -> rusqlite::Result<()> {
    let mut statement = conn.prepare(&op.sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(op.args.iter().map(bound)))?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// The statements are what they are meant to be: plain SQLite takes those that can succeed.
#[test]
fn sqlite_takes_what_can_succeed_and_refuses_what_cannot() {
    let mut conn = rusqlite::Connection::open_in_memory().unwrap();
    conn.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    for sql in SCHEMA {
        conn.execute_batch(sql)
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    let mut ticks = 0u64;
    conn.progress_handler(
        1_000,
        Some(move || {
            ticks += 1;
            ticks.is_multiple_of(500)
        }),
    )
    .unwrap();
    let mut workload = Workload::new(Rng::new(4711));
    let mut tally = Tally::default();
    for _ in 0..6_000 {
        let statement = workload.draw();
        if statement.expect == Expect::Denied {
            continue;
        }
        conn.execute_batch("BEGIN").unwrap();
        let done = statement.ops.iter().try_for_each(|op| run(&conn, op));
        if done.is_ok() {
            conn.execute_batch("COMMIT").unwrap();
        } else if !conn.is_autocommit() {
            conn.execute_batch("ROLLBACK").unwrap();
        }
        tally.count(&statement, done.map_err(|e| e.to_string()));
    }
    let wrong = tally.check(1);
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), tally.table());
    for query in NOTHING_LEFT {
        let left: i64 = conn.query_row(query, [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0, "{query}");
    }
}

#[test]
fn the_same_seed_draws_the_same() {
    let draw = |seed| {
        let mut workload = Workload::new(Rng::new(seed));
        (0..50).map(|_| workload.draw()).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

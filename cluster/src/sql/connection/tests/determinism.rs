//! The same entries do the same, on a connection that is warm and on one that is fresh.

use rusqlite::types::ValueRef;

use super::*;
use crate::sql::raw::{RowChange, RowObserver, observe_rows};

const SCHEMA: &[&str] = &[
    "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER DEFAULT (random()), b BLOB DEFAULT (randomblob(9)),
         at TEXT DEFAULT CURRENT_TIMESTAMP, day TEXT DEFAULT CURRENT_DATE,
         ms REAL DEFAULT (julianday('now')), v GENERATED ALWAYS AS (a % 7) VIRTUAL,
         s GENERATED ALWAYS AS (length(b)) STORED, n INTEGER DEFAULT 0)",
    "CREATE TABLE log (what, a, at DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')), r DEFAULT (random()))",
    "CREATE TABLE k (key TEXT PRIMARY KEY, n, r) WITHOUT ROWID",
    "CREATE TABLE q (id INTEGER PRIMARY KEY AUTOINCREMENT, x REAL)",
    "CREATE INDEX i ON t (a)",
    "CREATE INDEX iv ON t (v)",
    "CREATE VIEW now AS SELECT datetime('now') AS utc, datetime('now', 'localtime') AS here,
         datetime('now', 'utc') AS there, unixepoch('now', 'subsec') AS s, random() AS r",
    "CREATE TRIGGER ti AFTER INSERT ON t BEGIN INSERT INTO log (what, a) VALUES ('i', new.a); END",
    "CREATE TRIGGER tu AFTER UPDATE ON t BEGIN
         INSERT INTO log (what, a) VALUES ('u', changes() + last_insert_rowid()); END",
];

/// Everything an entry could get from the machine, from the process or from the connection.
const WORK: &[&str] = &[
    "INSERT INTO t DEFAULT VALUES",
    "INSERT INTO t (n) SELECT value FROM json_each('[1,2,3,4,5,6,7,8,9]') ORDER BY random()",
    "INSERT INTO k VALUES ('a', 1, random()) ON CONFLICT (key) DO UPDATE SET n = n + 1, r = excluded.r",
    "INSERT INTO k SELECT hex(randomblob(4)), utc || here || there, s FROM now",
    "UPDATE t SET n = n + abs(random() % 5) WHERE id IN (SELECT id FROM t ORDER BY random() LIMIT 3)",
    "INSERT INTO log (what, a) SELECT datetime(?1), timediff(?1, '2020-01-01')",
    "INSERT INTO q (x) SELECT sum(a * 0.1) FROM t GROUP BY v RETURNING id, x",
    "REPLACE INTO t (id, a) SELECT id, random() FROM t ORDER BY random() LIMIT 2",
    "SELECT group_concat(a) FROM (SELECT a FROM t ORDER BY random())",
    "SELECT changes(), last_insert_rowid(), t.id, q.id FROM t JOIN q ON t.v = q.id",
    "INSERT INTO log (what) SELECT name || sql FROM sqlite_schema",
    "DELETE FROM log WHERE rowid % 3 = abs(random() % 3)",
    "ANALYZE",
    "DROP INDEX IF EXISTS i",
    "SELECT id FROM t WHERE a > 0 AND v = 2",
    "CREATE INDEX IF NOT EXISTS i ON t (a)",
    "SELECT t.id, k.key FROM t, k WHERE t.a > k.r AND t.v = 3 LIMIT 20",
    "CREATE TABLE c AS SELECT a, random() AS r, datetime('now') AS at FROM t",
    "INSERT INTO k SELECT r, a, at FROM c",
    "DROP TABLE c",
    "DELETE FROM log",
    "INSERT INTO t (id) VALUES (1)",
    "UPDATE sqlite_sequence SET seq = seq + abs(random() % 9)",
    "ALTER TABLE q ADD COLUMN y DEFAULT 'y'",
    "UPDATE q SET x = x * 2",
    "ALTER TABLE q DROP COLUMN y",
];

fn dump(conn: &Connection) -> Vec<String> {
    let all = |sql: &str| -> Vec<String> {
        let mut statement = conn.sql().prepare(sql).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            let row: rusqlite::Result<Vec<Value>> = (0..columns).map(|i| row.get(i)).collect();
            Ok(format!("{:?}", row?))
        });
        rows.unwrap().map(Result::unwrap).collect()
    };
    let mut statement = conn
        .sql()
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .unwrap();
    let tables: Vec<String> = statement
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut dump = all("SELECT * FROM sqlite_schema");
    dump.extend(all("PRAGMA page_count"));
    for table in tables {
        dump.push(table.clone());
        dump.extend(all(&format!("SELECT * FROM \"{table}\"")));
    }
    dump
}

type Outcome = (Result<(Vec<Vec<Value>>, u128), String>, u64);

fn outcome(conn: &Connection, number: u64, sql: &str) -> Outcome {
    let now = [Value::Text("now".into())];
    let args: &[Value] = if sql.contains("?1") { &now } else { &[] };
    let done = entry_with(conn, number, &LIMITS, &[(sql, args)]);
    let done = done.map_err(|failure| format!("{failure:?}"));
    (done, conn.shared.steps_left())
}

#[test]
fn a_warm_and_a_fresh_connection_do_the_same() {
    let (here, there) = (Place::new(), Place::new());
    let warm = here.writer();
    let mut number = 0;
    let mut sums = std::collections::HashSet::new();
    let mut both = |sql: &str| {
        number += 1;
        // The thread's clock and SQLite's own generator have moved on meanwhile.
        let fresh = there.writer();
        let (warm, fresh) = (outcome(&warm, number, sql), outcome(&fresh, number, sql));
        assert_eq!(warm, fresh, "{number}: {sql}");
        if let Ok((_, sum)) = warm.0 {
            sums.insert(sum);
        }
    };
    SCHEMA.iter().for_each(|sql| both(sql));
    for _ in 0..4 {
        WORK.iter().for_each(|sql| both(sql));
    }
    assert!(sums.len() > 40, "{} different sums", sums.len());
    assert_eq!(dump(&warm), dump(&there.writer()));

    // Local time is UTC, whatever TZ says, and the clock is the entry's.
    let row = &entry(&warm, 1, "SELECT utc, here, there, s FROM now").unwrap()[0];
    assert_eq!((&row[0], &row[0]), (&row[1], &row[2]));
    assert_eq!(row[0], Value::Text("2023-11-14 22:13:21".into()));
    assert_eq!(row[3], Value::Real(1_700_000_001.123));
    // Another stamp, other values.
    let random = |number| entry(&warm, number, "SELECT random()").unwrap();
    assert_eq!(random(7), random(7));
    assert_ne!(random(7), random(8));
    // Outside of entries the clock is the machine's.
    let year: i64 = warm
        .sql()
        .query_row("SELECT strftime('%Y', 'now') + 0", [], |row| row.get(0))
        .unwrap();
    assert!(year >= 2025);
}

/// Statistics of an index that is gone stay in the memory of a connection that used it.
#[test]
fn plans_do_not_depend_on_what_a_connection_did_before() {
    let place = Place::new();
    let warm = place.writer();
    for (number, sql) in [
        "CREATE TABLE a (x, y)",
        "CREATE TABLE b (x, y)",
        "CREATE INDEX ax ON a (x)",
        "CREATE INDEX bx ON b (x)",
        "CREATE INDEX ay ON a (y)",
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 2000)
             INSERT INTO a SELECT x % 3, x FROM c",
        "INSERT INTO b VALUES (1, 1)",
        "ANALYZE",
        "SELECT * FROM a, b WHERE a.x = b.x",
        "DROP INDEX ax",
        "DROP INDEX ay",
    ]
    .into_iter()
    .enumerate()
    {
        entry(&warm, number as u64 + 1, sql).unwrap();
    }
    let plan = |conn: &Connection| {
        conn.begin_entry(&stamp(50), &LIMITS).unwrap();
        let open = conn.shared.mode(Mode::Open);
        let mut plans = Vec::new();
        for query in [
            "SELECT * FROM a, b WHERE a.x = b.x",
            "SELECT * FROM b, a WHERE a.y > b.y AND b.x = a.x",
        ] {
            let sql = format!("EXPLAIN {query}");
            let mut statement = conn.sql().prepare(&sql).unwrap();
            let rows = statement.query_map([], |row| {
                let row: rusqlite::Result<Vec<Value>> = (0..7).map(|i| row.get(i)).collect();
                Ok(format!("{:?}", row?))
            });
            let rows = rows.unwrap().map(Result::unwrap);
            // It counts how often the schema was loaded.
            let rows = rows.filter(|row| !row.contains("\"Transaction\""));
            plans.push(rows.collect::<Vec<_>>());
        }
        drop(open);
        conn.end_entry();
        plans
    };
    assert_eq!(plan(&warm), plan(&place.writer()));
}

#[derive(Default)]
struct Recorder(Vec<String>);

impl RowObserver for Recorder {
    fn row(&mut self, change: &RowChange<'_>) {
        let text = |values: &[ValueRef<'_>]| {
            let texts = values.iter().map(|value| match value {
                ValueRef::Null => "-".to_owned(),
                ValueRef::Integer(value) => value.to_string(),
                ValueRef::Real(value) => format!("{value:?}"),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                ValueRef::Blob(blob) => format!("x{}", blob.len()),
            });
            texts.collect::<Vec<_>>().join(",")
        };
        self.0.push(format!(
            "{} {} {}>{} [{}] [{}]",
            char::from(change.kind),
            String::from_utf8_lossy(change.table),
            change.old_rowid,
            change.new_rowid,
            text(change.old),
            text(change.new)
        ));
    }
    fn lost(&mut self) {
        self.0.push("lost".into());
    }
}

/// Rows are seen however they change.
#[test]
fn every_changed_row_is_seen() {
    let place = Place::new();
    let conn = place.writer();
    conn.sql()
        .execute_batch(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE, v AS (a + 1) VIRTUAL, s AS (a * 2) STORED, r REAL);
             CREATE TABLE u (id INTEGER PRIMARY KEY, a UNIQUE, v AS (a + 1) VIRTUAL, s AS (a * 2) STORED, r REAL);
             CREATE TABLE w (k TEXT, n, PRIMARY KEY (k)) WITHOUT ROWID;
             CREATE TABLE x (a);
             CREATE TABLE y (a);
             CREATE TABLE p (id INTEGER PRIMARY KEY);
             CREATE TABLE c (p REFERENCES p ON DELETE CASCADE);
             CREATE TRIGGER tr AFTER DELETE ON t BEGIN INSERT INTO w VALUES (old.a, 0); END;",
        )
        .unwrap();
    let recorder = Arc::new(Mutex::new(Recorder::default()));
    let observer: Arc<Mutex<dyn RowObserver>> = recorder.clone();
    assert!(observe_rows(conn.sql(), observer));
    for (sql, seen) in [
        (
            "INSERT INTO t (id, a, r) VALUES (1, 10, 5)",
            &["I t 1>1 [] [1,10,-,20,5.0]"][..],
        ),
        (
            "UPDATE t SET id = 2, a = 11",
            &["U t 1>2 [1,10,-,20,5.0] [2,11,-,22,5.0]"],
        ),
        (
            "INSERT INTO u SELECT * FROM (SELECT id, a, r FROM t)",
            &["I u 2>2 [] [2,11,-,22,5.0]"],
        ),
        (
            "INSERT INTO t (id, a) VALUES (2, 12) ON CONFLICT DO UPDATE SET r = 1",
            &["U t 2>2 [2,11,-,22,5.0] [2,11,-,22,1.0]"],
        ),
        (
            "INSERT OR REPLACE INTO t (id, a) VALUES (3, 11)",
            &["D t 2>2 [2,11,-,22,1.0] []", "I t 3>3 [] [3,11,-,22,-]"],
        ),
        (
            "DELETE FROM t",
            &["D t 3>3 [3,11,-,22,-] []", "I w 0>0 [] [11,0]"],
        ),
        ("UPDATE w SET n = x'0102'", &["U w 0>0 [11,0] [11,x2]"]),
        ("UPDATE w SET k = 'z'", &["U w 0>0 [11,x2] [z,x2]"]),
        (
            "INSERT INTO x VALUES (1), (zeroblob(3))",
            &["I x 1>1 [] [1]", "I x 2>2 [] [x3]"],
        ),
        (
            "INSERT INTO y SELECT * FROM x",
            &["I y 1>1 [] [1]", "I y 2>2 [] [x3]"],
        ),
        ("ALTER TABLE x ADD COLUMN b DEFAULT 'd'", &[]),
        // Without WHERE: a table is not just cut off.
        ("DELETE FROM x", &["D x 1>1 [1,d] []", "D x 2>2 [x3,d] []"]),
        ("INSERT INTO p VALUES (1)", &["I p 1>1 [] [1]"]),
        ("INSERT INTO c VALUES (1)", &["I c 1>1 [] [1]"]),
        ("DELETE FROM p", &["D p 1>1 [1] []", "D c 1>1 [1] []"]),
    ] {
        conn.sql().execute(sql, []).unwrap();
        assert_eq!(std::mem::take(&mut recorder.lock().0), seen, "{sql}");
    }
}

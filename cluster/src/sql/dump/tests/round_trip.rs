//! What goes out as statements comes in again, whole: by the engine that applies entries, within the
//! limits of one.

use std::collections::BTreeMap;

use orama_proto::limits::{SQL_OPS_MAX, SQL_STATEMENT_MAX_BYTES};
use orama_proto::sql::{DatabaseId, SqlLimits, SqlOutcome, SqlTransaction, Stamp};
use orama_proto::{Namespace, RequestId, Timestamp};
use proptest::prelude::*;
use rusqlite::types::{Value, ValueRef};

use super::*;
use crate::sql::{Item, Writer};

const OFF: &str = "PRAGMA foreign_keys=OFF";
/// Statements and values of a transaction.
const BATCH_BYTES: usize = 900 << 10;

fn exec(sql: &str) -> SqlOp {
    SqlOp {
        kind: OpKind::Exec,
        sql: sql.to_owned(),
        args: Vec::new(),
    }
}

/// Imports ops as a client does: transactions of a limited size, without foreign keys.
fn import(path: &Path, ops: Vec<SqlOp>) {
    let mut writer = Writer::open(path, false).unwrap();
    let mut index = 0;
    let mut batches = vec![vec![exec(OFF)]];
    let mut bytes = 0;
    for op in ops {
        assert!(op.sql.len() <= SQL_STATEMENT_MAX_BYTES, "{}", op.sql.len());
        let size = op.sql.len()
            + op.args
                .iter()
                .map(|arg| match arg {
                    SqlValue::Text(text) => text.len() + 10,
                    SqlValue::Blob(blob) => blob.len() + 10,
                    _ => 10,
                })
                .sum::<usize>();
        assert!(size <= BATCH_BYTES, "{size}");
        bytes += size;
        if batches.last().unwrap().len() == SQL_OPS_MAX || bytes > BATCH_BYTES {
            batches.push(vec![exec(OFF)]);
            bytes = size;
        }
        batches.last_mut().unwrap().push(op);
    }
    for ops in batches {
        if ops.len() == 1 {
            continue;
        }
        index += 1;
        let transaction = SqlTransaction {
            database: DatabaseId {
                namespace: Namespace::parse("ns").unwrap(),
                born: Timestamp(1),
            },
            request_id: RequestId::random(),
            limits: SqlLimits {
                pages: 1 << 18,
                steps: 20_000_000,
            },
            ops,
        };
        let item = Item {
            index,
            stamp: Stamp {
                clock: Timestamp(index),
                seed: [7; 16],
            },
            transaction: &transaction,
        };
        let applied = writer.apply(&[item]).unwrap();
        match applied[0].outcome.as_ref().unwrap() {
            SqlOutcome::Committed(_) => {}
            SqlOutcome::RolledBack { failed, error, .. } => {
                let sql: String = transaction.ops[*failed as usize]
                    .sql
                    .chars()
                    .take(300)
                    .collect();
                panic!("{sql}: {error}")
            }
        }
    }
}

fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".into(),
        ValueRef::Integer(i) => format!("i{i}"),
        ValueRef::Real(r) => format!("r{:x} {r:?}", r.to_bits()),
        ValueRef::Text(t) => format!("t{} {:x}", t.len(), xxhash_rust::xxh3::xxh3_128(t)),
        ValueRef::Blob(b) => format!("b{} {:x}", b.len(), xxhash_rust::xxh3::xxh3_128(b)),
    }
}

fn rows(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare(sql).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.raw_query();
    let mut all = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let row: Vec<String> = (0..columns)
            .map(|at| shown(row.get_ref(at).unwrap()))
            .collect();
        all.push(row.join(", "));
    }
    all
}

/// Everything that is in a file, read without the code that is tested here.
fn contents(path: &Path) -> BTreeMap<String, Vec<String>> {
    let conn = Connection::open(path).unwrap();
    let names = |sql: &str| -> Vec<String> {
        let mut statement = conn.prepare(sql).unwrap();
        let names = statement.query_map([], |row| row.get(0)).unwrap();
        names.collect::<Result<_, _>>().unwrap()
    };
    let mut all = BTreeMap::new();
    let schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema \
        WHERE name NOT LIKE '\\_orama\\_%' ESCAPE '\\' ORDER BY type, name";
    all.insert(
        "schema".to_owned(),
        names(&schema.replace(
            "type, name, tbl_name, sql",
            "concat_ws(' ', type, name, tbl_name, rtrim(sql, char(10) || ' '))",
        )),
    );
    for pragma in ["user_version", "application_id"] {
        all.insert(pragma.to_owned(), rows(&conn, &format!("PRAGMA {pragma}")));
    }
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' \
        AND name NOT LIKE '\\_orama\\_%' ESCAPE '\\'";
    for table in names(tables) {
        let name = table.replace('"', "\"\"");
        // The rowid too, where there is one.
        let with_rowid = format!("SELECT rowid, * FROM \"{name}\" NOT INDEXED");
        let sql = match conn.prepare(&with_rowid) {
            Ok(_) if table != "sqlite_sequence" => with_rowid,
            _ => format!("SELECT * FROM \"{name}\" ORDER BY 1"),
        };
        all.insert(format!("rows of {table}"), rows(&conn, &sql));
    }
    all
}

fn check(conn: Connection, path: &Path) {
    drop(conn);
    let dir = tempfile::tempdir().unwrap();
    let before = contents(path);
    let all = statements(path);

    let by_ops = dir.path().join("ops.db");
    import(&by_ops, all.iter().map(|s| s.clone().into_op()).collect());
    same(&contents(&by_ops), &before);

    let text: String = all.iter().map(|s| s.to_sql() + ";\n").collect();
    let by_text = dir.path().join("text.db");
    import(
        &by_text,
        sql_pieces(&text).map(|piece| exec(piece.sql)).collect(),
    );
    same(&contents(&by_text), &before);

    // As SQLite's own shell does, in a file of its own.
    let by_sqlite = dir.path().join("sqlite.db");
    let conn = Connection::open(&by_sqlite).unwrap();
    conn.execute_batch(&format!("{OFF};BEGIN;{text}COMMIT;"))
        .unwrap();
    drop(conn);
    same(&contents(&by_sqlite), &before);
    // And the same statements come out again.
    let sorted = |all| -> Vec<String> {
        let all = in_any_order(all).into_iter();
        all.map(|sql| sql.trim_end().to_owned()).collect()
    };
    assert_eq!(sorted(statements(&by_ops)), sorted(all));
}

/// Says what differs, not all there is.
fn same(after: &BTreeMap<String, Vec<String>>, before: &BTreeMap<String, Vec<String>>) {
    assert!(after.keys().eq(before.keys()));
    for (what, rows) in before {
        assert_eq!(after[what], *rows, "{what}");
    }
}

fn source(dir: &tempfile::TempDir, schema: &str) -> (Connection, std::path::PathBuf) {
    let path = file(dir, "source.db", schema);
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    (conn, path)
}

const SCHEMA: &str = r#"
    PRAGMA user_version = -3; PRAGMA application_id = 2147483647;
    CREATE TABLE "a ""table"" 'of' [names]" -- with comments
        ("select" INTEGER PRIMARY KEY AUTOINCREMENT, "ünï ?" TEXT, "x""y;" BLOB DEFAULT ';',
         low AS (lower("ünï ?")) VIRTUAL, up AS (upper("ünï ?")) STORED);
    CREATE TABLE child(id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent(id), self REFERENCES child(id));
    CREATE TABLE parent(id INTEGER PRIMARY KEY, favourite INTEGER NOT NULL REFERENCES child(id));
    CREATE TABLE plain(any_, i INTEGER, r REAL, t TEXT, b BLOB, n NUMERIC);
    CREATE TABLE hidden(rowid, oid, v);
    CREATE TABLE desc_(id INTEGER PRIMARY KEY DESC, v);
    CREATE TABLE keyed(a TEXT, b, c, PRIMARY KEY(b, a)) WITHOUT ROWID;
    CREATE TABLE strict_(id INTEGER PRIMARY KEY, n INT NOT NULL, a ANY, CHECK (n < 100)) STRICT;
    CREATE TABLE long_(id INTEGER PRIMARY KEY, v, w, CHECK (w IS NULL OR length(w) > 300000));
    CREATE TABLE orama_import_pieces(mine);
    CREATE TABLE never(id INTEGER PRIMARY KEY AUTOINCREMENT);
    CREATE UNIQUE INDEX "index" ON plain(any_, abs(i)) WHERE i > 7 -- no end
    ;
    CREATE INDEX plain_t ON plain(t COLLATE NOCASE DESC);
    CREATE TRIGGER "before" INSTEAD OF INSERT ON shown BEGIN INSERT INTO parent VALUES(new.id, 1); SELECT ';'; END;
    CREATE TRIGGER grows AFTER INSERT ON parent BEGIN UPDATE parent SET favourite = 0; END;
"#;

#[test]
fn everything_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    // A trigger of a view wants the view; the file's order is another.
    let (view, trigger) = (
        "CREATE VIEW shown AS SELECT id, ';' AS s FROM parent;",
        "CREATE TRIGGER \"before\"",
    );
    let schema = SCHEMA.replace(trigger, &format!("{view}{trigger}"));
    let (conn, path) = source(&dir, &schema);
    conn.execute_batch(
        r#"
        DROP TRIGGER grows;
        INSERT INTO "a ""table"" 'of' [names]" ("select", "ünï ?", "x""y;") VALUES
            (1, 'it''s; "?"', x''), (9, '', zeroblob(3)), (-7, char(0) || 'x' || char(0), NULL),
            (9007199254740993, CAST(x'61ff00' AS TEXT), 'text');
        DELETE FROM "a ""table"" 'of' [names]" WHERE "select" > 9;
        INSERT INTO "a ""table"" 'of' [names]" ("ünï ?") VALUES('next');
        INSERT INTO child VALUES(1, 3, 2), (2, 1, 1), (3, NULL, 3), (4, 999, 999);
        INSERT INTO parent VALUES(1, 2), (3, 1);
        INSERT INTO plain(rowid, any_, r) VALUES(-5, 1e300, 1e300), (3, -0.0, -0.0), (90, 9e999, -9e999),
            (91, 5e-324, 2.2250738585072014e-308), (92, 0.1, 1.7976931348623157e308), (93, 1.0, 7);
        INSERT INTO plain(any_, i) VALUES(9223372036854775807, 9223372036854775807),
            (-9223372036854775807 - 1, -9223372036854775807 - 1), (9007199254740993, 1);
        INSERT INTO plain(any_, t, b) VALUES('', '', x''), (x'', x'00', 'text'), (char(0), 'a' || char(0), x'00ff');
        INSERT INTO hidden(_rowid_, rowid, oid, v) VALUES(77, 'r', 'o', 1);
        INSERT INTO desc_ VALUES(5, 'five'), (1, 'one');
        INSERT INTO keyed VALUES('a', 1.5, NULL), ('a', 'x', 2), ('', x'', 3);
        INSERT INTO strict_ VALUES(1, 99, '1'), (2, 3, 1.0), (3, 4, x'01');
        INSERT INTO orama_import_pieces VALUES(1);
        INSERT INTO never VALUES(5); DELETE FROM sqlite_sequence WHERE name = 'never';
        UPDATE sqlite_sequence SET seq = 500 WHERE name LIKE 'a %';
        "#,
    )
    .unwrap();
    check(conn, &path);
}

#[test]
fn rows_of_a_megabyte_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (conn, path) = source(
        &dir,
        "CREATE TABLE a(v, w); CREATE TABLE b(k TEXT PRIMARY KEY, v) WITHOUT ROWID; CREATE TABLE c(x)",
    );
    let bytes = |n: usize| -> Vec<u8> { (0..n).map(|at| (at * 31 + at / 256) as u8).collect() };
    let quotes = "'é\n?\"".repeat(100_000);
    let insert = |sql: &str, v: Value, w: Value| conn.execute(sql, [v, w]).unwrap();
    let a = "INSERT INTO a VALUES(?, ?)";
    insert(a, Value::Blob(bytes(1 << 20)), Value::Null);
    insert(
        a,
        Value::Blob(bytes(128 << 10)),
        Value::Blob(bytes(129 << 10)),
    );
    insert(
        a,
        Value::Text(quotes.clone()),
        Value::Text("x".repeat(250_000)),
    );
    insert(
        a,
        Value::Text("x".repeat(255_000)),
        Value::Real(f64::NEG_INFINITY),
    );
    insert(
        "INSERT INTO a VALUES(CAST(? AS TEXT), ?)",
        Value::Blob(bytes(1_000_000)),
        Value::Integer(1),
    );
    insert(
        "INSERT INTO b VALUES(?, ?)",
        Value::Text(quotes),
        Value::Blob(bytes(300_000)),
    );
    let columns = (0..900)
        .map(|n| format!("c{n}"))
        .collect::<Vec<_>>()
        .join(", ");
    conn.execute_batch(&format!("CREATE TABLE wide({columns})"))
        .unwrap();
    let values = vec!["randomblob(1000)"; 900].join(", ");
    conn.execute_batch(&format!("INSERT INTO wide VALUES({values})"))
        .unwrap();
    check(conn, &path);
}

#[test]
fn a_value_too_long_for_any_database_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (conn, path) = source(
        &dir,
        "CREATE TABLE huge(v); INSERT INTO huge VALUES(zeroblob(1048577))",
    );
    drop(conn);
    let error = Dump::open(&path)
        .unwrap()
        .each::<DumpError>(|_| Ok(()))
        .unwrap_err();
    assert!(error.to_string().contains("a row of huge"), "{error}");
}

#[test]
fn a_comment_at_the_end_swallows_no_statement() {
    let dir = tempfile::tempdir().unwrap();
    let (conn, path) = source(&dir, "CREATE TABLE t(a)");
    for sql in [
        "CREATE INDEX i ON t(a) -- one",
        "CREATE VIEW v AS SELECT 1 /* two",
    ] {
        conn.execute(sql, []).unwrap();
    }
    conn.execute("INSERT INTO t VALUES(1)", []).unwrap();
    drop(conn);
    let text: String = statements(&path)
        .iter()
        .map(|s| s.to_sql() + ";\n")
        .collect();
    assert_eq!(sql_pieces(&text).count(), statements(&path).len(), "{text}");
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        (-3i64..3).prop_map(Value::Integer),
        any::<u64>().prop_map(|bits| {
            let real = f64::from_bits(bits);
            Value::Real(if real.is_nan() { 0.5 } else { real })
        }),
        (-1000i32..1000).prop_map(|n| Value::Real(f64::from(n) / 7.0)),
        "[a-z0-9'\"?;\\x00 é\n-]{0,12}".prop_map(Value::Text),
        "-?[0-9]{1,25}(\\.[0-9]{1,9})?(e-?[0-9]{1,3})?".prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::Blob),
        (1usize..160_000, any::<u8>()).prop_map(|(n, byte)| Value::Blob(vec![byte; n])),
        (1usize..160_000, any::<bool>())
            .prop_map(|(n, quote)| { Value::Text((if quote { "'" } else { "z" }).repeat(n)) }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_rows_come_back(
        rows in proptest::collection::vec((0..4usize, value(), value(), any::<Option<i64>>()), 0..40)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (conn, path) = source(&dir, SCHEMA.split("CREATE UNIQUE INDEX").next().unwrap());
        for (table, a, b, id) in rows {
            let id = id.filter(|id| *id < i64::MAX).map_or(Value::Null, Value::Integer);
            let sql = [
                "INSERT OR IGNORE INTO plain(any_, i, r, t, b, n) VALUES(?1, ?2, ?1, ?2, ?1, ?2)",
                "INSERT OR IGNORE INTO keyed VALUES(?1, ifnull(?2, 0), ?3)",
                "INSERT OR IGNORE INTO child VALUES(?3, ?1, ?2)",
                "INSERT OR IGNORE INTO \"a \"\"table\"\" 'of' [names]\" VALUES(?3, ?1, ?2)",
            ][table];
            let mut statement = conn.prepare(sql).unwrap();
            let args = [a, b, id];
            let count = statement.parameter_count();
            // A key of the wrong type or a row too long for an index is none of this test.
            let _ = statement.execute(rusqlite::params_from_iter(&args[..count]));
        }
        check(conn, &path);
    }
}

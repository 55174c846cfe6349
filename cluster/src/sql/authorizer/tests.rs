//! The table of what is allowed.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use orama_proto::Timestamp;
use orama_proto::sql::{SqlLimits, Stamp};

use super::super::connection::{Connection, Failure};
use super::*;

const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a, b);
    CREATE INDEX i ON t (a);
    CREATE VIEW v AS SELECT a FROM t;
    CREATE VIEW sneaky AS SELECT hash FROM _orama_state;
    CREATE VIEW versions AS SELECT sqlite_version();
    ANALYZE;";

const YES: &str = "";
const RESERVED: &str = "_orama_ are reserved";
const WRITES: &str = "changes the database";

/// Statement, what a write answers, what a read answers.
#[rustfmt::skip]
const TABLE: &[(&str, &str, &str)] = &[
    ("SELECT * FROM t", YES, YES),
    ("INSERT INTO t (a) VALUES (1) RETURNING id", YES, WRITES),
    ("UPDATE t SET a = 1", YES, WRITES),
    ("DELETE FROM t", YES, WRITES),
    ("WITH x AS (SELECT 1 AS n) SELECT n FROM x", YES, YES),
    ("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 3) SELECT x FROM c", YES, YES),
    ("CREATE TABLE u (a)", YES, WRITES),
    ("CREATE TABLE u AS SELECT * FROM t", YES, WRITES),
    ("CREATE INDEX j ON t (b)", YES, WRITES),
    ("CREATE TRIGGER tr AFTER INSERT ON t BEGIN DELETE FROM t; SELECT 1; END", YES, WRITES),
    ("CREATE VIEW w AS SELECT 1", YES, WRITES),
    ("ALTER TABLE t RENAME TO s", YES, WRITES),
    ("ALTER TABLE t RENAME COLUMN b TO c", YES, WRITES),
    ("ALTER TABLE t ADD COLUMN c DEFAULT 1", YES, WRITES),
    ("ALTER TABLE t DROP COLUMN b", YES, WRITES),
    ("DROP TABLE t", YES, WRITES),
    ("DROP INDEX i", YES, WRITES),
    ("ANALYZE", YES, WRITES),
    ("ANALYZE t", YES, WRITES),
    ("REINDEX", YES, WRITES),
    ("REINDEX t", YES, WRITES),
    ("/* a */ -- b\n ; EXPLAIN SELECT 1", "EXPLAIN", YES),
    ("EXPLAIN QUERY PLAN SELECT * FROM t", "EXPLAIN", YES),

    // Another file, the connection, the transaction.
    ("ATTACH 'x.db' AS x", "ATTACH", "ATTACH"),
    ("DETACH main", "ATTACH", "ATTACH"),
    ("VACUUM", "VACUUM", "VACUUM"),
    ("VACUUM INTO 'x.db'", "VACUUM", "VACUUM"),
    ("BEGIN", "SAVEPOINT are not", "SAVEPOINT are not"),
    ("COMMIT", "SAVEPOINT are not", "SAVEPOINT are not"),
    ("END", "SAVEPOINT are not", "SAVEPOINT are not"),
    ("ROLLBACK", "SAVEPOINT are not", "SAVEPOINT are not"),
    ("SAVEPOINT s", "SAVEPOINT are not", "SAVEPOINT are not"),
    ("RELEASE entry", "SAVEPOINT are not", "SAVEPOINT are not"),
    ("ROLLBACK TO entry", "SAVEPOINT are not", "SAVEPOINT are not"),
    ("CREATE TEMP TABLE u (a)", "temporary", "temporary"),
    ("CREATE TEMP VIEW u AS SELECT 1", "temporary", "temporary"),
    ("CREATE TEMP TRIGGER tr AFTER INSERT ON t BEGIN SELECT 1; END", "temporary", "temporary"),
    ("CREATE TABLE temp.u (a)", "temporary", "temporary"),
    ("CREATE TABLE TEMP.u AS SELECT 1", "temporary", "temporary"),
    ("CREATE VIEW temp.u AS SELECT 1", "temporary", "temporary"),
    ("CREATE TRIGGER temp.tr AFTER INSERT ON t BEGIN SELECT 1; END", "temporary", WRITES),
    ("CREATE VIRTUAL TABLE u USING fts5(a)", "virtual", WRITES),
    ("CREATE VIRTUAL TABLE u USING rtree(a, b, c)", "virtual", WRITES),
    ("SELECT load_extension('x')", "load_extension", "load_extension"),
    ("SELECT fts3_tokenizer('simple')", "fts3_tokenizer", "fts3_tokenizer"),
    ("SELECT * FROM dbstat", "dbstat", "dbstat"),
    ("SELECT count(*) FROM dbstat", "dbstat", "dbstat"),
    ("SELECT * FROM sqlite_dbpage", "sqlite_dbpage", "sqlite_dbpage"),
    ("SELECT * FROM sqlite_temp_master", YES, YES),

    // Ours.
    ("SELECT * FROM _orama_state", RESERVED, RESERVED),
    ("SELECT count(*) FROM _ORAMA_state", RESERVED, RESERVED),
    ("SELECT * FROM main.\"_Orama_State\"", RESERVED, RESERVED),
    ("SELECT * FROM sneaky", RESERVED, RESERVED),
    ("SELECT (SELECT hash FROM _orama_state)", RESERVED, RESERVED),
    ("UPDATE _orama_state SET applied = 0", RESERVED, RESERVED),
    ("DELETE FROM _orama_state", RESERVED, RESERVED),
    ("INSERT INTO _orama_state VALUES (2, 0, x'', 1)", RESERVED, RESERVED),
    ("DROP TABLE _orama_state", RESERVED, WRITES),
    ("ALTER TABLE _orama_state RENAME TO s", RESERVED, RESERVED),
    ("ALTER TABLE _orama_state ADD COLUMN c", RESERVED, RESERVED),
    ("CREATE INDEX j ON _orama_state (hash)", RESERVED, WRITES),
    ("CREATE TRIGGER tr AFTER UPDATE ON _orama_state BEGIN SELECT 1; END", RESERVED, RESERVED),
    ("CREATE TABLE _orama_x (a)", RESERVED, WRITES),
    ("CREATE INDEX _orama_i ON t (a)", RESERVED, WRITES),
    ("CREATE VIEW _orama_v AS SELECT 1", RESERVED, WRITES),
    ("PRAGMA table_info(_orama_state)", RESERVED, RESERVED),

    // SQLite's own tables.
    ("SELECT name FROM sqlite_schema", YES, YES),
    ("SELECT * FROM sqlite_sequence", YES, YES),
    ("UPDATE sqlite_sequence SET seq = 7", YES, WRITES),
    ("DELETE FROM sqlite_schema", "may not be modified", "sqlite"),
    ("UPDATE sqlite_master SET sql = ''", "may not be modified", "sqlite"),
    ("SELECT * FROM sqlite_stat1", YES, YES),
    ("UPDATE sqlite_stat1 SET stat = '1 1'", "use ANALYZE", WRITES),
    ("INSERT INTO sqlite_stat1 VALUES ('t', 'i', '1 1')", "use ANALYZE", WRITES),
    ("DELETE FROM sqlite_stat1", "use ANALYZE", WRITES),
    ("DROP TABLE sqlite_stat1", "use ANALYZE", WRITES),

    // PRAGMA.
    ("PRAGMA table_info(t)", "ask it with a query", YES),
    // Judged when it runs, see below.
    ("SELECT * FROM pragma_table_info('t')", YES, YES),
    ("PRAGMA table_list", YES, YES),
    ("PRAGMA index_list(t)", YES, YES),
    ("PRAGMA foreign_key_check", YES, YES),
    ("PRAGMA user_version", YES, YES),
    ("PRAGMA user_version = 3", YES, WRITES),
    ("PRAGMA page_count", "not allowed here", YES),
    ("PRAGMA foreign_keys", "not allowed here", YES),
    ("PRAGMA foreign_keys = OFF", "first of a transaction's ops", "not allowed here"),
    ("PRAGMA foreign_keys = ON", "first of a transaction's ops", "not allowed here"),
    ("PRAGMA defer_foreign_keys = ON", YES, "not allowed here"),
    ("PRAGMA defer_foreign_keys(1)", YES, "not allowed here"),
    ("PRAGMA defer_foreign_keys = OFF", "not allowed here", "not allowed here"),
    ("PRAGMA defer_foreign_keys", "not allowed here", "not allowed here"),
    ("PRAGMA application_id = -7", YES, WRITES),
    ("PRAGMA writable_schema = ON", "not allowed here", "not allowed here"),
    ("PRAGMA recursive_triggers = ON", "not allowed here", "not allowed here"),
    ("PRAGMA query_only = OFF", "not allowed here", "not allowed here"),
    ("PRAGMA case_sensitive_like = ON", "not allowed here", "not allowed here"),
    ("PRAGMA max_page_count = 1000000", "not allowed here", "not allowed here"),
    ("PRAGMA database_list", "not allowed here", "not allowed here"),
    ("PRAGMA wal_checkpoint", "not allowed here", "not allowed here"),
    ("PRAGMA optimize", "not allowed here", "not allowed here"),
    ("PRAGMA temp_store_directory = '/x'", "not allowed here", "not allowed here"),

    // Functions that tell nodes apart.
    ("SELECT sqlite_version()", "differs between nodes", YES),
    ("SELECT * FROM versions", "differs between nodes", YES),
    ("SELECT sqlite_source_id()", "differs between nodes", YES),
    ("SELECT total_changes()", "differs between nodes", YES),
    ("SELECT changes(), last_insert_rowid(), random(), datetime('now')", YES, YES),
    ("SELECT json_extract('{\"a\":1}', '$.a'), '{}' ->> '$.a', value FROM json_each('[1]')", YES, YES),
    ("SELECT a LIKE 'x', a GLOB 'y', a || 'z', sum(a) OVER (ORDER BY id) FROM t", YES, YES),
    ("SELECT sqlite_rename_table(1, 2, 3, 4, 5, 6, 7)", "not allowed", "not allowed"),
];

fn verdict<T>(outcome: Result<T, Failure>) -> String {
    match outcome {
        Ok(_) => String::new(),
        Err(Failure::Statement(error)) => error.message,
        Err(Failure::Fault(fault)) => format!("FAULT {fault}"),
    }
}

#[test]
fn the_table_of_statements() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let writer = Connection::writer(&path).unwrap();
    writer.sql().execute_batch(SCHEMA).unwrap();
    let reader = Connection::reader(&path).unwrap();
    let stamp = Stamp {
        clock: Timestamp(1),
        seed: [0; 16],
    };
    let limits = SqlLimits {
        pages: 1000,
        steps: 1_000_000,
    };
    let mut wrong = Vec::new();
    let mut check = |who: &str, sql: &str, answer: &str, expected: &str| {
        if answer.contains(expected) && (expected.is_empty() == answer.is_empty()) {
            return;
        }
        wrong.push(format!("{who}: {sql}: `{answer}`, expected `{expected}`"));
    };
    for (sql, write, read) in TABLE {
        writer.begin_entry(&stamp, &limits).unwrap();
        check("write", sql, &verdict(writer.prepare(sql)), write);
        writer.end_entry();
        let deadline = Instant::now() + Duration::from_secs(10);
        reader.begin_read(deadline, Arc::new(AtomicBool::new(false)));
        check("read", sql, &verdict(reader.prepare(sql)), read);
        reader.end_read();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The names that SQLite makes up for columns of a view must not be stored.
#[test]
fn columns_are_not_shown_to_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let writer = Connection::writer(&path).unwrap();
    writer.sql().execute_batch(SCHEMA).unwrap();
    let stamp = Stamp {
        clock: Timestamp(1),
        seed: [0; 16],
    };
    let limits = SqlLimits {
        pages: 1000,
        steps: 1_000_000,
    };
    for table in ["table_info", "table_xinfo"] {
        writer.begin_entry(&stamp, &limits).unwrap();
        let sql = format!("SELECT name FROM pragma_{table}('t')");
        let mut statement = writer.prepare(&sql).unwrap();
        let ran = writer.run_tenant(|| statement.raw_query().next().map(drop));
        let answer = verdict(ran.map_err(|error| writer.failure(error)));
        assert!(answer.contains("ask it with a query"), "{answer}");
        drop(statement);
        writer.end_entry();
    }
}

/// A SQLite with a function that is in no list has brought something to look at.
#[test]
fn every_function_of_this_sqlite_was_looked_at() {
    const REFUSED: &[&str] = &[
        "bm25",
        "fts3_tokenizer",
        "fts5",
        "fts5_get_locale",
        "fts5_insttoken",
        "fts5_locale",
        "fts5_source_id",
        "highlight",
        "load_extension",
        "match",
        "matchinfo",
        "offsets",
        "optimize",
        "rtreecheck",
        "rtreedepth",
        "rtreenode",
        "snippet",
        "sqlite_log",
    ];
    assert!(FUNCTIONS.is_sorted() && READ_FUNCTIONS.is_sorted() && ALTER_FUNCTIONS.is_sorted());
    let conn = Connection::empty().unwrap();
    let mut statement = conn
        .sql()
        .prepare("SELECT DISTINCT lower(name) FROM pragma_function_list ORDER BY 1")
        .unwrap();
    let names: Vec<String> = statement
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let unknown: Vec<&String> = names
        .iter()
        .filter(|name| {
            let name = name.as_str();
            ![&FUNCTIONS[..], &READ_FUNCTIONS, &ALTER_FUNCTIONS, REFUSED]
                .iter()
                .any(|list| list.contains(&name))
        })
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let gone: Vec<&&str> = FUNCTIONS
        .iter()
        .filter(|name| !names.iter().any(|known| known == **name))
        .collect();
    assert!(gone.is_empty(), "{gone:?}");
}

use super::*;

mod round_trip;

fn file(dir: &tempfile::TempDir, name: &str, sql: &str) -> std::path::PathBuf {
    raw::register().unwrap();
    let path = dir.path().join(name);
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(sql).unwrap();
    path
}

fn statements(path: &Path) -> Vec<DumpStatement> {
    let mut all = Vec::new();
    Dump::open(path)
        .unwrap()
        .each::<DumpError>(|s| {
            all.push(s);
            Ok(())
        })
        .unwrap();
    all
}

/// Of tables in a circle now one comes first, now the other.
fn in_any_order(mut all: Vec<DumpStatement>) -> Vec<String> {
    all.sort_by_key(|s| s.to_sql());
    all.iter().map(DumpStatement::to_sql).collect()
}

const EVERYTHING: &str = r#"
    CREATE TABLE _orama_state(id INTEGER PRIMARY KEY, applied INTEGER, hash BLOB);
    INSERT INTO _orama_state VALUES(1, 7, x'00');
    CREATE TABLE child(id INTEGER PRIMARY KEY, p INTEGER REFERENCES Parent(id));
    CREATE TABLE grandchild(c INTEGER REFERENCES child(id));
    CREATE TABLE parent(id INTEGER PRIMARY KEY AUTOINCREMENT, "na""me;?" TEXT,
        up GENERATED ALWAYS AS (upper("na""me;?")) STORED,
        low AS (lower("na""me;?")));
    CREATE TABLE pairs(a TEXT, b, PRIMARY KEY(a, b)) WITHOUT ROWID;
    CREATE TABLE loop_a(id INTEGER PRIMARY KEY, o REFERENCES loop_b);
    CREATE TABLE loop_b(id INTEGER PRIMARY KEY, o REFERENCES loop_a);
    CREATE UNIQUE INDEX pairs_b ON pairs(b);
    CREATE TRIGGER t AFTER INSERT ON parent BEGIN INSERT INTO pairs VALUES('t', new.id); END;
    CREATE VIEW v AS SELECT ';' AS a FROM parent;
    INSERT INTO parent(id, "na""me;?") VALUES(1, 'it''s; "?"'), (2, NULL), (9, char(0)||'x');
    DELETE FROM parent WHERE id = 9;
    INSERT INTO parent(id, "na""me;?") VALUES(3, CAST(x'61ff00' AS TEXT));
    INSERT INTO child VALUES(1, 2), (2, NULL);
    INSERT INTO grandchild VALUES(1);
    INSERT INTO pairs VALUES('x', 1.5), ('x', 9e999), ('y', -9223372036854775807 - 1),
        ('y', x'00ff'), ('z', 9007199254740993), ('z', -1e-300);
    INSERT INTO loop_b VALUES(1, NULL); INSERT INTO loop_a VALUES(1, 1);
"#;

#[test]
fn makes_the_same_database_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "a.db", EVERYTHING);
    let all = statements(&path);

    // With arguments, foreign keys on.
    let by_ops = dir.path().join("ops.db");
    let conn = Connection::open(&by_ops).unwrap();
    conn.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    for statement in &all {
        let op = statement.clone().into_op();
        let args = op.args.iter().map(|arg| match arg {
            SqlValue::Null => rusqlite::types::Value::Null,
            SqlValue::Integer(i) => (*i).into(),
            SqlValue::Real(r) => (*r).into(),
            SqlValue::Text(t) => t.clone().into(),
            SqlValue::Blob(b) => b.clone().into(),
        });
        conn.execute(&op.sql, rusqlite::params_from_iter(args))
            .unwrap_or_else(|e| panic!("{}: {e}", op.sql));
    }
    drop(conn);
    assert_eq!(in_any_order(statements(&by_ops)), in_any_order(all.clone()));

    // As text, cut again.
    let text: String = all.iter().map(|s| s.to_sql() + ";\n").collect();
    let by_text = dir.path().join("text.db");
    let conn = Connection::open(&by_text).unwrap();
    let pieces: Vec<_> = split_sql(&text).collect();
    assert_eq!(pieces.len(), all.len());
    for piece in pieces {
        conn.execute(piece.sql, [])
            .unwrap_or_else(|e| panic!("line {}: {}: {e}", piece.line, piece.sql));
    }
    drop(conn);
    assert_eq!(in_any_order(statements(&by_text)), in_any_order(all));

    assert!(!text.contains("_orama"));
    let next: i64 = Connection::open(&by_text)
        .unwrap()
        .query_row("INSERT INTO parent DEFAULT VALUES RETURNING id", [], |r| {
            r.get(0)
        })
        .unwrap();
    assert_eq!(next, 10);
}

#[test]
fn an_empty_file_has_no_statements() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        statements(&file(&dir, "a.db", "PRAGMA user_version = 0")),
        []
    );
}

#[test]
fn refuses_what_it_cannot_dump() {
    let dir = tempfile::tempdir().unwrap();
    let error = |path: &Path| Dump::open(path).err().unwrap().to_string();

    let path = file(&dir, "v.db", "CREATE VIRTUAL TABLE words USING fts5(a)");
    assert_eq!(
        error(&path),
        "words is a virtual table: namespaces' databases have none"
    );

    let path = dir.path().join("text.db");
    std::fs::write(&path, "this is no database, only text that is long enough").unwrap();
    assert_eq!(error(&path), "file is not a database");
    assert!(error(&dir.path().join("missing.db")).contains("unable to open"));

    // Damaged somewhere in the middle.
    let path = file(
        &dir,
        "d.db",
        "CREATE TABLE a(b); WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c LIMIT 9999)
         INSERT INTO a SELECT x FROM c",
    );
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096 * 5..4096 * 6].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    assert!(error(&path).contains("damaged") || error(&path).contains("malformed"));
}

#[test]
fn a_schema_that_hides_a_second_statement_goes_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(
        &dir,
        "a.db",
        "CREATE TABLE a(b); PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE TABLE a(b); DROP TABLE other'",
    );
    let error = Dump::open(&path).err().unwrap().to_string();
    assert!(
        error == "the schema's text of a is not one statement" || error.contains("malformed"),
        "{error}"
    );
}

#[test]
fn stops_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(
        &dir,
        "a.db",
        "CREATE TABLE a(b); INSERT INTO a VALUES(1),(2),(3)",
    );
    let mut seen = 0;
    let result = Dump::open(&path).unwrap().each(|_| {
        seen += 1;
        if seen == 2 {
            return Err(DumpError::File("enough".to_owned()));
        }
        Ok(())
    });
    assert_eq!(result.unwrap_err().to_string(), "enough");
    assert_eq!(seen, 2);
}

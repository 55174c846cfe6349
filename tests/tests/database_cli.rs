//! `orama db`: tables for people, bodies for programs, files in and out.

use std::process::Stdio;

use orama_tests::{Node, Orama, Tenant};
use serde_json::json;
use tokio::io::AsyncWriteExt;

/// What the shell says to these lines, and how it ends.
async fn shell(orama: &Orama, lines: &str) -> (String, String, i32) {
    let mut child = orama
        .command(orama.home(), &["db", "shell"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut stdin = child.stdin.take().expect("its stdin");
    stdin.write_all(lines.as_bytes()).await.expect("lines");
    drop(stdin);
    let ended = child.wait_with_output().await.expect("an end");
    (
        String::from_utf8(ended.stdout).expect("UTF-8"),
        String::from_utf8(ended.stderr).expect("UTF-8"),
        ended.status.code().unwrap_or(-1),
    )
}

async fn tenant(node: &Node, namespace: &str) -> (Tenant, Orama) {
    let tenant = node.tenant(namespace).await;
    let orama = Orama::of(&tenant);
    (tenant, orama)
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_show_tables_and_counts() {
    let node = Node::start().await;
    let (_tenant, orama) = tenant(&node, "people").await;
    let create = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, v)";
    let said = orama.ok(&["db", "exec", create]).await;
    assert!(said.contains("0 rows affected"), "{said}");
    let insert = "INSERT INTO t(name, v) VALUES(?, ?), (?, ?)";
    let said = orama
        .ok(&["db", "exec", insert, "Ada", "-1.5", "7 of 9", "null"])
        .await;
    assert!(said.contains("2 rows affected, last insert id 2"), "{said}");
    let said = orama
        .ok(&["db", "query", "SELECT * FROM t ORDER BY id"])
        .await;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "id  name       v",
            "--  ------  ----",
            " 1  Ada     -1.5",
            " 2  7 of 9  NULL"
        ]
    );
    assert!(lines[4].starts_with("(2 rows, "), "{said}");
    let body = orama
        .json(&[
            "db",
            "query",
            "SELECT name FROM t WHERE id = ?",
            "1",
            "--level",
            "weak",
        ])
        .await;
    assert_eq!(body["items"], json!([{"name": "Ada"}]));
    let exact = orama
        .json(&[
            "db",
            "query",
            "SELECT ? AS n, typeof(?) AS t",
            "--args",
            "[9223372036854775807, \"7\"]",
        ])
        .await;
    assert_eq!(exact["items"], json!([{"n": i64::MAX, "t": "text"}]));

    // Exit codes and words of what went wrong.
    let said = orama
        .run(&["db", "query", "SELECT * FROM nowhere"])
        .await
        .expect_code(1);
    assert!(said.stderr.contains("nowhere"), "{said:?}");
    let said = orama
        .run(&["db", "query", "DELETE FROM t"])
        .await
        .expect_code(1);
    assert!(said.stderr.contains("/v1/rqlite/exec"), "{said:?}");
    orama.run(&["db", "query"]).await.expect_code(2);
    orama
        .run(&["db", "query", "SELECT 1", "--level", "some"])
        .await
        .expect_code(2);
    orama
        .run(&["db", "query", "SELECT 1", "--args", "{}"])
        .await
        .expect_code(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_runs_a_script_up_to_its_first_error() {
    let node = Node::start().await;
    let (_tenant, orama) = tenant(&node, "shell").await;
    let (out, err, code) = shell(
        &orama,
        "-- a comment\n\
         CREATE TABLE t(a); CREATE TABLE log(a);\n\
         CREATE TRIGGER tr AFTER INSERT ON t BEGIN\n  INSERT INTO log VALUES(new.a);\nEND;\n\
         WITH x(a) AS (VALUES(1), (2))\n  INSERT INTO t SELECT a FROM x;\n\
         SELECT count(*) AS n FROM log;\n\
         .tables\n.schema t\n.timer on\nSELECT 1 AS last\n",
    )
    .await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("n\n-\n2\n(1 row)\n"), "{out}");
    assert!(out.contains("log   table\nt     table\n"), "{out}");
    assert!(out.contains("CREATE TABLE t(a);\n"), "{out}");
    assert!(out.contains("CREATE TRIGGER tr"), "{out}");
    assert!(out.contains("last\n----\n   1\n(1 row, "), "{out}");
    for (script, words, expected) in [
        ("SELECT 1;\n\nSELEC;\nSELECT 2;\n", "syntax", 1),
        ("SELECT 1;\n\n.unknown\nSELECT 2;\n", ".unknown", 2),
    ] {
        let (out, err, code) = shell(&orama, script).await;
        assert_eq!(code, expected, "{err}");
        assert!(err.contains(words) && err.contains("line 3"), "{err}");
        assert_eq!(out.matches("(1 row)").count(), 1, "{out}");
    }
    let (out, err, code) = shell(&orama, "SELECT 1;\n.quit\nSELECT 2;\n").await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(out.matches("(1 row)").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_goes_out_and_in_again() {
    let node = Node::start().await;
    let (_tenant, orama) = tenant(&node, "source").await;
    let mut script = String::from(
        "CREATE TABLE parent(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);\n\
         CREATE TABLE child(id INTEGER PRIMARY KEY, parent REFERENCES parent(id), data BLOB, r REAL);\n\
         CREATE INDEX by_parent ON child(parent);\n\
         CREATE VIEW names AS SELECT name FROM parent;\n",
    );
    for n in 0..250 {
        script.push_str(&format!(
            "INSERT INTO parent(name) VALUES('it''s; {n}\nline');\n"
        ));
        script.push_str(&format!(
            "INSERT INTO child VALUES({n}, {}, x'00ff', {n}.5);\n",
            n + 1
        ));
    }
    let file = orama.home().join("in.sql");
    std::fs::write(&file, &script).unwrap();
    let said = orama.ok(&["db", "import", "in.sql"]).await;
    assert!(
        said.contains("Imported 504 statement(s) in 6 transaction(s)."),
        "{said}"
    );

    let said = orama.ok(&["db", "export", "out.db"]).await;
    assert!(said.contains("out.db"), "{said}");
    let bytes = std::fs::read(orama.home().join("out.db")).unwrap();
    assert!(bytes.starts_with(b"SQLite format 3\0"));
    orama.run(&["db", "export", "out.db"]).await.expect_code(2);
    orama.ok(&["db", "export", "out.db", "--force"]).await;
    orama.ok(&["db", "export", "out.sql"]).await;
    let text = std::fs::read_to_string(orama.home().join("out.sql")).unwrap();
    assert!(
        text.contains("CREATE TABLE parent") && !text.contains("_orama_"),
        "{text}"
    );

    let sums = "SELECT (SELECT count(*) FROM parent) AS p, (SELECT count(*) FROM child) AS c, \
                (SELECT sum(r) FROM child) AS r, (SELECT max(seq) FROM sqlite_sequence) AS s, \
                (SELECT count(*) FROM names WHERE name LIKE '%' || char(10) || 'line') AS v";
    let before = orama.json(&["db", "query", sums]).await;
    assert_eq!(before["items"][0]["p"], 250);
    for (name, file) in [("from-db", "out.db"), ("from-sql", "out.sql")] {
        let (_, target) = tenant(&node, name).await;
        let path = orama.home().join(file).display().to_string();
        target.ok(&["db", "import", &path]).await;
        let after = target.json(&["db", "query", sums]).await;
        assert_eq!(after["items"], before["items"], "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_fails_says_where_and_what_is_in() {
    let node = Node::start().await;
    let (_tenant, orama) = tenant(&node, "failing").await;
    let mut script = String::from("CREATE TABLE t(a INTEGER PRIMARY KEY);\n");
    for n in 1..120 {
        script.push_str(&format!("INSERT INTO t VALUES({n});\n"));
    }
    script.push_str("INSERT INTO t VALUES(1);\nINSERT INTO t VALUES(1000);\n");
    std::fs::write(orama.home().join("a.sql"), &script).unwrap();
    let said = orama.run(&["db", "import", "a.sql"]).await.expect_code(1);
    for part in ["line 121", "UNIQUE", "100 statement(s) before", "line 101"] {
        assert!(said.stderr.contains(part), "{part}: {said:?}");
    }
    let rows = orama
        .json(&["db", "query", "SELECT max(a) AS m FROM t"])
        .await;
    assert_eq!(rows["items"], json!([{"m": 99}]));
    for (name, content, words) in [
        ("b.sql", &b"SELECT '\xff';"[..], "UTF-8"),
        ("c.db", b"no such file", "c.db"),
        ("d.csv", b"a,b", ".sql"),
    ] {
        std::fs::write(orama.home().join(name), content).unwrap();
        let said = orama.run(&["db", "import", name]).await;
        assert!(said.code != 0 && said.stderr.contains(words), "{said:?}");
    }
    orama
        .run(&["db", "import", "nowhere.sql"])
        .await
        .expect_code(1);
}

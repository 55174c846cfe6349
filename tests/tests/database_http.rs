//! The database over HTTP: every endpoint and its statuses (CONTRACT 2.10),
//! and input that is wrong in every way, after which what was there is there.

use std::time::{Duration, Instant};

use orama_proto::error::ErrorCode;
use orama_tests::{Node, Reply, Tenant};
use reqwest::Method;
use serde_json::{Value, json};

const INVALID: ErrorCode = ErrorCode::ValidationFailed;
const TOO_LARGE: ErrorCode = ErrorCode::PayloadTooLarge;

async fn post(tenant: &Tenant, endpoint: &str, body: Value) -> Reply {
    let path = format!("/v1/rqlite/{endpoint}");
    tenant.json(Method::POST, &path, &body).await
}

/// A body byte by byte.
async fn raw(tenant: &Tenant, endpoint: &str, body: impl Into<Vec<u8>>) -> Reply {
    let path = format!("/v1/rqlite/{endpoint}");
    tenant.call(Method::POST, &path, body).await
}

async fn exec(tenant: &Tenant, sql: &str, args: Value) -> Value {
    let reply = post(tenant, "exec", json!({"sql": sql, "args": args})).await;
    reply.expect(200).json()
}

async fn items(tenant: &Tenant, sql: &str) -> Value {
    let reply = post(tenant, "query", json!({"sql": sql})).await;
    reply.expect(200).json()["items"].clone()
}

/// A tenant with a table that must survive everything.
async fn steady(node: &Node, namespace: &str) -> Tenant {
    let tenant = node.tenant(namespace).await;
    exec(
        &tenant,
        "CREATE TABLE steady(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER)",
        json!([]),
    )
    .await;
    exec(
        &tenant,
        "INSERT INTO steady(name, n) VALUES(?, ?), (?, ?)",
        json!(["a", 1, "b", null]),
    )
    .await;
    tenant
}

async fn unharmed(tenant: &Tenant) {
    assert_eq!(
        items(tenant, "SELECT * FROM steady ORDER BY id").await,
        json!([{"id": 1, "name": "a", "n": 1}, {"id": 2, "name": "b", "n": null}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_and_their_answers() {
    let node = Node::start().await;
    let tenant = node.tenant("answers").await;
    // Before its first write a database is empty.
    assert_eq!(items(&tenant, "SELECT 1 AS a").await, json!([{"a": 1}]));
    let empty = tenant.get("/v1/rqlite/schema").await.expect(200).json();
    assert_eq!((&empty["tables"], &empty["count"]), (&json!([]), &json!(0)));

    let made = post(
        &tenant,
        "create-table",
        json!({"schema": "CREATE TABLE t(id INTEGER PRIMARY KEY, v)"}),
    )
    .await
    .expect(201);
    assert_eq!(made.json(), json!({"status": "ok"}));
    let done = exec(&tenant, "INSERT INTO t(v) VALUES(?), (?)", json!([1, "x"])).await;
    assert_eq!(
        done,
        json!({"rows_affected": 2, "last_insert_id": 2, "execution_state": "ok"})
    );
    let done = exec(
        &tenant,
        "UPDATE t SET v = v WHERE id = ? RETURNING id",
        json!([1]),
    )
    .await;
    assert_eq!(done["rows"], json!([{"id": 1}]));
    let none = exec(&tenant, "DELETE FROM t WHERE id = 99", json!([])).await;
    assert_eq!(none["rows_affected"], 0);

    let reply = post(
        &tenant,
        "query",
        json!({"sql": "SELECT id, v FROM t WHERE id > ? ORDER BY id", "args": [0]}),
    )
    .await
    .expect(200);
    assert_eq!(
        reply.text(),
        r#"{"items":[{"id":1,"v":1},{"id":2,"v":"x"}],"count":2,"columns":["id","v"]}"#
    );
    assert_eq!(items(&tenant, "SELECT * FROM t WHERE 0").await, json!([]));

    let schema = tenant.get("/v1/rqlite/schema").await.expect(200).json();
    assert_eq!(
        schema["count"], 1,
        "the platform's own table is not shown: {schema}"
    );
    assert_eq!(schema["tables"][0]["name"], "t");
    assert_eq!(schema["tables"][0]["type"], "table");
    assert!(
        schema["tables"][0]["sql"]
            .as_str()
            .unwrap()
            .starts_with("CREATE TABLE t")
    );

    let dropped = post(&tenant, "drop-table", json!({"table": "t"})).await;
    assert_eq!(dropped.expect(200).json(), json!({"status": "ok"}));
    // As upstream: what is not there is dropped, too.
    post(&tenant, "drop-table", json!({"table": "t"}))
        .await
        .expect(200);
    post(&tenant, "query", json!({"sql": "SELECT * FROM t"}))
        .await
        .expect_error(INVALID, &["no such table", "t"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn structured_requests() {
    let node = Node::start().await;
    let tenant = steady(&node, "structured").await;
    let found = post(
        &tenant,
        "find",
        json!({"table": "steady", "criteria": {"name": "a"}, "options": {"limit": 5}}),
    )
    .await
    .expect(200)
    .json();
    assert_eq!(found["count"], 1);
    assert_eq!(found["items"][0]["n"], 1);
    let found = post(
        &tenant,
        "find",
        json!({"table": "steady", "criteria": {"n": null}, "order_by": ["id DESC"]}),
    )
    .await;
    assert_eq!(found.expect(200).json()["items"][0]["name"], "b");
    let one = post(
        &tenant,
        "find-one",
        json!({"table": "steady", "criteria": {"id": 2}}),
    )
    .await;
    assert_eq!(
        one.expect(200).json(),
        json!({"id": 2, "name": "b", "n": null})
    );
    post(
        &tenant,
        "find-one",
        json!({"table": "steady", "criteria": {"id": 3}}),
    )
    .await
    .expect_error(ErrorCode::NotFound, &["not found"]);
    // A column that is none is an error, and not the text of its name.
    post(
        &tenant,
        "find",
        json!({"table": "steady", "criteria": {"nothing": "nothing"}}),
    )
    .await
    .expect_error(INVALID, &["no such column"]);
    post(
        &tenant,
        "find",
        json!({"table": "steady; DROP TABLE steady"}),
    )
    .await
    .expect_error(INVALID, &["no such table"]);

    let selected = post(
        &tenant,
        "select",
        json!({"table": "steady", "alias": "s", "select": ["s.name", "o.name AS other"],
               "joins": [{"kind": "LEFT", "table": "steady o", "on": "o.id = s.id + 1"}],
               "where": [{"expr": "s.id = ?", "args": [1]}, {"conj": "OR", "expr": "s.n IS NULL"}],
               "order_by": ["s.id"], "limit": 10, "offset": 0}),
    )
    .await
    .expect(200)
    .json();
    assert_eq!(
        selected["items"],
        json!([{"name": "a", "other": "b"}, {"name": "b", "other": null}])
    );
    // What the SDK sends for count() and getOne(), which reads `items`.
    let count = post(
        &tenant,
        "select",
        json!({"table": "steady", "select": ["COUNT(*) AS count"], "one": true}),
    )
    .await;
    assert_eq!(
        count.expect(200).json(),
        json!({"count": 2, "items": [{"count": 2}]})
    );
    post(
        &tenant,
        "select",
        json!({"table": "steady", "where": [{"expr": "0"}], "one": true, "limit": 1}),
    )
    .await
    .expect_error(ErrorCode::NotFound, &[]);
    unharmed(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions() {
    let node = Node::start().await;
    let tenant = steady(&node, "transactions").await;
    let ops = json!([
        {"kind": "exec", "sql": "INSERT INTO steady(name) VALUES(?)", "args": ["c"]},
        {"kind": "query", "sql": "SELECT count(*) AS n FROM steady"},
        {"kind": "exec", "sql": "DELETE FROM steady WHERE name = 'c'"},
    ]);
    let done = post(
        &tenant,
        "transaction",
        json!({"ops": ops, "return_results": true}),
    )
    .await;
    assert_eq!(
        done.expect(200).json(),
        json!({"status": "ok", "results": [
            {"rows_affected": 1, "last_insert_id": 3},
            [{"n": 3}],
            {"rows_affected": 1, "last_insert_id": 3},
        ]})
    );
    let plain = post(
        &tenant,
        "transaction",
        json!({"statements": ["UPDATE steady SET n = n", "UPDATE steady SET n = n"]}),
    )
    .await;
    assert_eq!(plain.expect(200).json(), json!({"status": "ok"}));

    let rolled_back = post(
        &tenant,
        "transaction",
        json!({"ops": [
            {"kind": "exec", "sql": "DELETE FROM steady"},
            {"kind": "exec", "sql": "INSERT INTO steady(id, name) VALUES(1, 'x'), (2, 'x')"},
        ]}),
    )
    .await
    .expect(409);
    let body = rolled_back.json();
    assert_eq!(body["status"], "rollback");
    assert_eq!(body["failed_index"], 1);
    assert_eq!(body["code"], "CONSTRAINT_VIOLATION");
    assert!(body["error"].as_str().unwrap().contains("UNIQUE"), "{body}");
    assert_eq!(body["request_id"], rolled_back.request_id());
    let malformed = json!({"ops": [{"kind": "exec", "sql": "DELETE FROM steady"}, {"kind": "query", "sql": "SELEC"}]});
    let body = post(&tenant, "transaction", malformed)
        .await
        .expect(409)
        .json();
    assert_eq!(
        (&body["failed_index"], &body["code"]),
        (&json!(1), &json!("INVALID_ARGUMENT"))
    );

    let op = json!({"kind": "exec", "sql": "DELETE FROM steady"});
    post(
        &tenant,
        "transaction",
        json!({"ops": vec![op.clone(); 101]}),
    )
    .await
    .expect_error(INVALID, &["100"]);
    for (body, words) in [
        (json!({}), &["ops"][..]),
        (json!({"ops": []}), &["ops"]),
        (
            json!({"ops": [{"kind": "drop", "sql": "DELETE FROM steady"}]}),
            &["ops[0].kind"],
        ),
        (json!({"ops": [op, {"kind": "exec"}]}), &["ops[1].sql"]),
        (
            json!({"ops": [{"kind": "exec", "sql": "SELECT ?", "args": [[1]]}]}),
            &["ops[0].args[0]"],
        ),
        (json!({"ops": "all"}), &["ops"]),
        (json!({"statement": ["DELETE FROM steady"]}), &["statement"]),
    ] {
        post(&tenant, "transaction", body)
            .await
            .expect_error(INVALID, words);
    }
    unharmed(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn integers_and_bytes_are_exact() {
    let node = Node::start().await;
    let tenant = node.tenant("exact").await;
    exec(&tenant, "CREATE TABLE t(v)", json!([])).await;
    let numbers = [
        "9007199254740993",
        "9223372036854775807",
        "-9223372036854775808",
    ];
    for number in numbers {
        let body = format!(r#"{{"sql":"INSERT INTO t VALUES(?)","args":[{number}]}}"#);
        raw(&tenant, "exec", body).await.expect(200);
    }
    let reply = post(
        &tenant,
        "query",
        json!({"sql": "SELECT v FROM t ORDER BY rowid"}),
    )
    .await;
    for number in numbers {
        assert!(
            reply.text().contains(&format!("{{\"v\":{number}}}")),
            "{reply:?}"
        );
    }
    for (args, words) in [
        ("[9223372036854775808]", &["args[0]", "range"][..]),
        ("[-9223372036854775809]", &["args[0]", "range"]),
        ("[1e999]", &["args[0]"]),
        ("[NaN]", &["JSON"]),
        ("[[1]]", &["args[0]", "array"]),
        ("[{\"a\":1}]", &["args[0]"]),
        ("{}", &["args"]),
        ("7", &["args"]),
    ] {
        let body = format!(r#"{{"sql":"INSERT INTO t VALUES(?)","args":{args}}}"#);
        let reply = raw(&tenant, "exec", body).await;
        reply.expect_error(INVALID, words);
    }
    let blob = exec(
        &tenant,
        "INSERT INTO t VALUES(?) RETURNING v",
        json!([{"blob": "AP8="}]),
    )
    .await;
    assert_eq!(blob["rows"], json!([{"v": "AP8="}]));
    assert_eq!(
        items(&tenant, "SELECT count(*) AS n FROM t").await,
        json!([{"n": 4}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_wrong() {
    let node = Node::start().await;
    let tenant = steady(&node, "bodies").await;
    for endpoint in [
        "query",
        "exec",
        "find",
        "find-one",
        "select",
        "transaction",
        "create-table",
        "drop-table",
    ] {
        for body in [
            &b""[..],
            b"{",
            b"{}",
            b"{\"sql\":\"\xff\"}",
            b"null",
            b"{\"nothing\":1}",
        ] {
            raw(&tenant, endpoint, body)
                .await
                .expect_error(INVALID, &[]);
        }
        let deep = "[".repeat(100_000);
        raw(&tenant, endpoint, deep)
            .await
            .expect_error(INVALID, &[]);
        let large = vec![b' '; (4 << 20) + 1];
        raw(&tenant, endpoint, large)
            .await
            .expect_error(TOO_LARGE, &["4 MiB"]);
        let method = tenant.get(&format!("/v1/rqlite/{endpoint}")).await;
        assert_eq!(method.status, 405);
        let nobody = node
            .anonymous(Method::POST, &format!("/v1/rqlite/{endpoint}"), "{}")
            .await;
        assert_eq!(nobody.status, 401);
    }
    let user = node.user(&tenant, "0xabc", json!({})).await;
    post(&user, "query", json!({"sql": "SELECT 1"}))
        .await
        .expect_error(ErrorCode::Forbidden, &[]);
    for (endpoint, body, words) in [
        ("query", json!({"sql": "SELEC 1"}), &["syntax"][..]),
        ("query", json!({"sql": "SELECT 1; SELECT 2"}), &[]),
        (
            "query",
            json!({"sql": "SELECT ?", "args": []}),
            &["argument"],
        ),
        (
            "query",
            json!({"sql": "SELECT ?", "args": [1, 2]}),
            &["argument"],
        ),
        (
            "query",
            json!({"sql": "SELECT 1", "level": "fresh"}),
            &["level"],
        ),
        (
            "query",
            json!({"sql": "SELECT 1", "freshness": "soon"}),
            &["freshness"],
        ),
        ("query", json!({"sql": 7}), &["sql"]),
        (
            "query",
            json!({"sql": "DELETE FROM steady"}),
            &["/v1/rqlite/exec"],
        ),
        (
            "query",
            json!({"sql": "INSERT INTO steady(name) VALUES('x') RETURNING id"}),
            &["/v1/rqlite/exec"],
        ),
        ("exec", json!({"sql": "DELETE FROM"}), &["incomplete"]),
        (
            "exec",
            json!({"sql": "DELETE FROM steady; DELETE FROM steady"}),
            &[],
        ),
        ("exec", json!({"sql": "PRAGMA writable_schema = 1"}), &[]),
        ("exec", json!({"sql": "BEGIN"}), &[]),
        ("exec", json!({"sql": "VACUUM INTO 'x.db'"}), &[]),
        ("exec", json!({"sql": "DELETE FROM _orama_state"}), &[]),
        ("exec", json!({"sql": "DELETE FROM sqlite_master"}), &[]),
        (
            "create-table",
            json!({"schema": "DROP TABLE steady"}),
            &["schema", "create"],
        ),
        ("drop-table", json!({"table": ""}), &["table"]),
    ] {
        post(&tenant, endpoint, body)
            .await
            .expect_error(INVALID, words);
    }
    exec(&tenant, "INSERT INTO steady(name) VALUES('c')", json!([])).await;
    post(
        &tenant,
        "exec",
        json!({"sql": "INSERT INTO steady(name) VALUES('c')"}),
    )
    .await
    .expect_error(ErrorCode::Conflict, &["UNIQUE"]);
    exec(&tenant, "DELETE FROM steady WHERE name = 'c'", json!([])).await;
    // A statement of 1 MB.
    let long = format!(
        "INSERT INTO steady(name) VALUES('{}')",
        "x".repeat(1_000_000)
    );
    for endpoint in ["exec", "query"] {
        post(&tenant, endpoint, json!({"sql": long}))
            .await
            .expect_error(TOO_LARGE, &["262144"]);
    }
    unharmed(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_files_are_out_of_reach() {
    let node = Node::start().await;
    let tenant = steady(&node, "insider").await;
    let other = steady(&node, "victim").await;
    exec(&other, "CREATE TABLE treasure(a)", json!([])).await;
    // Every database of the node, wherever it lies.
    let mut files = Vec::new();
    let mut directories = vec![node.data_dir().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|e| e == "db") {
                files.push(path.display().to_string());
            }
        }
    }
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        for sql in [
            format!("ATTACH '{file}' AS other"),
            format!("ATTACH 'file:{file}?mode=rw' AS other"),
            format!("VACUUM INTO '{file}'"),
            format!("SELECT load_extension('{file}')"),
            format!("SELECT readfile('{file}')"),
        ] {
            for endpoint in ["exec", "query"] {
                let reply = post(&tenant, endpoint, json!({"sql": sql})).await;
                assert_eq!(reply.status, 400, "{sql}: {reply:?}");
            }
        }
    }
    for name in ["victim.treasure", "\"../victim\".treasure"] {
        let sql = format!("SELECT * FROM {name}");
        post(&tenant, "query", json!({"sql": sql}))
            .await
            .expect_error(INVALID, &[]);
    }
    unharmed(&tenant).await;
    unharmed(&other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runaway_statements_are_ended() {
    let node = Node::start().await;
    let tenant = steady(&node, "runaway").await;
    let endless = "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n) SELECT count(*) AS c FROM n";
    let began = Instant::now();
    let read = post(&tenant, "query", json!({"sql": endless})).await;
    assert_eq!(read.status, 504, "{read:?}");
    let write = post(
        &tenant,
        "exec",
        json!({"sql": format!("INSERT INTO steady(n) {endless}")}),
    )
    .await;
    assert_eq!(write.status, 504, "{write:?}");
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    let envelope = write.json();
    assert_eq!(envelope["error"]["retryable"], false, "{envelope}");

    // A trigger that never ends.
    exec(&tenant, "CREATE TABLE loops(a)", json!([])).await;
    exec(
        &tenant,
        "CREATE TRIGGER again AFTER INSERT ON loops BEGIN INSERT INTO loops VALUES(new.a + 1); END",
        json!([]),
    )
    .await;
    // SQLite runs a trigger once unless it is told otherwise, which nobody may.
    let reply = post(
        &tenant,
        "exec",
        json!({"sql": "PRAGMA recursive_triggers = ON"}),
    )
    .await;
    reply.expect_error(INVALID, &[]);
    let reply = post(
        &tenant,
        "exec",
        json!({"sql": "INSERT INTO loops VALUES(1)"}),
    )
    .await;
    assert!(
        reply.status == 200 || (400..=504).contains(&reply.status),
        "{reply:?}"
    );
    let rows = items(&tenant, "SELECT count(*) AS n FROM loops").await;
    assert!(rows[0]["n"].as_i64().unwrap() <= 2, "{rows}");
    unharmed(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_too_long_is_refused() {
    let node = Node::start().await;
    let tenant = steady(&node, "long").await;
    let many = "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n WHERE a < 1000000) SELECT a FROM n";
    post(&tenant, "query", json!({"sql": many}))
        .await
        .expect_error(TOO_LARGE, &["10000", "33554432"]);
    let some = items(&tenant, &format!("{many} LIMIT 10000")).await;
    assert_eq!(some.as_array().unwrap().len(), 10_000);
    // A million rows of a table, put in by one statement after the other.
    exec(&tenant, "CREATE TABLE big(a INTEGER)", json!([])).await;
    for start in 0..10 {
        let sql = format!(
            "WITH RECURSIVE n(a) AS (SELECT {0} UNION ALL SELECT a + 1 FROM n WHERE a < {0} + 99999) INSERT INTO big SELECT a FROM n",
            start * 100_000
        );
        let done = exec(&tenant, &sql, json!([])).await;
        assert_eq!(done["rows_affected"], 100_000);
    }
    post(&tenant, "query", json!({"sql": "SELECT * FROM big"}))
        .await
        .expect_error(TOO_LARGE, &["10000"]);
    post(&tenant, "find", json!({"table": "big"}))
        .await
        .expect_error(TOO_LARGE, &["10000"]);
    assert_eq!(
        items(&tenant, "SELECT count(*) AS n, max(a) AS m FROM big").await,
        json!([{"n": 1_000_000, "m": 999_999}])
    );
    unharmed(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_are_taken_from_body_and_query() {
    let node = Node::start().await;
    let tenant = steady(&node, "levels").await;
    for level in ["none", "weak", "strong", "linearizable"] {
        let body = json!({"sql": "SELECT count(*) AS n FROM steady", "level": level});
        let rows = post(&tenant, "query", body).await.expect(200).json();
        assert_eq!(rows["items"], json!([{"n": 2}]), "{level}");
        let path = format!("query?level={level}&freshness=10s");
        let body = json!({"sql": "SELECT count(*) AS n FROM steady"});
        let rows = post(&tenant, &path, body).await.expect(200).json();
        assert_eq!(rows["count"], 1, "{level}");
    }
    post(&tenant, "query?level=some", json!({"sql": "SELECT 1"}))
        .await
        .expect_error(INVALID, &["level"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_an_sqlite_file() {
    let node = Node::start().await;
    let tenant = steady(&node, "export").await;
    let file = tenant.get("/v1/rqlite/export").await.expect(200);
    assert_eq!(file.header("content-type"), "application/vnd.sqlite3");
    assert!(file.header("content-disposition").contains("export.db"));
    assert_eq!(file.header("content-length"), file.body.len().to_string());
    assert!(file.body.starts_with(b"SQLite format 3\0"));
    let nobody = node.anonymous(Method::GET, "/v1/rqlite/export", "").await;
    assert_eq!(nobody.status, 401);
    // A namespace without a database has an empty one.
    let empty = node.tenant("nothing").await;
    let file = empty.get("/v1/rqlite/export").await.expect(200);
    assert!(file.body.is_empty() || file.body.starts_with(b"SQLite format 3\0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sees_databases_and_their_hashes() {
    let node = Node::start().await;
    let tenant = steady(&node, "seen").await;
    let mut all = Vec::new();
    for group in 1..=4 {
        let path = format!("/v1/admin/cluster/groups/data-{group}/databases");
        let reply = node
            .admin(Method::GET, &path, None)
            .await
            .expect(200)
            .json();
        assert_eq!(reply["count"], reply["databases"].as_array().unwrap().len());
        all.extend(reply["databases"].as_array().unwrap().clone());
        tenant
            .get(&path)
            .await
            .expect_error(ErrorCode::Forbidden, &[]);
    }
    let own: Vec<&Value> = all.iter().filter(|d| d["namespace"] == "seen").collect();
    assert_eq!(own.len(), 1, "{all:?}");
    assert!(own[0]["applied"].as_u64().unwrap() > 0, "{own:?}");
    assert!(own[0]["bytes"].as_u64().unwrap() >= 4096, "{own:?}");
    let hash = own[0]["hash"].as_str().unwrap();
    assert!(!hash.is_empty() && hash.bytes().all(|b| b.is_ascii_hexdigit()));
    assert!(own[0].get("fenced").is_none());
    for (group, status) in [("data-99", 404), ("99", 404), ("x", 400)] {
        let path = format!("/v1/admin/cluster/groups/{group}/databases");
        assert_eq!(
            node.admin(Method::GET, &path, None).await.status,
            status,
            "{group}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_goes_with_its_namespace_and_survives_a_restart() {
    let mut node = Node::start().await;
    let tenant = steady(&node, "lasting").await;
    node.crash_and_restart().await;
    unharmed(&tenant).await;
    node.admin(Method::DELETE, "/v1/admin/namespaces/lasting", None)
        .await
        .expect(200);
    let again = node.tenant("lasting").await;
    let schema = again.get("/v1/rqlite/schema").await.expect(200).json();
    assert_eq!(schema["count"], 0, "{schema}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_has_a_size() {
    let node = Node::builder()
        .arg("--database-max-bytes=1MiB")
        .start()
        .await;
    let tenant = steady(&node, "small").await;
    exec(&tenant, "CREATE TABLE b(v)", json!([])).await;
    let mut full = None;
    for _ in 0..20 {
        let reply = post(
            &tenant,
            "exec",
            json!({"sql": "INSERT INTO b VALUES(hex(zeroblob(50000)))"}),
        )
        .await;
        if reply.status != 200 {
            full = Some(reply);
            break;
        }
    }
    let full = full.expect("a full database");
    full.expect_error(ErrorCode::StorageQuotaExceeded, &[]);
    // Room can be made.
    exec(&tenant, "DELETE FROM b", json!([])).await;
    exec(&tenant, "INSERT INTO b VALUES(1)", json!([])).await;
    unharmed(&tenant).await;
}

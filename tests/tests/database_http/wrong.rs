//! Input that is wrong in every way.

use super::*;

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

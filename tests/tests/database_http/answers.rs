//! What is answered: statements, transactions, exact values.

use super::*;

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

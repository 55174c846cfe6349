//! Statements and results that are too much.

use std::time::{Duration, Instant};

use super::*;

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

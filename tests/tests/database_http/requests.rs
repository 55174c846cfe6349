//! Structured requests, and how fresh a read must be.

use super::*;

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

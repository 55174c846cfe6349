//! The file itself: exports, what the operator sees, what becomes of it.

use super::*;

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

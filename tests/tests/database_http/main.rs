//! The database over HTTP: every endpoint and its statuses (CONTRACT 2.10),
//! and input that is wrong in every way, after which what was there is there.

mod answers;
mod databases;
mod requests;
mod runaway;
mod wrong;

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

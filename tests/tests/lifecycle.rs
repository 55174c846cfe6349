//! The life of a function on one node: deploy, invoke, versions, rollback,
//! disable, delete, logs, and all of it again after a restart (CONTRACT 2, 8, 12).

use std::time::Duration;

use orama_proto::error::ErrorCode;
use orama_proto::function::FunctionStatus;
use orama_proto::invocation::LogLevel;
use orama_tests::{Deploy, Node, expect_success, guests, raw};
use reqwest::Method;
use serde_json::{Value, json};

const NOT_FOUND: ErrorCode = ErrorCode::NotFound;

#[tokio::test(flavor = "multi_thread")]
async fn a_function_lives_and_ends() {
    let node = Node::start().await;
    let tenant = node.tenant("acme").await;
    assert_eq!(
        tenant.get("/v1/functions").await.expect(200).json(),
        json!({"functions": [], "count": 0})
    );

    // Checklist 1: the deploy form as the contract writes it, byte by byte.
    let body = raw::multipart(&[
        ("name", None, b"greet"),
        ("is_public", None, b"false"),
        ("memory_limit_mb", None, b"32"),
        ("timeout_seconds", None, b"7"),
        ("retry_count", None, b"0"),
        ("retry_delay_seconds", None, b"5"),
        (
            "metadata",
            None,
            br#"{"env_vars":{"GREETING":"hello","EMPTY":""}}"#,
        ),
        (
            "wasm",
            Some("function.wasm"),
            &guests::constant("{\"v\":1}"),
        ),
    ]);
    let kind = format!("multipart/form-data; boundary={}", raw::BOUNDARY);
    let reply = tenant
        .request(Method::POST, "/v1/functions")
        .header("content-type", &kind)
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 201);
    let said: Value = reply.json().await.unwrap();
    let first = &said["function"];
    assert_eq!(said["message"], "Function deployed successfully");
    assert_eq!(first["version"], 1);
    assert_eq!(first["memory_limit_mb"], 32);
    assert_eq!(first["timeout_seconds"], 7);
    assert_eq!(first["status"], "active");
    assert_eq!(first["created_by"], "acme");
    assert_eq!(first["env_keys"], json!(["EMPTY", "GREETING"]));
    assert!(
        !said.to_string().contains("hello"),
        "values of the environment are never shown"
    );
    assert!(first["wasm_cid"].as_str().unwrap().starts_with("bafkrei"));
    assert!(uuid::Uuid::parse_str(first["id"].as_str().unwrap()).is_ok());

    let second = tenant
        .deploy(Deploy::new("greet", &guests::constant("{\"v\":2}")))
        .await;
    assert_eq!(second.version, 2);
    assert_eq!(second.id, first["id"].as_str().unwrap());
    assert_eq!(
        (
            second.memory_limit_mb,
            second.timeout_seconds,
            second.is_public
        ),
        (64, 30, false)
    );
    assert!(second.env_keys.is_empty(), "settings belong to the version");

    // Checklist 2: every version by its number, the latest without one.
    for (name, expected, version) in [
        ("greet", "{\"v\":2}", 2),
        ("greet@1", "{\"v\":1}", 1),
        ("greet@2", "{\"v\":2}", 2),
    ] {
        let (reply, record) = expect_success(&tenant, name, "").await;
        assert_eq!(reply.text(), expected);
        assert_eq!(record.version, version);
    }
    tenant
        .invoke("greet@99", "")
        .await
        .expect_error(NOT_FOUND, &["99"]);
    assert_eq!(
        tenant.get("/v1/functions/greet@1").await.expect(200).json()["version"],
        1
    );
    assert_eq!(
        tenant.get("/v1/functions/greet").await.expect(200).json()["version"],
        2
    );
    let direct = tenant
        .call(Method::POST, "/v1/invoke/acme/greet@1", "")
        .await;
    assert_eq!(direct.output(), b"{\"v\":1}");

    // The same bytes and settings still make a new version.
    let third = tenant
        .deploy(Deploy::new("greet", &guests::constant("{\"v\":2}")))
        .await;
    assert_eq!((third.version, &third.wasm_cid), (3, &second.wasm_cid));
    let versions: Vec<u64> = tenant
        .versions("greet")
        .await
        .iter()
        .map(|v| v.version)
        .collect();
    assert_eq!(versions, [3, 2, 1]);

    // Rollback publishes a copy.
    let reply = tenant
        .json(
            Method::POST,
            "/v1/functions/greet/rollback",
            &json!({"version": 1}),
        )
        .await;
    assert!([200, 201].contains(&reply.status), "{reply:?}");
    let rolled = &reply.json()["function"];
    assert_eq!(
        (&rolled["version"], &rolled["rolled_back_from"]),
        (&json!(4), &json!(1))
    );
    assert_eq!(
        (&rolled["memory_limit_mb"], &rolled["wasm_cid"]),
        (&json!(32), &first["wasm_cid"])
    );
    assert_eq!(tenant.invoke("greet", "").await.output(), b"{\"v\":1}");
    tenant
        .json(
            Method::POST,
            "/v1/functions/greet/rollback",
            &json!({"version": 77}),
        )
        .await
        .expect_error(NOT_FOUND, &[]);

    // Disable and enable.
    let off = tenant
        .call(Method::POST, "/v1/functions/greet/disable", "")
        .await
        .expect(200);
    assert_eq!(
        off.json(),
        json!({"status": "ok", "function": "greet", "enabled": false})
    );
    for name in ["greet", "greet@1", "greet@4"] {
        tenant.invoke(name, "").await.expect_error(NOT_FOUND, &[]);
    }
    let on = tenant
        .call(Method::POST, "/v1/functions/greet/enable", "")
        .await
        .expect(200);
    assert_eq!(on.json()["enabled"], true);
    assert_eq!(tenant.invoke("greet", "").await.output(), b"{\"v\":1}");

    // One version alone goes; the next lower is the latest.
    tenant
        .call(Method::DELETE, "/v1/functions/greet@4", "")
        .await
        .expect(200);
    tenant
        .invoke("greet@4", "")
        .await
        .expect_error(NOT_FOUND, &[]);
    assert_eq!(tenant.invoke("greet", "").await.output(), b"{\"v\":2}");

    // Delete: everything about it is 404, but the logs stay.
    let gone = tenant
        .call(Method::DELETE, "/v1/functions/greet", "")
        .await
        .expect(200);
    assert_eq!(gone.json()["message"], "Function deleted successfully");
    for name in ["greet", "greet@1", "greet@2", "greet@3"] {
        tenant.invoke(name, "").await.expect_error(NOT_FOUND, &[]);
        tenant
            .get(&format!("/v1/functions/{name}"))
            .await
            .expect_error(NOT_FOUND, &[]);
    }
    tenant
        .call(Method::DELETE, "/v1/functions/greet", "")
        .await
        .expect_error(NOT_FOUND, &[]);
    tenant
        .call(Method::POST, "/v1/functions/greet/enable", "")
        .await
        .expect_error(NOT_FOUND, &[]);
    assert!(tenant.functions().await.is_empty());
    assert!(
        !tenant.logs("greet").await.invocations.is_empty(),
        "logs outlive the function"
    );

    // A redeploy goes on counting.
    let reborn = tenant
        .deploy(Deploy::new("greet", &guests::constant("5")))
        .await;
    assert_eq!(reborn.version, 5);
    assert_eq!(tenant.invoke("greet", "").await.output(), b"5");
    tenant
        .invoke("greet@1", "")
        .await
        .expect_error(NOT_FOUND, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_their_shapes() {
    let node = Node::start().await;
    let tenant = node.tenant("shapes").await;
    tenant.deploy(Deploy::new("echo", &guests::echo())).await;

    // JSON goes out as it is, whatever kind of value it is.
    for text in [
        "{\"a\": [1, 2.50]}",
        "[]",
        "\"text\"",
        "42",
        "true",
        "null",
        " {\"spaces\":1}\n",
    ] {
        let (reply, record) = expect_success(&tenant, "echo", text).await;
        assert_eq!(reply.text(), text);
        assert_eq!(record.output_size, text.len() as u64);
    }
    // Anything else is wrapped; so is what only begins like JSON.
    for text in [
        "",
        "plain words",
        "{broken",
        "[1,2",
        "žluťoučký 🐎 \"quoted\"\n",
    ] {
        let (reply, record) = expect_success(&tenant, "echo", text).await;
        let body = reply.json();
        assert_eq!(body["output"], text);
        assert_eq!(body["status"], "success");
        assert_eq!(body["request_id"], reply.request_id());
        assert_eq!(body["duration_ms"], record.duration_ms);
        assert!(body.get("output_base64").is_none(), "{body}");
    }
    // Bytes that are no text come a second time in base64.
    let (reply, _) = expect_success(&tenant, "echo", vec![0xff, 0x00, 0xfe, b'a']).await;
    let body = reply.json();
    assert_eq!(body["output"], "\u{fffd}\u{0}\u{fffd}a");
    assert_eq!(body["output_base64"], "/wD+YQ==");

    // Two requests never share an id.
    let (one, two) = tokio::join!(tenant.invoke("echo", ""), tenant.invoke("echo", ""));
    assert_ne!(one.request_id(), two.request_id());
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_tell_both_generations() {
    let node = Node::start().await;
    let tenant = node.tenant("logged").await;
    tenant.deploy(Deploy::new("talk", &guests::c("ops"))).await;
    let mut ids = Vec::new();
    for marker in ["one", "two", "three"] {
        let input = format!("hostcalls orama none none none {marker} 0");
        let (reply, record) = expect_success(&tenant, "talk", input).await;
        let lines: Vec<_> = record
            .wasm_logs
            .iter()
            .map(|l| (l.level, l.message.as_str()))
            .collect();
        assert_eq!(lines, [(LogLevel::Info, marker), (LogLevel::Error, marker)]);
        ids.push(reply.request_id());
    }
    // Checklist 13: one body for both clients, newest first.
    let logs = tenant.logs("talk").await;
    assert_eq!(logs.name, "talk");
    let seen: Vec<_> = logs
        .invocations
        .iter()
        .map(|r| r.request_id.to_string())
        .collect();
    ids.reverse();
    assert_eq!(seen, ids);
    assert_eq!(logs.logs.len(), 6);
    assert_eq!(logs.logs[0].message, "three");
    assert!(
        logs.logs
            .windows(2)
            .all(|w| w[0].timestamp >= w[1].timestamp)
    );
    let limited = tenant
        .get("/v1/functions/talk/logs?limit=1")
        .await
        .expect(200)
        .json();
    assert_eq!(
        (
            &limited["count"],
            limited["invocations"].as_array().unwrap().len()
        ),
        (&json!(1), 1)
    );
    let lines = tenant
        .get("/v1/functions/talk/logs?wasm_only=1")
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&lines["count"], lines["logs"].as_array().unwrap().len()),
        (&json!(6), 6)
    );
    tenant
        .get("/v1/functions/nobody/logs")
        .await
        .expect_error(NOT_FOUND, &["function"]);
    tenant
        .get("/v1/functions/nobody/versions")
        .await
        .expect_error(NOT_FOUND, &["function"]);
    tenant
        .get("/v1/functions/talk/logs?limit=many")
        .await
        .expect_error(ErrorCode::ValidationFailed, &["limit"]);

    // Lines and their number have limits; what is over is counted, not lost in silence.
    let (_, record) = expect_success(&tenant, "talk", "log 1100 10").await;
    assert_eq!(record.wasm_logs.len(), 1_000);
    assert_eq!(record.dropped_log_lines, 100);
    let (_, record) = expect_success(&tenant, "talk", "log 1 20000").await;
    assert!(
        record.wasm_logs[0].message.len() <= 16 * 1024 + 64,
        "{}",
        record.wasm_logs[0].message.len()
    );
    assert!(record.wasm_logs[0].message.len() >= 16 * 1024 - 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_all_and_compiles_nothing() {
    let mut node = Node::start().await;
    let tenant = node.tenant("kept").await;
    let user = node.user(&tenant, "alice", json!({})).await;
    let (echo, ops) = (guests::go("echo"), guests::c("ops"));
    tenant.deploy(Deploy::new("first", &echo)).await;
    let compiled = node.metric("orama_runtime_compilations_total").await;
    assert!(compiled >= 1.0);
    // The same bytes under another name, with other settings: nothing to compile.
    tenant
        .deploy(Deploy::new("second", &echo).memory(128))
        .await;
    assert_eq!(
        node.metric("orama_runtime_compilations_total").await,
        compiled
    );
    tenant
        .deploy(Deploy::new("third", &ops).env("WHO", "me"))
        .await;
    tenant
        .deploy(Deploy::new("third", &guests::constant("1")))
        .await;
    tenant
        .call(Method::DELETE, "/v1/functions/third@2", "")
        .await
        .expect(200);
    tenant
        .deploy(Deploy::new("off", &guests::constant("2")))
        .await;
    tenant
        .call(Method::POST, "/v1/functions/off/disable", "")
        .await
        .expect(200);
    tenant.set_secret("KEY", "value").await;
    let (said, record) = expect_success(&tenant, "first", "before").await;
    let before = (
        tenant.functions().await,
        tenant.versions("third").await,
        tenant.secrets().await,
    );

    for gentle in [true, false] {
        if gentle {
            node.stop().await;
        } else {
            node.kill();
        }
        let took = node.start_again().await;
        assert!(took < Duration::from_secs(2), "{took:?}");
        let after = (
            tenant.functions().await,
            tenant.versions("third").await,
            tenant.secrets().await,
        );
        assert_eq!(after, before);
        assert_eq!(
            tenant.invoke("first", "again").await.json()["output"],
            "again"
        );
        assert_eq!(
            user.invoke("second", "again").await.json()["output"],
            "again"
        );
        let hostcalls = tenant
            .invoke("third", "hostcalls env none WHO KEY marker 0")
            .await
            .json();
        assert_eq!(
            (&hostcalls["env"], &hostcalls["secret"]),
            (&json!("me"), &json!("value"))
        );
        tenant.invoke("off", "").await.expect_error(NOT_FOUND, &[]);
        assert_eq!(node.metric("orama_runtime_compilations_total").await, 0.0);
        let kept = tenant.logs("first").await;
        let kept = kept
            .invocations
            .iter()
            .find(|r| r.request_id.as_str() == said.request_id());
        assert_eq!(kept, Some(&record), "records survive a restart");
    }
    assert!(
        tenant
            .functions()
            .await
            .iter()
            .any(|f| f.name == "off" && f.status == FunctionStatus::Inactive)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_version_are_public() {
    let node = Node::start().await;
    for path in ["/health", "/v1/health"] {
        let body = node
            .anonymous(Method::GET, path, "")
            .await
            .expect(200)
            .json();
        assert_eq!(body["status"], "ok", "{body}");
        assert_eq!(body["server"]["status"], "ok", "{body}");
    }
    let version = node
        .anonymous(Method::GET, "/v1/version", "")
        .await
        .expect(200)
        .json();
    assert!(
        version["version"].is_string() && version["started_at"].is_string(),
        "{version}"
    );
    assert!(
        version["commit"].as_str().is_some_and(|it| !it.is_empty()),
        "{version}"
    );
    let preflight = node.anonymous(Method::OPTIONS, "/v1/functions", "").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), "*");
    let metrics = node.metrics_text().await;
    assert!(metrics.contains("orama_"));
    // A worker's actor starts with the first invocation on its thread.
    let tenant = node.tenant("actors").await;
    tenant.deploy(Deploy::new("echo", &guests::echo())).await;
    tenant.invoke("echo", "1").await.output();
    let actors = node
        .admin(Method::GET, "/v1/admin/actors", None)
        .await
        .expect(200)
        .json();
    assert!(actors.to_string().contains("worker"), "{actors}");
}

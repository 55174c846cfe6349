//! The life of a function on one node: deploy, invoke, versions, rollback,
//! disable, delete, logs, and all of it again after a restart (CONTRACT 2, 8, 12).

use std::time::{Duration, Instant};

use orama_proto::error::ErrorCode;
use orama_proto::function::FunctionStatus;
use orama_proto::invocation::{InvocationStatus, LogLevel};
use orama_tests::{
    Deploy, Node, await_records, expect_failure, expect_success, guests, http_client, raw,
};
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
async fn a_busy_loop_times_out() {
    let node = Node::start().await;
    let tenant = node.tenant("loops").await;
    let spin = guests::wat(
        r#"(module (memory (export "memory") 1)
            (func (export "_start") (loop $l (br $l))))"#,
    );
    tenant.deploy(Deploy::new("spin", &spin).timeout(1)).await;
    tenant.deploy(Deploy::new("echo", &guests::echo())).await;

    let began = Instant::now();
    let (_, record) = expect_failure(
        &tenant,
        "spin",
        "",
        ErrorCode::Timeout,
        &["function execution timeout"],
    )
    .await;
    assert!(
        began.elapsed() < Duration::from_millis(2_500),
        "{:?}",
        began.elapsed()
    );
    assert!((1_000..=1_300).contains(&record.duration_ms), "{record:?}");
    assert_eq!(record.status, InvocationStatus::Timeout);
    expect_success(&tenant, "echo", "still here").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_has_its_limit() {
    let node = Node::start().await;
    let tenant = node.tenant("memory").await;
    // Checklist 4: grow past the limit answers -1; the answer is 'R' for refused, 'G' for granted.
    let grow = |pages: u32| {
        guests::wat(&format!(
            r#"(module
                (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
                (memory (export "memory") 1)
                (data (i32.const 64) "RG")
                (func (export "_start")
                    (i32.store (i32.const 0) (i32.add (i32.const 64)
                        (i32.ne (memory.grow (i32.const {pages})) (i32.const -1))))
                    (i32.store (i32.const 4) (i32.const 1))
                    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
        ))
    };
    // 1 MiB is 16 pages: one is there, 15 more fit.
    tenant
        .deploy(Deploy::new("fits", &grow(15)).memory(1))
        .await;
    tenant
        .deploy(Deploy::new("over", &grow(16)).memory(1))
        .await;
    assert_eq!(tenant.invoke("fits", "").await.json()["output"], "G");
    assert_eq!(tenant.invoke("over", "").await.json()["output"], "R");
    let (_, record) = expect_success(&tenant, "fits", "").await;
    assert_eq!(record.memory_used_mb, 1);

    // A declared minimum over the limit is refused at deploy.
    let big = guests::wat(r#"(module (memory (export "memory") 17) (func (export "_start")))"#);
    tenant
        .try_deploy(Deploy::new("big", &big).memory(1))
        .await
        .expect_error(ErrorCode::ValidationFailed, &["memory", "1 MB"]);
    tenant.deploy(Deploy::new("big", &big).memory(2)).await;
    expect_success(&tenant, "big", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_and_allocators_are_checked_at_deploy() {
    let node = Node::start().await;
    let tenant = node.tenant("imports").await;
    let module = |import: &str| {
        guests::wat(&format!(
            r#"(module {import} (memory (export "memory") 1) (func (export "_start")))"#
        ))
    };
    let invalid = ErrorCode::ValidationFailed;
    // Checklist 5.
    tenant
        .try_deploy(Deploy::new(
            "foreign",
            &module(r#"(import "foo" "bar" (func))"#),
        ))
        .await
        .expect_error(invalid, &["module[foo] not instantiated", "bar"]);
    tenant
        .try_deploy(Deploy::new(
            "unknown",
            &module(r#"(import "env" "frobnicate" (func))"#),
        ))
        .await
        .expect_error(invalid, &["env", "frobnicate"]);
    tenant
        .try_deploy(Deploy::new(
            "mistyped",
            &module(r#"(import "host" "log_info" (func (param i64)))"#),
        ))
        .await
        .expect_error(invalid, &["host", "log_info"]);
    tenant
        .try_deploy(Deploy::new(
            "file",
            &module(r#"(import "wasi_snapshot_preview1" "sock_hop" (func))"#),
        ))
        .await
        .expect_error(invalid, &["wasi_snapshot_preview1", "sock_hop"]);
    let no_entry = guests::wat(r#"(module (memory (export "memory") 1) (func (export "main")))"#);
    tenant
        .try_deploy(Deploy::new("no-entry", &no_entry))
        .await
        .expect_error(invalid, &["_start"]);
    let no_memory = guests::wat(r#"(module (func (export "_start")))"#);
    tenant
        .try_deploy(Deploy::new("no-memory", &no_memory))
        .await
        .expect_error(invalid, &["memory"]);
    assert!(tenant.functions().await.is_empty());

    // Checklist 6: which allocator is used; none at all is refused where one is needed.
    tenant.set_secret("KEY", "value").await;
    for (name, exports, used) in [
        ("only-malloc", &["malloc"][..], "m"),
        ("only-orama-alloc", &["orama_alloc"][..], "o"),
        ("both", &["malloc", "orama_alloc"][..], "o"),
    ] {
        tenant
            .deploy(Deploy::new(name, &guests::secret_reader(exports)))
            .await;
        let (reply, _) = expect_success(&tenant, name, "KEY").await;
        assert_eq!(reply.json()["output"], format!("{used}value"), "{name}");
        let (reply, _) = expect_success(&tenant, name, "MISSING").await;
        assert_eq!(reply.json()["output"], "", "{name}");
    }
    tenant
        .try_deploy(Deploy::new("neither", &guests::secret_reader(&[])))
        .await
        .expect_error(invalid, &["get_secret", "malloc"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reactor_is_a_function_too() {
    let node = Node::start().await;
    let tenant = node.tenant("reactor").await;
    // `handle` answers its input; length in the high half (CONTRACT 1.2). `_initialize` leaves a mark in front.
    let reactor = guests::wat(
        r#"(module
            (memory (export "memory") 1)
            (func (export "_initialize") (i32.store8 (i32.const 1023) (i32.const 33)))
            (func (export "malloc") (param i32) (result i32) (i32.const 1024))
            (func (export "handle") (param i32 i32) (result i64)
                (i64.or
                    (i64.shl (i64.extend_i32_u (i32.add (local.get 1) (i32.const 1))) (i64.const 32))
                    (i64.const 1023))))"#,
    );
    tenant.deploy(Deploy::new("reactor", &reactor)).await;
    for input in ["one", "two three", ""] {
        let (reply, _) = expect_success(&tenant, "reactor", input).await;
        assert_eq!(reply.json()["output"], format!("!{input}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_decide() {
    let node = Node::start().await;
    let (ours, theirs) = (node.tenant("ours").await, node.tenant("theirs").await);
    ours.deploy(Deploy::new("private", &guests::echo())).await;
    ours.deploy(Deploy::new("public", &guests::echo()).public())
        .await;
    let user = node.user(&ours, "0xWallet", json!({"tier": "gold"})).await;

    // Checklist 14.
    let direct = |name: &str| format!("/v1/invoke/ours/{name}");
    let anonymous = node.anonymous(Method::POST, &direct("private"), "x").await;
    anonymous.expect_error(ErrorCode::Unauthorized, &[]);
    assert!(
        anonymous.header("www-authenticate").starts_with("Bearer"),
        "{:?}",
        anonymous.headers
    );
    node.anonymous(Method::POST, &direct("public"), "1")
        .await
        .output();
    theirs
        .call(Method::POST, &direct("private"), "x")
        .await
        .expect_error(ErrorCode::Forbidden, &[]);
    theirs
        .invoke("private", "x")
        .await
        .expect_error(NOT_FOUND, &[]);
    for (caller, wallet) in [(&ours, "ours"), (&user, "0xWallet")] {
        let (_, record) = expect_success(caller, "private", "1").await;
        assert_eq!(record.caller_wallet, wallet);
    }
    // A credential that is present and wrong is 401 even where none is needed.
    for wrong in ["ak_nonsense:ours", "a.b.c", "orama_wrong"] {
        let stranger = ours.with_credential(wrong);
        let reply = stranger.call(Method::POST, &direct("public"), "1").await;
        reply.expect_error(ErrorCode::Unauthorized, &[]);
    }
    // The key in each of its places.
    for (name, value) in [
        ("X-API-Key", ours.credential.clone()),
        ("Authorization", format!("ApiKey {}", ours.credential)),
        ("authorization", format!("bearer {}", ours.credential)),
        ("Authorization", ours.credential.clone()),
    ] {
        let url = format!("{}/v1/functions", node.url());
        let answer = http_client()
            .get(url)
            .header(name, value)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{name}");
    }
    // Checklist: whoami says who, and never the key.
    let reply = ours.get("/v1/auth/whoami").await.expect(200);
    assert!(!reply.text().contains(&ours.credential), "{reply:?}");
    let who = ours.whoami().await;
    assert!(who.authenticated);
    assert_eq!(
        (who.method.as_str(), who.namespace.as_deref()),
        ("api_key", Some("ours"))
    );
    assert!(who.api_key.is_some_and(|masked| masked != ours.credential));
    let who = user.whoami().await;
    assert_eq!(
        (who.method.as_str(), who.subject.as_deref()),
        ("jwt", Some("0xWallet"))
    );
    assert!(who.expires_at.is_some());
    // Tenants do not administer, and a tampered token is nobody's.
    for caller in [&ours, &user] {
        let reply = caller.get("/v1/admin/namespaces").await;
        assert!([401, 403].contains(&reply.status), "{reply:?}");
    }
    node.anonymous(Method::GET, "/v1/admin/namespaces", "")
        .await
        .expect_error(ErrorCode::Unauthorized, &[]);
    // A user's token invokes; it manages nothing.
    user.get("/v1/functions")
        .await
        .expect_error(ErrorCode::Forbidden, &[]);
    user.try_deploy(Deploy::new("mine", &guests::echo()))
        .await
        .expect_error(ErrorCode::Forbidden, &[]);
    let mut token = user.credential.clone();
    let last = token.pop().unwrap();
    token.push(if last == 'A' { 'B' } else { 'A' });
    // The last character may carry unused bits; change one in the middle of the signature as well.
    let middle = token.rfind('.').unwrap() + 10;
    let other = if &token[middle..=middle] == "x" {
        "y"
    } else {
        "x"
    };
    token.replace_range(middle..=middle, other);
    ours.with_credential(&token)
        .get("/v1/functions")
        .await
        .expect_error(ErrorCode::Unauthorized, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_listed_and_revoked() {
    let node = Node::start().await;
    let tenant = node.tenant("keyed").await;
    let path = "/v1/admin/namespaces/keyed/keys";
    let reply = node
        .admin(Method::POST, path, Some(json!({"label": "ci"})))
        .await
        .expect(201);
    let made = reply.json();
    let second = tenant.with_credential(made["api_key"].as_str().unwrap());
    assert!(second.functions().await.is_empty());
    let list = node.admin(Method::GET, path, None).await.expect(200);
    assert_eq!(list.json()["count"], 2);
    assert!(!list.text().contains(&tenant.credential) && !list.text().contains(&second.credential));
    let id = made["id"].as_str().unwrap();
    let revoked = node
        .admin(Method::DELETE, &format!("{path}/{id}"), None)
        .await;
    assert!([200, 204].contains(&revoked.status), "{revoked:?}");
    second
        .get("/v1/functions")
        .await
        .expect_error(ErrorCode::Unauthorized, &[]);
    assert!(tenant.functions().await.is_empty());

    // Namespaces: twice is a conflict; deleted means its key is nobody's.
    node.admin(
        Method::POST,
        "/v1/admin/namespaces",
        Some(json!({"name": "keyed"})),
    )
    .await
    .expect_error(ErrorCode::Conflict, &["keyed"]);
    node.admin(
        Method::POST,
        "/v1/admin/namespaces",
        Some(json!({"name": "Not_A_Name"})),
    )
    .await
    .expect_error(ErrorCode::ValidationFailed, &["namespace"]);
    let gone = node
        .admin(Method::DELETE, "/v1/admin/namespaces/keyed", None)
        .await;
    assert!([200, 204].contains(&gone.status), "{gone:?}");
    tenant
        .get("/v1/functions")
        .await
        .expect_error(ErrorCode::Unauthorized, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_belong_to_their_namespace() {
    let mut node = Node::start().await;
    let (ours, theirs) = (node.tenant("ours").await, node.tenant("theirs").await);
    let reader = guests::secret_reader(&["malloc"]);
    for tenant in [&ours, &theirs] {
        tenant.deploy(Deploy::new("reader", &reader)).await;
        assert_eq!(
            tenant.get("/v1/functions/secrets").await.expect(200).json(),
            json!({"secrets": [], "count": 0})
        );
    }
    ours.set_secret("B", "second").await;
    ours.set_secret("A", "first").await;
    ours.set_secret("A", "changed").await;
    theirs.set_secret("A", "of the others").await;
    assert_eq!(ours.secrets().await, ["A", "B"]);
    assert_eq!(theirs.secrets().await, ["A"]);
    // Checklist 11.
    for restarted in [false, true] {
        if restarted {
            node.crash_and_restart().await;
        }
        for (tenant, name, value) in [
            (&ours, "A", "mchanged"),
            (&ours, "B", "msecond"),
            (&theirs, "A", "mof the others"),
            (&theirs, "B", ""),
        ] {
            assert_eq!(
                tenant.invoke("reader", name).await.json()["output"],
                value,
                "{name}"
            );
        }
    }
    let long = "s".repeat(20_000);
    ours.set_secret("LONG", &long).await;
    assert_eq!(
        ours.invoke("reader", "LONG").await.json()["output"],
        format!("m{long}")
    );

    let gone = ours
        .call(Method::DELETE, "/v1/functions/secrets/A", "")
        .await
        .expect(200);
    assert_eq!(gone.json()["message"], "Secret deleted");
    assert_eq!(ours.invoke("reader", "A").await.json()["output"], "");
    ours.call(Method::DELETE, "/v1/functions/secrets/A", "")
        .await
        .expect_error(NOT_FOUND, &["secret"]);
    let put = |body: Value| {
        let ours = &ours;
        async move { ours.json(Method::PUT, "/v1/functions/secrets", &body).await }
    };
    let invalid = ErrorCode::ValidationFailed;
    put(json!({"value": "x"}))
        .await
        .expect_error(invalid, &["secret name"]);
    put(json!({"name": "X"}))
        .await
        .expect_error(invalid, &["secret value"]);
    put(json!({"name": "a/b", "value": "x"}))
        .await
        .expect_error(invalid, &["secret name"]);
    put(json!({"name": "BIG", "value": "x".repeat(64 * 1024 + 1)}))
        .await
        .expect_error(ErrorCode::PayloadTooLarge, &["65536"]);
    let broken = ours
        .call(Method::PUT, "/v1/functions/secrets", "{not json")
        .await;
    broken.expect_error(invalid, &["JSON"]);
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
async fn failed_attempts_are_repeated() {
    let node = Node::start().await;
    let tenant = node.tenant("retries").await;
    let ops = guests::go("ops");
    tenant
        .deploy(
            Deploy::new("again", &ops)
                .field("retry_count", 1)
                .field("retry_delay_seconds", 1),
        )
        .await;

    // It fails, waits, and succeeds.
    let until = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        + Duration::from_millis(500);
    let input = json!({"op": "fail_until", "until": until.as_millis() as u64}).to_string();
    let reply = tenant.invoke("again", input).await;
    assert_eq!(reply.output(), b"\"late enough\"");
    let records = await_records(&tenant, "again", &reply.request_id(), 2).await;
    assert_eq!(
        (records[0].attempt, records[0].status),
        (1, InvocationStatus::Error)
    );
    assert_eq!(
        (records[1].attempt, records[1].status),
        (2, InvocationStatus::Success)
    );
    assert_ne!(records[0].id, records[1].id);
    let pause = records[1].started_at.0 - records[0].completed_at.0;
    assert!(
        (500_000..=2_500_000).contains(&pause),
        "a pause of about a second, with jitter: {pause} µs"
    );

    // It fails to the end: the last reason is answered.
    let reply = tenant.invoke("again", r#"{"op":"exit","n":3}"#).await;
    reply.expect_error(ErrorCode::FunctionExecutionFailed, &["code 3"]);
    let records = await_records(&tenant, "again", &reply.request_id(), 2).await;
    assert!(records.iter().all(|r| r.status == InvocationStatus::Error));

    // A timeout is not repeated.
    tenant
        .deploy(
            Deploy::new("slow", &ops)
                .timeout(1)
                .field("retry_count", 3)
                .field("retry_delay_seconds", 1),
        )
        .await;
    expect_failure(
        &tenant,
        "slow",
        r#"{"op":"loop"}"#,
        ErrorCode::Timeout,
        &["timeout"],
    )
    .await;
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

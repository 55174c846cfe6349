//! Bad input gets a clear error and loses nothing: after each case the version
//! that was there before still answers.

use orama_proto::error::ErrorCode;
use orama_tests::{Deploy, Node, Orama, Reply, Tenant, expect_success, guests, raw};
use reqwest::Method;
use serde_json::json;

const INVALID: ErrorCode = ErrorCode::ValidationFailed;

/// A tenant with one function that must survive everything.
async fn steady(node: &Node, namespace: &str) -> Tenant {
    let tenant = node.tenant(namespace).await;
    tenant
        .deploy(Deploy::new("steady", &guests::constant("{\"steady\":1}")))
        .await;
    tenant
}

/// The function is as it was: one version, the same answer.
async fn unharmed(tenant: &Tenant) {
    let (reply, record) = expect_success(tenant, "steady", "").await;
    assert_eq!(reply.text(), "{\"steady\":1}");
    assert_eq!(record.version, 1);
    let versions = tenant.versions("steady").await;
    assert_eq!(versions.len(), 1, "{versions:?}");
    assert_eq!(tenant.functions().await.len(), 1);
}

/// A deploy form sent byte by byte; `cut` bytes of its end are missing.
async fn form(
    node: &Node,
    tenant: &Tenant,
    parts: &[(&str, Option<&str>, &[u8])],
    cut: usize,
) -> Reply {
    let mut body = raw::multipart(parts);
    body.truncate(body.len() - cut);
    let kind = format!("multipart/form-data; boundary={}", raw::BOUNDARY);
    let mut request = raw::head(
        "POST",
        "/v1/functions",
        &tenant.credential,
        &kind,
        body.len(),
    );
    request.extend_from_slice(&body);
    raw::exchange(node.addr(), &request)
        .await
        .expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_forms() {
    let node = Node::start().await;
    let tenant = steady(&node, "forms").await;
    let wasm = guests::constant("2");
    let file = ("wasm", Some("function.wasm"), wasm.as_slice());
    let name = ("name", None, b"steady".as_slice());

    // Truncated at several places: in the last boundary, in the module, in the head of its part.
    for cut in [4, 60, wasm.len() + 60, wasm.len() + 120] {
        form(&node, &tenant, &[name, file], cut)
            .await
            .expect_error(INVALID, &[]);
    }
    unharmed(&tenant).await;

    // The client hangs up in the middle: nobody is answered, nothing changes.
    let kind = format!("multipart/form-data; boundary={}", raw::BOUNDARY);
    let mut request = raw::head("POST", "/v1/functions", &tenant.credential, &kind, 100_000);
    request.extend_from_slice(&raw::multipart(&[name, file])[..100]);
    raw::send_and_hang_up(node.addr(), &request).await;
    unharmed(&tenant).await;

    form(&node, &tenant, &[name], 0)
        .await
        .expect_error(INVALID, &["WASM file required"]);
    form(&node, &tenant, &[file], 0)
        .await
        .expect_error(INVALID, &["Function name required"]);
    form(
        &node,
        &tenant,
        &[name, ("metadata", None, b"{broken"), file],
        0,
    )
    .await
    .expect_error(INVALID, &["metadata", "JSON"]);
    form(
        &node,
        &tenant,
        &[name, ("metadata", None, br#"{"memroy_limit_mb":3}"#), file],
        0,
    )
    .await
    .expect_error(INVALID, &["memroy_limit_mb"]);
    form(
        &node,
        &tenant,
        &[name, ("is_public", None, b"perhaps"), file],
        0,
    )
    .await
    .expect_error(INVALID, &["is_public"]);
    let no_boundary = tenant
        .request(Method::POST, "/v1/functions")
        .header("content-type", "multipart/form-data")
        .body("x");
    assert_eq!(no_boundary.send().await.unwrap().status(), 400);
    unharmed(&tenant).await;

    // JSON instead of a form.
    let base64 = json!({"name": "steady", "wasm_base64": "AGFzbQEAAAA="});
    tenant
        .json(Method::POST, "/v1/functions", &base64)
        .await
        .expect_error(
            INVALID,
            &["Base64 WASM upload not supported, use multipart/form-data"],
        );
    tenant
        .json(Method::POST, "/v1/functions", &json!({"name": "steady"}))
        .await
        .expect_error(INVALID, &["WASM bytecode required"]);
    unharmed(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_modules() {
    let node = Node::start().await;
    let tenant = steady(&node, "modules").await;
    let deploy = async |wasm: &[u8]| tenant.try_deploy(Deploy::new("steady", wasm)).await;

    for bytes in [
        &b""[..],
        b"\0asm",
        b"#!/bin/sh\necho hello\n",
        b"MZ\x90\0 not wasm at all",
    ] {
        deploy(bytes).await.expect_error(INVALID, &[]);
    }
    deploy(b"this is a text, not a module")
        .await
        .expect_error(INVALID, &["WebAssembly"]);
    // The head of a component: same magic, another layer.
    deploy(b"\0asm\x0d\0\x01\0")
        .await
        .expect_error(INVALID, &["component"]);
    // A module that ends too early, and one whose code does not type-check.
    let whole = guests::constant("cut me");
    deploy(&whole[..whole.len() - 7])
        .await
        .expect_error(INVALID, &[]);
    let mistyped = guests::wat(
        r#"(module (memory (export "memory") 1) (func (export "_start") (drop (i32.add (i32.const 1) (i64.const 2)))))"#,
    );
    deploy(&mistyped).await.expect_error(INVALID, &["type"]);
    unharmed(&tenant).await;

    // 33 MiB is one too much; the limit is named, and the connection's answer arrives.
    let mut huge = guests::constant("x");
    huge.resize(33 * 1024 * 1024, 0);
    let reply = deploy(&huge).await;
    reply.expect_error(ErrorCode::PayloadTooLarge, &["33554432"]);
    unharmed(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_names_and_numbers() {
    let node = Node::start().await;
    let tenant = steady(&node, "numbers").await;
    let wasm = guests::constant("2");
    for name in [
        "a/b",
        "🚀",
        &"x".repeat(65),
        "1st",
        "-f",
        "a b",
        "secrets",
        "steady@2",
        "../up",
    ] {
        tenant
            .try_deploy(Deploy::new(name, &wasm))
            .await
            .expect_error(INVALID, &["function name"]);
    }
    tenant
        .try_deploy(Deploy::new(&"x".repeat(65), &wasm))
        .await
        .expect_error(INVALID, &["65", "64"]);
    for (field, value, words) in [
        (
            "memory_limit_mb",
            "257",
            &["memory_limit_mb", "1", "256", "257"][..],
        ),
        ("memory_limit_mb", "0", &["memory_limit_mb", "1", "256"]),
        ("memory_limit_mb", "64MB", &["memory_limit_mb", "64MB"]),
        ("memory_limit_mb", "-1", &["memory_limit_mb"]),
        (
            "memory_limit_mb",
            "99999999999999999999",
            &["memory_limit_mb"],
        ),
        ("timeout_seconds", "301", &["timeout_seconds", "300", "301"]),
        ("timeout_seconds", "1.5", &["timeout_seconds"]),
        ("retry_count", "6", &["retry_count", "5"]),
        (
            "retry_delay_seconds",
            "301",
            &["retry_delay_seconds", "300"],
        ),
    ] {
        tenant
            .try_deploy(Deploy::new("steady", &wasm).field(field, value))
            .await
            .expect_error(INVALID, words);
    }
    for (key, value, word) in [
        ("memory_limit_mb", json!("64"), "memory_limit_mb"),
        ("memory_limit_mb", json!(257), "256"),
        ("env_vars", json!({"A": 1}), "env_vars"),
        ("env_vars", json!({"": "x"}), "env_vars"),
        ("frobnicate", json!(1), "frobnicate"),
    ] {
        let reply = tenant
            .try_deploy(Deploy::new("steady", &wasm).metadata(key, value))
            .await;
        reply.expect_error(INVALID, &["metadata"].map(|_| word));
    }
    unharmed(&tenant).await;

    // Of the others, zero is the default (CONTRACT 2.4).
    let zero = Deploy::new("zero", &wasm)
        .timeout(0)
        .field("retry_delay_seconds", 0);
    let zero = tenant.deploy(zero).await;
    assert_eq!((zero.timeout_seconds, zero.retry_delay_seconds), (30, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_manifests() {
    let node = Node::start().await;
    let tenant = steady(&node, "manifests").await;
    let orama = Orama::of(&tenant);
    let project = orama.home().join("project");
    std::fs::create_dir(&project).unwrap();
    std::fs::write(project.join("function.wasm"), guests::constant("2")).unwrap();
    for (yaml, words) in [
        (
            "name: steady\nmemory: 0\n",
            &["'memory'", "1 and 256 MB", "0"][..],
        ),
        ("name: steady\nmemory: 257\n", &["'memory'", "257"]),
        ("name: steady\nmemory: 64MB\n", &["'memory'", "64MB"]),
        (
            "name: steady\ntimeout: 301\n",
            &["'timeout'", "1 and 300 seconds", "301"],
        ),
        (
            "name: steady\nmemroy: 64\n",
            &["unknown key 'memroy'", "did you mean 'memory'"],
        ),
        ("name: a/b\n", &["'name'", "a/b"]),
        ("name: \"🚀\"\n", &["'name'"]),
        ("memory: 64\n", &["'name' is required"]),
        (
            "name: steady\nmemory: [\n",
            &["failed to parse function.yaml"],
        ),
    ] {
        std::fs::write(project.join("function.yaml"), yaml).unwrap();
        for command in [&["function", "deploy"][..], &["function", "build"]] {
            let said = orama.run_in(&project, command).await;
            assert!([1, 2].contains(&said.code), "{yaml}: {said:?}");
            for word in words {
                assert!(
                    said.stderr.contains(word),
                    "{yaml}: should say {word:?}: {said:?}"
                );
            }
        }
    }
    let long = format!("name: {}\n", "x".repeat(65));
    std::fs::write(project.join("function.yaml"), long).unwrap();
    let said = orama.run_in(&project, &["function", "deploy"]).await;
    assert!(
        said.code != 0 && said.stderr.contains("65") && said.stderr.contains("64"),
        "{said:?}"
    );
    unharmed(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_requests() {
    let node = Node::start().await;
    let tenant = steady(&node, "requests").await;
    tenant.deploy(Deploy::new("echo", &guests::echo())).await;
    for version in ["abc", "0", "-1", "1x", "", "1.0", "99999999999999999999999"] {
        tenant
            .invoke(&format!("steady@{version}"), "")
            .await
            .expect_error(INVALID, &["version"]);
        tenant
            .get(&format!("/v1/functions/steady@{version}"))
            .await
            .expect_error(INVALID, &["version"]);
    }
    tenant
        .invoke("steady@99", "")
        .await
        .expect_error(ErrorCode::NotFound, &["99"]);
    tenant
        .invoke("nobody", "")
        .await
        .expect_error(ErrorCode::NotFound, &["nobody"]);

    // One byte over 1 MiB: refused, never cut. Also when the length is not announced.
    let too_large = ErrorCode::PayloadTooLarge;
    tenant
        .invoke("echo", vec![b'x'; 1024 * 1024 + 1])
        .await
        .expect_error(too_large, &["1048576"]);
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
        (0..33).map(|_| Ok(vec![b'x'; 32 * 1024])).collect();
    let chunked = tenant
        .request(Method::POST, "/v1/functions/echo/invoke")
        .body(reqwest::Body::wrap_stream(futures::stream::iter(pieces)))
        .send()
        .await
        .unwrap();
    assert_eq!(chunked.status(), 413);
    let (reply, _) = expect_success(&tenant, "echo", "7").await;
    assert_eq!(reply.text(), "7");

    // The router's own answers have the same shape.
    for (method, path, code) in [
        (Method::GET, "/", ErrorCode::NotFound),
        (Method::GET, "/v1/nothing", ErrorCode::NotFound),
        (
            Method::POST,
            "/v1/functions/steady/explode",
            ErrorCode::NotFound,
        ),
        (
            Method::GET,
            "/v1/functions/steady/invoke",
            ErrorCode::MethodNotAllowed,
        ),
        (
            Method::PUT,
            "/v1/functions/steady/invoke",
            ErrorCode::MethodNotAllowed,
        ),
        (Method::PATCH, "/v1/functions", ErrorCode::MethodNotAllowed),
        (Method::DELETE, "/health", ErrorCode::MethodNotAllowed),
    ] {
        tenant.call(method, path, "").await.expect_error(code, &[]);
    }
    tenant
        .call(Method::DELETE, "/v1/functions/steady", "")
        .await
        .expect(200);
    tenant
        .call(Method::POST, "/v1/functions/steady/rollback", "{}")
        .await
        .expect_error(INVALID, &["version"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_namespaces_key() {
    let node = Node::start().await;
    let ours = steady(&node, "ours").await;
    let theirs = node.tenant("theirs").await;
    let wasm = guests::constant("stolen");
    for by_metadata in [false, true] {
        let deploy = Deploy::new("steady", &wasm);
        let deploy = if by_metadata {
            deploy.metadata("namespace", json!("ours"))
        } else {
            deploy.field("namespace", "ours")
        };
        theirs
            .try_deploy(deploy)
            .await
            .expect_error(ErrorCode::Forbidden, &["namespace"]);
    }
    // Neither a header nor a query decides whose functions are meant.
    let reply = theirs
        .request(Method::DELETE, "/v1/functions/steady?namespace=ours")
        .header("X-Namespace", "ours")
        .header("X-Wallet", "ours")
        .send()
        .await
        .unwrap();
    assert!([403, 404].contains(&reply.status().as_u16()), "{reply:?}");
    for path in [
        "/v1/functions/steady",
        "/v1/functions/steady/logs",
        "/v1/functions/steady/versions",
    ] {
        theirs
            .get(path)
            .await
            .expect_error(ErrorCode::NotFound, &[]);
    }
    assert!(theirs.functions().await.is_empty());
    node.anonymous(Method::DELETE, "/v1/functions/steady", "")
        .await
        .expect_error(ErrorCode::Unauthorized, &[]);
    // A public path's name is no way around the gate.
    node.anonymous(Method::DELETE, "/v1/functions/secrets/invoke", "")
        .await
        .expect_error(ErrorCode::Unauthorized, &[]);
    unharmed(&ours).await;
}

//! Guests made by clang with wasi-libc: each is checked for its answer, its
//! record, and that the next invocation is unharmed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orama_proto::error::ErrorCode;
use orama_proto::invocation::LogLevel;
use orama_tests::{Deploy, Node, Reply, Tenant, expect_failure, expect_success, guests};
use serde_json::json;

const FAILED: ErrorCode = ErrorCode::FunctionExecutionFailed;

async fn ops(node: &Node, namespace: &str) -> Tenant {
    let tenant = node.tenant(namespace).await;
    tenant.deploy(Deploy::new("ops", &guests::c("ops"))).await;
    tenant
}

async fn op(tenant: &Tenant, request: &str) -> Reply {
    expect_success(tenant, "ops", request).await.0
}

/// The next invocation is unharmed.
async fn unharmed(tenant: &Tenant) {
    assert_eq!(op(tenant, "alloc 1").await.text(), r#"{"mib":1}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_passes_unchanged() {
    let node = Node::start().await;
    let tenant = ops(&node, "data").await;
    tenant.deploy(Deploy::new("echo", &guests::c("ops"))).await;
    tenant
        .deploy(Deploy::new("nostdin", &guests::c("ops")))
        .await;

    for text in [r#"{"a":[1,2]}"#, "\"Žluťoučký 馬 🐎\""] {
        assert_eq!(expect_success(&tenant, "echo", text).await.0.text(), text);
    }
    let megabyte = format!("\"{}\"", "y".repeat(1024 * 1024 - 2));
    let (reply, _) = expect_success(&tenant, "echo", megabyte.clone()).await;
    assert!(reply.text() == megabyte);
    let binary = op(&tenant, "binary").await.json();
    assert!(
        binary["output_base64"]
            .as_str()
            .unwrap()
            .ends_with("/P3+/w=="),
        "{binary}"
    );
    assert_eq!(op(&tenant, "empty").await.json()["output"], "");
    let (reply, record) = expect_success(&tenant, "nostdin", "never read").await;
    assert_eq!((reply.text(), record.input_size), (r#"{"argc":1}"#, 10));
    // No files and no environment.
    assert_eq!(
        op(&tenant, "file /etc/passwd").await.json(),
        json!({"opened": false, "environ": false})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn output_has_its_limit() {
    let node = Node::start().await;
    let tenant = ops(&node, "output").await;
    assert_eq!(op(&tenant, "output 8388608").await.body.len(), 8_388_608);
    expect_failure(
        &tenant,
        "ops",
        "output 8388609",
        FAILED,
        &["output too large", "8388608"],
    )
    .await;
    unharmed(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_tell_their_reason() {
    let node = Node::start().await;
    let tenant = ops(&node, "failures").await;

    expect_failure(
        &tenant,
        "ops",
        "exit 3",
        FAILED,
        &["code 3", "words on stderr"],
    )
    .await;
    unharmed(&tenant).await;
    let (_, record) = expect_failure(&tenant, "ops", "abort", FAILED, &["unreachable"]).await;
    assert!(
        record
            .wasm_logs
            .iter()
            .any(|l| l.message == "about to abort"),
        "{record:?}"
    );
    unharmed(&tenant).await;
    expect_failure(&tenant, "ops", "recurse", FAILED, &["trapped"]).await;
    unharmed(&tenant).await;

    // 300 MB under the limit of 64: refused memory is the guest's to handle…
    let reply = op(&tenant, "alloc 300").await;
    let got = reply.json()["mib"].as_u64().unwrap();
    assert!((32..64).contains(&got), "{reply:?}");
    unharmed(&tenant).await;
    // …and the reason when it does not.
    expect_failure(
        &tenant,
        "ops",
        "alloc_or_abort 300",
        FAILED,
        &["memory limit exceeded (64 MB)"],
    )
    .await;
    unharmed(&tenant).await;
    tenant
        .deploy(Deploy::new("roomy", &guests::c("ops")).memory(256))
        .await;
    let (reply, record) = expect_success(&tenant, "roomy", "alloc_or_abort 200").await;
    assert_eq!(reply.json()["byte"], 1);
    assert!((200..=256).contains(&record.memory_used_mb), "{record:?}");
    let endless = guests::wat(
        r#"(module (memory (export "memory") 1) (func $f (call $f) (call $f)) (func (export "_start") (call $f)))"#,
    );
    tenant.deploy(Deploy::new("endless", &endless)).await;
    expect_failure(&tenant, "endless", "", FAILED, &["stack"]).await;
    unharmed(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_infinite_loop_is_stopped() {
    let node = Node::start().await;
    let tenant = ops(&node, "loops").await;
    tenant
        .deploy(Deploy::new("looping", &guests::c("ops")).timeout(1))
        .await;
    let (_, record) = expect_failure(
        &tenant,
        "looping",
        "loop",
        ErrorCode::Timeout,
        &["function execution timeout"],
    )
    .await;
    assert!((1_000..=1_300).contains(&record.duration_ms), "{record:?}");
    // Sleeping over the limit ends the same way.
    let (_, record) = expect_failure(
        &tenant,
        "looping",
        "sleep 10000",
        ErrorCode::Timeout,
        &["function execution timeout"],
    )
    .await;
    assert!((1_000..=1_300).contains(&record.duration_ms), "{record:?}");
    unharmed(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_and_chance_are_real() {
    let node = Node::start().await;
    let tenant = ops(&node, "clocks").await;
    let (_, record) = expect_success(&tenant, "ops", "sleep 300").await;
    assert!((300..=1_000).contains(&record.duration_ms), "{record:?}");
    let (one, two) = (
        op(&tenant, "clock").await.json(),
        op(&tenant, "clock").await.json(),
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    for answer in [&one, &two] {
        let wall = Duration::from_millis(answer["unix_ms"].as_u64().unwrap());
        assert!(now.abs_diff(wall) < Duration::from_secs(10), "{answer}");
        assert!(
            answer["elapsed_ns"].as_u64().unwrap() >= 20_000_000,
            "{answer}"
        );
    }
    assert_ne!(one["crypto"], two["crypto"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stderr_is_in_the_log() {
    let node = Node::start().await;
    let tenant = ops(&node, "stderr").await;
    let (reply, record) = expect_success(&tenant, "ops", "stderr word").await;
    assert_eq!(reply.text(), "\"done\"");
    let lines: Vec<_> = record
        .wasm_logs
        .iter()
        .map(|l| (l.level, l.message.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            (LogLevel::Error, "first line on stderr"),
            (LogLevel::Error, "second: word")
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_host_function_under_each_module_name() {
    let node = Node::start().await;
    let tenant = node.tenant("hosts").await;
    tenant
        .deploy(Deploy::new("ops", &guests::c("ops")).env("COLOUR", "blue"))
        .await;
    tenant.set_secret("TOKEN", "s3cret").await;
    let user = node.user(&tenant, "0xBob", json!({"tier": "silver"})).await;
    for module in ["env", "host", "orama"] {
        let request = format!("hostcalls {module} tier COLOUR TOKEN word-{module} 0");
        for (caller, wallet, subject, claim) in [
            (&tenant, "hosts", "", ""),
            (&user, "0xBob", "0xBob", "silver"),
        ] {
            let (reply, record) = expect_success(caller, "ops", request.clone()).await;
            assert_eq!(
                reply.json(),
                json!({
                    "wallet": wallet, "subject": subject, "claim": claim, "request_id": reply.request_id(),
                    "env": "blue", "secret": "s3cret", "marker": format!("word-{module}"),
                })
            );
            let lines: Vec<_> = record
                .wasm_logs
                .iter()
                .map(|l| (l.level, l.message.clone()))
                .collect();
            let word = format!("word-{module}");
            assert_eq!(
                lines,
                [(LogLevel::Info, word.clone()), (LogLevel::Error, word)]
            );
        }
    }
    // Pointers out of memory answer 0 and harm nothing.
    assert_eq!(
        op(&tenant, "out_of_bounds").await.json(),
        json!({"secret": 0, "env": 0})
    );
    unharmed(&tenant).await;
}

//! Guests made by the stock Go toolchain: each is checked for its answer, its
//! record, and that the next invocation is unharmed.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use orama_proto::error::ErrorCode;
use orama_proto::invocation::LogLevel;
use orama_tests::{Deploy, Node, Tenant, expect_failure, expect_success, guests};
use serde_json::{Value, json};

const FAILED: ErrorCode = ErrorCode::FunctionExecutionFailed;

async fn ops(node: &Node, namespace: &str) -> Tenant {
    let tenant = node.tenant(namespace).await;
    tenant.deploy(Deploy::new("ops", &guests::go("ops"))).await;
    tenant
}

async fn op(tenant: &Tenant, request: Value) -> Value {
    let (reply, record) = expect_success(tenant, "ops", request.to_string()).await;
    let body = reply.json();
    if body.get("output").is_none() {
        assert_eq!(record.output_size, reply.body.len() as u64);
    }
    body
}

/// The next invocation is unharmed.
async fn unharmed(tenant: &Tenant) {
    assert_eq!(
        op(tenant, json!({"op": "text", "text": "\"well\""})).await,
        "well"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_specifications_minimal_function_answers() {
    let node = Node::start().await;
    let tenant = node.tenant("minimal").await;
    tenant
        .deploy(Deploy::new("my-function", &guests::go("spec_minimal")))
        .await;
    for input in [r#"{"name": "World"}"#, "", "not json"] {
        let (reply, record) = expect_success(&tenant, "my-function", input).await;
        assert_eq!(reply.text(), r#"{"result":"Hello!"}"#);
        assert!(record.memory_used_mb >= 2, "a Go heap: {record:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_passes_unchanged() {
    let node = Node::start().await;
    let tenant = ops(&node, "data").await;
    tenant
        .deploy(Deploy::new("echo", &guests::go("echo")))
        .await;

    let (reply, _) = expect_success(&tenant, "echo", r#"{"a":[1,2]}"#).await;
    assert_eq!(reply.text(), r#"{"a":[1,2]}"#);
    let megabyte = format!("\"{}\"", "x".repeat(1024 * 1024 - 2));
    let (reply, record) = expect_success(&tenant, "echo", megabyte.clone()).await;
    assert!(
        reply.text() == megabyte,
        "a body of exactly 1 MiB comes back whole"
    );
    assert_eq!((record.input_size, record.output_size), (1 << 20, 1 << 20));

    let transformed = op(
        &tenant,
        json!({"op": "json", "value": {"name": "World", "n": 3}}),
    )
    .await;
    assert_eq!(transformed, json!({"name": "World", "n": 3, "keys": 2}));
    let text = "Žluťoučký kůň, 馬, 🐎, \u{202e}rtl\u{202c}, e\u{301}";
    assert_eq!(
        op(&tenant, json!({"op": "text", "text": text})).await["output"],
        text
    );
    let binary = op(&tenant, json!({"op": "binary"})).await;
    assert!(
        binary["output_base64"]
            .as_str()
            .unwrap()
            .starts_with("AAECAwQF"),
        "{binary}"
    );
    assert_eq!(op(&tenant, json!({"op": "empty"})).await["output"], "");
    assert_eq!(
        op(&tenant, json!({"op": "goroutines", "n": 50})).await["sum"],
        1225
    );

    // Its name is all the arguments it gets, and there is no environment.
    tenant
        .deploy(Deploy::new("nostdin", &guests::go("ops")).env("SHOWN", "only through get_env"))
        .await;
    let (reply, record) = expect_success(&tenant, "nostdin", "never read").await;
    assert_eq!(reply.json(), json!({"args": ["nostdin"], "environ": 0}));
    assert_eq!(record.input_size, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_has_its_limit() {
    let node = Node::start().await;
    let tenant = ops(&node, "output").await;
    const LIMIT: usize = 8 * 1024 * 1024;
    let (reply, record) = expect_success(
        &tenant,
        "ops",
        json!({"op": "output", "n": LIMIT}).to_string(),
    )
    .await;
    assert_eq!(
        (reply.body.len(), record.output_size),
        (LIMIT, LIMIT as u64)
    );
    let request = json!({"op": "output", "n": LIMIT + 1}).to_string();
    expect_failure(
        &tenant,
        "ops",
        request,
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

    let (_, record) = expect_failure(
        &tenant,
        "ops",
        r#"{"op":"exit","n":3}"#,
        FAILED,
        &["code 3", "words on stderr"],
    )
    .await;
    assert_eq!(record.output_size, 15, "what it wrote is counted");
    unharmed(&tenant).await;

    let (_, record) = expect_failure(
        &tenant,
        "ops",
        r#"{"op":"panic","text":"now"}"#,
        FAILED,
        &["code 2"],
    )
    .await;
    let stderr: Vec<_> = record
        .wasm_logs
        .iter()
        .filter(|l| l.level == LogLevel::Error)
        .map(|l| l.message.as_str())
        .collect();
    assert!(
        stderr.iter().any(|l| l.contains("panic: boom: now")),
        "{stderr:?}"
    );
    unharmed(&tenant).await;

    let (error, _) = expect_failure(&tenant, "ops", r#"{"op":"recurse"}"#, FAILED, &[]).await;
    assert!(
        error.message.contains("stack") || error.message.contains("memory limit"),
        "{}",
        error.message
    );
    unharmed(&tenant).await;

    let (_, record) = expect_failure(
        &tenant,
        "ops",
        r#"{"op":"alloc","n":300}"#,
        FAILED,
        &["memory limit exceeded (64 MB)"],
    )
    .await;
    assert!((32..=64).contains(&record.memory_used_mb), "{record:?}");
    unharmed(&tenant).await;
    tenant
        .deploy(Deploy::new("roomy", &guests::go("ops")).memory(256))
        .await;
    let (reply, record) = expect_success(&tenant, "roomy", r#"{"op":"alloc","n":100}"#).await;
    assert_eq!(reply.json()["mib"], 100);
    assert!((100..=256).contains(&record.memory_used_mb), "{record:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_infinite_loop_is_stopped_and_starves_nobody() {
    let node = Node::start().await;
    let tenant = ops(&node, "loops").await;
    tenant
        .deploy(Deploy::new("looping", &guests::go("ops")).timeout(2))
        .await;
    let loops = (0..4).map(|_| {
        expect_failure(
            &tenant,
            "looping",
            r#"{"op":"loop"}"#,
            ErrorCode::Timeout,
            &["function execution timeout"],
        )
    });
    let others = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let began = Instant::now();
            unharmed(&tenant).await;
            slowest = slowest.max(began.elapsed());
        }
        slowest
    };
    let (ended, slowest) = tokio::join!(futures::future::join_all(loops), others);
    for (_, record) in ended {
        assert!((2_000..=2_600).contains(&record.duration_ms), "{record:?}");
    }
    println!("slowest call beside four infinite loops: {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn time_and_chance_are_real() {
    let node = Node::start().await;
    let tenant = ops(&node, "clocks").await;
    let (reply, record) = expect_success(&tenant, "ops", r#"{"op":"sleep","n":300}"#).await;
    assert!(reply.json()["slept_ms"].as_u64().unwrap() >= 300);
    assert!((300..=1_000).contains(&record.duration_ms), "{record:?}");

    let (one, two) = (
        op(&tenant, json!({"op": "clock"})).await,
        op(&tenant, json!({"op": "clock"})).await,
    );
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64;
    for answer in [&one, &two] {
        let wall = answer["unix_ms"].as_u64().unwrap();
        assert!(now.abs_diff(wall) < 10_000, "{answer}");
        assert!(
            answer["elapsed_ns"].as_u64().unwrap() >= 20_000_000,
            "{answer}"
        );
        assert!(answer["spins"].as_u64().unwrap() > 0);
        assert_ne!(answer["crypto"], answer["crypto2"]);
    }
    assert!(two["unix_ms"].as_u64() > one["unix_ms"].as_u64());
    assert_ne!(one["crypto"], two["crypto"]);
    assert_ne!(one["math"], two["math"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stderr_is_in_the_log() {
    let node = Node::start().await;
    let tenant = ops(&node, "stderr").await;
    let (reply, record) = expect_success(&tenant, "ops", r#"{"op":"stderr","text":"ž"}"#).await;
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
            (LogLevel::Error, "second: ž")
        ]
    );
    unharmed(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_host_function_under_each_module_name() {
    let node = Node::start().await;
    let tenant = node.tenant("hosts").await;
    let hostcalls = Deploy::new("hostcalls", &guests::go("hostcalls"))
        .env("COLOUR", "modrá")
        .public();
    tenant.deploy(hostcalls).await;
    tenant.set_secret("TOKEN", "s3cret ☃").await;
    let user = node.user(&tenant, "0xAlice", json!({"tier": "gold"})).await;
    for module in ["env", "host", "orama"] {
        let request = json!({
            "module": module, "claim": "tier", "env": "COLOUR", "secret": "TOKEN",
            "info": format!("info through {module}"), "error": format!("error through {module}"),
        });
        for (caller, wallet, subject, claim) in [
            (&tenant, "hosts", "", ""),
            (&user, "0xAlice", "0xAlice", "gold"),
        ] {
            let (reply, record) = expect_success(caller, "hostcalls", request.to_string()).await;
            assert_eq!(
                reply.json(),
                json!({
                    "wallet": wallet, "subject": subject, "claim": claim, "request_id": reply.request_id(),
                    "env": "modrá", "secret": "s3cret ☃",
                })
            );
            let lines: Vec<_> = record
                .wasm_logs
                .iter()
                .map(|l| (l.level, l.message.clone()))
                .collect();
            assert_eq!(
                lines,
                [
                    (LogLevel::Info, format!("info through {module}")),
                    (LogLevel::Error, format!("error through {module}"))
                ]
            );
        }
        // What is not there is empty; nobody has no wallet.
        let nothing = json!({"module": module, "claim": "none", "env": "NONE", "secret": "NONE"});
        let path = "/v1/invoke/hosts/hostcalls";
        let reply = node
            .anonymous(reqwest::Method::POST, path, nothing.to_string())
            .await;
        reply.output();
        let answer = reply.json();
        for field in ["wallet", "subject", "claim", "env", "secret"] {
            assert_eq!(answer[field], "", "{module} {field}");
        }
    }
}

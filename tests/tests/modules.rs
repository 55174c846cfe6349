//! What runs and how it ends: limits, imports, allocators, modes, retries.

use std::time::{Duration, Instant};

use orama_proto::error::ErrorCode;
use orama_proto::invocation::InvocationStatus;
use orama_tests::{Deploy, Node, await_records, expect_failure, expect_success, guests};
use serde_json::json;

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

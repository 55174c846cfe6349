//! Reactors (CONTRACT 1.2).

use orama_proto::invocation::LogLevel;
use orama_proto::limits::OUTPUT_MAX_BYTES;

use super::*;
use crate::runtime::GuestError;

/// Copies its input behind a prefix that `_initialize` has put there, and notes what is freed.
fn reactor(initialize: &str, handle: &str, more: &str) -> String {
    format!(
        r#"(module
  (import "env" "log_info" (func $log (param i32 i32)))
  (import "env" "get_request_id" (func $id (result i64)))
  (import "env" "get_caller_wallet" (func $wallet (result i64)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $next (mut i32) (i32.const 4096))
  (func (export "_initialize") {initialize})
  (func $malloc (export "malloc") (param i32) (result i32)
    (global.get $next) (global.set $next (i32.add (global.get $next) (local.get 0))))
  (func (export "handle") (param $ptr i32) (param $len i32) (result i64) {handle})
  {more})"#
    )
}

const ECHO_RESULT: &str = "(i64.or (i64.shl (i64.extend_i32_u (local.get $len)) (i64.const 32)) (i64.extend_i32_u (local.get $ptr)))";

#[tokio::test]
async fn handle_gets_the_input_and_gives_the_output() {
    let node = Node::new();
    let free = r#"(data (i32.const 0) "freed") (func (export "free") (param i32) (if (i32.eq (local.get 0) (i32.const 4096)) (then (call $log (i32.const 0) (i32.const 5)))))"#;
    let guest = reactor("", ECHO_RESULT, free);
    let outcome = node.run(&guest, b"hello").await;
    assert_eq!(outcome.result.as_ref().unwrap(), "hello");
    assert_eq!(outcome.output_size, 5);
    assert_eq!(lines(&outcome, LogLevel::Info), ["freed"]);
    // Empty input is pointer 0, and nothing is freed.
    let guest = reactor(
        "",
        &format!("(if (local.get $ptr) (then unreachable)) {ECHO_RESULT}"),
        free,
    );
    let outcome = node.run(&guest, b"").await;
    assert_eq!(outcome.result.as_ref().unwrap(), "");
    assert!(outcome.logs.is_empty());
}

#[tokio::test]
async fn there_is_no_caller_while_it_initialises() {
    let node = Node::new();
    let guest = reactor(
        "(if (i64.ne (i64.or (call $id) (call $wallet)) (i64.const 0)) (then unreachable))",
        "(i64.rotl (call $wallet) (i64.const 32))",
        "",
    );
    assert_eq!(node.run(&guest, b"x").await.result.unwrap(), "0xabc");
}

#[tokio::test]
async fn stdout_of_a_reactor_goes_to_the_log() {
    let node = Node::new();
    let say = "(i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (i32.const 4))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";
    let guest = reactor(
        "",
        &format!("{say} {ECHO_RESULT}"),
        r#"(data (i32.const 100) "text")"#,
    );
    let outcome = node.run(&guest, b"x").await;
    assert_eq!(lines(&outcome, LogLevel::Info), ["text"]);
    assert_eq!(outcome.result.unwrap(), "x");
}

#[tokio::test]
async fn bad_results_and_failures() {
    let node = Node::new();
    let outside = reactor("", "(i64.const 0x00000010_ffffffff)", "");
    match node.run(&outside, b"x").await.result {
        Err(GuestError::Trap(text)) => assert!(text.contains("not in its memory"), "{text}"),
        other => panic!("{other:?}"),
    }
    let large = reactor("", "(i64.const 0xffffffff_00000000)", "");
    assert_eq!(
        node.run(&large, b"x").await.result,
        Err(GuestError::OutputTooLarge {
            limit: OUTPUT_MAX_BYTES
        })
    );
    assert_eq!(
        node.run(&large, b"x").await.output_size,
        u64::from(u32::MAX)
    );
    let stuck = reactor("(loop $l (br $l))", ECHO_RESULT, "");
    assert!(matches!(
        node.run(&stuck, b"x").await.result,
        Err(GuestError::Timeout { .. })
    ));
    let broken = reactor("unreachable", ECHO_RESULT, "");
    assert!(matches!(
        node.run(&broken, b"x").await.result,
        Err(GuestError::Trap(_))
    ));
    // Without malloc the input cannot be handed over.
    let plain = r#"(module (memory (export "memory") 1) (func (export "_initialize"))
        (func (export "handle") (param i32 i32) (result i64)
          (if (i32.or (local.get 0) (local.get 1)) (then unreachable)) (i64.const 0)))"#;
    assert_eq!(node.run(plain, b"x").await.result.unwrap(), "");
}

#[tokio::test]
async fn initialising_has_its_own_limit() {
    let node = Node::new();
    let module = node
        .prepare(&reactor("(loop $l (br $l))", ECHO_RESULT, ""))
        .await;
    let mut call = node.call(b"x");
    let mut version = (*call.function).clone();
    version.spec.timeout_seconds = 300;
    call.function = Arc::new(version);
    let outcome = node.runtime.run(&module, call).await;
    let limit = crate::runtime::run::INITIALIZE_LIMIT;
    assert_eq!(outcome.result, Err(GuestError::Timeout { after: limit }));
    assert!(outcome.duration < limit * 2, "{outcome:?}");
}

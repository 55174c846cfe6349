//! Host functions: the same under each module name, and how bytes get to a guest.

use orama_proto::invocation::LogLevel;

use super::*;
use crate::runtime::GuestError;

const MALLOC: &str = r#"(func (export "malloc") (param i32) (result i32) (i32.const 8192))"#;
const ORAMA_ALLOC: &str =
    r#"(func (export "orama_alloc") (param i32) (result i32) (i32.const 16384))"#;

/// Writes what a function answers for the name at 1024, or `none` for 0.
fn asker(module: &str, function: &str, name: Option<&str>, allocators: &str) -> String {
    let (params, args) = match name {
        Some(name) => (
            "(param i32 i32)",
            format!("(i32.const 1024) (i32.const {})", name.len()),
        ),
        None => ("", String::new()),
    };
    format!(
        r#"(module
  (import "{module}" "{function}" (func $ask {params} (result i64)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "{name}") (data (i32.const 2048) "none")
  {allocators}
  (func (export "_start") (local $p i64)
    (local.set $p (call $ask {args}))
    (i32.store (i32.const 0) (i32.wrap_i64 (i64.shr_u (local.get $p) (i64.const 32))))
    (i32.store (i32.const 4) (i32.wrap_i64 (local.get $p)))
    (if (i64.eqz (local.get $p)) (then
      (i32.store (i32.const 0) (i32.const 2048))
      (i32.store (i32.const 4) (i32.const 4))))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
        name = name.unwrap_or_default(),
    )
}

#[tokio::test]
async fn every_function_under_every_name() {
    let node = Node::new();
    for module in ["env", "host", "orama"] {
        for (function, name, answer) in [
            ("get_caller_wallet", None, "0xabc"),
            ("get_caller_jwt_subject", None, "0xabc"),
            ("get_caller_claim", Some("role"), "admin"),
            ("get_caller_claim", Some("other"), "none"),
            (
                "get_request_id",
                None,
                "7f000001-0000-4000-8000-000000000001",
            ),
            ("get_env", Some("KEY"), "värde"),
            ("get_env", Some("OTHER"), "none"),
            ("get_secret", Some("TOKEN"), "s3cret"),
            ("get_secret", Some("OTHER"), "none"),
        ] {
            let outcome = node.run(&asker(module, function, name, MALLOC), b"").await;
            assert_eq!(
                outcome.result.as_ref().unwrap(),
                answer,
                "{module}.{function}({name:?})"
            );
            assert!(outcome.logs.is_empty(), "{outcome:?}");
        }
        for (function, level) in [("log_info", LogLevel::Info), ("log_error", LogLevel::Error)] {
            let guest = format!(
                r#"(module (import "{module}" "{function}" (func $log (param i32 i32)))
                (memory (export "memory") 1) (data (i32.const 8) "two\nlines")
                (func (export "_start") (call $log (i32.const 8) (i32.const 9)) (call $log (i32.const 65530) (i32.const 9))))"#
            );
            let outcome = node.run(&guest, b"").await;
            assert_eq!(lines(&outcome, level), ["two\nlines"]);
            assert_eq!(lines(&outcome, LogLevel::Warn).len(), 1);
        }
    }
}

#[tokio::test]
async fn other_callers() {
    let node = Node::new();
    let key = Principal::ApiKey {
        namespace: Namespace::parse("tenant").unwrap(),
        key_id: "k".into(),
    };
    for (principal, wallet, subject) in [
        (key, "tenant", "none"),
        (Principal::Anonymous, "none", "none"),
        (Principal::System, "none", "none"),
    ] {
        for (function, answer) in [
            ("get_caller_wallet", wallet),
            ("get_caller_jwt_subject", subject),
        ] {
            let module = node.prepare(&asker("env", function, None, MALLOC)).await;
            let mut call = node.call(b"");
            call.principal = Arc::new(principal.clone());
            assert_eq!(
                node.runtime.run(&module, call).await.result.unwrap(),
                answer
            );
        }
    }
}

#[tokio::test]
async fn the_allocators() {
    let node = Node::new();
    let at = |allocators: &str| {
        let ask = asker("env", "get_env", Some("KEY"), allocators);
        // Writes the pointer it was given in place of the bytes.
        ask.replace("(i32.store (i32.const 4) (i32.wrap_i64 (local.get $p)))",
            "(i32.store (i32.const 12) (i32.load (i32.const 0))) (i32.store (i32.const 0) (i32.const 12)) (i32.store (i32.const 4) (i32.const 4))")
    };
    let both = format!("{MALLOC} {ORAMA_ALLOC}");
    for (allocators, ptr) in [(MALLOC, 8192u32), (ORAMA_ALLOC, 16384), (&both, 16384)] {
        let output = node.run(&at(allocators), b"").await.result.unwrap();
        assert_eq!(output.as_ref(), ptr.to_le_bytes());
    }
    // None at all is refused at deploy, by the name of what needs it.
    let wasm = Bytes::from(wat::parse_str(at("")).unwrap());
    let error = node
        .runtime
        .prepare(ContentId::of(&wasm), wasm)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("env.get_env returns bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn a_failing_allocator_is_an_absent_answer() {
    let node = Node::new();
    for body in [
        "unreachable",
        "(i32.const 0)",
        "(i32.const 65535)",
        "(i32.const -1)",
    ] {
        let malloc = format!(r#"(func (export "malloc") (param i32) (result i32) {body})"#);
        let outcome = node
            .run(&asker("env", "get_env", Some("KEY"), &malloc), b"")
            .await;
        assert_eq!(outcome.result.as_ref().unwrap(), "none", "{body}");
        assert_eq!(lines(&outcome, LogLevel::Warn).len(), 1, "{outcome:?}");
    }
    // An allocator that needs itself ends there.
    let nested = r#"(func (export "malloc") (param i32) (result i32)
        (drop (call $ask (i32.const 1024) (i32.const 3))) (i32.const 8192))"#;
    let outcome = node
        .run(&asker("env", "get_env", Some("KEY"), nested), b"")
        .await;
    assert_eq!(outcome.result.as_ref().unwrap(), "värde");
    assert_eq!(lines(&outcome, LogLevel::Warn).len(), 1, "{outcome:?}");
    // One that never ends runs out of time.
    let stuck =
        r#"(func (export "malloc") (param i32) (result i32) (loop $l (br $l)) unreachable)"#;
    let outcome = node
        .run(&asker("env", "get_env", Some("KEY"), stuck), b"")
        .await;
    assert!(
        matches!(outcome.result, Err(GuestError::Timeout { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn bad_names_answer_nothing_and_are_told() {
    let node = Node::new();
    for function in ["get_env", "get_secret", "get_caller_claim"] {
        for args in [
            "(i32.const 65530) (i32.const 10)",
            "(i32.const -1) (i32.const -1)",
            "(i32.const 0) (i32.const 65537)",
            "(i32.const 3000) (i32.const 2)",
        ] {
            let guest = asker("env", function, Some("KEY"), MALLOC)
                .replace("(i32.const 1024) (i32.const 3)", args)
                .replace(
                    "(data (i32.const 1024)",
                    r#"(data (i32.const 3000) "\ff\fe") (data (i32.const 1024)"#,
                );
            let outcome = node.run(&guest, b"").await;
            assert_eq!(outcome.result.as_ref().unwrap(), "none");
            let warnings = lines(&outcome, LogLevel::Warn);
            assert!(
                warnings.len() == 1 && warnings[0].starts_with(function),
                "{warnings:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_failing_vault_is_told_to_the_author() {
    let node = Node::new();
    for (name, reason) in [
        ("SEALED", "the vault is sealed"),
        ("not a name", "secret name"),
    ] {
        let outcome = node
            .run(&asker("env", "get_secret", Some(name), MALLOC), b"")
            .await;
        assert_eq!(outcome.result.as_ref().unwrap(), "none");
        let warnings = lines(&outcome, LogLevel::Warn);
        assert!(
            warnings.len() == 1 && warnings[0].contains(reason),
            "{warnings:?}"
        );
    }
}

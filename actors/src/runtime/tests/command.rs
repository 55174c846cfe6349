//! Commands: output, exit, traps, memory, logs.

use orama_proto::function::FunctionSpec;
use orama_proto::invocation::LogLevel;
use orama_proto::limits::{LOG_LINES_MAX, OUTPUT_MAX_BYTES};

use super::*;
use crate::runtime::GuestError;

const WRITE: &str = r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (func $say (param $fd i32) (param $ptr i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $ptr))
    (i32.store (i32.const 4) (local.get $len))
    (drop (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))"#;

fn writer(body: &str) -> String {
    format!(
        r#"(module {WRITE} (data (i32.const 100) "to stdout") (data (i32.const 200) "first line\nto stderr\n")
        (func (export "_start") {body}))"#
    )
}

#[tokio::test]
async fn stdin_goes_to_stdout() {
    let node = Node::new();
    for input in [
        &b""[..],
        b"hello",
        "żółw".as_bytes(),
        &[0, 255, 10],
        &vec![7; 300_000],
    ] {
        let outcome = node.run(ECHO, input).await;
        assert_eq!(outcome.result.unwrap(), input);
        assert_eq!(outcome.output_size, input.len() as u64);
        assert_eq!(outcome.memory_peak, 2 * 65536);
        assert!(outcome.logs.is_empty());
    }
    // A guest that does nothing has succeeded.
    let quiet = r#"(module (memory (export "memory") 0) (func (export "_start")))"#;
    assert_eq!(node.run(quiet, b"unread").await.result.unwrap(), "");
}

#[tokio::test]
async fn exit_codes() {
    let node = Node::new();
    let say = "(call $say (i32.const 1) (i32.const 100) (i32.const 9))";
    let zero = writer(&format!("{say} (call $exit (i32.const 0)) unreachable"));
    assert_eq!(node.run(&zero, b"").await.result.unwrap(), "to stdout");
    let three = writer(&format!("{say} (call $exit (i32.const 3))"));
    let outcome = node.run(&three, b"").await;
    let error = outcome.result.unwrap_err();
    assert_eq!(
        error,
        GuestError::Exit {
            code: 3,
            detail: "to stdout".into()
        }
    );
    assert_eq!(
        error.to_string(),
        "the function exited with code 3: to stdout"
    );
    assert_eq!(outcome.output_size, 9);
    let stderr = writer(&format!(
        "{say} (call $say (i32.const 2) (i32.const 200) (i32.const 21)) (call $exit (i32.const -1))"
    ));
    let outcome = node.run(&stderr, b"").await;
    assert_eq!(
        lines(&outcome, LogLevel::Error),
        ["first line", "to stderr"]
    );
    assert_eq!(
        outcome.result.unwrap_err(),
        GuestError::Exit {
            code: -1,
            detail: "first line\nto stderr".into()
        }
    );
}

#[tokio::test]
async fn traps_say_why() {
    let node = Node::new();
    for (body, reason) in [
        ("unreachable", "unreachable code reached"),
        (
            "(drop (i32.load (i32.const 1000000)))",
            "memory access out of bounds",
        ),
        (
            "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
            "division by zero",
        ),
    ] {
        let guest = writer(&format!(
            "(call $say (i32.const 2) (i32.const 200) (i32.const 21)) {body}"
        ));
        match node.run(&guest, b"").await.result {
            Err(GuestError::Trap(text)) => {
                assert!(text.contains(reason), "{text}");
                assert!(text.ends_with("first line\nto stderr"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    let recursive =
        r#"(module (memory (export "memory") 1) (func $f (export "_start") (call $f) (call $f)))"#;
    match node.run(recursive, b"").await.result {
        Err(GuestError::Trap(text)) => assert!(text.starts_with("stack overflow"), "{text}"),
        other => panic!("{other:?}"),
    }
    // The next one is unharmed.
    assert_eq!(node.run(ECHO, b"x").await.result.unwrap(), "x");
}

#[tokio::test]
async fn memory_over_the_limit_is_refused_and_told() {
    let node = Node::new();
    let spec = FunctionSpec {
        memory_limit_mb: 2,
        ..FunctionSpec::default()
    };
    // Grows to the limit, is refused one page more, then goes on or gives up.
    let guest = |then: &str| {
        format!(
            r#"(module (memory (export "memory") 1)
            (func (export "_start")
              (if (i32.ne (memory.grow (i32.const 31)) (i32.const 1)) (then (loop $l (br $l))))
              (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then (loop $l (br $l))))
              {then}))"#
        )
    };
    for (then, fails) in [("", false), ("unreachable", true)] {
        let module = node.prepare(&guest(then)).await;
        let mut call = node.call(b"");
        call.function = Arc::new(version(spec.clone()));
        let outcome = node.runtime.run(&module, call).await;
        assert_eq!(outcome.memory_peak, 2 << 20);
        match outcome.result {
            Ok(_) => assert!(!fails),
            Err(e @ GuestError::Memory { limit_mb: 2, .. }) => {
                assert!(fails);
                assert!(
                    e.to_string().starts_with("memory limit exceeded (2 MB)"),
                    "{e}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    // A declared minimum over the limit is refused at deploy, and at a run all the same.
    let big = node
        .prepare(r#"(module (memory (export "memory") 33) (func (export "_start")))"#)
        .await;
    let error = big.check(&spec).unwrap_err().to_string();
    assert!(
        error.contains("33 pages") && error.contains("limit is 2 MB"),
        "{error}"
    );
    let mut call = node.call(b"");
    call.function = Arc::new(version(spec));
    let outcome = node.runtime.run(&big, call).await;
    assert!(
        matches!(outcome.result, Err(GuestError::Memory { .. })),
        "{outcome:?}"
    );
    // A maximum of the module's own is not our limit.
    let own = r#"(module (memory (export "memory") 1 2)
        (func (export "_start") (drop (memory.grow (i32.const 5))) unreachable))"#;
    assert!(matches!(
        node.run(own, b"").await.result,
        Err(GuestError::Trap(_))
    ));
}

#[tokio::test]
async fn output_is_limited() {
    let node = Node::new();
    let times = OUTPUT_MAX_BYTES / 65536;
    let guest = |times: usize, more: usize| {
        writer(&format!(
            "(local $i i32) (local.set $i (i32.const {times}))
             (loop $l (call $say (i32.const 1) (i32.const 100) (i32.const 65536))
               (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
             (call $say (i32.const 1) (i32.const 100) (i32.const {more}))"
        ))
    };
    let full = node.run(&guest(times, 0), b"").await;
    assert_eq!(full.result.unwrap().len(), OUTPUT_MAX_BYTES);
    let over = node.run(&guest(times, 1), b"").await;
    assert_eq!(over.output_size, OUTPUT_MAX_BYTES as u64 + 1);
    assert_eq!(
        over.result.unwrap_err(),
        GuestError::OutputTooLarge {
            limit: OUTPUT_MAX_BYTES
        }
    );
}

#[tokio::test]
async fn the_log_is_limited() {
    let node = Node::new();
    let guest = writer(
        "(local $i i32) (local.set $i (i32.const 600))
         (loop $l (call $say (i32.const 2) (i32.const 200) (i32.const 21))
           (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
         (call $say (i32.const 1) (i32.const 100) (i32.const 9))",
    );
    let outcome = node.run(&guest, b"").await;
    assert_eq!(outcome.logs.len(), LOG_LINES_MAX);
    assert_eq!(outcome.dropped_log_lines, 200);
    assert_eq!(outcome.result.unwrap(), "to stdout");
}

#[tokio::test]
async fn no_instance_is_told_from_a_failing_guest() {
    let node = Node::with(Arc::new(tempfile::tempdir().unwrap()), 1, 100);
    let slow = node.prepare(&sleeper(200)).await;
    let echo = node.prepare(ECHO).await;
    let (first, second) = tokio::join!(
        node.runtime.run(&slow, node.call(b"")),
        node.runtime.run(&echo, node.call(b"x"))
    );
    assert!(first.result.is_ok(), "{first:?}");
    assert!(
        matches!(second.result, Err(GuestError::Instance(_))),
        "{second:?}"
    );
    assert_eq!(node.counter("orama_runtime_instances_refused_total"), 1);
    assert_eq!(node.run(ECHO, b"x").await.result.unwrap(), "x");
}

#[tokio::test]
async fn start_functions_may_call_the_host_and_are_timed() {
    let node = Node::new();
    let guest = format!(
        r#"(module {WRITE} (data (i32.const 100) "early")
        (func $early (call $say (i32.const 1) (i32.const 100) (i32.const 5)))
        (start $early) (func (export "_start")))"#
    );
    assert_eq!(node.run(&guest, b"").await.result.unwrap(), "early");
    let stuck = r#"(module (memory (export "memory") 1) (func $s (loop $l (br $l))) (start $s) (func (export "_start")))"#;
    assert!(matches!(
        node.run(stuck, b"").await.result,
        Err(GuestError::Timeout { .. })
    ));
}

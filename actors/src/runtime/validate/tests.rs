//! Every message a bad module can get.

use orama_proto::limits::WASM_MAX_BYTES;

use super::check;

#[track_caller]
fn refused(wat: &str, parts: &[&str]) {
    let wasm = wat::parse_str(wat).unwrap();
    let message = check(&wasm).unwrap_err();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

const START: &str = r#"(memory (export "memory") 1) (func (export "_start"))"#;

#[test]
fn accepted() {
    for wat in [
        format!("(module {START})"),
        r#"(module (memory (export "memory") 1) (func (export "_initialize")) (func (export "handle") (param i32 i32) (result i64) (i64.const 0)))"#.into(),
        format!(r#"(module (import "env" "get_request_id" (func (result i64))) {START} (func (export "malloc") (param i32) (result i32) (i32.const 0)))"#),
        // The declared maximum is the module's own business.
        r#"(module (memory (export "memory") 1 65536) (func (export "_start")))"#.into(),
    ] {
        check(&wat::parse_str(wat).unwrap()).unwrap();
    }
}

#[test]
fn not_a_module() {
    for (bytes, part) in [
        (&b""[..], "not a WebAssembly module"),
        (b"\0as", "not a WebAssembly module"),
        (b"\0asm\x01", "ends within its header"),
        (b"#!/bin/sh\n", "not a WebAssembly module"),
        (b"\0asm\x02\0\0\0", "of version 1"),
        (
            b"\0asm\x0d\0\x01\0",
            "this is a component; deploy a core module",
        ),
        (b"\0asm\x01\0\0\0\x01\xff", "at offset"),
    ] {
        let message = check(bytes).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
    let mut big = b"\0asm\x01\0\0\0".to_vec();
    big.resize(WASM_MAX_BYTES + 1, 0);
    assert!(
        check(&big)
            .unwrap_err()
            .contains("the limit is 33554432 bytes (32 MiB)")
    );
}

#[test]
fn any_cut_is_refused_without_panic() {
    let wasm = wat::parse_str(crate::runtime::tests::ECHO).unwrap();
    check(&wasm).unwrap();
    for end in 0..wasm.len() {
        // Cuts between sections of what is not needed may be modules too.
        let _ = check(&wasm[..end]);
    }
    for at in 0..wasm.len() {
        for bit in 0..8 {
            let mut flipped = wasm.clone();
            flipped[at] ^= 1 << bit;
            let _ = check(&flipped);
        }
    }
}

#[test]
fn imports() {
    refused(
        &format!(r#"(module (import "foo" "bar" (func)) {START})"#),
        &[
            "failed to instantiate module: module[foo] not instantiated: function foo.bar is imported, but only env, host, orama and wasi_snapshot_preview1 exist",
        ],
    );
    refused(
        &format!(r#"(module (import "wasi_unstable" "fd_write" (func)) {START})"#),
        &[
            "module[wasi_unstable] not instantiated",
            "compile for wasi_snapshot_preview1",
        ],
    );
    for module in ["env", "host", "orama"] {
        refused(
            &format!(r#"(module (import "{module}" "cache_get" (func)) {START})"#),
            &[&format!(
                "{module}.cache_get is not a host function of this node"
            )],
        );
        refused(
            &format!(r#"(module (import "{module}" "get_secrets" (func)) {START})"#),
            &["did you mean get_secret?"],
        );
    }
    refused(
        &format!(r#"(module (import "wasi_snapshot_preview1" "fd_wirte" (func)) {START})"#),
        &[
            "wasi_snapshot_preview1.fd_wirte is not a host function of this node; did you mean fd_write?",
        ],
    );
    refused(
        &format!(r#"(module (import "env" "log_info" (func (param i32) (result i64))) {START})"#),
        &["env.log_info is imported with type (i32) -> (i64), its type is (i32, i32) -> ()"],
    );
    refused(
        r#"(module (import "env" "memory" (memory 1)) (export "memory" (memory 0)) (func (export "_start")))"#,
        &["env.memory is imported as a memory, only functions can be imported"],
    );
    refused(
        &format!(r#"(module (import "a" "b" (func)) (import "env" "nope" (func)) {START})"#),
        &[
            "module[a] not instantiated",
            "env.nope is not a host function",
        ],
    );
    refused(
        &format!(r#"(module (import "a\n\1b" "b" (func)) {START})"#),
        &[r"module[a\n\u{1b}] not instantiated"],
    );
}

#[test]
fn exports() {
    refused(
        r#"(module (func (export "_start")))"#,
        &["does not export its memory"],
    );
    refused(
        r#"(module (func (export "memory")) (func (export "_start")))"#,
        &["export `memory` is a function, it must be a memory"],
    );
    refused(
        r#"(module (memory (export "memory") 1))"#,
        &["neither `_start`", "nor `_initialize` and `handle`"],
    );
    refused(
        r#"(module (memory (export "memory") 1) (func (export "_start") (param i32)))"#,
        &["export `_start` has type (i32) -> (), it must have () -> ()"],
    );
    refused(
        r#"(module (memory (export "memory") 1) (global (export "_start") i32 (i32.const 0)))"#,
        &["export `_start` is a global, it must be a function"],
    );
    let handle = r#"(func (export "handle") (param i32 i32) (result i64) (i64.const 0))"#;
    refused(
        &format!(r#"(module (memory (export "memory") 1) {handle})"#),
        &["exports `handle` but neither", "_initialize"],
    );
    refused(
        r#"(module (memory (export "memory") 1) (func (export "_initialize")))"#,
        &["a reactor needs `handle`"],
    );
    refused(
        r#"(module (memory (export "memory") 1) (func (export "_initialize")) (func (export "handle")))"#,
        &["export `handle` has type () -> (), it must have (i32, i32) -> (i64)"],
    );
    refused(
        &format!(
            r#"(module (import "orama" "get_env" (func (param i32 i32) (result i64))) {START})"#
        ),
        &["orama.get_env returns bytes", "`orama_alloc` or `malloc`"],
    );
    refused(
        &format!(
            r#"(module (import "env" "get_request_id" (func (result i64))) {START} (func (export "malloc") (param i64)))"#
        ),
        &["env.get_request_id", "export `malloc` has type (i64) -> ()"],
    );
}

#[test]
fn memories_and_tables() {
    let module = |items: &str| format!(r#"(module {items} (func (export "_start")))"#);
    refused(
        &module(r#"(memory (export "memory") 4097)"#),
        &["at least 257 MB of memory (4097 pages)", "256 MB"],
    );
    refused(
        &module(r#"(memory (export "memory") 1) (memory 1)"#),
        &["2 memories"],
    );
    refused(
        &module(r#"(memory (export "memory") i64 1)"#),
        &["64-bit memory"],
    );
    refused(
        &module(r#"(memory (export "memory") 1 1 shared)"#),
        &["shared memory"],
    );
    refused(
        &module(r#"(memory (export "memory") 1) (table 65537 funcref)"#),
        &["a table of 65537 elements, the limit is 65536"],
    );
    refused(
        &module(r#"(memory (export "memory") 1) (table 1 funcref) (table 1 funcref)"#),
        &["2 tables"],
    );
}

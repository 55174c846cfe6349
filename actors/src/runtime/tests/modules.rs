//! Compiling once, and only once.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::runtime::ModuleError;

const COMPILED: &str = "orama_runtime_compilations_total";
const HITS: &str = "orama_runtime_cache_hits_total";
const DAMAGED: &str = "orama_runtime_cache_damaged_total";

fn echo() -> (ContentId, Bytes) {
    let wasm = Bytes::from(wat::parse_str(ECHO).unwrap());
    (ContentId::of(&wasm), wasm)
}

fn files(node: &Node, extension: &str) -> Vec<PathBuf> {
    let compiled = node.dir.path().join("compiled");
    let engine = fs::read_dir(compiled).unwrap().next().unwrap().unwrap();
    fs::read_dir(engine.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect()
}

#[tokio::test]
async fn neither_a_second_deploy_nor_a_restart_compiles_again() {
    let node = Node::new();
    let (cid, wasm) = echo();
    assert!(node.runtime.loaded(&cid).is_none());
    assert!(node.runtime.load(cid).await.unwrap().is_none());
    let many = (0..20).map(|_| node.runtime.prepare(cid, wasm.clone()));
    for module in futures::future::join_all(many).await {
        module.unwrap();
    }
    assert_eq!(node.counter(COMPILED), 1);
    assert!(node.runtime.loaded(&cid).is_some());

    let node = node.restart();
    assert!(node.runtime.loaded(&cid).is_none());
    let module = node.runtime.load(cid).await.unwrap().unwrap();
    node.runtime.prepare(cid, wasm.clone()).await.unwrap();
    assert_eq!(
        node.runtime
            .run(&module, node.call(b"x"))
            .await
            .result
            .unwrap(),
        "x"
    );
    assert_eq!((node.counter(COMPILED), node.counter(HITS)), (0, 1));

    let node = node.restart();
    node.runtime.prepare(cid, wasm).await.unwrap();
    assert_eq!((node.counter(COMPILED), node.counter(HITS)), (0, 1));
}

#[tokio::test]
async fn damaged_files_are_compiled_again() {
    let mut node = Node::new();
    let (cid, wasm) = echo();
    for (extension, damage) in [
        ("cwasm", (|bytes| bytes[2000] ^= 1) as fn(&mut Vec<u8>)),
        ("cwasm", |bytes| bytes.truncate(5000)),
        ("cwasm", Vec::clear),
        ("check", |bytes| bytes[3] ^= 1),
        ("check", Vec::clear),
    ] {
        node.runtime.prepare(cid, wasm.clone()).await.unwrap();
        let dir = node.dir.clone();
        let path = files(&node, extension).remove(0);
        drop(node);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        node = Node::with(dir, 16, 16);
        assert!(node.runtime.load(cid).await.unwrap().is_none());
        assert_eq!(node.counter(DAMAGED), 1);
        let module = node.runtime.prepare(cid, wasm.clone()).await.unwrap();
        assert_eq!(node.counter(COMPILED), 1);
        assert_eq!(
            node.runtime
                .run(&module, node.call(b"x"))
                .await
                .result
                .unwrap(),
            "x"
        );
    }
    // A write that did not come to its end is no damage.
    let dir = node.dir.clone();
    fs::remove_file(files(&node, "check").remove(0)).unwrap();
    let left = files(&node, "cwasm").remove(0).with_extension("cwasm.tmp");
    fs::write(&left, b"half").unwrap();
    drop(node);
    let node = Node::with(dir, 16, 16);
    assert!(!left.exists());
    assert!(node.runtime.load(cid).await.unwrap().is_none());
    assert_eq!(node.counter(DAMAGED), 0);
    assert!(files(&node, "cwasm").is_empty());
}

#[tokio::test]
async fn other_engines_directories_are_removed() {
    let node = Node::new();
    let (cid, wasm) = echo();
    node.runtime.prepare(cid, wasm).await.unwrap();
    let compiled = node.dir.path().join("compiled");
    let old = compiled.join("0123456789abcdef0123456789abcdef");
    let foreign = compiled.join("notes");
    fs::create_dir(&old).unwrap();
    fs::create_dir(&foreign).unwrap();
    let node = node.restart();
    assert!(!old.exists() && foreign.exists());
    assert!(node.runtime.load(cid).await.unwrap().is_some());
}

#[tokio::test]
async fn memory_is_bounded_and_sweeping_keeps_what_is_wanted() {
    let node = Node::with(Arc::new(tempfile::tempdir().unwrap()), 16, 2);
    let mut cids = Vec::new();
    for i in 0..3 {
        let wat = format!(
            r#"(module (memory (export "memory") 1) (func (export "_start") (drop (i32.const {i}))))"#
        );
        let wasm = Bytes::from(wat::parse_str(wat).unwrap());
        let cid = ContentId::of(&wasm);
        node.runtime.prepare(cid, wasm).await.unwrap();
        cids.push(cid);
        // Later than the first by the runtime's own clock.
        node.run(&sleeper(5), b"").await;
        if i == 1 {
            break;
        }
    }
    // The sleeper is one of the two.
    let loaded = cids
        .iter()
        .filter(|cid| node.runtime.loaded(cid).is_some())
        .count();
    assert!(loaded <= 1, "{loaded}");
    assert!(node.counter("orama_runtime_modules_evicted_total") >= 1);
    for cid in &cids {
        assert!(node.runtime.load(*cid).await.unwrap().is_some());
    }
    let keep: HashSet<_> = [cids[0]].into();
    assert_eq!(node.runtime.sweep(keep).await, 2);
    assert!(node.runtime.load(cids[0]).await.unwrap().is_some());
    assert!(node.runtime.load(cids[1]).await.unwrap().is_none());
}

#[tokio::test]
async fn a_refused_module_leaves_nothing() {
    let node = Node::new();
    let bad_body = wat::parse_str(
        r#"(module (memory (export "memory") 1) (func (export "_start") (drop (i32.const 7))))"#,
    )
    .unwrap();
    // A body that pops what is not there: found by the compiler, not by the first look.
    let at = bad_body
        .windows(3)
        .rposition(|w| w == [0x41, 7, 0x1a])
        .unwrap();
    let mut broken = bad_body.clone();
    broken[at] = 0x1a;
    for wasm in [&b"#!/bin/sh"[..], &broken] {
        let wasm = Bytes::copy_from_slice(wasm);
        let error = node
            .runtime
            .prepare(ContentId::of(&wasm), wasm)
            .await
            .unwrap_err();
        assert!(matches!(error, ModuleError::Invalid(_)), "{error:?}");
    }
    assert_eq!(node.counter(COMPILED), 0);
    // More globals than the pool has room for: known only once it is compiled.
    let globals = "(global i64 (i64.const 0))".repeat(300_000);
    let wat =
        format!(r#"(module {globals} (memory (export "memory") 1) (func (export "_start")))"#);
    let wasm = Bytes::from(wat::parse_str(wat).unwrap());
    let error = node
        .runtime
        .prepare(ContentId::of(&wasm), wasm)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ModuleError::Invalid(text) if text.contains("more than an instance can hold")),
        "{error:?}"
    );
    assert!(files(&node, "cwasm").is_empty());
}

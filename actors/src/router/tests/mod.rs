//! Nodes in one process, without a network: real runtimes, workers and
//! journals, the mesh replaced by one that can be told how to fail.

mod answers;
mod fakes;
mod forward;
mod lookup;
mod net;
mod node;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orama_proto::function::{FunctionSpec, FunctionStatus, FunctionVersion};
use orama_proto::invocation::{Principal, Trigger};
use orama_proto::{ContentId, FunctionName, Namespace, RequestId, Timestamp};

use self::fakes::Disk;
use self::net::{Fault, Net};
use self::node::Node;
use crate::platform::Invoke;

/// Waits at the node's gate, then writes whom it sees as its caller.
const GATED: &str = r#"(module
  (import "env" "get_secret" (func $gate (param i32 i32) (result i64)))
  (import "env" "get_caller_wallet" (func $wallet (result i64)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "GATE")
  (func (export "malloc") (param i32) (result i32) (i32.const 8192))
  (func (export "_start") (local $p i64)
    (drop (call $gate (i32.const 1024) (i32.const 4)))
    (local.set $p (call $wallet))
    (i32.store (i32.const 0) (i32.wrap_i64 (i64.shr_u (local.get $p) (i64.const 32))))
    (i32.store (i32.const 4) (i32.wrap_i64 (local.get $p)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// Two nodes with one place each that have the function `gated`, version 2.
async fn pair() -> (Node, Node, Arc<FunctionVersion>) {
    let (net, disk) = (Net::default(), Disk::default());
    let function = gated(&disk, FunctionSpec::default());
    let a = Node::start(&net, 1, "a", 1, &disk);
    let b = Node::start(&net, 2, "b", 1, &disk);
    a.deploy(&function).await;
    b.deploy(&function).await;
    a.sees(&b, 0).await;
    b.sees(&a, 0).await;
    (a, b, function)
}

fn gated(disk: &Disk, spec: FunctionSpec) -> Arc<FunctionVersion> {
    version(disk, GATED, 2, spec)
}

fn version(disk: &Disk, wat: &str, number: u64, spec: FunctionSpec) -> Arc<FunctionVersion> {
    let wasm = Bytes::from(wat::parse_str(wat).unwrap());
    let cid = ContentId::of(&wasm);
    disk.0.lock().insert(cid, wasm);
    Arc::new(FunctionVersion {
        function_id: "f-1".into(),
        namespace: Namespace::parse("tenant").unwrap(),
        name: FunctionName::parse("gated").unwrap(),
        version: number,
        wasm_cid: cid,
        wasm_bytes: 1,
        spec,
        status: FunctionStatus::Active,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
        created_by: String::new(),
        rolled_back_from: None,
    })
}

/// An invocation by a user of the namespace.
fn invoke(function: &FunctionVersion) -> Invoke {
    Invoke {
        request_id: RequestId::random(),
        namespace: function.namespace.clone(),
        name: function.name.clone(),
        version: Some(function.version),
        principal: Arc::new(Principal::Jwt {
            namespace: function.namespace.clone(),
            subject: "0xabc".into(),
            claims: [("role".to_owned(), "admin".to_owned())].into(),
        }),
        trigger: Trigger::Http,
        input: Bytes::from_static(b"input"),
        repeatable: false,
    }
}

/// Waits for a condition.
async fn until(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    waited.expect("the condition came true");
}

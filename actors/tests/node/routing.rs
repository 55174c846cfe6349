//! Overflow between whole nodes over real links.

use std::time::Duration;

use orama_proto::function::FunctionSpec;
use orama_proto::invocation::Principal;

use crate::support::*;

/// Sleeps for two seconds, then writes what its caller's wallet is.
const SLOW: &str = r#"(module
  (import "env" "get_caller_wallet" (func $wallet (result i64)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "malloc") (param i32) (result i32) (i32.const 8192))
  (func (export "_start") (local $p i64)
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 2000000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
    (local.set $p (call $wallet))
    (i32.store (i32.const 0) (i32.wrap_i64 (i64.shr_u (local.get $p) (i64.const 32))))
    (i32.store (i32.const 4) (i32.wrap_i64 (local.get $p)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

#[test]
fn what_finds_no_place_runs_on_another_node() {
    on_a_system(async {
        let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let settings = Settings {
            max_running: 1,
            per_namespace: 1,
            ..Settings::default()
        };
        let one = Node::start(dirs[0].path(), &settings.linked("one", None)).await;
        let two = Node::start(dirs[1].path(), &settings.linked("two", Some(&one))).await;
        let id = orama_proto::RequestId::random();
        one.platform
            .create_namespace(&id, &ns("shop"))
            .await
            .unwrap();
        one.deploy("shop", "slow", SLOW, FunctionSpec::default())
            .await;
        let user = || Principal::Jwt {
            namespace: ns("shop"),
            subject: "0xabc".into(),
            claims: Default::default(),
        };
        until(
            "it is loaded there too, and its load is known",
            async || {
                let status = one.platform.cluster_status().await;
                let idle = |name: &str| {
                    let node = status.nodes.iter().find(|n| n.name == name);
                    node.and_then(|n| n.load)
                        .is_some_and(|load| load.running == 0 && load.capacity == 1 && !load.closed)
                };
                idle("one")
                    && idle("two")
                    && two.counter("orama_modules_prefetched_total", "loaded") >= 1.0
            },
        )
        .await;
        let call = || one.call("shop", "slow", user(), b"in");
        let (first, second) = tokio::join!(call(), call());
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!((&*first.node, &*second.node), ("one", "two"));
        assert_eq!(
            (&first.output[..], &second.output[..]),
            (&b"0xabc"[..], &b"0xabc"[..])
        );
        assert_eq!(one.counter("orama_forwarded_out_total", "done"), 1.0);
        assert_eq!(two.counter("orama_forwarded_in_total", "done"), 1.0);
        let actors = two.platform.actors().await;
        let names: Vec<_> = actors.iter().map(|a| a.name.as_str()).collect();
        assert!(
            names.contains(&"router") && names.contains(&"forwarded-0"),
            "{names:?}"
        );
        // A caller that goes away stops the guest on the other node.
        let held = tokio::spawn(call());
        until("the place here is taken", async || {
            one.gauge("orama_invocations_running") == 1.0
        })
        .await;
        until("its load is known to be none", async || {
            let status = one.platform.cluster_status().await;
            let two = status.nodes.iter().find(|n| n.name == "two");
            two.and_then(|n| n.load)
                .is_some_and(|load| load.running == 0)
        })
        .await;
        let gone = tokio::spawn(call());
        until("it runs there", async || {
            two.gauge("orama_invocations_running") == 1.0
        })
        .await;
        gone.abort();
        until("it was stopped there", async || {
            two.counter("orama_forwarded_in_total", "cancelled") == 1.0
        })
        .await;
        assert_eq!(&*held.await.unwrap().unwrap().node, "one");
        let cancelled = two.logs("shop", "slow").await;
        let cancelled = cancelled
            .iter()
            .filter(|r| r.error_message == "cancelled by the caller");
        assert_eq!(cancelled.count(), 1);
        one.stop().await;
        two.stop().await;
    });
}

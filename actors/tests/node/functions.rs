//! The life of a function on one node: deployed, invoked, seen in the log, taken away.

use std::time::Duration;

use crate::support::*;
use orama_proto::RequestId;
use orama_proto::function::{FunctionInfo, FunctionSpec};
use orama_proto::invocation::{InvocationStatus, Principal};

fn public() -> FunctionSpec {
    FunctionSpec {
        is_public: true,
        timeout_seconds: 1,
        ..FunctionSpec::default()
    }
}

#[test]
fn a_function_lives_is_disabled_deleted_and_comes_back() {
    on_a_system(async {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::default();
        let node = Node::start(dir.path(), &settings).await;
        let id = RequestId::random();
        let key = node
            .platform
            .create_namespace(&id, &ns("shop"))
            .await
            .unwrap();
        let owner = node.platform.authenticate(&key).unwrap();
        assert_eq!(owner.namespace(), Some(&ns("shop")));
        assert_eq!(node.platform.authenticate(ADMIN), Ok(Principal::Admin));
        let twice = node.platform.create_namespace(&id, &ns("shop")).await;
        assert_eq!(twice.unwrap_err().code.status(), 409);

        let private = FunctionSpec::default();
        let first = node.deploy("shop", "echo", ECHO, private.clone()).await;
        assert_eq!(
            (first.version, FunctionInfo::from(&first).name.as_str()),
            (1, "echo")
        );
        let done = node
            .call("shop", "echo", owner.clone(), "héllo".as_bytes())
            .await
            .unwrap();
        assert_eq!(done.output, "héllo".as_bytes());
        // Answered before, so seen now.
        let logs = node.logs("shop", "echo").await;
        assert_eq!((logs.len(), logs[0].status), (1, InvocationStatus::Success));
        assert_eq!((logs[0].input_size, logs[0].output_size), (6, 6));
        assert_eq!(logs[0].caller_wallet, "shop");
        let refused = node.call("shop", "echo", Principal::Anonymous, b"").await;
        assert_eq!(refused.unwrap_err().code.status(), 401);

        let second = node.deploy("shop", "echo", EXIT, private.clone()).await;
        assert_eq!(
            (second.version, &second.function_id),
            (2, &first.function_id)
        );
        let failed = node
            .call("shop", "echo", owner.clone(), b"")
            .await
            .unwrap_err();
        assert_eq!(failed.code.status(), 500);
        assert!(failed.message.contains("exited with code 3"), "{failed}");
        let third = node
            .platform
            .rollback(&id, &ns("shop"), &function("echo"), 1, "shop")
            .await;
        assert_eq!(third.unwrap().rolled_back_from, Some(1));
        assert!(node.call("shop", "echo", owner.clone(), b"x").await.is_ok());

        let (shop, echo) = (ns("shop"), function("echo"));
        let enable = |on| node.platform.set_enabled(&id, &shop, &echo, on);
        enable(false).await.unwrap();
        let off = node
            .call("shop", "echo", owner.clone(), b"")
            .await
            .unwrap_err();
        assert_eq!(off.message, "Function not found: \"echo\" is disabled");
        enable(true).await.unwrap();
        assert!(node.call("shop", "echo", owner.clone(), b"x").await.is_ok());
        let delete = || node.platform.delete_function(&id, &shop, &echo, None);
        delete().await.unwrap();
        assert_eq!(delete().await.unwrap_err().code.status(), 404);
        let gone = node
            .call("shop", "echo", owner.clone(), b"")
            .await
            .unwrap_err();
        assert_eq!(gone.code.status(), 404);
        assert!(node.logs("shop", "echo").await.len() >= 4, "history stays");
        assert_eq!(node.deploy("shop", "echo", ECHO, private).await.version, 4);
        assert!(node.call("shop", "echo", owner, b"x").await.is_ok());
        assert!(
            node.platform
                .actors()
                .await
                .iter()
                .any(|a| a.name == "worker-0")
        );
        node.stop().await;
    });
}

#[test]
fn a_bad_module_is_refused_and_leaves_nothing() {
    on_a_system(async {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(dir.path(), &Settings::default()).await;
        let id = RequestId::random();
        node.platform
            .create_namespace(&id, &ns("shop"))
            .await
            .unwrap();
        let bad = r#"(module (import "nowhere" "f" (func)) (memory (export "memory") 1) (func (export "_start")))"#;
        let error = node
            .try_deploy("shop", "bad", bad, public())
            .await
            .unwrap_err();
        assert_eq!(error.code.status(), 400);
        assert!(error.message.contains("nowhere"), "{error}");
        assert!(node.platform.meta().functions(&ns("shop")).is_empty());
        let elsewhere = node.try_deploy("nobody", "f", ECHO, public()).await;
        assert_eq!(elsewhere.unwrap_err().code.status(), 404);
        assert_eq!(node.counter("orama_deploys_total", "refused"), 2.0);
        node.stop().await;
    });
}

#[test]
fn time_and_places_are_limited_and_come_back() {
    on_a_system(async {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            per_namespace: 1,
            queued: 0,
            ..Settings::default()
        };
        let node = Node::start(dir.path(), &settings).await;
        let id = RequestId::random();
        for name in ["busy", "calm"] {
            node.platform
                .create_namespace(&id, &ns(name))
                .await
                .unwrap();
        }
        node.deploy("busy", "spin", LOOP, public()).await;
        node.deploy("calm", "echo", ECHO, public()).await;
        let spin = || node.call("busy", "spin", Principal::Anonymous, b"");
        let first = actix::spawn(spin());
        while node
            .platform
            .actors()
            .await
            .iter()
            .all(|a| a.state != "running" || !a.name.starts_with("worker"))
        {
            tokio::task::yield_now().await;
        }
        let refused = spin().await.unwrap_err();
        assert_eq!(
            (refused.code.status(), refused.retry_after),
            (429, Some(1.0))
        );
        let other = node.call("calm", "echo", Principal::Anonymous, b"x").await;
        assert_eq!(other.unwrap().output, "x".as_bytes());
        let late = first.await.unwrap().unwrap_err();
        assert_eq!(late.code.status(), 504);
        assert!(
            late.message.contains("function execution timeout"),
            "{late}"
        );

        // A caller that goes away: the guest stops, its place is free, its record says so.
        let gone = tokio::time::timeout(Duration::from_millis(100), spin()).await;
        assert!(gone.is_err());
        let again = tokio::time::timeout(Duration::from_millis(100), spin()).await;
        assert!(again.is_err(), "it ran rather than being refused");
        let logs = node.logs("busy", "spin").await;
        let ends: Vec<_> = logs
            .iter()
            .map(|r| (r.status, r.error_message.as_str()))
            .collect();
        let cancelled = (InvocationStatus::Error, "cancelled by the caller");
        assert_eq!(ends[..2], [cancelled, cancelled]);
        assert_eq!(ends[2].0, InvocationStatus::Timeout);
        assert_eq!(node.counter("orama_invocations_refused_total", ""), 1.0);
        node.stop().await;
    });
}

#[test]
fn a_lost_blob_makes_a_function_unavailable_and_a_redeploy_heals_it() {
    on_a_system(async {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::default();
        let node = Node::start(dir.path(), &settings).await;
        let id = RequestId::random();
        node.platform
            .create_namespace(&id, &ns("shop"))
            .await
            .unwrap();
        node.deploy("shop", "echo", ECHO, public()).await;
        let (blobs, compiled) = (node.dir.blobs(), node.dir.compiled());
        node.stop().await;
        std::fs::remove_dir_all(blobs).unwrap();
        std::fs::remove_dir_all(compiled).unwrap();
        let node = Node::start(dir.path(), &settings).await;
        let error = node
            .call("shop", "echo", Principal::Anonymous, b"")
            .await
            .unwrap_err();
        assert_eq!(error.code.as_str(), "FUNCTION_UNAVAILABLE");
        assert!(error.message.contains("version 1") && !error.message.contains("blobs/"));
        node.deploy("shop", "echo", ECHO, public()).await;
        assert!(
            node.call("shop", "echo", Principal::Anonymous, b"")
                .await
                .is_ok()
        );
        node.stop().await;
    });
}

#[test]
fn a_module_nobody_refers_to_is_swept_once_it_is_old() {
    on_a_system(async {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::default();
        let node = Node::start(dir.path(), &settings).await;
        let id = RequestId::random();
        let shop = ns("shop");
        node.platform.create_namespace(&id, &shop).await.unwrap();
        node.deploy("shop", "kept", ECHO, public()).await;
        let gone = node.deploy("shop", "gone", EXIT, public()).await;
        let name = function("gone");
        node.platform
            .delete_function(&id, &shop, &name, None)
            .await
            .unwrap();
        let blobs = node.dir.blobs();
        node.stop().await;
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(2 * 60 * 60);
        let mut files = vec![blobs.clone()];
        while let Some(path) = files.pop() {
            if path.is_dir() {
                files.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
            } else {
                let file = std::fs::File::options().append(true).open(path).unwrap();
                file.set_modified(long_ago).unwrap();
            }
        }
        let node = Node::start(dir.path(), &settings).await;
        let registry = prometheus::Registry::new();
        let store = orama_cluster::BlobStore::open(&blobs, &registry).unwrap();
        while store.contains(gone.wasm_cid).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(
            node.call("shop", "kept", Principal::Anonymous, b"x")
                .await
                .is_ok()
        );
        node.stop().await;
    });
}

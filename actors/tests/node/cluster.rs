//! Several whole nodes in one process: any of them serves.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use orama_actors::platform::StartError;
use orama_actors::vault::MasterKeys;
use orama_proto::RequestId;
use orama_proto::function::FunctionSpec;
use tempfile::TempDir;

use crate::support::*;

/// Waits for something that comes by itself.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

async fn three(dirs: &[TempDir; 3], settings: &Settings) -> [Node; 3] {
    let one = Node::start(dirs[0].path(), &settings.linked("one", None)).await;
    let two = Node::start(dirs[1].path(), &settings.linked("two", Some(&one))).await;
    let three = Node::start(dirs[2].path(), &settings.linked("three", Some(&one))).await;
    let nodes = [one, two, three];
    until("all vote and are linked", || {
        nodes.iter().all(|node| {
            let cluster = node.platform.cluster();
            cluster.voters().len() == 3 && cluster.linked().len() == 2
        })
    })
    .await;
    nodes
}

fn dirs() -> [TempDir; 3] {
    [(); 3].map(|()| tempfile::tempdir().unwrap())
}

/// Blobs on disk.
fn blobs(dir: &TempDir) -> BTreeSet<String> {
    let shards = fs::read_dir(dir.path().join("blobs")).unwrap();
    let shards = shards.map(|e| e.unwrap().path());
    let files = shards.filter(|p| p.file_name().unwrap().len() == 2);
    files
        .flat_map(|shard| fs::read_dir(shard).unwrap())
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn what_one_node_acknowledged_every_node_serves() {
    on_a_system(async {
        let dirs = dirs();
        let nodes = three(&dirs, &Settings::default()).await;
        let [one, two, three] = &nodes;
        let id = RequestId::random();
        let key = one.platform.create_namespace(&id, &ns("shop")).await;
        let key = key.unwrap();
        for node in &nodes {
            // Visible at once; at the latest when it is looked up again.
            let owner = node.platform.authenticate_confirmed(&key).await.unwrap();
            assert_eq!(owner.namespace(), Some(&ns("shop")));
        }
        let version = two
            .deploy("shop", "echo", ECHO, FunctionSpec::default())
            .await;
        let cid = version.wasm_cid.to_string();
        let holders = dirs.iter().filter(|dir| blobs(dir).contains(&cid));
        assert!(holders.count() >= 2);
        for node in &nodes {
            let found = node
                .platform
                .meta()
                .resolve(&ns("shop"), &function("echo"), None);
            assert_eq!(found.unwrap().version, 1);
            let owner = node.platform.authenticate(&key).unwrap();
            let done = node.call("shop", "echo", owner, b"hello").await.unwrap();
            assert_eq!(done.output, "hello");
        }
        until("every node has loaded it ahead", || {
            let loaded = |n: &Node| n.counter("orama_modules_prefetched_total", "loaded");
            nodes.iter().all(|node| loaded(node) >= 1.0)
        })
        .await;
        assert!(dirs.iter().all(|dir| blobs(dir).contains(&cid)));
        // Each node ran one, and each tells of all.
        for node in &nodes {
            let logs = node.all_logs("shop", "echo").await;
            assert_eq!((logs.records.len(), logs.silent.len()), (3, 0));
            assert!(logs.records.is_sorted_by(|a, b| a.id > b.id));
        }
        // A key made on one node is revoked on another.
        let (record, extra) = three
            .platform
            .create_key(&id, &ns("shop"), "extra")
            .await
            .unwrap();
        assert!(one.platform.authenticate_confirmed(&extra).await.is_ok());
        one.platform
            .revoke_key(&id, &ns("shop"), &record.id)
            .await
            .unwrap();
        assert!(three.platform.authenticate_confirmed(&extra).await.is_err());
        // A namespace that is gone leaves no history anywhere.
        two.platform
            .delete_namespace(&id, &ns("shop"))
            .await
            .unwrap();
        one.platform
            .create_namespace(&id, &ns("shop"))
            .await
            .unwrap();
        for node in &nodes {
            assert!(node.logs("shop", "echo").await.is_empty());
        }
        for node in nodes {
            node.stop().await;
        }
    });
}

#[test]
fn a_node_that_is_gone_is_named_and_one_that_returns_gets_what_it_missed() {
    on_a_system(async {
        let dirs = dirs();
        let settings = Settings::default();
        let [one, two, three] = three(&dirs, &settings).await;
        let id = RequestId::random();
        let key = one.platform.create_namespace(&id, &ns("shop")).await;
        let key = key.unwrap();
        let spec = FunctionSpec::default;
        one.deploy("shop", "echo", ECHO, spec()).await;
        let owner = three.platform.authenticate_confirmed(&key).await.unwrap();
        three
            .call("shop", "echo", owner.clone(), b"x")
            .await
            .unwrap();
        three.stop().await;
        until("the link is gone", || {
            one.platform.cluster().linked().len() == 1
        })
        .await;
        let logs = one.all_logs("shop", "echo").await;
        assert_eq!(logs.silent, ["three"]);
        assert!(logs.records.is_empty());
        // Two of three are a majority.
        let version = two.deploy("shop", "late", EXIT, spec()).await;
        let cid = version.wasm_cid.to_string();
        assert!(blobs(&dirs[0]).contains(&cid) && !blobs(&dirs[2]).contains(&cid));
        // One that lost a blob while it was away gets it back with what it missed.
        for file in fs::read_dir(dirs[2].path().join("blobs")).unwrap() {
            let path = file.unwrap().path();
            if path.file_name().unwrap().len() == 2 {
                fs::remove_dir_all(path).unwrap();
            }
        }
        let three = Node::start(dirs[2].path(), &settings.linked("three", Some(&one))).await;
        until("it has everything", || blobs(&dirs[2]).len() == 2).await;
        for node in [&one, &three] {
            let logs = node.all_logs("shop", "echo").await;
            assert_eq!((logs.records.len(), logs.silent.len()), (1, 0));
        }
        for node in [one, two, three] {
            node.stop().await;
        }
    });
}

#[test]
fn a_node_with_another_master_key_does_not_start() {
    on_a_system(async {
        let dirs = dirs();
        let settings = Settings::default();
        let one = Node::start(dirs[0].path(), &settings.linked("one", None)).await;
        let other = Settings {
            master_keys: format!("other:{}", MasterKeys::generate().as_str()),
            ..settings
        };
        let refused = Node::try_start(dirs[1].path(), &other.linked("two", Some(&one))).await;
        let error = refused.err().unwrap();
        assert!(matches!(error, StartError::Vault(_)), "{error}");
        assert!(error.to_string().contains("master key"), "{error}");
        one.stop().await;
    });
}

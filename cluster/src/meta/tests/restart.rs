//! What is there after a restart, clean or not.

use std::fs;
use std::time::{Duration, Instant};

use orama_proto::{NodeId, SecretName};

use super::super::{MetaOptions, MetaStore};
use super::{Node, copy_dir, create, fill, ns, open, purged_past, put, secret};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_a_restart_clean_or_not() {
    let node = Node::new();
    let mut hash = 0;
    for round in 0..4 {
        let start = Instant::now();
        let meta = node.open(40).await;
        let took = start.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?} to open");
        assert_eq!(meta.state_hash(), hash, "round {round}");
        fill(&meta, round * 30, round * 30 + 30).await;
        hash = meta.state_hash();
        if round % 2 == 0 {
            meta.shutdown().await;
        }
        drop(meta);
    }
    let other = open(&node.paths(), 40).await.unwrap().0;
    assert_eq!(other.secrets(&ns("acme")).len(), 120);
    other.shutdown().await;
    drop(other);
    // The same directory under another identity is not ours.
    let registry = prometheus::Registry::new();
    let (paths, options) = (node.paths(), MetaOptions::default());
    let foreign = MetaStore::open_paths(&paths, NodeId(7), &options, &registry);
    let error = foreign.await.err().unwrap().to_string();
    assert!(
        error.contains("belongs to a group without this node"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_in_a_copy_taken_at_any_moment() {
    let node = Node::new();
    let (meta, _) = open(&node.paths(), 25).await.unwrap();
    fill(&meta, 0, 1).await;
    for round in 0..6 {
        let writer = {
            let meta = meta.clone();
            tokio::spawn(async move { fill(&meta, 1 + round * 20, 21 + round * 20).await })
        };
        let known = meta.secrets(&ns("acme"));
        // Readers of the file are not stopped while it is written, so the copy
        // is taken as a crash would: nothing is waited for.
        let copy = tokio::task::block_in_place(|| {
            let copy = Node::new();
            copy_consistent(&node, &copy);
            copy
        });
        writer.await.unwrap();
        let restored = copy.open(25).await;
        let found = restored.secrets(&ns("acme"));
        assert!(
            known.iter().all(|name| found.contains(name)),
            "round {round}"
        );
        restored.shutdown().await;
    }
    let hash = meta.state_hash();
    let index = meta.applied_index();
    let copy = node.copy();
    let restored = copy.open(25).await;
    assert_eq!(restored.state_hash(), hash);
    assert!(restored.applied_index() > index);
    meta.shutdown().await;
    restored.shutdown().await;
}

/// Files copied one after the other while they are written are no crash image: the
/// log is taken again until it did not change meanwhile.
fn copy_consistent(from: &Node, to: &Node) {
    copy_dir(from.dir.path(), to.dir.path());
    let (source, target) = (from.paths().log, to.paths().log);
    let read = || {
        let names = fs::read_dir(&source).unwrap().map(|e| e.unwrap().path());
        let mut files: Vec<_> = names
            .filter(|path| path.extension().is_some_and(|e| e == "log"))
            .filter_map(|path| Some((path.file_name()?.to_owned(), fs::read(&path).ok()?)))
            .collect();
        files.sort();
        files
    };
    loop {
        let first = read();
        if read() == first {
            fs::remove_dir_all(&target).unwrap();
            fs::create_dir(&target).unwrap();
            for (name, bytes) in first {
                fs::write(target.join(name), bytes).unwrap();
            }
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_proposers_at_once() {
    let node = Node::new();
    let (meta, registry) = open(&node.paths(), 300).await.unwrap();
    put(&meta, create("acme")).await;
    let mut tasks = Vec::new();
    for worker in 0..64 {
        let meta = meta.clone();
        tasks.push(tokio::spawn(async move {
            for n in 0..10 {
                put(&meta, secret(worker * 10 + n, 500)).await;
                // Visible to whoever was answered.
                let name = SecretName::parse(&format!("S{}", worker * 10 + n)).unwrap();
                assert!(meta.secret(&ns("acme"), &name).is_some());
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(meta.secrets(&ns("acme")).len(), 640);
    let families = registry.gather();
    let batches = families
        .iter()
        .find(|f| f.name() == "orama_raft_log_batch_operations")
        .unwrap();
    let syncs = batches.get_metric()[0].get_histogram().get_sample_count();
    assert!(syncs < 640, "{syncs} syncs for 640 changes");
    let hash = meta.state_hash();
    meta.shutdown().await;
    drop(meta);
    let meta = node.open(300).await;
    assert_eq!(meta.state_hash(), hash);
    meta.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_large_changes_make_a_snapshot_too() {
    let node = Node::new();
    let (meta, registry) = open(&node.paths(), 1_000_000).await.unwrap();
    put(&meta, create("acme")).await;
    for n in 0..70 {
        put(&meta, secret(n % 3, 1_000_000)).await;
    }
    purged_past(&registry, 1.0).await;
    meta.shutdown().await;
}

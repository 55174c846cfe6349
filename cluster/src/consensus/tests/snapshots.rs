//! Replicas that are too far behind for the log get a snapshot, over bad links too.

use std::sync::atomic::{AtomicU64, Ordering};

use super::net::Fate;
use super::*;
use crate::mesh::Lane;

/// Fills the group until its log no longer begins at the beginning.
async fn outgrow_log(leader: &Node, value: &str) {
    for n in 0..60 {
        leader.set(&format!("k{}", n % 12), value).await.unwrap();
    }
    let metrics = leader.group.inner.raft.metrics();
    use openraft::async_runtime::watch::WatchReceiver;
    let begun = Instant::now();
    while metrics.borrow_watched().purged.is_none_or(|p| p.index < 20) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the log is never purged"
        );
        leader.set("more", value).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_survives_lost_and_damaged_chunks_and_goes_on_where_it_stopped() {
    let net = Arc::<Net>::default();
    let mut nodes = cluster(&net, 1, 15).await;
    outgrow_log(&nodes[0], &"v".repeat(700_000)).await;
    let bulk = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&bulk);
    net.rule(move |packet| {
        if packet.lane != Lane::Bulk {
            return Fate::Arrives;
        }
        match counter.fetch_add(1, Ordering::AcqRel) % 6 {
            2 => Fate::Lost,
            3 if packet.size > 100_000 => Fate::Damaged,
            5 => Fate::Unanswered,
            _ => Fate::Arrives,
        }
    });
    nodes.push(Node::start(&net, 2, Begin::Wait, 15).await);
    admit(&nodes[0], NodeId(2)).await;
    net.no_rule();
    same_state(&nodes).await;
    assert!(bulk.load(Ordering::Acquire) > 10);
    let received = nodes[1].counted("orama_raft_snapshot_bytes_total", "received");
    let sent = nodes[0].counted("orama_raft_snapshot_bytes_total", "sent");
    let size = 13.0 * 700_000.0;
    assert!(
        received > size * 0.9 && sent < size * 2.5,
        "{sent} sent, {received} received"
    );

    // What was installed is a snapshot like any other: the node starts from it.
    let node = nodes.remove(1);
    let dir = node.stop().await;
    let left = std::fs::read_dir(dir.path().join("snapshots")).unwrap();
    assert!(
        left.flatten()
            .all(|e| e.path().extension().is_some_and(|x| x == "snap"))
    );
    nodes.push(Node::start_in(dir, &net, NodeId(2), Begin::Wait, 15).await);
    nodes[1].set("after", "1").await.unwrap();
    same_state(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_away_too_long_gets_a_snapshot() {
    let net = Arc::<Net>::default();
    let mut nodes = cluster(&net, 3, 15).await;
    nodes[0].set("a", "1").await.unwrap();
    let dir = nodes.remove(2).stop().await;
    outgrow_log(&nodes[0], "away").await;
    let back = Node::start_in(dir, &net, NodeId(3), Begin::Wait, 15).await;
    assert_eq!(back.get("k3").await.unwrap(), b"away");
    nodes.push(back);
    same_state(&nodes).await;
    // And once more over a restart: state, snapshot and log fit together.
    let dir = nodes.remove(2).stop().await;
    nodes.push(Node::start_in(dir, &net, NodeId(3), Begin::Wait, 15).await);
    nodes[2].set("b", "1").await.unwrap();
    same_state(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_cannot_be_written_does_not_stop_the_group() {
    let net = Arc::<Net>::default();
    let nodes = cluster(&net, 1, 15).await;
    let dir = nodes[0].dir.path().join("snapshots");
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::write(&dir, b"in the way").unwrap();
    for n in 0..40 {
        nodes[0].set(&format!("k{n}"), "x").await.unwrap();
    }
    until("a snapshot fails", 10, || {
        nodes[0].counted("orama_raft_snapshots_total", "failed") >= 1.0
    })
    .await;
    assert!(!nodes[0].group.view().stopped);
    std::fs::remove_file(&dir).unwrap();
    std::fs::create_dir(&dir).unwrap();
    let mut n = 0;
    while nodes[0].counted("orama_raft_snapshots_total", "built") < 1.0 {
        n += 1;
        assert!(n < 500, "no snapshot is made again");
        nodes[0].set("more", "x").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_died_between_installing_and_purging_starts_again() {
    let net = Arc::<Net>::default();
    let mut nodes = cluster(&net, 3, 15).await;
    let dir = nodes.remove(2).stop().await;
    let log = dir.path().join("raft").join("log");
    let old: Vec<_> = std::fs::read_dir(&log)
        .unwrap()
        .flatten()
        .map(|file| (file.path(), std::fs::read(file.path()).unwrap()))
        .collect();
    outgrow_log(&nodes[0], "away").await;
    let back = Node::start_in(dir, &net, NodeId(3), Begin::Wait, 15).await;
    back.get("k3").await.unwrap();
    let dir = back.stop().await;
    // State and snapshot are the new ones, the log is from before.
    std::fs::remove_dir_all(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    for (path, bytes) in old {
        std::fs::write(path, bytes).unwrap();
    }
    let back = Node::start_in(dir, &net, NodeId(3), Begin::Wait, 15).await;
    nodes.push(back);
    for n in 0..20 {
        nodes[n % 3].set(&format!("n{n}"), "x").await.unwrap();
    }
    same_state(&nodes).await;
    let dir = nodes.remove(2).stop().await;
    let back = Node::start_in(dir, &net, NodeId(3), Begin::Wait, 15).await;
    assert_eq!(back.get("n19").await.unwrap(), b"x");
}

//! What a node makes of damaged or missing files.

use std::fs;
use std::path::Path;

use orama_proto::RequestId;

use super::super::ProposeError;
use super::{Node, fill, flip, newest_snapshot, ns, open, purged_past, put, secret};
use crate::blobs::small_disk::SmallDisk;
use crate::consensus::{log_closed, log_ends};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_state_is_rebuilt_from_snapshot_and_log() {
    let node = Node::new();
    let (meta, registry) = open(&node.paths(), 50).await.unwrap();
    fill(&meta, 0, 170).await;
    purged_past(&registry, 3.0).await;
    let hash = meta.state_hash();
    meta.shutdown().await;
    drop(meta);
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("deleted", |state| fs::remove_dir_all(state).unwrap()),
        ("truncated", |state| {
            let file = fs::OpenOptions::new()
                .write(true)
                .open(state.join("db"))
                .unwrap();
            let len = file.metadata().unwrap().len();
            file.set_len(len / 3).unwrap();
        }),
        ("flipped", |state| {
            let len = fs::metadata(state.join("db")).unwrap().len() as usize;
            let bytes = fs::read(state.join("db")).unwrap();
            let used = bytes.iter().rposition(|b| *b != 0).unwrap_or(len - 1);
            for part in 1..20 {
                flip(&state.join("db"), used * part / 20);
            }
        }),
        ("emptied", |state| {
            fs::remove_dir_all(state).unwrap();
            fs::create_dir(state).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let copy = node.copy();
        harm(&copy.paths().state);
        let (meta, registry) = open(&copy.paths(), 50)
            .await
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(meta.state_hash(), hash, "{what}");
        assert_eq!(meta.secrets(&ns("acme")).len(), 170, "{what}");
        let families = registry.gather();
        let rebuilds = families
            .iter()
            .find(|f| f.name() == "orama_raft_state_rebuilds_total");
        let count: f64 = rebuilds.map_or(0.0, |f| {
            f.get_metric()
                .iter()
                .map(|m| m.get_counter().get_value())
                .sum()
        });
        assert_eq!(count, 1.0, "{what}");
        put(&meta, secret(800, 10)).await;
        meta.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_shrink_the_log_and_a_damaged_one_is_passed_over() {
    let node = Node::new();
    let (meta, registry) = open(&node.paths(), 40).await.unwrap();
    fill(&meta, 0, 150).await;
    purged_past(&registry, 3.0).await;
    let hash = meta.state_hash();
    meta.shutdown().await;
    drop(meta);
    assert_eq!(fs::read_dir(node.paths().snapshots).unwrap().count(), 2);
    // The log begins after the older snapshot, which is at least one interval
    // behind the newest, and so keeps what leads from there to the present.
    let (purged, last) = log_ends(&node.copy().paths().log);
    let (purged, last) = (purged.unwrap(), last.unwrap());
    assert!(
        purged >= 35 && purged + 40 <= last,
        "purged to {purged} of {last}"
    );

    // The state is fine: a damaged snapshot costs nothing.
    let copy = node.copy();
    let newest = newest_snapshot(&copy);
    flip(&newest, fs::metadata(&newest).unwrap().len() as usize / 2);
    let meta = copy.open(40).await;
    assert_eq!(meta.state_hash(), hash);
    meta.shutdown().await;
    drop(meta);

    // The state is gone too: the older snapshot and the log bridge the gap.
    let copy = node.copy();
    flip(&newest_snapshot(&copy), 200);
    fs::remove_dir_all(copy.paths().state).unwrap();
    let meta = copy.open(40).await;
    assert_eq!(meta.state_hash(), hash);
    meta.shutdown().await;
    drop(meta);

    // Nothing is left to bridge it: said plainly, nothing invented.
    let copy = node.copy();
    flip(&newest_snapshot(&copy), 100);
    let older = {
        let mut names: Vec<_> = fs::read_dir(copy.paths().snapshots)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        names.sort();
        names.remove(0)
    };
    flip(&older, 100);
    fs::remove_dir_all(copy.paths().state).unwrap();
    let error = copy.try_open(40).await.err().unwrap().to_string();
    assert!(
        error.contains("no valid snapshot") && error.contains("damaged"),
        "{error}"
    );
    let again = copy.try_open(40).await.err().unwrap().to_string();
    assert!(again.contains("no valid snapshot"), "{again}");
}

/// The node has so many more secrets, and is stopped with its log closed.
async fn filled(node: &Node, from: usize, to: usize) {
    let meta = node.open(5000).await;
    fill(&meta, from, to).await;
    meta.shutdown().await;
    drop(meta);
    log_closed(&node.paths().log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_acknowledged_changes_is_refused() {
    let node = Node::new();
    filled(&node, 0, 20).await;
    let segment = node.paths().log.join("00000001.log");
    let old = fs::read(&segment).unwrap();
    filled(&node, 20, 40).await;
    // An older copy put back, and no log at all.
    fs::write(&segment, &old).unwrap();
    let error = node.try_open(5000).await.err().unwrap().to_string();
    assert!(
        error.contains("acknowledged changes are missing"),
        "{error}"
    );
    fs::remove_dir_all(node.paths().log).unwrap();
    let error = node.try_open(5000).await.err().unwrap().to_string();
    assert!(
        error.contains("acknowledged changes are missing"),
        "{error}"
    );
    // Everything but the key is gone: the node must not come back as one that knows nothing.
    let aside = node.paths().state.with_extension("aside");
    fs::rename(node.paths().state, &aside).unwrap();
    let snapshots = node.paths().snapshots.with_extension("aside");
    fs::rename(node.paths().snapshots, &snapshots).unwrap();
    let error = node.try_open(5000).await.err().unwrap().to_string();
    assert!(error.contains("log-begun"), "{error}");
    fs::rename(aside, node.paths().state).unwrap();
    fs::rename(snapshots, node.paths().snapshots).unwrap();
    // A flipped byte inside an entry.
    let at = old
        .windows(300)
        .position(|w| w.iter().all(|b| *b == 3))
        .unwrap();
    fs::create_dir(node.paths().log).unwrap();
    fs::write(&segment, &old).unwrap();
    flip(&segment, at + 100);
    let error = node.try_open(5000).await.err().unwrap().to_string();
    assert!(error.contains("damaged"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_log_is_noticed_when_the_state_cannot_be_read_either() {
    let node = Node::new();
    filled(&node, 0, 20).await;
    fs::write(node.paths().state.join("db"), b"rot").unwrap();
    for lost in ["removed", "emptied"] {
        let copy = node.copy();
        match lost {
            "removed" => fs::remove_dir_all(copy.paths().log).unwrap(),
            _ => fs::write(copy.paths().log.join("00000001.log"), b"").unwrap(),
        }
        // Trying again does not help it.
        for _ in 0..2 {
            let error = copy.try_open(5000).await.err();
            let error = error
                .unwrap_or_else(|| panic!("{lost}: an empty node"))
                .to_string();
            assert!(error.contains("raft/log"), "{lost}: {error}");
            assert!(error.contains("backup"), "{lost}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_on_a_full_disk_can_be_tried_again() {
    let mut refused = 0;
    for left in [0, 4 << 10, 64 << 10, 600 << 10, 1200 << 10, 2 << 20] {
        let disk = SmallDisk::mount(64 << 10);
        let ballast = disk.path().join("ballast");
        let node = Node::at(disk.path());
        let stat = rustix::fs::statvfs(disk.path()).unwrap();
        let free = usize::try_from(stat.f_bavail * stat.f_frsize).unwrap();
        fs::write(&ballast, vec![1; free - left]).unwrap();
        let first = node.try_open(5000).await;
        refused += usize::from(first.is_err());
        drop(first);
        fs::remove_file(&ballast).unwrap();
        let meta = node.try_open(5000).await;
        let meta = meta.unwrap_or_else(|e| panic!("after {left} bytes: {e}"));
        fill(&meta, 0, 1).await;
        meta.shutdown().await;
    }
    assert!(refused >= 2, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_again_while_the_disk_is_full() {
    let disk = SmallDisk::mount(96 << 10);
    let node = Node::at(disk.path());
    let meta = node.open(50).await;
    fill(&meta, 0, 120).await;
    let hash = meta.state_hash();
    meta.shutdown().await;
    drop(meta);
    // As full as the journal and the blobs may make it, and a little more.
    let stat = rustix::fs::statvfs(disk.path()).unwrap();
    let free = usize::try_from(stat.f_bavail * stat.f_frsize).unwrap();
    fs::write(disk.path().join("ballast"), vec![1; free - (24 << 20)]).unwrap();
    for _ in 0..3 {
        let meta = node.open(50).await;
        assert_eq!(meta.state_hash(), hash);
        assert_eq!(meta.secrets(&ns("acme")).len(), 120);
        let refused = meta.propose(&RequestId::from("t"), secret(1, 9)).await;
        assert!(matches!(refused, Err(ProposeError::Full)), "{refused:?}");
        meta.shutdown().await;
    }
    fs::remove_file(disk.path().join("ballast")).unwrap();
    let meta = node.open(50).await;
    put(&meta, secret(1, 9)).await;
    meta.shutdown().await;
}

//! Damage to what is there once only: the log and its snapshots.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use orama_tests::{Node, Rng, Tenant, seed};

use super::{State, check_refusal, files_under, flip, populate, state};

fn copy_dir(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}

/// Starts nodes on damaged copies of a data directory: each refuses clearly, or serves everything.
/// Answers how many refused.
async fn try_damages(
    node: &mut Node,
    tenant: &Tenant,
    before: &State,
    words: &[&str],
    damages: impl Iterator<Item = Box<dyn FnOnce(&Path) -> String>>,
) -> usize {
    let pristine = node.scratch().join("pristine");
    copy_dir(node.data_dir(), &pristine);
    node.reconfigure(|b| b.ready_within(Duration::from_secs(15)));
    let (mut refused, mut served) = (0, 0);
    for damage in damages {
        std::fs::remove_dir_all(node.data_dir()).unwrap();
        copy_dir(&pristine, node.data_dir());
        let what = damage(node.data_dir());
        match node.try_start_again().await {
            Ok(_) => {
                served += 1;
                assert_eq!(
                    &state(tenant).await,
                    before,
                    "{what}: it must serve everything or refuse"
                );
                // A node that serves also takes changes.
                tenant.set_secret("AFTER", "damage").await;
                node.kill();
            }
            Err(refusal) => {
                refused += 1;
                println!("{what}: refused");
                check_refusal(&refusal, words);
            }
        }
    }
    println!("damaged starts: {refused} refused, {served} served everything");
    // The pristine copy starts: it was the damage.
    std::fs::remove_dir_all(node.data_dir()).unwrap();
    copy_dir(&pristine, node.data_dir());
    node.start_again().await;
    assert_eq!(&state(tenant).await, before);
    refused
}

/// Where the log is written at present.
fn newest_segment(dir: &Path) -> PathBuf {
    let segments = files_under(&dir.join("raft/log"));
    let written = segments.into_iter().filter(|path| {
        let bytes = std::fs::read(path).unwrap();
        // The first sector is a head; a segment made ahead has nothing else.
        bytes.len() > 512 && bytes[512..].iter().any(|byte| *byte != 0)
    });
    written.max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_log_is_never_silently_less() {
    let mut node = Node::builder()
        .allow_error("log")
        .allow_error("corrupt")
        .start()
        .await;
    let tenant = populate(&node, "logs").await;
    let before = state(&tenant).await;
    node.kill();
    let mut rng = Rng::new(seed());
    let damages = (0..24).map(|n| {
        let mut rng = rng.fork();
        let damage: Box<dyn FnOnce(&Path) -> String> = Box::new(move |dir| {
            let file = newest_segment(dir);
            // The view must not hide the log's loss: without it the log is all there is.
            if n % 2 == 0 {
                std::fs::remove_dir_all(dir.join("state")).unwrap();
            }
            if n == 22 {
                std::fs::write(&file, vec![0u8; 4096]).unwrap();
                return "an overwritten log".into();
            }
            if n == 23 {
                let length = file.metadata().unwrap().len();
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(&file)
                    .unwrap()
                    .set_len(length / 3)
                    .unwrap();
                return "a log cut to a third".into();
            }
            format!("bytes {:?} of the log", flip(&file, &mut rng, 1 + n % 4))
        });
        damage
    });
    let words = ["log", "corrupt", "damage", "checksum"];
    try_damages(&mut node, &tenant, &before, &words, damages).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_snapshot_is_never_silently_less() {
    let mut node = Node::builder()
        .allow_error("snapshot")
        .allow_error("corrupt")
        .start()
        .await;
    let tenant = populate(&node, "snaps").await;
    // Enough changes for two snapshots: the log is compacted up to the older one.
    let snapshots = node.data_dir().join("snapshots");
    let mut changes = 0;
    while files_under(&snapshots).len() < 2 {
        let batch = (0..64).map(|n| {
            let tenant = &tenant;
            async move {
                tenant
                    .set_secret(&format!("FILLER_{n}"), &format!("{changes}"))
                    .await
            }
        });
        futures::future::join_all(batch).await;
        changes += 64;
        assert!(changes < 20_000, "no two snapshots after {changes} changes");
    }
    // Let the compaction that follows a snapshot come to its end.
    tokio::time::sleep(Duration::from_millis(500)).await;
    println!(
        "two snapshots after {changes} changes: {:?}",
        files_under(&snapshots)
    );
    let before = state(&tenant).await;
    node.stop().await;
    let mut rng = Rng::new(seed());
    let damages = (0..8).map(|n| {
        let mut rng = rng.fork();
        let damage: Box<dyn FnOnce(&Path) -> String> = Box::new(move |dir| {
            if n > 0 {
                std::fs::remove_dir_all(dir.join("state")).unwrap();
            }
            let mut files = files_under(&dir.join("snapshots"));
            // The newest alone, or all of them.
            if n < 4 {
                files = files.split_off(files.len() - 1);
            }
            for file in &files {
                match n {
                    2 | 6 => std::fs::write(file, "").unwrap(),
                    3 | 7 => std::fs::remove_file(file).unwrap(),
                    _ => drop(flip(file, &mut rng, 1 + n)),
                }
            }
            format!("damage {n} to {files:?}")
        });
        damage
    });
    let refused = try_damages(&mut node, &tenant, &before, &["snapshot"], damages).await;
    assert!(
        refused >= 4,
        "without any snapshot a compacted log is not everything: {refused}"
    );
}

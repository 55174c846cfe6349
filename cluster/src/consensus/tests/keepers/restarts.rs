//! What a node finds in its directory: known entries, damaged files, a log that is too short.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_at_the_floor_and_gives_known_entries_again() {
    let net = Arc::<Net>::default();
    let node = Kept::start(&net, 1, Begin::Found, NEVER).await;
    for n in 0..30 {
        node.set(&format!("k{n}"), "x").await.unwrap();
    }
    assert_eq!(node.set("k0", "y").await.unwrap().reply, b"x");
    let stamps = node.folder.stamps.load(Ordering::Acquire);
    assert!(stamps >= 31 && node.folder.stamp_of("k29").unwrap() > 0);
    let before = node.group.state_hash();

    let node = node.again(NEVER).await;
    assert_eq!(node.get("k0").await.as_deref(), Some("y"));
    assert_eq!(node.group.state_hash(), before);
    assert!(node.folder.known.load(Ordering::Acquire) >= 31);
    assert_eq!(node.folder.rebuilds.load(Ordering::Acquire), 0);

    // The commands can be read again, and not beyond either end.
    let log = node.folder.log.lock().clone().unwrap();
    let last = node.group.applied_index();
    let mut seen = Vec::new();
    let mut each = |index, command: &[u8]| {
        seen.push((index, command[STAMP..].to_vec()));
        Ok(())
    };
    log.commands(1, last, &mut each).unwrap();
    assert_eq!(seen.len(), 31);
    assert!(seen.windows(2).all(|w| w[0].0 < w[1].0));
    assert_eq!(seen.last().unwrap().1, b"k0=y");
    assert!(log.commands(1, last + 1, &mut |_, _| Ok(())).is_err());
    let stopped = log.commands(1, last, &mut |_, _| Err(io::ErrorKind::Interrupted.into()));
    assert_eq!(stopped.unwrap_err().kind(), io::ErrorKind::Interrupted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_are_made_again_from_snapshot_and_log() {
    let net = Arc::<Net>::default();
    let node = Kept::start(&net, 1, Begin::Found, NEVER).await;
    node.set("a", "1").await.unwrap();
    fs::write(node.folder.live_file(), b"torn").unwrap();
    let node = node.again(15).await;
    assert_eq!(node.get("a").await.as_deref(), Some("1"));
    assert_eq!(node.folder.rebuilds.load(Ordering::Acquire), 1);

    node.outgrow_log("x").await;
    until("two are kept", 10, || {
        node.snapshots().len() == 2 && node.folder.copies().len() == 2
    })
    .await;
    let log = node.folder.log.lock().clone().unwrap();
    let gone = log.commands(0, 5, &mut |_, _| Ok(()));
    assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::NotFound);
    let (before, value) = (node.group.state_hash(), node.folder.get("k3"));
    fs::write(node.folder.live_file(), b"torn").unwrap();
    let node = node.again(NEVER).await;
    assert_eq!(node.get("k3").await, value);
    assert_eq!(node.group.state_hash(), before);

    // The newest snapshot's file is damaged too: the older one and the log do.
    fs::write(node.folder.live_file(), b"torn").unwrap();
    fs::write(node.folder.copies().last().unwrap(), b"rotten").unwrap();
    let node = node.again(NEVER).await;
    assert_eq!(node.group.state_hash(), before);

    for copy in node.folder.copies() {
        fs::write(copy, b"rotten").unwrap();
    }
    fs::write(node.folder.live_file(), b"torn").unwrap();
    let dir = node.stop().await;
    let refused = open(&dir, &net, NodeId(1), Begin::Wait, NEVER).await;
    let Err(OpenFault::Storage(fault @ StorageFault::NoBridge { .. })) = refused else {
        panic!("it starts without its state");
    };
    assert!(fault.to_string().contains("the copy is damaged"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_shorter_than_the_files_of_an_only_voter_is_refused() {
    let net = Arc::<Net>::default();
    let node = Kept::start(&net, 1, Begin::Found, 15).await;
    let log = node.dir.path().join("raft").join("log");
    node.set("a", "1").await.unwrap();
    let dir = node.stop().await;
    let old: Vec<_> = fs::read_dir(&log)
        .unwrap()
        .flatten()
        .map(|file| (file.path(), fs::read(file.path()).unwrap()))
        .collect();
    let node = Kept::start_in(dir, &net, NodeId(1), Begin::Wait, 15, None).await;
    node.outgrow_log("x").await;
    let dir = node.stop().await;
    fs::remove_dir_all(&log).unwrap();
    fs::create_dir(&log).unwrap();
    for (path, bytes) in old {
        fs::write(path, bytes).unwrap();
    }
    let refused = open(&dir, &net, NodeId(1), Begin::Wait, 15).await;
    assert!(
        matches!(
            refused,
            Err(OpenFault::Storage(StorageFault::LogShort { .. }))
        ),
        "it starts with acknowledged entries missing"
    );
}

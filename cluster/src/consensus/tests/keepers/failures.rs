//! Keepers that fail or panic, and groups that are removed.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_cannot_apply_says_how_far_it_is_behind() {
    let net = Arc::<Net>::default();
    let nodes = three(&net, NEVER).await;
    *nodes[2].folder.fails.lock() = Some(io::ErrorKind::StorageFull);
    for n in 0..5 {
        nodes[0].set("a", &n.to_string()).await.unwrap();
    }
    until("it stops", 10, || nodes[2].group.view().stopped).await;
    assert!(nodes[2].group.behind() >= 1);
    let why = nodes[2].set("a", "x").await.unwrap_err().to_string();
    assert!(why.contains("restart"), "{why}");
    assert_eq!(nodes[1].get("a").await.as_deref(), Some("4"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_or_an_error_of_the_leaders_keeper_stops_its_group_and_nothing_else() {
    for panics in [true, false] {
        let net = Arc::<Net>::default();
        let mut nodes = three(&net, NEVER).await;
        nodes[0].set("a", "1").await.unwrap();
        // Another group of the same node goes on.
        let other = Folder::new(nodes[0].dir.path().join("other"), NEVER);
        let other = nodes[0]
            .groups
            .start(GroupId(9), Backend::Files(other), &options(9), Begin::Found)
            .await
            .unwrap();
        let folder = &nodes[0].folder;
        match panics {
            true => folder.panics.store(true, Ordering::Release),
            false => *folder.fails.lock() = Some(io::ErrorKind::Other),
        }
        let unknown = nodes[0].set("a", "2").await;
        assert!(
            matches!(unknown, Err(ProposeFault::Unknown(_))),
            "{unknown:?}"
        );
        assert!(nodes[0].group.view().stopped);
        other.propose(command("b", "1")).await.unwrap();
        // It was committed: the others have it, and go on.
        let deadline = soon(15);
        while let Err(error) = nodes[1].set("b", "1").await {
            assert!(Instant::now() < deadline, "{error}");
        }
        assert_eq!(nodes[2].get("a").await.as_deref(), Some("2"));
        let back = nodes.remove(0).again(NEVER).await;
        assert_eq!(back.get("a").await.as_deref(), Some("2"));
        nodes.push(back);
        same(&nodes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing_deletes_the_files_and_an_interrupted_removal_is_finished() {
    let net = Arc::<Net>::default();
    let node = Kept::start(&net, 1, Begin::Found, NEVER).await;
    node.set("a", "1").await.unwrap();
    let files = node.groups.files_of(GROUP);
    assert!(files.join("live").exists());
    node.groups.remove(GROUP).await.unwrap();
    assert!(!files.exists());
    // One that does not run here any more.
    fs::create_dir_all(node.groups.files_of(GroupId(6))).unwrap();
    node.groups.remove(GroupId(6)).await.unwrap();
    assert!(!node.groups.files_of(GroupId(6)).exists());
    // The log went, and the node died before the files did.
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("live"), b"old").unwrap();
    let dir = node.stop().await;
    let node = Kept::start_in(dir, &net, NodeId(1), Begin::Found, NEVER, None).await;
    assert_eq!(node.folder.rebuilds.load(Ordering::Acquire), 0);
    assert_eq!(node.get("a").await, None);
    // Files without any log are a lost log, not an empty one.
    let dir = node.stop().await;
    for gone in ["raft/log", "state", "snapshots"] {
        fs::remove_dir_all(dir.path().join(gone)).unwrap();
    }
    fs::remove_file(dir.path().join("log-begun")).unwrap();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let refused = Groups::over(&Node::paths(&dir), NodeId(1), None, metrics).await;
    assert!(matches!(refused, Err(StorageFault::LogMissing { .. })));
}

//! Snapshots between nodes, and a death at every step of building and installing one.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_snapshot_goes_over_bad_links() {
    let net = Arc::<Net>::default();
    let mut nodes = vec![Kept::start(&net, 1, Begin::Found, 15).await];
    nodes[0].outgrow_log(&"v".repeat(500_000)).await;
    let mut count = 0u64;
    net.rule(move |packet| {
        if packet.lane != Lane::Bulk {
            return Fate::Arrives;
        }
        count += 1;
        match count % 6 {
            2 => Fate::Lost,
            3 if packet.size > 100_000 => Fate::Damaged,
            5 => Fate::Unanswered,
            _ => Fate::Arrives,
        }
    });
    nodes.push(Kept::start(&net, 2, Begin::Wait, 15).await);
    admit_kept(&nodes[0], NodeId(2)).await;
    net.no_rule();
    same(&nodes).await;
    assert_eq!(nodes[1].get("k3").await.unwrap().len(), 500_000);
    assert!(nodes[1].purged() >= 20, "it came as a snapshot");
    // The file it was sent from goes when a newer snapshot is there.
    nodes[0].outgrow_log("small").await;
    let outgoing = |node: &Kept| {
        let names = fs::read_dir(node.dir.path().join("snapshots")).unwrap();
        names
            .flatten()
            .filter(|e| e.path().extension().is_some_and(|x| x == "tmp"))
            .count()
    };
    until("nothing is left over", 10, || {
        nodes.iter().all(|node| outgoing(node) == 0)
    })
    .await;
    let node = nodes.remove(1).again(15).await;
    nodes.push(node);
    nodes[0].set("after", "1").await.unwrap();
    assert_eq!(nodes[1].get("after").await.as_deref(), Some("1"));
    same(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_is_not_sent_and_another_one_does() {
    for restart in [false, true] {
        let net = Arc::<Net>::default();
        let mut node = Kept::start(&net, 1, Begin::Found, 15).await;
        node.outgrow_log("x").await;
        while node.folder.copies().len() < 2 || node.purged() < 20 {
            node.outgrow_log("x").await;
        }
        if restart {
            node = node.again(NEVER).await;
        }
        fs::write(node.folder.copies().last().unwrap(), b"rotten").unwrap();
        let mut nodes = vec![node];
        nodes.push(Kept::start(&net, 2, Begin::Wait, NEVER).await);
        admit_kept(&nodes[0], NodeId(2)).await;
        same(&nodes).await;
        assert!(nodes[1].purged() > 0, "it came as a snapshot");
        assert!(!nodes[0].group.view().stopped);
        let set_aside = nodes[0].dir.path().join("snapshots");
        let set_aside = fs::read_dir(set_aside).unwrap().flatten();
        let set_aside = set_aside.filter(|e| e.path().extension().is_some_and(|x| x == "damaged"));
        assert_eq!(set_aside.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_step_of_installing_loses_nothing() {
    let net = Arc::<Net>::default();
    let mut nodes = three(&net, 15).await;
    nodes[0].set("a", "1").await.unwrap();
    let steps = [Step::Unpacked, Step::Named, Step::Adopted, Step::Forgotten];
    for (round, step) in steps.into_iter().enumerate() {
        let away = nodes.remove(2);
        let applied = away.group.applied_index();
        let dir = away.stop().await;
        let value = format!("{step:?}");
        while nodes[0].purged() <= applied {
            nodes[0].outgrow_log(&value).await;
        }
        let back = Kept::start_in(dir, &net, NodeId(3), Begin::Wait, 15, Some(step)).await;
        until("it dies while it installs", 20, || {
            back.group.view().stopped
        })
        .await;
        let why = back.set("b", "1").await.unwrap_err();
        assert!(
            matches!(&why, ProposeFault::Stopped(why) if why.contains("killed at")),
            "{why}"
        );
        let back = back.again(15).await;
        assert_eq!(back.get("k3").await.as_deref(), Some(value.as_str()));
        let rebuilds = back.folder.rebuilds.load(Ordering::Acquire);
        assert_eq!(rebuilds, 0, "{step:?}: it went on from what was there");
        nodes.push(back);
        nodes[round % 3].set("after", &value).await.unwrap();
        same(&nodes).await;
    }
    nodes[0].outgrow_log("end").await;
    let last = &nodes[2];
    until("what nothing names is deleted", 20, || {
        last.folder.copies().len() <= 2 && last.snapshots().len() <= 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_step_of_building_loses_nothing() {
    let net = Arc::<Net>::default();
    let mut node = Kept::start(&net, 1, Begin::Found, 15).await;
    for step in [Step::Saved, Step::Written] {
        *node.group.inner.keeping.as_ref().unwrap().crash.lock() = Some(step);
        let newest = node.folder.copies().pop();
        let deadline = soon(20);
        while node.folder.copies().pop() == newest {
            assert!(Instant::now() < deadline, "nothing is saved");
            node.set("a", "1").await.unwrap();
        }
        assert!(!node.group.view().stopped, "it is put off");
        let before = node.group.state_hash();
        node = node.again(15).await;
        assert_eq!(node.group.state_hash(), before);
        // A snapshot may be under way again.
        until("what nothing names is swept", 10, || {
            node.folder.copies().len() == node.snapshots().len()
        })
        .await;
        assert_eq!(node.folder.rebuilds.load(Ordering::Acquire), 0);
    }
    node.outgrow_log("x").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_without_room_is_put_off_and_made_later() {
    let net = Arc::<Net>::default();
    let node = Kept::start(&net, 1, Begin::Found, 15).await;
    node.folder.size.store(u64::MAX, Ordering::Release);
    let put_off = || {
        let snapshots = &node.group.inner.shared.metrics.snapshots;
        let labels = [GROUP.to_string(), "put_off".to_owned()];
        snapshots.with_label_values(&labels).get()
    };
    let deadline = soon(20);
    while put_off() < 2 {
        assert!(Instant::now() < deadline, "no snapshot was due");
        node.set("a", "1").await.unwrap();
    }
    assert!(node.snapshots().is_empty() && node.folder.copies().is_empty());
    node.folder.size.store(0, Ordering::Release);
    node.outgrow_log("x").await;
    assert!(!node.snapshots().is_empty());
}

//! Three replicas that are well: writing, reading, changing members and leaders, restarting.

use super::*;
use crate::consensus::log::RaftLog;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_writes_and_reads_its_own_writes() {
    let net = Arc::<Net>::default();
    let nodes = cluster(&net, 3, 1000).await;
    for (n, node) in nodes.iter().enumerate() {
        let key = format!("k{n}");
        node.set(&key, "1").await.unwrap();
        assert_eq!(node.registers.get(&key).unwrap(), b"1", "visible at once");
        let old = node.set(&key, "2").await.unwrap();
        assert_eq!(old.reply, b"1");
        for other in &nodes {
            assert_eq!(other.get(&key).await.unwrap(), b"2");
        }
    }
    assert!(nodes[1].counted("orama_raft_forwarded_total", "ok") >= 2.0);
    let large = vec![b'='; 1 + (1 << 20)];
    let refused = nodes[1].group.propose(large).await;
    assert!(matches!(refused, Err(ProposeFault::TooLarge(_))));
    same_state(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_a_moment_share_one_question() {
    let net = Arc::<Net>::default();
    let nodes = cluster(&net, 3, 1000).await;
    let before = nodes[1].counted("orama_raft_read_rounds_total", "");
    let reads = (0..200).map(|_| nodes[1].group.confirm(soon(10)));
    for read in futures::future::join_all(reads).await {
        read.unwrap();
    }
    let rounds = nodes[1].counted("orama_raft_read_rounds_total", "") - before;
    assert!((1.0..20.0).contains(&rounds), "{rounds} rounds");
    assert!(nodes[1].counted("orama_raft_reads_total", "ok") >= 200.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_on_request_and_writes_follow() {
    let net = Arc::<Net>::default();
    let nodes = cluster(&net, 3, 1000).await;
    let mut views = nodes[0].group.views();
    views.borrow_and_update();
    nodes[0].group.transfer(NodeId(2), soon(10)).await.unwrap();
    assert!(views.has_changed().unwrap(), "views announce the leader");
    let start = Instant::now();
    for node in &nodes {
        node.set("a", "1").await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(leader_of(&nodes).unwrap().id, NodeId(2));
    let refused = nodes[0].group.transfer(NodeId(3), soon(1)).await;
    assert!(matches!(refused, Err(ProposeFault::NoLeader)));
    let refused = nodes[0].group.add_learner(NodeId(9)).await;
    assert!(matches!(refused, Err(ProposeFault::NoLeader)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_is_replaced_and_what_it_had_is_deleted() {
    let net = Arc::<Net>::default();
    let mut nodes = cluster(&net, 3, 1000).await;
    for n in 0..50 {
        nodes[0].set(&format!("k{n}"), "x").await.unwrap();
    }
    nodes.push(Node::start(&net, 4, Begin::Wait, 1000).await);
    admit(&nodes[0], NodeId(4)).await;
    let leader = &nodes[0].group;
    let voters = BTreeSet::from([NodeId(1), NodeId(2), NodeId(4)]);
    leader.set_voters(voters.clone()).await.unwrap();
    let view = leader.view();
    assert_eq!(view.voters, voters);
    assert_eq!(
        view.learners,
        BTreeSet::from([NodeId(3)]),
        "it stays as a learner"
    );
    assert!(!view.changing);
    leader.remove_learner(NodeId(3)).await.unwrap();
    assert!(leader.view().learners.is_empty());

    // The node that was removed starts again: its directory is still its own.
    let gone = nodes.remove(2);
    let dir = gone.stop().await;
    let gone = Node::start_in(dir, &net, NodeId(3), Begin::Wait, 1000).await;
    assert!(!gone.groups.is_pristine(GROUP).unwrap());
    gone.groups.remove(GROUP).await.unwrap();
    assert!(gone.groups.get(GROUP).is_none());
    assert!(gone.groups.is_pristine(GROUP).unwrap());
    let dir = gone.stop().await;
    let again = Node::start_in(dir, &net, NodeId(3), Begin::Wait, 1000).await;
    assert_eq!(again.registers.len(), 0);
    admit(&nodes[0], NodeId(3)).await;
    assert_eq!(again.get("k7").await.unwrap(), b"x");
    nodes.push(again);
    same_state(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_restart_and_nothing_is_lost() {
    let net = Arc::<Net>::default();
    let mut nodes = cluster(&net, 3, 20).await;
    for n in 0..90 {
        nodes[n % 3].set(&format!("k{n}"), "x").await.unwrap();
    }
    same_state(&nodes).await;
    let mut dirs = Vec::new();
    for node in nodes.drain(..) {
        dirs.push((node.id, node.stop().await));
    }
    for (id, dir) in dirs {
        nodes.push(Node::start_in(dir, &net, id, Begin::Wait, 20).await);
    }
    for node in &nodes {
        assert_eq!(node.get("k89").await.unwrap(), b"x");
        assert_eq!(node.registers.len(), 90);
    }
    nodes[2].set("after", "1").await.unwrap();
    same_state(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_one_confirms_without_asking_and_several_share_a_node() {
    let net = Arc::<Net>::default();
    let node = Node::start(&net, 1, Begin::Found, 1000).await;
    node.group.confirm(soon(1)).await.unwrap();
    let mut others = Vec::new();
    for id in 6..12 {
        let registers = Arc::<Registers>::default();
        let group = node
            .groups
            .start(GroupId(id), pairs(&registers), &options(100), Begin::Found)
            .await
            .unwrap();
        group.propose(set("a", &id.to_string())).await.unwrap();
        others.push(registers);
    }
    for (registers, id) in others.iter().zip(6..) {
        assert_eq!(registers.get("a").unwrap(), format!("{id}").into_bytes());
    }
    assert!(node.registers.get("a").is_none());
    node.groups.remove(GroupId(7)).await.unwrap();
    assert!(node.groups.is_pristine(GroupId(7)).unwrap());
    assert!(!node.groups.is_pristine(GroupId(8)).unwrap());
    let id = node.id;
    let dir = node.stop().await;
    // Erasing another one is cut off when only its log is gone.
    let metrics = || Metrics::register(&prometheus::Registry::new()).unwrap();
    let log = RaftLog::open(&Node::paths(&dir).log, &metrics()).unwrap();
    log.erase(GroupId(9)).await.unwrap();
    log.close().await.unwrap();
    let groups = Groups::over(&Node::paths(&dir), id, None, metrics())
        .await
        .unwrap();
    for (id, value) in [(8, Some("8")), (9, None)] {
        let registers = Arc::<Registers>::default();
        groups
            .start(GroupId(id), pairs(&registers), &options(100), Begin::Found)
            .await
            .unwrap();
        assert_eq!(registers.get("a").as_deref(), value.map(str::as_bytes));
    }
    groups.shutdown().await;
}

//! Dead leaders, cut links, lost answers: what is acknowledged stays, what is
//! unknown is said to be, and no confirmed read is stale.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::net::Fate;
use super::*;
use crate::consensus::ReadFault;
use crate::mesh::{Lane, Service};

/// A write that was on its way to a leader which fell silent is not known; then again.
async fn set_at_last(node: &Node, key: &str, value: &str) {
    let deadline = soon(15);
    while let Err(error) = node.set(key, value).await {
        let again = matches!(error, ProposeFault::Unknown(_) | ProposeFault::NoLeader);
        assert!(again && Instant::now() < deadline, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_when_the_leader_dies() {
    let net = Arc::<Net>::default();
    let mut nodes = cluster(&net, 3, 1000).await;
    for n in 0..20 {
        nodes[1].set(&format!("k{n}"), "x").await.unwrap();
    }
    let dead = nodes.remove(0);
    assert_eq!(dead.group.view().leader, Some(dead.id));
    let dir = dead.stop().await;
    let start = Instant::now();
    nodes[0].set("after", "1").await.unwrap();
    let took = start.elapsed();
    assert!(took < Duration::from_millis(2500), "{took:?}");
    for node in &nodes {
        assert_eq!(node.get("after").await.unwrap(), b"1");
        assert_eq!(node.registers.len(), 21);
    }
    let back = Node::start_in(dir, &net, NodeId(1), Begin::Wait, 1000).await;
    assert_eq!(back.get("after").await.unwrap(), b"1");
    nodes.push(back);
    same_state(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_confirms_nothing_and_says_what_it_does_not_know() {
    let net = Arc::<Net>::default();
    let nodes = cluster(&net, 3, 1000).await;
    nodes[0].set("a", "old").await.unwrap();
    net.isolate(NodeId(1));
    // Accepted by the old leader while its lease lasts, never committed by it.
    let caught = nodes[0].group.clone();
    let caught = tokio::spawn(async move { caught.propose(set("a", "lost")).await });
    // No confirmation may succeed once somebody else can have written; the reader
    // keeps asking all the while.
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (group, stop) = (nodes[0].group.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            while !stop.load(Ordering::Acquire) {
                let read = group
                    .confirm(Instant::now() + Duration::from_millis(200))
                    .await;
                assert!(matches!(read, Err(ReadFault::NoLeader)), "{read:?}");
            }
        })
    };
    set_at_last(&nodes[1], "a", "new").await;
    assert_eq!(nodes[2].get("a").await.unwrap(), b"new");
    let refused = nodes[0].set("a", "late").await;
    assert!(
        matches!(
            refused,
            Err(ProposeFault::NoLeader | ProposeFault::Unknown(_))
        ),
        "{refused:?}"
    );
    stop.store(true, Ordering::Release);
    reader.await.unwrap();
    net.heal();
    assert_eq!(nodes[0].get("a").await.unwrap(), b"new");
    let caught = caught.await.unwrap();
    assert!(
        matches!(caught, Err(ProposeFault::Unknown(_))),
        "{caught:?}"
    );
    same_state(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_unknown_and_never_repeated() {
    let net = Arc::<Net>::default();
    let nodes = cluster(&net, 3, 1000).await;
    let asked = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&asked);
    net.rule(move |packet| match packet.service {
        Service::Group => {
            counter.fetch_add(1, Ordering::AcqRel);
            Fate::Unanswered
        }
        _ => Fate::Arrives,
    });
    let unknown = nodes[1].set("a", "1").await;
    assert!(
        matches!(unknown, Err(ProposeFault::Unknown(_))),
        "{unknown:?}"
    );
    assert_eq!(asked.load(Ordering::Acquire), 1);
    net.no_rule();
    assert_eq!(nodes[2].get("a").await.unwrap(), b"1", "it had happened");

    // A leader that cannot be reached was not asked: that is no leader, not a riddle.
    net.leave(NodeId(1));
    let start = Instant::now();
    nodes[1].set("b", "1").await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_way_cuts_do_not_lose_or_invent_anything() {
    let net = Arc::<Net>::default();
    let nodes = cluster(&net, 3, 1000).await;
    // The leader hears the others, and they do not hear it.
    net.cut(NodeId(1), NodeId(2));
    net.cut(NodeId(1), NodeId(3));
    set_at_last(&nodes[1], "a", "1").await;
    assert_eq!(nodes[2].get("a").await.unwrap(), b"1");
    net.heal();
    nodes[0].set("a", "2").await.unwrap();
    // The leader is heard, and hears one of them only.
    let leader = leader_of(&nodes).unwrap().id;
    let deaf = nodes.iter().find(|n| n.id != leader).unwrap().id;
    net.cut(deaf, leader);
    for n in 0..20 {
        nodes[(leader.0 - 1) as usize]
            .set(&format!("k{n}"), "x")
            .await
            .unwrap();
    }
    net.heal();
    for node in &nodes {
        assert_eq!(node.get("k19").await.unwrap(), b"x");
    }
    same_state(&nodes).await;
    // The leader is heard, and hears nobody: it falls silent for others to lead.
    let leader = leader_of(&nodes).unwrap().id;
    let others: Vec<&Node> = nodes.iter().filter(|n| n.id != leader).collect();
    for other in &others {
        net.cut(other.id, leader);
    }
    let start = Instant::now();
    set_at_last(others[0], "b", "1").await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert_eq!(others[1].get("b").await.unwrap(), b"1");
    net.heal();
    same_state(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifth_of_all_messages_may_be_lost() {
    let net = Arc::<Net>::default();
    let nodes = cluster(&net, 3, 1000).await;
    let mut seed = 7u64;
    net.rule(move |_| {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        match (seed >> 33) % 10 {
            0 => Fate::Lost,
            1 => Fate::Unanswered,
            _ => Fate::Arrives,
        }
    });
    let mut acknowledged = Vec::new();
    for n in 0..60 {
        let key = format!("k{n}");
        if nodes[n % 3].set(&key, "x").await.is_ok() {
            acknowledged.push(key);
        }
    }
    net.no_rule();
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
    for node in &nodes {
        for key in &acknowledged {
            assert_eq!(node.get(key).await.unwrap(), b"x", "{key}");
        }
    }
    same_state(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_speaks_for_another_node_and_nonsense_is_declined() {
    use crate::consensus::types::VoteRecord;
    use crate::consensus::wire::{self, Ballot, RaftRequest};
    use crate::mesh::Incoming;
    let net = Arc::<Net>::default();
    let nodes = cluster(&net, 1, 1000).await;
    let (raft, _) = nodes[0].groups.handlers();
    let term = nodes[0].group.view().term;
    let message = RaftRequest::Vote(Ballot {
        vote: VoteRecord::new(term + 9, 3, false),
        last: None,
        transfer: true,
    });
    let call = |body: bytes::Bytes| {
        raft.call(Incoming {
            from: NodeId(2),
            deadline: soon(5),
            body,
        })
    };
    let body = wire::request(GROUP, &message).unwrap();
    let refused = call(body).await.unwrap_err();
    assert!(refused.0.contains("another node"), "{refused}");
    for body in [&b""[..], b"\x01", b"\x09abc", &[255; 64]] {
        call(bytes::Bytes::copy_from_slice(body)).await.unwrap_err();
    }
    let message = RaftRequest::Vote(Ballot {
        vote: VoteRecord::new(1, 2, false),
        last: None,
        transfer: false,
    });
    let body = wire::request(GroupId(99), &message).unwrap();
    let refused = call(body).await.unwrap_err();
    assert!(refused.0.contains("does not run"), "{refused}");
    assert_eq!(nodes[0].group.view().term, term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_and_votes_have_a_lane_of_their_own() {
    let net = Arc::<Net>::default();
    let nodes = cluster(&net, 3, 1000).await;
    let wrong = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&wrong);
    net.rule(move |packet| {
        let fits = match packet.lane {
            Lane::Heartbeat => packet.service == Service::Raft && packet.size < 1000,
            Lane::Consensus => packet.service == Service::Raft && packet.from == NodeId(1),
            Lane::Calls => packet.service == Service::Group,
            Lane::Bulk => false,
        };
        counter.fetch_add(u64::from(!fits), Ordering::AcqRel);
        Fate::Arrives
    });
    for n in 0..10 {
        nodes[n % 3].set("a", &"x".repeat(2000)).await.unwrap();
    }
    nodes[1].get("a").await.unwrap();
    assert_eq!(wrong.load(Ordering::Acquire), 0);
}

//! Weak reads, and how old a replica knows itself to be.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weak_reads_take_the_leaders_word_and_freshness_is_known() {
    let net = Arc::<Net>::default();
    let nodes = three(&net, NEVER).await;
    let done = nodes[1].set("a", "1").await.unwrap();
    for node in &nodes {
        assert!(node.group.weak_index(soon(5)).await.unwrap() >= done.index);
        assert_eq!(node.folder.get("a").as_deref(), Some("1"));
        assert_eq!(node.group.behind(), 0);
        assert!(node.group.wait_applied(done.index, soon(1)).await);
    }
    assert!(
        !nodes[0]
            .group
            .wait_applied(done.index + 99, Instant::now())
            .await
    );
    assert_eq!(nodes[0].group.heard(), Some(Duration::ZERO));
    assert!(nodes[1].group.heard().unwrap() < Duration::from_secs(2));

    // Cut off, a follower knows how old it is, and a leader believes itself for its lease only.
    net.isolate(NodeId(1));
    until("the others have a leader", 10, || {
        nodes[1..].iter().any(|n| {
            let leader = n.group.view().leader;
            leader.is_some() && leader != Some(NodeId(1))
        })
    })
    .await;
    let old = nodes[0]
        .group
        .weak_index(Instant::now() + Duration::from_millis(300))
        .await;
    assert!(matches!(old, Err(ReadFault::NoLeader)), "{old:?}");
    let heard = nodes[0].group.heard();
    assert!(
        heard.is_none_or(|t| t > Duration::from_millis(700)),
        "{heard:?}"
    );
    for node in &nodes[1..] {
        node.group.weak_index(soon(5)).await.unwrap();
        assert!(node.group.heard().unwrap() < Duration::from_secs(2));
    }
    net.heal();
    nodes[0].set("b", "1").await.unwrap();
    assert!(nodes[0].group.heard().unwrap() < Duration::from_secs(2));

    // Weak readers of a moment share one question, and each of it is a call of its own kind.
    let asked = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = Arc::clone(&asked);
    net.rule(move |packet| {
        counter.fetch_add(
            u64::from(packet.service == Service::Group),
            Ordering::AcqRel,
        );
        Fate::Arrives
    });
    let follower = nodes.iter().find(|n| n.group.view().leader != Some(n.id));
    let follower = follower.unwrap();
    let reads = (0..200).map(|_| follower.group.weak_index(soon(10)));
    for read in futures::future::join_all(reads).await {
        read.unwrap();
    }
    let asked = asked.load(Ordering::Acquire);
    assert!((1..20).contains(&asked), "{asked} questions");
}

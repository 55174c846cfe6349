//! Majorities.

use super::*;

fn hold(request: &BlobRequest) -> bool {
    matches!(request, BlobRequest::Hold { .. })
}

#[tokio::test]
async fn one_node_is_its_own_majority_and_asks_nobody() {
    let town = Arc::<Town>::default();
    let a = Node::new(&town, 1);
    town.vote(&[1]);
    let cid = a.put(b"x").await;
    a.net.spread(cid, Instant::now()).await.unwrap();
    assert!(town.calls.lock().is_empty());
}

#[tokio::test]
async fn a_majority_answers_and_the_rest_follows() {
    let town = Arc::<Town>::default();
    let nodes = [1, 2, 3, 4, 5].map(|id| Node::new(&town, id));
    town.vote(&[1, 2, 3, 4, 5]);
    let cid = nodes[0].put(&content(3_000_000)).await;
    // Two of five cannot be reached, one of them comes back.
    [4, 5].into_iter().for_each(|id| town.cut(id));
    nodes[0].net.spread(cid, soon()).await.unwrap();
    for node in &nodes[..3] {
        assert!(node.holds(cid).await);
    }
    town.mend(4);
    while !nodes[3].holds(cid).await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!nodes[4].holds(cid).await);
}

#[tokio::test]
async fn a_minority_is_said_to_be_one_at_the_deadline() {
    let town = Arc::<Town>::default();
    let nodes = [1, 2, 3, 4, 5].map(|id| Node::new(&town, id));
    town.vote(&[1, 2, 3, 4, 5]);
    [3, 4, 5].into_iter().for_each(|id| town.cut(id));
    let cid = nodes[0].put(b"x").await;
    let since = Instant::now();
    let deadline = since + Duration::from_millis(500);
    let too_few = nodes[0].net.spread(cid, deadline).await.unwrap_err();
    assert_eq!((too_few.held, too_few.needed), (2, 3));
    assert!(since.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_node_that_does_not_vote_does_not_count() {
    let town = Arc::<Town>::default();
    let nodes = [1, 2, 3, 4].map(|id| Node::new(&town, id));
    town.vote(&[1, 2, 3]);
    town.cut(2);
    town.cut(3);
    let cid = nodes[3].put(b"x").await;
    let deadline = Instant::now() + Duration::from_millis(300);
    let too_few = nodes[3].net.spread(cid, deadline).await.unwrap_err();
    assert_eq!((too_few.held, too_few.needed), (1, 2));
    town.mend(2);
    nodes[3].net.spread(cid, soon()).await.unwrap();
}

#[tokio::test]
async fn a_paused_voter_does_not_hold_up_the_others() {
    let town = Arc::<Town>::default();
    let nodes = [1, 2, 3].map(|id| Node::new(&town, id));
    town.vote(&[1, 2, 3]);
    town.weather(|to, _| match to {
        NodeId(3) => Fault::Silent,
        _ => Fault::None,
    });
    let cid = nodes[0].put(b"x").await;
    let since = Instant::now();
    let deadline = since + Duration::from_secs(10);
    nodes[0].net.spread(cid, deadline).await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(5));
    assert!(nodes[1].holds(cid).await);
}

#[tokio::test]
async fn a_voter_that_stumbles_is_asked_again() {
    let town = Arc::<Town>::default();
    let nodes = [1, 2].map(|id| Node::new(&town, id));
    town.vote(&[1, 2]);
    let mut faults = vec![Fault::Lost, Fault::Busy];
    town.weather(move |_, request| match request {
        BlobRequest::Hold { .. } => faults.pop().unwrap_or(Fault::None),
        _ => Fault::None,
    });
    let cid = nodes[0].put(b"x").await;
    nodes[0].net.spread(cid, soon()).await.unwrap();
    assert_eq!(town.count(hold), 3);
}

#[tokio::test]
async fn who_holds_it_already_verifies_it_and_counts_it_as_new() {
    let town = Arc::<Town>::default();
    let nodes = [1, 2].map(|id| Node::new(&town, id));
    town.vote(&[1, 2]);
    let good = content(50_000);
    let cid = nodes[0].put(&good).await;
    nodes[1].put(&good).await;
    let file = std::fs::File::options()
        .write(true)
        .open(nodes[1].file(cid))
        .unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(7_200);
    file.set_modified(old).unwrap();
    nodes[0].net.spread(cid, soon()).await.unwrap();
    assert!(town.reads().is_empty());
    // The sweep of a node that does not know of the deploy yet leaves it alone.
    let hour = Duration::from_secs(3_600);
    let swept = nodes[1].net.store().sweep(Default::default(), hour).await;
    assert_eq!(swept.unwrap(), 0);
    // A copy that rotted does not count until it is whole again.
    std::fs::write(nodes[1].file(cid), b"rot").unwrap();
    nodes[0].net.spread(cid, soon()).await.unwrap();
    assert_eq!(std::fs::read(nodes[1].file(cid)).unwrap(), good);
}

#[tokio::test]
async fn a_lie_about_holding_is_the_liars_alone() {
    let town = Arc::<Town>::default();
    let a = Node::new(&town, 1);
    town.vote(&[1, 2, 3]);
    liar(&town, 2, |_| BlobReply::Absent);
    liar(&town, 3, |_| BlobReply::Here { bytes: 1 });
    let cid = a.put(b"x").await;
    let deadline = Instant::now() + Duration::from_millis(300);
    let too_few = a.net.spread(cid, deadline).await.unwrap_err();
    assert_eq!((too_few.held, too_few.needed), (1, 2));
}

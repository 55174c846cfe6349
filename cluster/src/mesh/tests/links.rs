//! Links: who is let in, how they come back, which one is used.

use super::*;
use orama_proto::ClusterId;

const OLD: &str = "the secret of yesterday";
const NEW: &str = "the secret of tomorrow";

async fn find(from: &Node, to: &Node) -> Result<Peer, String> {
    from.mesh.find(to.socket(), soon()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shares_a_secret_is_let_in() {
    let both = [format!("{OLD},{NEW}"), format!("{NEW},{OLD}")];
    let old = [OLD, &both[0], &both[1]];
    let new = [NEW, &both[0], &both[1]];
    for known in [old, new] {
        for (i, left) in known.iter().enumerate() {
            for right in &known[i..] {
                let (a, b) = (start_with(left).await, start_with(right).await);
                let found = find(&a, &b).await.unwrap();
                assert_eq!(found.id, b.id);
                b.linked(&a).await;
                for node in [a, b] {
                    node.mesh.shutdown().await;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_refused_on_both_sides() {
    let (a, b) = (start_with(OLD).await, start_with(NEW).await);
    let error = find(&a, &b).await.unwrap_err();
    assert!(error.contains("secret"), "{error}");
    assert!(!error.contains(OLD) && !error.contains(NEW), "{error}");
    a.counted("the refusal", |metrics| metrics.admissions("refused") == 1)
        .await;
    b.counted("the secret", |metrics| {
        metrics.admissions("wrong_secret") == 1
    })
    .await;
    assert!(a.mesh.peers().is_empty() && b.mesh.peers().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_does_not_find_oneself() {
    let a = start().await;
    let error = a.mesh.find(a.socket(), soon()).await.unwrap_err();
    assert!(error.contains("this very node"), "{error}");
    // A copy of the data directory elsewhere is no peer either.
    let copy = start_as(a.key.clone(), SECRET, "/ip4/127.0.0.1/tcp/0").await;
    let error = find(&a, &copy).await.unwrap_err();
    assert!(error.contains("this very node"), "{error}");
    assert!(a.mesh.peers().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_said_at_once() {
    let a = start().await;
    let b = start().await;
    let socket = b.socket();
    b.mesh.shutdown().await;
    let error = a.mesh.find(socket, soon()).await.unwrap_err();
    assert!(error.contains("refused"), "{error}");
    // Somebody who accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let deadline = Instant::now() + Duration::from_millis(300);
    let error = a
        .mesh
        .find(silent.local_addr().unwrap(), deadline)
        .await
        .unwrap_err();
    assert!(error.contains("in time"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_do_not_talk_even_with_the_same_secret() {
    let (a, b) = pair().await;
    a.mesh.belong_to(ClusterId(1));
    b.until("the cluster is told", |mesh| {
        mesh.peers()
            .iter()
            .any(|peer| peer.cluster == Some(ClusterId(1)))
    })
    .await;
    // One without a cluster may stay; it is going to join.
    assert!(a.mesh.linked(b.id));
    b.mesh.belong_to(ClusterId(2));
    a.unlinked(&b).await;
    b.unlinked(&a).await;
    let error = find(&b, &a).await.unwrap_err();
    assert!(error.contains("another cluster"), "{error}");
    b.counted("the other cluster", |metrics| {
        metrics.cuts("foreign") + metrics.cuts("refused") > 0
    })
    .await;
    let c = start().await;
    c.mesh.belong_to(ClusterId(1));
    find(&c, &a).await.unwrap();
    a.linked(&c).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_elsewhere_is_linked_again() {
    let (a, b) = (start().await, start().await);
    a.keep(&b);
    b.keep(&a);
    a.linked(&b).await;
    b.linked(&a).await;
    let old = b.socket();
    b.mesh.shutdown().await;
    a.unlinked(&b).await;
    let b = start_as(b.key, SECRET, "/ip4/127.0.0.1/tcp/0").await;
    assert_ne!(b.socket(), old);
    b.mesh.serve(Service::Invoke, echo());
    // It knows where others are; others learn from it where it is.
    b.keep(&a);
    a.linked(&b).await;
    assert_eq!(a.mesh.peers()[0].addresses, b.mesh.addresses());
    a.call(&b, Lane::Calls, "x").await.unwrap();
    // And at its old place nobody answers: when it stops once more, its new one is known.
    let listen = b.mesh.addresses()[0].clone();
    b.mesh.shutdown().await;
    a.unlinked(&b).await;
    let b = start_as(b.key, SECRET, &listen).await;
    a.linked(&b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_node_is_not_dialled() {
    let (a, b) = pair().await;
    a.mesh.forget(b.id);
    a.unlinked(&b).await;
    b.unlinked(&a).await;
    // It may come by itself.
    b.keep(&a);
    a.linked(&b).await;
    assert!(a.mesh.shared.kept.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_leads_to_a_node() {
    let (a, b) = (start().await, start().await);
    let named = format!("/dns4/localhost/tcp/{}", b.socket().port());
    a.mesh.keep(b.id, &[named]);
    a.linked(&b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_links_one_stays_and_no_call_is_lost() {
    let (a, b) = (start().await, start().await);
    let gate = Gate::serve(&b.mesh);
    a.keep(&b);
    a.linked(&b).await;
    b.linked(&a).await;
    let first = a.mesh.shared.links.best(b.id).unwrap();
    let call = a.call(&b, Lane::Calls, "x");
    let more = async {
        assert_eq!(gate.next().await, "began");
        // Dialled without asking, as when both sides dial at once.
        for (from, to) in [(&b, &a), (&a, &b)] {
            let address = addresses::of_socket(to.socket());
            let dialled = keeper::dial(&from.mesh.shared, address, Some(to.id)).await;
            match dialled.unwrap() {
                transport::Dialled::Link(link) => link.introduced().await.unwrap(),
                _ => panic!("a new link"),
            }
        }
        timeout(LONG, async {
            let links = &a.mesh.shared.links;
            while links
                .best(b.id)
                .is_none_or(|best| best.order <= first.order)
            {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        // Unused ones end; the one with the call stays as long as the call.
        let few = |node: &Node| node.mesh.shared.links.of(None).len() <= 2;
        timeout(LONG, async {
            while !few(&a) || !few(&b) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
        assert!(!first.has_ended());
        gate.go.notify_one();
        let alone = |node: &Node| node.mesh.shared.links.of(None).len() == 1;
        timeout(LONG, async {
            while !alone(&a) || !alone(&b) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
    };
    let (answer, ()) = tokio::join!(call, more);
    assert_eq!(answer.unwrap(), "x");
    assert!(a.mesh.linked(b.id) && b.mesh.linked(a.id));
    assert!(first.has_ended());
}

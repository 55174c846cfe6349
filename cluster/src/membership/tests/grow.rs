//! Forming, growing, draining, leaving.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_for_itself_is_a_cluster_of_one() {
    let site = Site::new("solo");
    let options = || ClusterOptions {
        links: None,
        ..site.options(&[], 1)
    };
    let node = site.start(options()).await.unwrap();
    let topology = node.topology();
    assert_eq!((topology.nodes.len(), topology.groups.len()), (1, 4));
    assert!(topology.groups.values().all(|p| p.formed));
    registers_agree(&[&node], "one").await;
    let refused = node.leave(&rid(), "solo", soon(1)).await.unwrap_err();
    assert!(matches!(refused, OperationError::Refused(_)), "{refused}");
    let missing = node.data().register(GroupId(9), "k", soon(1)).await;
    assert!(matches!(missing, Err(crate::DataError::NoGroup(_))));
    node.shutdown().await;
    drop(node);
    let again = site.start(options()).await.unwrap();
    assert_eq!(
        again.topology().epoch,
        topology.epoch,
        "nothing is written again"
    );
    let found = again
        .data()
        .register(GroupId(1), "k", soon(5))
        .await
        .unwrap();
    assert_eq!(found.as_deref(), Some("one-0"));
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_form_a_cluster_and_more_join_and_leave() {
    let (sites, mut nodes) = three().await;
    let cluster = nodes[0].topology().cluster;
    assert!(cluster.is_some() && nodes.iter().all(|n| n.topology().cluster == cluster));
    assert!(voters_are(&nodes[0], 3));
    settled(&nodes[0], 3).await;
    registers_agree(&nodes.iter().collect::<Vec<_>>(), "three").await;

    let more: Vec<Site> = ["d", "e"].map(Site::new).into();
    for site in &more {
        nodes.push(site.join(&[&sites[1]]).await);
    }
    until("five voters", || nodes.iter().all(|n| voters_are(n, 5))).await;
    settled(&nodes[4], 3).await;
    registers_agree(&nodes.iter().collect::<Vec<_>>(), "five").await;
    let status = nodes[3].status(soon(2)).await;
    assert_eq!(status.nodes.len(), 5);
    assert!(status.silent.is_empty() && status.nodes.iter().all(|n| n.state == "active"));

    let twin = Site::new("a");
    let refused = twin
        .start(twin.options(&[&sites[1]], 0))
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, ClusterError::Refused(_)), "{refused}");

    // A drained node leads nothing.
    nodes[1].drain(&rid(), "a", false).await.unwrap();
    let a = sites[0].id();
    until("a leads nothing", || {
        let views =
            (0..=4).filter_map(|g| super::super::replicas::running(&nodes[0].core, GroupId(g)));
        views.into_iter().all(|g| g.view().leader != Some(a))
    })
    .await;
    let transfer = nodes[2].transfer(&rid(), GroupId::META, "a", soon(3)).await;
    assert!(
        matches!(transfer, Err(OperationError::Refused(_))),
        "{transfer:?}"
    );
    nodes[1].drain(&rid(), "a", true).await.unwrap();
    until("a is active again", || {
        nodes[0].topology().nodes[&a].state == orama_proto::topology::NodeState::Active
    })
    .await;
    let mut done = nodes[2].transfer(&rid(), GroupId::META, "a", soon(3)).await;
    for _ in 0..20 {
        if done.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        done = nodes[2].transfer(&rid(), GroupId::META, "a", soon(3)).await;
    }
    done.unwrap();

    // The leader leaves by itself, another is made to leave.
    nodes[0].leave(&rid(), "a", soon(30)).await.unwrap();
    let mut removed = nodes[0].removed();
    tokio::time::timeout(Duration::from_secs(20), removed.wait_for(|r| *r))
        .await
        .expect("a hears that it was removed")
        .unwrap();
    let gone = nodes.remove(0);
    gone.shutdown().await;
    nodes[0].leave(&rid(), "e", soon(30)).await.unwrap();
    until("three members", || nodes[0].topology().nodes.len() == 3).await;
    let last = nodes.pop().unwrap();
    last.shutdown().await;
    drop((gone, last));
    until("three voters", || nodes.iter().all(|n| voters_are(n, 3))).await;
    settled(&nodes[0], 3).await;
    registers_agree(&nodes.iter().collect::<Vec<_>>(), "three again").await;

    // Whoever left cannot come back with its old disk.
    let back = sites[0].start(sites[0].options(&[&sites[1]], 0)).await;
    assert!(
        matches!(back, Err(ClusterError::Refused(_))),
        "{:?}",
        back.err()
    );
    stop(nodes).await;
}

//! Dying, coming back, being replaced.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_voter_is_replaced() {
    let (sites, mut nodes) = three().await;
    settled(&nodes[0], 3).await;
    let spare = Site::new("d");
    nodes.push(spare.join(&[&sites[0]]).await);
    let dead = nodes.remove(2);
    let id = dead.node_id();
    kill(dead).await;
    until("the spare votes instead", || {
        let voters = nodes[0].voters();
        voters.len() == 3 && !voters.contains(&id) && voters.contains(&spare.id())
    })
    .await;
    until("the replicas moved", || {
        let topology = nodes[0].topology();
        topology.groups.values().all(|p| !p.replicas.contains(&id))
    })
    .await;
    settled(&nodes[0], 3).await;
    registers_agree(&nodes.iter().collect::<Vec<_>>(), "replaced").await;
    assert!(
        nodes[0].topology().nodes.contains_key(&id),
        "nobody removed it"
    );
    let back = sites[2].join(&[&sites[0]]).await;
    nodes.push(back);
    registers_agree(&nodes.iter().collect::<Vec<_>>(), "back").await;
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_comes_back_under_its_name_with_an_empty_disk() {
    let (sites, mut nodes) = three().await;
    settled(&nodes[0], 3).await;
    registers_agree(&nodes.iter().collect::<Vec<_>>(), "before").await;
    let old = nodes.pop().unwrap();
    let old_id = old.node_id();
    kill(old).await;
    let fresh = Site::new("c");
    nodes.push(fresh.join(&[&sites[0], &sites[1]]).await);
    until("it took the old one's place", || {
        let topology = nodes[0].topology();
        let voters = nodes[0].voters();
        !topology.nodes.contains_key(&old_id)
            && voters.len() == 3
            && voters.contains(&fresh.id())
            && !voters.contains(&old_id)
    })
    .await;
    settled(&nodes[0], 3).await;
    registers_agree(&nodes.iter().collect::<Vec<_>>(), "after").await;
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_restart_at_other_addresses() {
    let (mut sites, nodes) = three().await;
    settled(&nodes[0], 3).await;
    registers_agree(&nodes.iter().collect::<Vec<_>>(), "before").await;
    let cluster = nodes[0].topology().cluster;
    stop(nodes).await;
    for site in &mut sites {
        site.port = free_port();
    }
    // Only the second is known to the others.
    let starts = sites.iter().enumerate().map(|(n, site)| {
        let seeds: Vec<&Site> = if n == 1 { vec![] } else { vec![&sites[1]] };
        site.start(site.options(&seeds, 0))
    });
    let nodes = futures::future::join_all(starts).await;
    let nodes: Vec<Cluster> = nodes.into_iter().map(Result::unwrap).collect();
    assert!(nodes.iter().all(|n| n.topology().cluster == cluster));
    until("everybody is linked", || {
        nodes.iter().all(|n| n.linked().len() == 2)
    })
    .await;
    until("the addresses are recorded", || {
        let topology = nodes[0].topology();
        sites
            .iter()
            .all(|s| topology.nodes[&s.id()].addresses.contains(&s.address()))
    })
    .await;
    registers_agree(&nodes.iter().collect::<Vec<_>>(), "after").await;
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_another_cluster_is_refused() {
    let (one, two) = (Site::new("one"), Site::new("two"));
    let first = one.start(one.options(&[], 1)).await.unwrap();
    let second = two.start(two.options(&[], 1)).await.unwrap();
    assert_ne!(first.topology().cluster, second.topology().cluster);
    second.shutdown().await;
    drop(second);
    let refused = two.start(two.options(&[&one], 0)).await.err().unwrap();
    let text = refused.to_string();
    assert!(matches!(refused, ClusterError::Refused(_)), "{text}");
    assert!(text.contains("one"), "{text}");
    let nothing = Site::new("three");
    let refused = nothing.start(nothing.options(&[], 0)).await.err().unwrap();
    assert!(matches!(refused, ClusterError::Settings(_)), "{refused}");
    first.shutdown().await;
}

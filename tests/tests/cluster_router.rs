//! Load goes where there is room, and nothing runs twice in silence.

use std::time::{Duration, Instant};

use orama_proto::invocation::InvocationRecord;
use orama_tests::cluster::{Cluster, Convergence, Options};
use orama_tests::{Deploy, Reply, Tenant, guests};
use reqwest::Method;

/// The header that names the node that ran it.
const RAN_ON: &str = "x-orama-node";

/// Three nodes with one place each, and a function that keeps it for a while.
async fn crowded(sleep_ms: u64) -> (Cluster, Vec<Tenant>) {
    let options = Options {
        args: vec!["--max-running".into(), "1".into()],
        ..Options::default()
    };
    let cluster = Cluster::start(3, options).await;
    let wanted = Convergence {
        members: 3,
        voters: 3,
    };
    cluster.converged(wanted, Duration::from_secs(30)).await;
    let tenant = cluster.node(0).tenant("router").await;
    let tenants: Vec<Tenant> = (0..3).map(|i| cluster.node(i).tenant_of(&tenant)).collect();
    tenant
        .deploy(Deploy::new("slow", &guests::sleeper(sleep_ms)))
        .await;
    tenant.deploy(Deploy::new("echo", &guests::echo())).await;
    // Everywhere loaded: a peer takes only what it need not load first.
    for through in &tenants {
        through.invoke("echo", "1").await.output();
        through.invoke("slow", "").await.output();
    }
    (cluster, tenants)
}

/// The name of the node that ran it.
async fn ran_on(cluster: &Cluster, reply: &Reply) -> usize {
    let said = reply.header(RAN_ON).to_owned();
    let status = cluster.status(cluster.running()[0]).await;
    let node = status.nodes.iter().find(|n| n.name == said || n.id == said);
    let node = node.unwrap_or_else(|| panic!("{RAN_ON}: {said:?} is no member"));
    cluster.index(&node.name)
}

async fn records(tenant: &Tenant, function: &str, request: &str) -> Vec<InvocationRecord> {
    let logs = tenant.logs(function).await;
    let of = logs.invocations.into_iter();
    of.filter(|r| r.request_id.as_str() == request).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_runs_on_a_peer() {
    let (cluster, tenants) = crowded(2_000).await;
    idle(&cluster).await;
    let reply = tenants[0].invoke("echo", "2").await;
    assert_eq!(ran_on(&cluster, &reply).await, 0, "local first");
    idle(&cluster).await;
    let busy = tokio::spawn({
        let tenant = tenants[0].clone();
        async move { tenant.invoke("slow", "").await }
    });
    // Only then: an echo that had the place would send the slow one away.
    running(&cluster, 0).await;
    let began = Instant::now();
    let (mut elsewhere, mut last) = (0, None);
    while began.elapsed() < Duration::from_millis(1_000) {
        let reply = tenants[0].invoke("echo", "3").await;
        reply.output();
        if ran_on(&cluster, &reply).await != 0 {
            elsewhere += 1;
            last = Some(reply);
        }
    }
    assert_eq!(ran_on(&cluster, &busy.await.unwrap()).await, 0);
    let last = last.expect("an echo that ran on a peer while the only place here was taken");
    println!("{elsewhere} invocations ran on a peer");
    // The record is found through any node.
    let began = Instant::now();
    loop {
        let found = records(&tenants[1], "echo", &last.request_id()).await;
        if found.len() == 1 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends a slow one through n1 while n1 is full, so that a peer runs it; kills
/// that peer in the middle. Answers the reply and the request that n1 saw.
async fn peer_dies(key: Option<&str>) -> (Cluster, Vec<Tenant>, Reply) {
    let (mut cluster, tenants) = crowded(4_000).await;
    idle(&cluster).await;
    let busy = tokio::spawn({
        let tenant = tenants[0].clone();
        async move { tenant.invoke("slow", "").await }
    });
    running(&cluster, 0).await;
    let mut request = tenants[0].request(Method::POST, "/v1/functions/slow/invoke");
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    let forwarded = tokio::spawn(async move {
        let answer = request.body("").send().await.expect("an answer");
        Reply {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: answer.bytes().await.expect("a body").to_vec(),
        }
    });
    let began = Instant::now();
    let victim = loop {
        if let Some(peer) = runs_a_guest(&cluster, &[1, 2]).await {
            break peer;
        }
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "it runs on no peer"
        );
    };
    cluster.kill(victim);
    let reply = forwarded.await.unwrap();
    busy.await.unwrap().output();
    (cluster, tenants, reply)
}

async fn runs_a_guest(cluster: &Cluster, among: &[usize]) -> Option<usize> {
    let status = cluster.status(0).await;
    among.iter().copied().find(|i| {
        let name = cluster.name(*i);
        let node = status.nodes.iter().find(|n| n.name == name);
        node.and_then(|n| n.load)
            .is_some_and(|load| load.running > 0)
    })
}

/// Waits until nobody runs a guest: what is said about load is a moment old,
/// and a place is free again a moment after the answer.
async fn idle(cluster: &Cluster) {
    let began = Instant::now();
    while runs_a_guest(cluster, &[0, 1, 2]).await.is_some() {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "somebody still runs a guest"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn running(cluster: &Cluster, i: usize) {
    let began = Instant::now();
    while runs_a_guest(cluster, &[i]).await.is_none() {
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "nothing runs on it"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_dies_with_a_guest_is_reported_and_not_repeated() {
    let (cluster, tenants, reply) = peer_dies(None).await;
    assert!(reply.status >= 500, "{reply:?}");
    let text = reply.text().to_lowercase();
    assert!(
        text.contains("may have"),
        "it says that the function may have run: {reply:?}"
    );
    // It is nowhere else: not when asked at once, and not a little later.
    let settled = Instant::now();
    while settled.elapsed() < Duration::from_secs(5) {
        for i in cluster.running() {
            let found = records(&tenants[i], "slow", &reply.request_id()).await;
            let finished = found.iter().filter(|r| r.error_message.is_empty()).count();
            assert_eq!(finished, 0, "a second run: {found:?}");
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_idempotency_key_it_is_run_again() {
    let (_cluster, _tenants, reply) = peer_dies(Some("order-4711")).await;
    assert_eq!(reply.output(), b"1");
}

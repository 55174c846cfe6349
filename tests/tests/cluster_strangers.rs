//! Whoever does not belong to the cluster gets nothing out of it but a line in
//! a log and a number in a counter.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use orama_tests::cluster::{Cluster, Convergence, Options, SECRET};
use orama_tests::{Deploy, Node, Rng, guests, seed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const THREE: Convergence = Convergence {
    members: 3,
    voters: 3,
};

/// Connections that came to nothing, whatever the reason.
async fn refused(node: &Node) -> f64 {
    node.metric("orama_mesh_refused_connections_total").await
}

/// Sends bytes and reads until the other side hangs up; it must do so in time.
async fn send(to: SocketAddr, bytes: &[u8], hang_up: bool) {
    let mut stream = TcpStream::connect(to).await.expect("the mesh port listens");
    let _ = stream.write_all(bytes).await;
    if hang_up {
        return;
    }
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "a stranger is not kept for a minute");
    assert!(
        rest.len() < 64 * 1024,
        "a stranger got {} bytes",
        rest.len()
    );
}

fn with_length(text: &str) -> Vec<u8> {
    let mut bytes = vec![text.len() as u8];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_mesh_port_does_nothing() {
    let mut rng = Rng::new(seed());
    let cluster = Cluster::start(3, Options::default()).await;
    cluster.converged(THREE, Duration::from_secs(30)).await;
    let tenant = cluster.node(0).tenant("strangers").await;
    tenant.deploy(Deploy::new("echo", &guests::echo())).await;
    let (node, to) = (cluster.node(0), cluster.mesh_socket(0));
    let (before, resident) = (refused(node).await, node.resident_bytes());

    // What a libp2p dialer says first, and then the announcement of a Noise
    // message or a frame of the greatest length there is.
    let hello: Vec<u8> = [
        with_length("/multistream/1.0.0\n"),
        with_length("/orama/noise/1\n"),
    ]
    .concat();
    let long = [hello.clone(), vec![0xff; 2], vec![0x41; 70_000]].concat();
    let four_gib = [
        hello.clone(),
        u32::MAX.to_be_bytes().to_vec(),
        vec![0; 1024],
    ]
    .concat();
    let varint = [vec![0xff; 9], vec![0x01]].concat();
    let mut random = vec![0u8; 64 * 1024];
    random.fill_with(|| rng.draw() as u8);
    let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    let kinds = [
        hello,
        long,
        four_gib,
        varint,
        u32::MAX.to_le_bytes().to_vec(),
        http,
        random,
        Vec::new(),
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for (i, bytes) in kinds.iter().cycle().take(64).cloned().enumerate() {
        tasks.spawn(async move { send(to, &bytes, i % 3 == 0).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert!(node.is_ready().await);
    let began = Instant::now();
    while refused(node).await < before + 64.0 {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "the counter does not know all of them:\n{}",
            node.metrics_text().await
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let grown = node.resident_bytes().saturating_sub(resident);
    assert!(grown < 64 << 20, "{grown} bytes for nothing");
    cluster.converged(THREE, Duration::from_secs(30)).await;
    assert_eq!(tenant.invoke("echo", "[1]").await.output(), b"[1]");
}

/// A node that is started against the cluster with other settings; it must not get in.
async fn kept_out(cluster: &Cluster, secret: &str, extra: &[&str]) {
    let mut builder = Node::builder()
        .env("ORAMA_CLUSTER_SECRET", secret)
        .env("ORAMA_NODE_NAME", "stranger")
        .arg("--mesh-listen")
        .arg("/ip4/127.0.0.1/tcp/0")
        .arg("--join")
        .arg(cluster.mesh_multiaddr(0))
        .ready_within(Duration::from_secs(8));
    for arg in extra {
        builder = builder.arg(*arg);
    }
    let refusal = match builder.try_start().await {
        Ok(_) => panic!("a stranger became ready"),
        Err(refusal) => refusal,
    };
    assert!(!refusal.stderr.contains(SECRET), "a secret in the log");
    for i in 0..cluster.len() {
        let status = cluster.status(i).await;
        assert_eq!(status.nodes.len(), cluster.len(), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_cut_off_and_logged() {
    let cluster = Cluster::start(3, Options::default()).await;
    cluster.converged(THREE, Duration::from_secs(30)).await;
    let before = refused(cluster.node(0)).await;
    kept_out(&cluster, "another-secret-of-enough-length", &[]).await;
    assert!(refused(cluster.node(0)).await > before, "a counter rose");
    let log = cluster.node(0).log();
    let told = log
        .lines()
        .any(|line| line.contains("secret") && (line.contains("WARN") || line.contains("INFO")));
    assert!(told, "no line says so:\n{}", cluster.node(0).log_tail());
    for i in 0..3 {
        assert!(
            !cluster.node(i).log().contains(SECRET),
            "a secret in the log"
        );
    }
    cluster.converged(THREE, Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_another_cluster_stays_outside() {
    // The same secret, but a cluster of its own: formed first, then shown to ours.
    let home = Cluster::start(3, Options::default()).await;
    home.converged(THREE, Duration::from_secs(30)).await;
    let mut foreign = Cluster::founder(Options::default()).await;
    foreign.stop(0).await;
    let address = home.mesh_multiaddr(0);
    let cluster_id = home.status(0).await.cluster_id;
    foreign
        .node_mut(0)
        .reconfigure(|b| b.arg("--join").arg(&address).allow_error("cluster"));
    foreign.node_mut(0).begin();
    // It goes on as what it is, or refuses to start; it is never a member here.
    let _ = foreign.node_mut(0).await_ready().await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        let status = home.status(1).await;
        assert_eq!(status.cluster_id, cluster_id);
        assert_eq!(status.nodes.len(), 3, "{status:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

//! What only shows on a real connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_proto::limits::WASM_MAX_BYTES;
use orama_proto::{ApiError, Namespace};
use prometheus::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::front::{Backend, Call, Front, FrontOptions};
use super::health::Health;
use super::metrics::Metrics;
use super::tests::Fake;
use super::{Gateway, GatewayOptions, NodeFacts, listen};

/// The fake behind a handle that the test keeps.
struct Shared(Arc<Fake>);

impl Backend for Shared {
    fn authenticate(
        &self,
        credential: &str,
    ) -> Result<orama_proto::invocation::Principal, ApiError> {
        self.0.authenticate(credential)
    }
    async fn call(&self, call: Call) -> Result<actix_web::HttpResponse, ApiError> {
        self.0.call(call).await
    }
}

struct Node {
    gateway: Gateway,
    fake: Arc<Fake>,
    health: Health,
    registry: Registry,
}

fn node() -> Node {
    let options = GatewayOptions {
        addr: ([127, 0, 0, 1], 0).into(),
        workers: 1,
        max_connections: 64,
        base_domain: None,
        drain_timeout: Duration::from_secs(30),
        facts: NodeFacts {
            node_id: String::new(),
            node_name: String::new(),
        },
    };
    let (health, registry) = (Health::starting(), Registry::new());
    let metrics = Metrics::register(&registry).unwrap();
    let fake = Arc::new(Fake::new());
    let front_options = FrontOptions { base_domain: None };
    let front = Front::new(front_options, Shared(fake.clone()), health.clone(), metrics);
    Node {
        gateway: listen(&options, front).unwrap(),
        fake,
        health,
        registry,
    }
}

async fn connect(gateway: &Gateway) -> TcpStream {
    TcpStream::connect(gateway.addr).await.unwrap()
}

/// Reads one answer whose length is announced.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        bytes.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| {
                l.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            if n == 0 || body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        assert!(n > 0, "closed early: {text:?}");
    }
}

#[actix_web::test]
async fn a_connection_is_kept_over_answers_and_errors() {
    let node = node();
    let mut stream = connect(&node.gateway).await;
    actix_web::rt::spawn(node.gateway.server);
    for (request, status) in [
        ("GET /v1/auth/whoami HTTP/1.1\r\nHost: x\r\n\r\n", "200"),
        ("HEAD /v1/auth/whoami HTTP/1.1\r\nHost: x\r\n\r\n", "200"),
        (
            "POST /v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
            "404",
        ),
        (
            "POST /v1/functions/f/invoke HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            "200",
        ),
        ("GET /v1/functions HTTP/1.1\r\nHost: x\r\n\r\n", "401"),
    ] {
        stream.write_all(request.as_bytes()).await.unwrap();
        let text = if request.starts_with("HEAD") {
            // It announces a length and sends nothing.
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).await.unwrap();
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            assert!(text.ends_with("\r\n\r\n"), "{text}");
            text
        } else {
            answer(&mut stream).await
        };
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {text}"
        );
        assert!(
            text.to_ascii_lowercase().contains("\r\nx-request-id: "),
            "{text}"
        );
    }
}

#[actix_web::test]
async fn an_upload_over_the_limit_reads_its_answer() {
    let node = node();
    let mut stream = connect(&node.gateway).await;
    actix_web::rt::spawn(node.gateway.server);
    let head = "--b\r\nContent-Disposition: form-data; name=\"wasm\"; filename=\"f\"\r\n\r\n";
    let size = WASM_MAX_BYTES + 8 * 1024 * 1024;
    let length = head.len() + size + "\r\n--b--\r\n".len();
    let request = format!(
        "POST /v1/functions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key-shop\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {length}\r\n\r\n{head}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let chunk = vec![b'w'; 1024 * 1024];
    for _ in 0..size / chunk.len() {
        stream.write_all(&chunk).await.unwrap();
    }
    stream.write_all(b"\r\n--b--\r\n").await.unwrap();
    let text = answer(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    assert!(
        text.contains("PAYLOAD_TOO_LARGE") && text.contains("32 MiB"),
        "{text}"
    );
}

#[actix_web::test]
async fn a_stop_ends_idle_connections_and_waits_for_busy_ones() {
    let node = node();
    let mut idle = connect(&node.gateway).await;
    let mut busy = connect(&node.gateway).await;
    let addr = node.gateway.addr;
    let handle = node.gateway.handle.clone();
    let server = actix_web::rt::spawn(node.gateway.server);
    idle.write_all(b"GET /v1/auth/whoami HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    answer(&mut idle).await;
    busy.write_all(b"GET /v1/auth/whoami?wait HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let in_flight = || {
        let families = node.registry.gather();
        let found = families
            .iter()
            .find(|f| f.name() == "orama_http_requests_in_flight");
        found.map_or(0.0, |f| f.get_metric()[0].get_gauge().get_value())
    };
    while in_flight() < 1.0 {
        tokio::task::yield_now().await;
    }

    let began = Instant::now();
    node.health.set_draining();
    let stop = actix_web::rt::spawn(handle.stop(true));
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    while TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    node.fake.gate.notify_one();
    let text = answer(&mut busy).await;
    assert!(text.contains("waited"), "{text}");
    assert!(
        text.to_ascii_lowercase().contains("connection: close"),
        "{text}"
    );
    stop.await.unwrap();
    server.await.unwrap().unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[actix_web::test]
async fn a_used_address_is_named() {
    let first = node();
    let options = GatewayOptions {
        addr: first.gateway.addr,
        workers: 1,
        max_connections: 1,
        base_domain: None,
        drain_timeout: Duration::ZERO,
        facts: NodeFacts {
            node_id: Namespace::parse("aa").unwrap().into(),
            node_name: String::new(),
        },
    };
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let front_options = FrontOptions { base_domain: None };
    let front = Front::new(
        front_options,
        Shared(first.fake.clone()),
        first.health,
        metrics,
    );
    let problem = listen(&options, front).map(|_| ()).unwrap_err().to_string();
    assert!(
        problem.starts_with(&format!("cannot listen on {}", first.gateway.addr)),
        "{problem}"
    );
}

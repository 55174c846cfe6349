//! The mesh as its users see it: several in this process, on loopback.

mod attacks;
mod calls;
mod cuts;
mod links;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::*;

pub(super) const SECRET: &str = "a secret for the tests of the mesh";
/// Anything takes less, also where everything else runs at the same time.
pub(super) const LONG: Duration = Duration::from_secs(30);

pub(super) fn soon() -> Instant {
    Instant::now() + LONG
}

/// A node with handlers that can be watched.
pub(super) struct Node {
    pub(super) mesh: Mesh,
    pub(super) key: NodeKey,
    pub(super) id: NodeId,
}

pub(super) async fn start_as(key: NodeKey, secret: &str, listen: &str) -> Node {
    start_behind(key, secret, listen, Vec::new()).await
}

/// One that tells peers other addresses than it listens on.
pub(super) async fn start_behind(
    key: NodeKey,
    secret: &str,
    listen: &str,
    advertise: Vec<String>,
) -> Node {
    let options = MeshOptions {
        key: key.clone(),
        name: "test".into(),
        version: "1".into(),
        listen: vec![listen.into()],
        advertise,
        secrets: ClusterSecrets::parse(secret).unwrap(),
    };
    let mesh = Mesh::start(options, &prometheus::Registry::new())
        .await
        .unwrap();
    let id = mesh.node_id();
    assert_eq!(id, key.node_id());
    Node { mesh, key, id }
}

pub(super) async fn start_with(secret: &str) -> Node {
    start_as(NodeKey::generate().unwrap(), secret, "/ip4/127.0.0.1/tcp/0").await
}

pub(super) async fn start() -> Node {
    start_with(SECRET).await
}

impl Node {
    pub(super) fn socket(&self) -> SocketAddr {
        socket_of(&self.mesh.addresses()[0].parse().unwrap())
    }

    pub(super) fn keep(&self, other: &Node) {
        self.mesh.keep(other.id, &other.mesh.addresses());
    }

    /// Waits until a condition on the links holds.
    pub(super) async fn until(&self, what: &str, check: impl Fn(&Mesh) -> bool) {
        let mut changes = self.mesh.changes();
        let reached = timeout(LONG, async {
            while !check(&self.mesh) {
                changes.changed().await.unwrap();
            }
        });
        assert!(reached.await.is_ok(), "{what}: {:?}", self.mesh.peers());
    }

    pub(super) async fn linked(&self, other: &Node) {
        let id = other.id;
        self.until("linked", |mesh| mesh.linked(id)).await;
    }

    pub(super) async fn unlinked(&self, other: &Node) {
        let id = other.id;
        self.until("unlinked", |mesh| !mesh.linked(id)).await;
    }

    /// Waits until something was counted: that happens after it could be seen.
    pub(super) async fn counted(&self, what: &str, check: impl Fn(&Metrics) -> bool) {
        let counted = timeout(LONG, async {
            while !check(&self.mesh.shared.metrics) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(counted.await.is_ok(), "{what} was not counted");
    }

    pub(super) async fn call(
        &self,
        to: &Node,
        lane: Lane,
        body: impl Into<Bytes>,
    ) -> Result<Bytes, CallError> {
        let body = body.into();
        self.mesh
            .call(to.id, lane, Service::Invoke, body, soon())
            .await
    }
}

pub(super) fn socket_of(address: &Multiaddr) -> SocketAddr {
    use libp2p::multiaddr::Protocol;
    let mut parts = address.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) => SocketAddr::from((ip, port)),
        other => panic!("{other:?}"),
    }
}

/// Two nodes with a link.
pub(super) async fn pair() -> (Node, Node) {
    let (a, b) = (start().await, start().await);
    a.keep(&b);
    a.linked(&b).await;
    b.linked(&a).await;
    (a, b)
}

/// A handler that is a function.
pub(super) struct Serve<F>(pub(super) F);

impl<F, R> Handler for Serve<F>
where
    F: Fn(Incoming) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Bytes, Declined>> + Send + 'static,
{
    fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Declined>> {
        Box::pin((self.0)(incoming))
    }
}

pub(super) fn echo() -> Arc<dyn Handler> {
    Arc::new(Serve(|incoming: Incoming| async move { Ok(incoming.body) }))
}

/// A handler whose calls wait until they are let go; it reports beginnings and ends.
pub(super) struct Gate {
    pub(super) events: Mutex<mpsc::UnboundedReceiver<&'static str>>,
    pub(super) go: Arc<Notify>,
}

struct Reports(mpsc::UnboundedSender<&'static str>, bool);

impl Drop for Reports {
    fn drop(&mut self) {
        let _ = self.0.send(if self.1 { "done" } else { "dropped" });
    }
}

impl Gate {
    pub(super) fn serve(on: &Mesh) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let go = Arc::new(Notify::new());
        let gate = Arc::clone(&go);
        on.serve(
            Service::Invoke,
            Arc::new(Serve(move |incoming: Incoming| {
                let (sender, gate) = (sender.clone(), Arc::clone(&gate));
                async move {
                    let mut reports = Reports(sender, false);
                    let _ = reports.0.send("began");
                    gate.notified().await;
                    reports.1 = true;
                    Ok(incoming.body)
                }
            })),
        );
        Self {
            events: Mutex::new(receiver),
            go,
        }
    }

    #[expect(clippy::await_holding_lock, reason = "one test reads at a time")]
    pub(super) async fn next(&self) -> &'static str {
        timeout(LONG, self.events.lock().recv())
            .await
            .expect("an event")
            .expect("a handler")
    }
}

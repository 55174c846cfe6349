//! Links between nodes: who may be on them, what travels on them, and what
//! happens when they break.
//!
//! TCP, Noise, then admission: both sides prove that they know the cluster
//! secret before any other protocol is spoken. Behind it, one long-lived framed
//! stream per lane and direction carries calls: a request, at most one answer.
//! `OVERVIEW.md` beside this file has the mental model.

mod addresses;
mod admission;
mod frame;
#[cfg(test)]
mod golden_tests;
mod hello;
mod keeper;
mod key;
mod lane;
mod link;
mod link_task;
mod links;
mod metrics;
mod quiet;
mod secrets;
mod shared;
#[cfg(test)]
mod tests;
mod transport;
mod types;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use libp2p::Multiaddr;
use orama_proto::{ClusterId, NodeId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout_at;

use keeper::Keeper;
use link::End;
use metrics::Metrics;
use shared::Shared;
use transport::{Command, Driver};

/// What [`Mesh::find`] says of an address that is this node's own.
pub(crate) const ITSELF: &str = "it is this very node";

pub use key::NodeKey;
pub use secrets::ClusterSecrets;
pub use types::{
    BoxFuture, CallError, Declined, Handler, Incoming, Lane, MeshError, MeshOptions, Peer, Service,
};

/// Commands that may wait for the swarm's task.
const COMMANDS: usize = 256;
/// Links that are tried for one call: each further one only when the call
/// was not written to the one before.
const TRIES: usize = 3;

/// Handle of the mesh. Cheap to clone; the mesh ends when it is shut down.
#[derive(Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
}

impl Mesh {
    /// Listens, and answers when every address is bound.
    ///
    /// # Errors
    /// See [`MeshError`].
    pub async fn start(
        options: MeshOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, MeshError> {
        let listen = parsed(&options.listen, addresses::parse_listen)?;
        let advertise = parsed(&options.advertise, addresses::parse)?;
        let metrics = Metrics::register(registry)?;
        let pair = options.key.pair();
        let swarm = transport::build(&pair, &options.secrets, &metrics).map_err(|e| {
            MeshError::Address {
                address: options.listen.join(","),
                problem: format!("the node's key cannot be used: {e}"),
            }
        })?;
        let (commands, received) = mpsc::channel(COMMANDS);
        let shared = Arc::new(Shared::new(
            options.key.node_id(),
            options.name,
            options.version,
            advertise.iter().map(ToString::to_string).collect(),
            commands,
            metrics,
        ));
        let mut driver = Driver::new(swarm, Arc::clone(&shared), received);
        driver.listen(&listen).await?;
        tokio::spawn(driver.run());
        tracing::info!(node = %shared.id, addresses = ?shared.addresses(), "the mesh listens");
        Ok(Self { shared })
    }
    /// This node.
    pub fn node_id(&self) -> NodeId {
        self.shared.id
    }
    /// This node's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }
    /// The addresses told to peers, with the ports that were picked.
    pub fn addresses(&self) -> Vec<String> {
        self.shared.addresses()
    }
    /// Tells peers, present and future, which cluster this node belongs to. A
    /// link to a node of another cluster is logged and closed.
    pub(crate) fn belong_to(&self, cluster: ClusterId) {
        self.shared.belong_to(cluster);
    }
    /// Calls of `service` go to `handler` from now on. The mesh's own
    /// [`Service::Hello`] cannot be replaced.
    pub fn serve(&self, service: Service, handler: Arc<dyn Handler>) {
        self.shared.serve(service, handler);
    }
    /// Keeps a link to this node: dials the addresses, again after a break, with backoff.
    /// Known addresses are replaced; what a peer says about itself is tried too.
    pub fn keep(&self, node: NodeId, addresses: &[String]) {
        if node == self.shared.id || self.shared.is_closed() {
            return;
        }
        let mut usable = Vec::with_capacity(addresses.len());
        for text in addresses {
            match addresses::parse(text) {
                Ok(address) => usable.push(address),
                Err(why) => {
                    tracing::warn!(%node, address = text, why, "an address cannot be used");
                }
            }
        }
        let mut kept = self.shared.kept.lock();
        if let Some(keeper) = kept.get(&node) {
            keeper.update(usable);
            return;
        }
        let keeper = Keeper::start(Arc::clone(&self.shared), node, usable);
        if let Some(peer) = self.shared.links.peer(node) {
            keeper.learn(&peer.addresses);
        }
        kept.insert(node, keeper);
    }
    /// Stops keeping a link and closes it.
    pub fn forget(&self, node: NodeId) {
        let keeper = self.shared.kept.lock().remove(&node);
        drop(keeper);
        for link in self.shared.links.of(Some(node)) {
            link.end(End::forgotten());
        }
    }
    /// Whether a call from or to the node is in flight, on any link.
    pub(crate) fn is_busy(&self, node: NodeId) -> bool {
        let links = self.shared.links.of(Some(node));
        links.iter().any(|link| link.is_in_use())
    }
    /// Tries an address whose node is not known yet. Answers who is there once it
    /// is admitted and introduced. An address of this very node is an error.
    ///
    /// # Errors
    /// A text: refused, unreachable, wrong secret, itself.
    pub async fn find(&self, address: SocketAddr, deadline: Instant) -> Result<Peer, String> {
        let found = keeper::find(&self.shared, addresses::of_socket(address));
        let node = timeout_at(deadline.into(), found)
            .await
            .map_err(|_| format!("{address} did not answer in time"))??;
        self.shared
            .links
            .peer(node)
            .ok_or_else(|| format!("the link to {address} broke"))
    }
    /// Peers with a link now, by id.
    pub fn peers(&self) -> Vec<Peer> {
        self.shared.links.peers()
    }
    /// Whether there is a link to the node now.
    pub fn linked(&self, node: NodeId) -> bool {
        self.shared.links.is_linked(node)
    }
    /// Announces every change of [`Mesh::peers`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.links.changes()
    }
    /// Calls a peer. Dropping the future tells the peer to stop.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(
        &self,
        to: NodeId,
        lane: Lane,
        service: Service,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let start = Instant::now();
        let result = self.try_call(to, lane, service, body, deadline).await;
        self.shared
            .metrics
            .call(lane, service, &result, start.elapsed());
        result
    }

    async fn try_call(
        &self,
        to: NodeId,
        lane: Lane,
        service: Service,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let (bytes, limit) = (body.len(), lane.frame_max());
        if bytes > limit {
            return Err(CallError::TooLarge { bytes, limit });
        }
        for _ in 0..TRIES {
            let Some(link) = self.shared.links.best(to) else {
                break;
            };
            match link.call(lane, service, body.clone(), deadline).await {
                Err(CallError::NotSent(_)) => {}
                done => return done,
            }
        }
        Err(CallError::NotSent(to))
    }

    /// Closes every link and stops listening.
    pub async fn shutdown(&self) {
        self.shared.close();
        self.shared.kept.lock().clear();
        for link in self.shared.links.of(None) {
            link.end(End::shutdown());
        }
        let (done, closed) = oneshot::channel();
        if self
            .shared
            .commands
            .send(Command::Shutdown(done))
            .await
            .is_ok()
        {
            let _ = closed.await;
        }
    }
}

fn parsed(
    texts: &[String],
    parse: impl Fn(&str) -> Result<Multiaddr, String>,
) -> Result<Vec<Multiaddr>, MeshError> {
    let parse = |text: &String| {
        parse(text).map_err(|problem| MeshError::Address {
            address: text.clone(),
            problem,
        })
    };
    texts.iter().map(parse).collect()
}

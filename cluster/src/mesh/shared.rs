//! What the mesh's tasks and handles share.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use libp2p::Multiaddr;
use orama_proto::{ClusterId, NodeId};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};

use super::addresses;
use super::hello::Hello;
use super::keeper::Keeper;
use super::links::Links;
use super::metrics::Metrics;
use super::quiet::Quiet;
use super::transport::Command;
use super::types::{BoxFuture, Declined, Handler, Incoming, Service};

pub(super) struct Shared {
    pub(super) id: NodeId,
    pub(super) name: String,
    version: String,
    /// As configured; empty means those listened on.
    advertise: Vec<String>,
    listening: Mutex<Vec<Multiaddr>>,
    /// What this node says about itself; links watch it.
    hello: watch::Sender<Arc<Hello>>,
    services: RwLock<HashMap<Service, Arc<dyn Handler>>>,
    pub(super) links: Links,
    pub(super) kept: Mutex<HashMap<NodeId, Keeper>>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) metrics: Metrics,
    /// Lines about peers that break the rules.
    pub(super) quiet: Quiet<(NodeId, &'static str)>,
    closed: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(
        id: NodeId,
        name: String,
        version: String,
        advertise: Vec<String>,
        commands: mpsc::Sender<Command>,
        metrics: Metrics,
    ) -> Self {
        let hello = Hello {
            name: name.clone(),
            version: version.clone(),
            addresses: advertise.clone(),
            cluster: None,
        };
        Self {
            id,
            name,
            version,
            advertise,
            listening: Mutex::default(),
            hello: watch::Sender::new(Arc::new(hello.bounded())),
            services: RwLock::default(),
            links: Links::new(metrics.clone()),
            kept: Mutex::default(),
            commands,
            metrics,
            quiet: Quiet::new(),
            closed: watch::Sender::new(false),
        }
    }

    pub(super) fn hello(&self) -> watch::Receiver<Arc<Hello>> {
        self.hello.subscribe()
    }

    pub(super) fn cluster(&self) -> Option<ClusterId> {
        self.hello.borrow().cluster
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        self.hello.borrow().addresses.clone()
    }

    pub(super) fn belong_to(&self, cluster: ClusterId) {
        self.say(Some(cluster));
    }

    /// For tests.
    #[cfg(test)]
    pub(super) fn listening_on(&self) -> Vec<Multiaddr> {
        self.listening.lock().clone()
    }

    pub(super) fn listening(&self, address: Multiaddr) {
        {
            let mut listening = self.listening.lock();
            if !listening.contains(&address) {
                listening.push(address);
            }
        }
        self.say(None);
    }

    pub(super) fn not_listening(&self, address: &Multiaddr) {
        self.listening.lock().retain(|other| other != address);
        self.say(None);
    }

    /// Makes what this node says about itself anew; links hear of it when it differs.
    fn say(&self, cluster: Option<ClusterId>) {
        let addresses = if self.advertise.is_empty() {
            addresses::to_tell(&self.listening.lock())
        } else {
            self.advertise.clone()
        };
        self.hello.send_if_modified(|hello| {
            let new = Hello {
                name: self.name.clone(),
                version: self.version.clone(),
                addresses,
                cluster: cluster.or(hello.cluster),
            }
            .bounded();
            let differs = **hello != new;
            if differs {
                *hello = Arc::new(new);
            }
            differs
        });
    }

    pub(super) fn serve(&self, service: Service, handler: Arc<dyn Handler>) {
        self.services.write().insert(service, handler);
    }

    /// The run of a call; `None` when nobody serves it.
    pub(super) fn dispatch(
        &self,
        service: Service,
        incoming: Incoming,
    ) -> Option<BoxFuture<'static, Result<Bytes, Declined>>> {
        let handler = self.services.read().get(&service).cloned()?;
        Some(handler.call(incoming))
    }

    pub(super) fn close(&self) {
        self.closed.send_replace(true);
        // Handlers may hold the mesh; without them nothing holds itself any more.
        self.services.write().clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Waits until the mesh is shut down.
    pub(super) async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender is in `self`.
        let _ = closed.wait_for(|closed| *closed).await;
    }
}

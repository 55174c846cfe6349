//! Where an invocation runs that finds no place on the node it came to: what
//! nodes tell each other about their load, and how one runs another's
//! invocations. See `OVERVIEW.md`.

mod board;
mod choose;
mod gossip;
mod incoming;
mod metrics;
mod offer;
mod peers;
#[cfg(test)]
mod tests;
mod threads;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use orama_cluster::{Cluster, Service};
use orama_proto::NodeId;
use orama_proto::api::ActorInfo;
use orama_proto::load::LoadReport;
use parking_lot::Mutex;
use prometheus::Registry;

pub(crate) use offer::{Elsewhere, Offer};

use crate::worker::Invoker;
use board::LoadBoard;
use incoming::{Invocations, LoadingSet, Loads};
use metrics::Metrics;
use peers::{Members, Peers};
use threads::Threads;

/// Handle of the router. Cheap to clone; its threads end with the last handle.
#[derive(Clone)]
pub(crate) struct Router(Arc<Parts>);

struct Parts {
    shared: Arc<Shared>,
    /// Of the actor; `None` for a node without peers.
    thread: Mutex<Option<actix::Arbiter>>,
}

/// What handle, actor and handlers share.
struct Shared {
    node: NodeId,
    name: Arc<str>,
    peers: Option<Arc<dyn Peers>>,
    board: LoadBoard,
    metrics: Metrics,
    /// Set once, at the start. Weak: the invoker holds the router.
    invoker: OnceLock<Weak<Invoker>>,
    threads: OnceLock<Threads>,
    loading: LoadingSet,
    /// Member that may take forwarded invocations, as the topology says.
    active: AtomicBool,
    /// The node was asked to stop: it takes nothing from others any more.
    leaving: AtomicBool,
    rounds: AtomicU64,
    restarts: AtomicU64,
    stopped: AtomicBool,
}

impl Router {
    /// The router of this node. It offers and takes nothing before [`Self::start`].
    ///
    /// # Errors
    /// When a metric's name is taken.
    pub(crate) fn new(cluster: &Cluster, registry: &Registry) -> Result<Self, prometheus::Error> {
        let peers = Members::of(cluster).map(|members| Arc::new(members) as Arc<dyn Peers>);
        Self::with_peers(cluster.node_id(), cluster.name(), peers, registry)
    }

    fn with_peers(
        node: NodeId,
        name: &str,
        peers: Option<Arc<dyn Peers>>,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self(Arc::new(Parts {
            shared: Arc::new(Shared {
                node,
                name: Arc::from(name),
                peers,
                board: LoadBoard::default(),
                metrics: Metrics::register(registry)?,
                invoker: OnceLock::new(),
                threads: OnceLock::new(),
                loading: LoadingSet::default(),
                active: AtomicBool::new(true),
                leaving: AtomicBool::new(false),
                rounds: AtomicU64::new(0),
                restarts: AtomicU64::new(0),
                stopped: AtomicBool::new(false),
            }),
            thread: Mutex::new(None),
        })))
    }

    /// Starts what the router consists of, once: the threads that run other nodes'
    /// invocations, the actor that exchanges load, the handlers. A node without
    /// peers needs none of it.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(crate) fn start(&self, invoker: &Arc<Invoker>) -> std::io::Result<()> {
        let shared = &self.0.shared;
        let Some(peers) = &shared.peers else {
            return Ok(());
        };
        if shared.invoker.set(Arc::downgrade(invoker)).is_err() {
            return Ok(());
        }
        let threads = Threads::start(invoker)?;
        // Set by this call alone: the invoker was.
        let _ = shared.threads.set(threads);
        let loads = Loads(Arc::downgrade(shared));
        peers.serve(Service::Load, Arc::new(loads));
        let invocations = Invocations(Arc::downgrade(shared));
        peers.serve(Service::Invoke, Arc::new(invocations));
        let thread = actix::Arbiter::try_new()?;
        let for_actor = Arc::clone(shared);
        thread.spawn_fn(move || {
            actix::spawn(gossip::supervise(for_actor));
        });
        *self.0.thread.lock() = Some(thread);
        Ok(())
    }

    /// Whether there are other nodes at all.
    pub(crate) fn has_peers(&self) -> bool {
        self.0.shared.peers.is_some()
    }

    /// This node's name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.0.shared.name
    }

    /// How busy the nodes are, as far as it is known here: this one, and every
    /// linked member whose last report is fresh. By id.
    pub(crate) fn loads(&self) -> Vec<(NodeId, LoadReport)> {
        let shared = &self.0.shared;
        let mut all = shared.board.fresh(Instant::now());
        all.extend(shared.report().map(|own| (shared.node, own)));
        all.sort_unstable_by_key(|(node, _)| *node);
        all
    }

    /// State of the actor.
    pub(crate) fn info(&self) -> ActorInfo {
        let shared = &self.0.shared;
        let state = match () {
            () if shared.stopped.load(Ordering::Relaxed) => "stopped",
            () if shared.peers.is_none() => "idle",
            () => "running",
        };
        ActorInfo {
            name: "router".to_owned(),
            state: state.to_owned(),
            // Reports and choices take no mailbox hop; nothing can wait in one.
            mailbox: 0,
            handled: shared.rounds.load(Ordering::Relaxed),
            restarts: shared.restarts.load(Ordering::Relaxed),
        }
    }

    /// Takes no more invocations of other nodes; they are told with the next round.
    pub(crate) fn leave(&self) {
        self.0.shared.leaving.store(true, Ordering::Relaxed);
    }

    /// Ends the actor and the threads. What still runs on them is stopped.
    pub(crate) fn stop(&self) {
        self.0.stop();
    }
}

impl Parts {
    fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.lock().take() {
            thread.stop();
        }
        if let Some(threads) = self.shared.threads.get() {
            threads.stop();
        }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn invoker(&self) -> Option<Arc<Invoker>> {
        self.invoker.get().and_then(Weak::upgrade)
    }

    /// Whether this node is to take invocations of others.
    fn takes(&self) -> bool {
        self.active.load(Ordering::Relaxed) && !self.leaving.load(Ordering::Relaxed)
    }

    /// This node's load now; `None` while it starts or ends.
    fn report(&self) -> Option<LoadReport> {
        let mut report = self.invoker()?.load();
        report.closed |= !self.takes();
        Some(report)
    }
}

//! One connection to a peer, from its admission to its end.
//!
//! It is introduced when all lanes are open, the peer has said who it is and
//! has acknowledged who we are. Only then do calls go out on it, and only after
//! the peer's hello are calls taken from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use libp2p::Multiaddr;
use libp2p::swarm::ConnectionId;
use orama_proto::{ClusterId, NodeId};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::hello::Hello;
use super::lane::{Client, Failure, Server};
use super::metrics::Metrics;
use super::shared::Shared;
use super::{CallError, Lane, Peer, Service};

/// Why a link ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// For metrics.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) text: String,
    /// Somebody wanted it; nothing is wrong.
    pub(super) wanted: bool,
}

impl End {
    pub(super) fn wrong(reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
            wanted: false,
        }
    }
    fn wanted(reason: &'static str, text: &str) -> Self {
        Self {
            wanted: true,
            ..Self::wrong(reason, text)
        }
    }
    pub(super) fn broken(text: String) -> Self {
        Self::wrong("broken", text)
    }
    /// A stream cannot be written to.
    pub(super) fn unwritable(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::TimedOut => Self::wrong("stalled", error.to_string()),
            _ => Self::broken(error.to_string()),
        }
    }
    pub(super) fn closed() -> Self {
        Self::wrong("closed", "the connection was closed")
    }
    pub(super) fn silent() -> Self {
        Self::wrong("silent", "the peer does not answer")
    }
    pub(super) fn surplus() -> Self {
        Self::wanted("surplus", "there is a newer link")
    }
    pub(super) fn forgotten() -> Self {
        Self::wanted("forgotten", "the node is not needed any more")
    }
    pub(super) fn shutdown() -> Self {
        Self::wanted("shutdown", "this node shuts down")
    }
}

#[derive(Debug, Clone)]
enum State {
    Introducing,
    Introduced,
    Ended(End),
}

/// A connection and its lanes.
pub(super) struct Link {
    /// Rises with every connection.
    pub(super) order: u64,
    pub(super) connection: ConnectionId,
    pub(super) node: NodeId,
    pub(super) address: Multiaddr,
    clients: [Client; 4],
    servers: [Arc<Server>; 4],
    progress: Mutex<Progress>,
    state: watch::Sender<State>,
    /// Rises with every read.
    heard: AtomicU64,
    retired: AtomicBool,
    pinging: AtomicBool,
    /// Why it is going to end: counts more than who closes it first.
    verdict: Mutex<Option<End>>,
}

/// What an introduction needs.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) hello: Option<Arc<Hello>>,
    pub(super) greeted: bool,
    pub(super) opened: [bool; 4],
    done: bool,
}

impl Link {
    pub(super) fn new(
        order: u64,
        connection: ConnectionId,
        node: NodeId,
        address: Multiaddr,
        metrics: &Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            order,
            connection,
            node,
            address,
            clients: Lane::ALL.map(|lane| Client::new(lane, metrics.lane(lane).clone())),
            servers: Lane::ALL.map(|lane| Arc::new(Server::new(lane, metrics))),
            progress: Mutex::default(),
            state: watch::Sender::new(State::Introducing),
            heard: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            pinging: AtomicBool::new(false),
            verdict: Mutex::default(),
        })
    }

    pub(super) fn client(&self, lane: Lane) -> &Client {
        &self.clients[lane as usize]
    }

    pub(super) fn server(&self, lane: Lane) -> &Arc<Server> {
        &self.servers[lane as usize]
    }

    /// Calls the peer.
    pub(super) async fn call(
        &self,
        lane: Lane,
        service: Service,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let node = self.node;
        let called = self.client(lane).call(service, body, deadline).await;
        called.map_err(|failure| match failure {
            Failure::NotSent => CallError::NotSent(node),
            Failure::Busy => CallError::Busy(node),
            Failure::Declined(why) => CallError::Declined { node, why },
            Failure::Lost => CallError::Lost(node),
            Failure::Deadline => CallError::Deadline(node),
        })
    }

    /// Notes a step of the introduction; after the last one calls may use the link.
    pub(super) fn advance(self: &Arc<Self>, shared: &Shared, step: impl FnOnce(&mut Progress)) {
        let introduced = {
            let mut progress = self.progress.lock();
            step(&mut progress);
            let complete = progress.hello.is_some()
                && progress.greeted
                && progress.opened.iter().all(|opened| *opened);
            complete && !std::mem::replace(&mut progress.done, true)
        };
        if introduced {
            // First the table: who waits for the state looks there next.
            shared.links.introduce(Arc::clone(self));
            self.state.send_if_modified(|state| {
                let introducing = matches!(state, State::Introducing);
                if introducing {
                    *state = State::Introduced;
                }
                introducing
            });
            if let Some(peer) = self.peer() {
                tracing::info!(node = %self.node, name = peer.name, address = %self.address, "a node is linked");
            }
        }
    }

    /// Whether the peer has said who it is.
    pub(super) fn knows_peer(&self) -> bool {
        self.progress.lock().hello.is_some()
    }

    /// The cluster that the peer says it belongs to.
    pub(super) fn cluster(&self) -> Option<ClusterId> {
        self.progress.lock().hello.as_ref()?.cluster
    }

    pub(super) fn peer(&self) -> Option<Peer> {
        let hello = self.progress.lock().hello.clone()?;
        Some(Peer {
            id: self.node,
            name: hello.name.clone(),
            version: hello.version.clone(),
            addresses: hello.addresses.clone(),
            cluster: hello.cluster,
        })
    }

    pub(super) fn is_introduced(&self) -> bool {
        matches!(*self.state.borrow(), State::Introduced)
    }

    /// Waits for the introduction.
    pub(super) async fn introduced(&self) -> Result<(), End> {
        let mut state = self.state.subscribe();
        let reached = state
            .wait_for(|state| !matches!(state, State::Introducing))
            .await;
        match reached.as_deref() {
            Ok(State::Ended(end)) => Err(end.clone()),
            Ok(_) => Ok(()),
            // The sender is in `self`.
            Err(_) => Err(End::closed()),
        }
    }

    /// The link must end, in a moment, and this is why.
    pub(super) fn condemn(&self, why: End) {
        self.verdict.lock().get_or_insert(why);
    }

    /// Ends the link: its calls end at once, its task clears away.
    pub(super) fn end(&self, end: End) {
        let end = self.verdict.lock().take().unwrap_or(end);
        let ended = self.state.send_if_modified(|state| {
            let alive = !matches!(state, State::Ended(_));
            if alive {
                *state = State::Ended(end);
            }
            alive
        });
        if ended {
            for client in &self.clients {
                client.close();
            }
            for server in &self.servers {
                server.close();
            }
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(*self.state.borrow(), State::Ended(_))
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) -> End {
        let mut state = self.state.subscribe();
        match state
            .wait_for(|state| matches!(state, State::Ended(_)))
            .await
            .as_deref()
        {
            Ok(State::Ended(end)) => end.clone(),
            _ => End::closed(),
        }
    }

    /// Begins no more calls, if there is another link.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Whether no call of this node is in flight on it.
    pub(super) fn is_idle(&self) -> bool {
        !self.clients.iter().any(Client::is_busy)
    }

    /// Whether a call of either side is in flight on it.
    pub(super) fn is_in_use(&self) -> bool {
        !self.is_idle() || self.servers.iter().any(|server| server.is_busy())
    }

    /// Claims the one ping that may be on its way; false when it is.
    pub(super) fn begin_ping(&self) -> bool {
        !self.pinging.swap(true, Ordering::Relaxed)
    }
    pub(super) fn end_ping(&self) {
        self.pinging.store(false, Ordering::Relaxed);
    }

    pub(super) fn note_heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }
    /// Rises while the peer is heard.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }
    /// Rises while the peer answers.
    pub(super) fn answered(&self) -> u64 {
        self.clients.iter().map(Client::answers).sum()
    }
}

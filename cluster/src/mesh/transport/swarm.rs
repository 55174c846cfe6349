//! The task that polls the swarm. It starts a task per connection and hands
//! results to those who wait; nothing that takes time is done in it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::core::{ConnectedPoint, Multiaddr};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError, ListenError, SwarmEvent};
use libp2p::{PeerId, Swarm};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::behaviour::Lanes;
use super::cause;
use crate::mesh::addresses::ip_of;
use crate::mesh::key::node_of;
use crate::mesh::link::{End, Link};
use crate::mesh::quiet::Quiet;
use crate::mesh::shared::Shared;
use crate::mesh::{MeshError, link_task};
use orama_proto::NodeId;

/// An address is bound within this time or never.
const BIND_TIMEOUT: Duration = Duration::from_secs(5);
/// After the first address of each listener, the others follow at once.
const MORE_ADDRESSES: Duration = Duration::from_millis(50);
/// How long connections may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);
/// Connections of one node, dead ones that nobody noticed yet included. Beyond it the oldest goes.
const LINKS_PER_NODE: usize = 6;

/// What the swarm is asked to do.
pub(in crate::mesh) enum Command {
    /// Connects to an address. `expected` is who should be there.
    Dial {
        address: Multiaddr,
        expected: Option<NodeId>,
        answer: oneshot::Sender<Result<Dialled, String>>,
    },
    /// Closes a connection.
    Close(ConnectionId),
    /// Closes everything; the task ends.
    Shutdown(oneshot::Sender<()>),
}

/// What came of a dial.
pub(in crate::mesh) enum Dialled {
    /// A new connection, admitted; it introduces itself next.
    Link(Arc<Link>),
    /// Somebody to whom there is a link already. The new connection was closed.
    Linked(NodeId),
    /// This very node.
    Itself,
}

type Waiting = (Option<NodeId>, oneshot::Sender<Result<Dialled, String>>);

/// Owns the swarm.
pub(in crate::mesh) struct Driver {
    swarm: Swarm<Lanes>,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    dials: HashMap<ConnectionId, Waiting>,
    quiet: Quiet<Option<IpAddr>>,
}

impl Driver {
    pub(in crate::mesh) fn new(
        swarm: Swarm<Lanes>,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self {
            swarm,
            shared,
            commands,
            dials: HashMap::new(),
            quiet: Quiet::new(),
        }
    }

    /// Binds every address.
    pub(in crate::mesh) async fn listen(&mut self, listen: &[Multiaddr]) -> Result<(), MeshError> {
        let mut unbound: HashMap<ListenerId, &Multiaddr> = HashMap::new();
        for address in listen {
            let id = self
                .swarm
                .listen_on(address.clone())
                .map_err(|e| refused(address, &cause(&e)))?;
            unbound.insert(id, address);
        }
        let bound = timeout(BIND_TIMEOUT, async {
            while !unbound.is_empty() {
                match self.swarm.select_next_some().await {
                    SwarmEvent::ListenerClosed {
                        listener_id,
                        reason,
                        ..
                    } => {
                        if let Some(address) = unbound.get(&listener_id) {
                            let why = match reason {
                                Err(e) => cause(&e),
                                Ok(()) => "the listener closed".to_owned(),
                            };
                            return Err(refused(address, &why));
                        }
                    }
                    event => {
                        if let SwarmEvent::NewListenAddr { listener_id, .. } = &event {
                            unbound.remove(listener_id);
                        }
                        self.on_event(event);
                    }
                }
            }
            Ok(())
        })
        .await;
        match bound {
            Ok(result) => result?,
            Err(_) => {
                let address = unbound.values().next().map(ToString::to_string);
                return Err(MeshError::Address {
                    address: address.unwrap_or_default(),
                    problem: "it was not bound in time".into(),
                });
            }
        }
        while let Ok(event) = timeout(MORE_ADDRESSES, self.swarm.select_next_some()).await {
            self.on_event(event);
        }
        Ok(())
    }

    /// Runs until it is shut down or the mesh's last handle is gone.
    pub(in crate::mesh) async fn run(mut self) {
        let done = loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                command = self.commands.recv() => match command {
                    Some(Command::Dial { address, expected, answer }) => {
                        self.dial(address, expected, answer);
                    }
                    Some(Command::Close(connection)) => {
                        self.swarm.close_connection(connection);
                    }
                    Some(Command::Shutdown(done)) => break Some(done),
                    None => break None,
                },
            }
        };
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let _ = timeout(GOODBYE, async {
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        })
        .await;
        // The listeners close with it.
        drop(self.swarm);
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        expected: Option<NodeId>,
        answer: oneshot::Sender<Result<Dialled, String>>,
    ) {
        // A port of its own: with the listener's, two nodes that dial each other at once would collide.
        let opts = DialOpts::unknown_peer_id()
            .address(address)
            .allocate_new_port()
            .build();
        let connection = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => {
                self.dials.insert(connection, (expected, answer));
            }
            // The swarm leaves out addresses that it listens on itself.
            Err(DialError::NoAddresses) => {
                let _ = answer.send(Ok(Dialled::Itself));
            }
            Err(error) => {
                let _ = answer.send(Err(self.dial_failed(&error)));
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<std::convert::Infallible>) {
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => self.established(&peer_id, connection_id, &endpoint),
            SwarmEvent::ConnectionClosed {
                connection_id,
                cause: why,
                ..
            } => {
                if let Some(link) = self.shared.links.by_connection(connection_id) {
                    link.end(match why {
                        Some(error) => End::broken(cause(&error)),
                        None => End::closed(),
                    });
                }
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => {
                let Some((_, answer)) = self.dials.remove(&connection_id) else {
                    return;
                };
                let _ = answer.send(match error {
                    DialError::LocalPeerId { .. } | DialError::NoAddresses => Ok(Dialled::Itself),
                    error => Err(self.dial_failed(&error)),
                });
            }
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                error,
                ..
            } => self.refused_inbound(&send_back_addr, &error),
            SwarmEvent::NewListenAddr { address, .. } => self.shared.listening(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.shared.not_listening(&address),
            SwarmEvent::ListenerClosed {
                addresses, reason, ..
            } => {
                tracing::warn!(?addresses, ?reason, "the mesh stopped listening");
                for address in addresses {
                    self.shared.not_listening(&address);
                }
            }
            SwarmEvent::ListenerError { error, .. } if self.quiet.due(None).is_some() => {
                tracing::warn!(%error, "a connection could not be accepted");
            }
            _ => {}
        }
    }

    fn established(&mut self, peer: &PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let node = node_of(peer);
        let streams = self.swarm.behaviour_mut().streams(connection);
        let dial = self.dials.remove(&connection);
        let links = &self.shared.links;
        let Some(streams) = streams else {
            self.swarm.close_connection(connection);
            return;
        };
        if node == self.shared.id {
            // Another program with this node's key, or half the id's bits were guessed.
            tracing::warn!(address = %endpoint.get_remote_address(), "another node has this node's identity; it is refused");
            self.swarm.close_connection(connection);
            if let Some((_, answer)) = dial {
                let _ = answer.send(Ok(Dialled::Itself));
            }
            return;
        }
        let dialled = dial.is_some();
        if let Some((expected, answer)) = &dial {
            // Whoever asked for it is gone, or it is no news: the address of a
            // node that moved may be another's now.
            let surplus = *expected != Some(node) && links.is_linked(node);
            if answer.is_closed() || surplus {
                self.swarm.close_connection(connection);
                if let Some((_, answer)) = dial {
                    let _ = answer.send(Ok(Dialled::Linked(node)));
                }
                return;
            }
        }
        let link = Link::new(
            links.next_order(),
            connection,
            node,
            endpoint.get_remote_address().clone(),
            &self.shared.metrics,
        );
        for old in links.insert(Arc::clone(&link), LINKS_PER_NODE) {
            old.end(End::surplus());
        }
        tokio::spawn(link_task::run(
            Arc::clone(&link),
            streams,
            Arc::clone(&self.shared),
        ));
        if dialled {
            self.shared.metrics.dial("connected");
        }
        if let Some((_, answer)) = dial {
            let _ = answer.send(Ok(Dialled::Link(link)));
        }
    }

    fn dial_failed(&self, error: &DialError) -> String {
        self.shared.metrics.dial("failed");
        match error {
            DialError::Transport(errors) => match errors.first() {
                Some((_, error)) => cause(error),
                None => "no address".into(),
            },
            other => cause(other),
        }
    }

    fn refused_inbound(&self, from: &Multiaddr, error: &ListenError) {
        if matches!(error, ListenError::Aborted) {
            return;
        }
        let reason = match error {
            ListenError::Transport(error) => cause(error),
            other => cause(other),
        };
        self.shared.metrics.refused();
        // Ports change with every try; the machine does not.
        if let Some(suppressed) = self.quiet.due(ip_of(from)) {
            tracing::warn!(address = %from, %reason, suppressed, "a connection to the mesh was not admitted");
        }
    }
}

fn refused(address: &Multiaddr, problem: &str) -> MeshError {
    MeshError::Address {
        address: address.to_string(),
        problem: problem.to_owned(),
    }
}

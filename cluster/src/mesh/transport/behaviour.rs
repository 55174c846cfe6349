//! The only protocol on a connection: a stream per lane and direction.
//!
//! Each side opens its four outbound streams as soon as the connection is
//! admitted and accepts one inbound stream per lane; everything else is
//! refused. Streams are handed to the task of their very connection, so that
//! two connections to one peer are never mixed up.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, Stream, StreamProtocol};
use tokio::sync::mpsc;

use crate::mesh::Lane;
use crate::mesh::addresses::ip_of;

/// Inbound connections that are not admitted yet: in all, and from one address.
const PENDING_MAX: usize = 128;
const PENDING_PER_ADDRESS: usize = 32;
/// Admitted connections. Far above the largest cluster; a bound all the same.
const CONNECTIONS_MAX: usize = 1024;

/// Who opened a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mesh) enum Direction {
    /// The peer: it calls us on it.
    Inbound,
    /// We: for calling the peer.
    Outbound,
}

/// What a connection's task is told.
#[derive(Debug)]
pub(in crate::mesh) enum Opened {
    /// A stream.
    Stream(Lane, Direction, Stream),
    /// The peer does not have this lane.
    Refused(Lane),
}

fn protocol(lane: Lane) -> StreamProtocol {
    StreamProtocol::new(match lane {
        Lane::Heartbeat => "/orama/heartbeat/1",
        Lane::Consensus => "/orama/consensus/1",
        Lane::Calls => "/orama/calls/1",
        Lane::Bulk => "/orama/bulk/1",
    })
}

/// The swarm's behaviour.
pub(in crate::mesh) struct Lanes {
    pending: HashMap<ConnectionId, Option<IpAddr>>,
    /// Streams of connections that the swarm has not reported yet.
    fresh: HashMap<ConnectionId, mpsc::Receiver<Opened>>,
    connections: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("too many connections")]
struct TooMany;

impl Lanes {
    pub(super) fn new() -> Self {
        Self {
            pending: HashMap::new(),
            fresh: HashMap::new(),
            connections: 0,
        }
    }

    /// The streams of a connection that was established just now.
    pub(in crate::mesh) fn streams(
        &mut self,
        connection: ConnectionId,
    ) -> Option<mpsc::Receiver<Opened>> {
        self.fresh.remove(&connection)
    }

    fn handler(&mut self, connection: ConnectionId) -> Result<Opener, ConnectionDenied> {
        self.pending.remove(&connection);
        if self.connections >= CONNECTIONS_MAX {
            return Err(ConnectionDenied::new(TooMany));
        }
        // Each lane once per direction; what is more is refused, not queued.
        let (opened, streams) = mpsc::channel(2 * Lane::ALL.len());
        self.fresh.insert(connection, streams);
        Ok(Opener {
            opened,
            asked: 0,
            accepted: [false; 4],
        })
    }
}

impl NetworkBehaviour for Lanes {
    type ConnectionHandler = Opener;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let from = ip_of(remote);
        let same = self.pending.values().filter(|other| **other == from);
        if self.pending.len() >= PENDING_MAX || same.count() >= PENDING_PER_ADDRESS {
            return Err(ConnectionDenied::new(TooMany));
        }
        self.pending.insert(connection, from);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handler(connection)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handler(connection)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(_) => self.connections += 1,
            FromSwarm::ConnectionClosed(closed) => {
                self.connections = self.connections.saturating_sub(1);
                self.fresh.remove(&closed.connection_id);
            }
            FromSwarm::ListenFailure(failure) => {
                self.pending.remove(&failure.connection_id);
                self.fresh.remove(&failure.connection_id);
            }
            FromSwarm::DialFailure(failure) => {
                self.fresh.remove(&failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

/// Opens and accepts the lanes of one connection.
pub(in crate::mesh) struct Opener {
    opened: mpsc::Sender<Opened>,
    asked: usize,
    accepted: [bool; 4],
}

impl ConnectionHandler for Opener {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Negotiate;
    type OutboundProtocol = Negotiate;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Lane;

    fn listen_protocol(&self) -> SubstreamProtocol<Negotiate, ()> {
        SubstreamProtocol::new(Negotiate(Lane::ALL.to_vec()), ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Negotiate, Lane, Infallible>> {
        let Some(lane) = Lane::ALL.get(self.asked) else {
            return Poll::Pending;
        };
        self.asked += 1;
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
            protocol: SubstreamProtocol::new(Negotiate(vec![*lane]), *lane),
        })
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Negotiate, Negotiate, (), Lane>) {
        let opened = match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (lane, stream),
                ..
            }) => {
                if std::mem::replace(&mut self.accepted[lane as usize], true) {
                    tracing::debug!(lane = lane.as_str(), "a peer opened a lane twice");
                    return;
                }
                Opened::Stream(lane, Direction::Inbound, stream)
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (lane, stream),
                ..
            }) => Opened::Stream(lane, Direction::Outbound, stream),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, .. }) => {
                Opened::Refused(info)
            }
            _ => return,
        };
        // There is room for every lane once per direction; a closed one means the link has ended.
        let _ = self.opened.try_send(opened);
    }
}

/// Agrees on a lane.
#[derive(Debug, Clone)]
pub(in crate::mesh) struct Negotiate(Vec<Lane>);

impl UpgradeInfo for Negotiate {
    type Info = NamedLane;
    type InfoIter = std::vec::IntoIter<NamedLane>;

    fn protocol_info(&self) -> Self::InfoIter {
        let named = self.0.iter().map(|lane| NamedLane(*lane, protocol(*lane)));
        named.collect::<Vec<_>>().into_iter()
    }
}

/// A lane with its protocol id.
#[derive(Debug, Clone)]
pub(in crate::mesh) struct NamedLane(Lane, StreamProtocol);

impl AsRef<str> for NamedLane {
    fn as_ref(&self) -> &str {
        self.1.as_ref()
    }
}

impl InboundUpgrade<Stream> for Negotiate {
    type Output = (Lane, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, lane: NamedLane) -> Self::Future {
        ready(Ok((lane.0, stream)))
    }
}

impl OutboundUpgrade<Stream> for Negotiate {
    type Output = (Lane, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, lane: NamedLane) -> Self::Future {
        ready(Ok((lane.0, stream)))
    }
}

//! The other nodes, as the router needs them. A trait, so that tests can have
//! nodes without a network between them.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use orama_cluster::{CallError, Cluster, Handler, Lane, Mesh, Service};
use orama_proto::NodeId;
use orama_proto::topology::NodeState;

use crate::runtime::BoxFuture;

/// A member with a link to this node.
#[derive(Debug, Clone)]
pub(super) struct Linked {
    pub(super) id: NodeId,
    pub(super) name: String,
    /// It may take forwarded invocations, as far as the topology says.
    pub(super) active: bool,
}

/// The other members and the way to them.
pub(super) trait Peers: Send + Sync + 'static {
    /// Members with a link now.
    fn linked(&self) -> Vec<Linked>;
    /// Whether this node itself may take forwarded invocations, as the topology says.
    fn active(&self) -> bool;
    /// See [`Mesh::call`].
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        service: Service,
        body: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Bytes, CallError>>;
    /// See [`Mesh::serve`].
    fn serve(&self, service: Service, handler: Arc<dyn Handler>);
}

/// The cluster's members over the mesh.
pub(super) struct Members {
    cluster: Cluster,
    mesh: Mesh,
}

impl Members {
    /// `None` for a node without a mesh.
    pub(super) fn of(cluster: &Cluster) -> Option<Self> {
        let mesh = cluster.mesh()?.clone();
        let cluster = cluster.clone();
        Some(Self { cluster, mesh })
    }
}

impl Peers for Members {
    fn linked(&self) -> Vec<Linked> {
        let members = self.cluster.linked().into_iter();
        members
            .map(|member| Linked {
                id: member.id,
                name: member.name,
                active: member.state == NodeState::Active,
            })
            .collect()
    }

    fn active(&self) -> bool {
        let topology = self.cluster.topology();
        let own = topology.nodes.get(&self.cluster.node_id());
        own.is_some_and(|member| member.state == NodeState::Active)
    }

    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        service: Service,
        body: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Bytes, CallError>> {
        Box::pin(self.mesh.call(to, lane, service, body, deadline))
    }

    fn serve(&self, service: Service, handler: Arc<dyn Handler>) {
        self.mesh.serve(service, handler);
    }
}

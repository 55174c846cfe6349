//! What a group needs of the links between nodes: one call. The mesh does it in
//! a running node; in tests it is a transport that drops, delays and partitions.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use orama_proto::NodeId;

use crate::mesh::{BoxFuture, CallError, Lane, Mesh, Service};

/// Calls another node.
pub(crate) trait Link: Send + Sync + 'static {
    /// See [`Mesh::call`].
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        service: Service,
        body: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, CallError>>;
}

impl Link for Mesh {
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        service: Service,
        body: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let mesh = self.clone();
        Box::pin(async move { Self::call(&mesh, to, lane, service, body, deadline).await })
    }
}

/// The way to the other nodes, if this node has one.
pub(crate) type Links = Option<Arc<dyn Link>>;

//! The other nodes, as far as blobs need them.

use std::time::Instant;

use bytes::Bytes;
use orama_proto::blob::{BLOB_VERSION, BlobReply, BlobRequest};
use orama_proto::{NodeId, record};

use crate::membership::Cluster;
use crate::mesh::{BoxFuture, CallError, Lane, Service};

/// The cluster, or a few nodes in one process in tests.
pub(super) trait Peers: Send + Sync + 'static {
    /// This node.
    fn me(&self) -> NodeId;
    /// The other members that have a link to this node now.
    fn linked(&self) -> Vec<NodeId>;
    /// The voters of the metadata group.
    fn voters(&self) -> Vec<NodeId>;
    /// Sends a message about blobs.
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        body: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, CallError>>;
}

impl Peers for Cluster {
    fn me(&self) -> NodeId {
        self.node_id()
    }
    fn linked(&self) -> Vec<NodeId> {
        // The inherent one, of members.
        Cluster::linked(self).iter().map(|m| m.id).collect()
    }
    fn voters(&self) -> Vec<NodeId> {
        Cluster::voters(self)
    }
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        body: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let mesh = self.mesh().cloned();
        Box::pin(async move {
            match mesh {
                Some(mesh) => mesh.call(to, lane, Service::Blobs, body, deadline).await,
                None => Err(CallError::NotSent(to)),
            }
        })
    }
}

/// Asks a peer. An answer that cannot be read is one that declines.
pub(super) async fn ask(
    peers: &dyn Peers,
    to: NodeId,
    request: &BlobRequest,
    deadline: Instant,
) -> Result<BlobReply, CallError> {
    let lane = match request {
        BlobRequest::Read { .. } => Lane::Bulk,
        BlobRequest::Has { .. } | BlobRequest::Hold { .. } => Lane::Calls,
    };
    let declined = |error: record::RecordError| CallError::Declined {
        node: to,
        why: error.to_string(),
    };
    let body = record::encode(BLOB_VERSION, request).map_err(declined)?;
    let answer = peers.call(to, lane, body.into(), deadline).await?;
    record::decode(BLOB_VERSION, &answer).map_err(declined)
}

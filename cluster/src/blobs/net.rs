//! Blobs of other nodes: fetched when one is missing here, held by a majority
//! before a deploy is acknowledged. Receivers pull, in chunks, and verify.

use std::time::Instant;

use bytes::Bytes;
use orama_proto::ContentId;

use super::{BlobError, BlobStore};
use crate::membership::Cluster;

/// A blob does not have enough copies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{held} of {needed} nodes hold blob {cid}")]
pub struct TooFewCopies {
    /// Which.
    pub cid: ContentId,
    /// How many hold it.
    pub held: usize,
    /// How many must.
    pub needed: usize,
}

/// The node's blobs together with its peers'. Cheap to clone.
#[derive(Clone)]
pub struct BlobNet {}

impl BlobNet {
    /// Serves this node's blobs to its peers and finds theirs.
    ///
    /// # Errors
    /// When the metrics are registered already.
    pub fn start(
        store: BlobStore,
        cluster: Cluster,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        let _ = (store, cluster, registry);
        todo!()
    }
    /// This node's own.
    pub fn store(&self) -> &BlobStore {
        todo!()
    }
    /// The blob: from here, else from any linked member that has it, verified and kept.
    /// Calls for the same blob share one transfer.
    ///
    /// # Errors
    /// [`BlobError::Missing`] when nobody that can be reached has it.
    pub async fn get(&self, cid: ContentId) -> Result<Bytes, BlobError> {
        let _ = cid;
        todo!()
    }
    /// Answers when a majority of the metadata group's voters hold the blob past
    /// fdatasync, this node included when it is one.
    ///
    /// # Errors
    /// [`TooFewCopies`] at the deadline.
    pub async fn spread(&self, cid: ContentId, deadline: Instant) -> Result<(), TooFewCopies> {
        let _ = (cid, deadline);
        todo!()
    }
}

//! Blobs of other nodes: fetched when one is missing here, held by a majority
//! before a deploy is acknowledged. Receivers pull, in chunks, and verify.

mod fetch;
mod metrics;
mod peers;
mod pull;
mod serve;
mod spread;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use orama_proto::ContentId;

use self::fetch::Fetches;
use self::metrics::Metrics;
use self::peers::Peers;
use self::serve::Serve;
use super::files::is_damage;
use super::{BlobError, BlobStore};
use crate::membership::Cluster;
use crate::mesh::Service;

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
pub struct BlobNet {
    inner: Arc<Inner>,
}

struct Inner {
    store: BlobStore,
    peers: Arc<dyn Peers>,
    fetches: Fetches,
    metrics: Metrics,
    /// Transfers go on when whoever asked for them has gone, and when the thread that
    /// asked is stopped.
    runtime: tokio::runtime::Handle,
}

impl BlobNet {
    /// Serves this node's blobs to its peers and finds theirs. Must be called on a
    /// tokio runtime that lives as long as the node.
    ///
    /// # Errors
    /// When the metrics are registered already.
    pub fn start(
        store: BlobStore,
        cluster: Cluster,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        let mesh = cluster.mesh().cloned();
        let net = Self::with_peers(store, Arc::new(cluster), registry)?;
        if let Some(mesh) = mesh {
            mesh.serve(Service::Blobs, Arc::new(net.handler()));
        }
        Ok(net)
    }

    fn with_peers(
        store: BlobStore,
        peers: Arc<dyn Peers>,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                peers,
                fetches: Fetches::default(),
                metrics: Metrics::register(registry)?,
                runtime: tokio::runtime::Handle::current(),
            }),
        })
    }

    /// Holds the blobs weakly: the mesh must not keep them, nor they it.
    fn handler(&self) -> Serve {
        Serve(Arc::downgrade(&self.inner))
    }

    /// This node's own.
    pub fn store(&self) -> &BlobStore {
        &self.inner.store
    }

    /// The blob: from here, else from any linked member that has it, verified and kept.
    /// Calls for the same blob share one transfer.
    ///
    /// # Errors
    /// [`BlobError::Missing`] when nobody that can be reached has it, or the error of
    /// this node's own copy or disk.
    pub async fn get(&self, cid: ContentId) -> Result<Bytes, BlobError> {
        match self.inner.store.get(cid).await {
            Err(error) if worth_fetching(&error) => self.elsewhere(cid, error).await,
            other => other,
        }
    }

    /// Fetches the blob when its file is not here. Does not verify a file that is.
    ///
    /// # Errors
    /// See [`BlobNet::get`].
    pub async fn ensure(&self, cid: ContentId) -> Result<(), BlobError> {
        if self.inner.store.contains(cid).await {
            return Ok(());
        }
        let missing = BlobError::Missing(cid);
        self.elsewhere(cid, missing).await.map(drop)
    }

    async fn elsewhere(&self, cid: ContentId, here: BlobError) -> Result<Bytes, BlobError> {
        // Alone there is nobody to ask: the answer is that of this node's disk.
        if self.inner.peers.linked().is_empty() {
            return Err(here);
        }
        match self.inner.fetch(cid, None).await {
            Err(BlobError::Missing(_)) => Err(here),
            other => other,
        }
    }

    /// Answers when a majority of the metadata group's voters hold the blob past
    /// fdatasync, this node included when it is one; the blob must have been put
    /// here. The others go on fetching it until the deadline.
    ///
    /// # Errors
    /// [`TooFewCopies`] at the deadline.
    pub async fn spread(&self, cid: ContentId, deadline: Instant) -> Result<(), TooFewCopies> {
        self.inner.spread(cid, deadline).await
    }
}

/// Whether a peer's copy would do better than this error.
fn worth_fetching(error: &BlobError) -> bool {
    match error {
        BlobError::Missing(_) | BlobError::Corrupt { .. } => true,
        // Putting the fetched bytes sets the unreadable file aside.
        BlobError::Io { source, .. } => is_damage(source),
        BlobError::Full(_) => false,
    }
}

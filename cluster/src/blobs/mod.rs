//! Blobs: files named by their content id, atomic, fsynced, verified on read.

use std::path::Path;

use bytes::Bytes;
use orama_proto::ContentId;

/// A blob cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no such blob here.
    #[error("blob {0} is not on this node")]
    Missing(ContentId),
    /// The file's bytes are not what its name says.
    #[error("blob {cid} is corrupt: its bytes hash to {found}")]
    Corrupt {
        /// The name.
        cid: ContentId,
        /// What its bytes are.
        found: ContentId,
    },
    /// The disk or quota is full.
    #[error("no space left for blob {0}")]
    Full(ContentId),
    /// The file system refused.
    #[error("blob {cid}: {source}")]
    Io {
        /// Which.
        cid: ContentId,
        /// Why.
        source: std::io::Error,
    },
}

/// The blobs of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BlobStore {}

impl BlobStore {
    /// Opens the directory, removing what an interrupted write left.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(dir: &Path, registry: &prometheus::Registry) -> Result<Self, std::io::Error> {
        todo!()
    }
    /// Stores the bytes; when this returns they survive a power cut.
    ///
    /// # Errors
    /// [`BlobError::Full`] or [`BlobError::Io`]; nothing is left behind.
    pub async fn put(&self, bytes: Bytes) -> Result<ContentId, BlobError> {
        todo!()
    }
    /// Reads and verifies a blob. A corrupt one is set aside, not deleted.
    ///
    /// # Errors
    /// See [`BlobError`].
    pub async fn get(&self, cid: ContentId) -> Result<Bytes, BlobError> {
        todo!()
    }
    /// Whether the blob's file is here; does not verify it.
    pub async fn contains(&self, cid: ContentId) -> bool {
        todo!()
    }
    /// Removes blobs that `keep` does not want and that are older than `min_age`.
    /// Answers how many.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn sweep(
        &self,
        keep: std::collections::HashSet<ContentId>,
        min_age: std::time::Duration,
    ) -> Result<u64, std::io::Error> {
        todo!()
    }
}

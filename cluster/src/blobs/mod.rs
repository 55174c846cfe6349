//! Blobs: files named by their content id, atomic, fsynced, verified on read.
//!
//! See `OVERVIEW.md` beside this file for the write path and its failures.

mod files;
mod metrics;
mod net;
#[cfg(test)]
pub(crate) mod small_disk;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use orama_proto::ContentId;
use orama_proto::blob::BLOB_CHUNK_BYTES;
use tokio::sync::Semaphore;

pub use self::net::{BlobNet, TooFewCopies};

use self::files::Files;
use self::metrics::Metrics;
use crate::disk::BULK_RESERVED_BYTES;

/// Largest blob: twice the largest module.
pub const BLOB_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Calls that touch the disk at once; the others wait. Bounds memory and threads.
pub const BLOB_CONCURRENCY: usize = 8;
/// Damaged files kept for a person to look at; the oldest go first.
pub const CORRUPT_KEPT: usize = 16;

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
pub struct BlobStore {
    files: Arc<Files>,
    permits: Arc<Semaphore>,
    metrics: Metrics,
}

impl BlobStore {
    /// Opens the directory, removing what an interrupted write left.
    ///
    /// # Errors
    /// When the directory cannot be made or read, or the metrics are registered already.
    pub fn open(dir: &Path, registry: &prometheus::Registry) -> Result<Self, std::io::Error> {
        Self::open_with(dir, BULK_RESERVED_BYTES, registry)
    }

    fn open_with(
        dir: &Path,
        reserve: u64,
        registry: &prometheus::Registry,
    ) -> Result<Self, std::io::Error> {
        let metrics = Metrics::register(registry).map_err(io::Error::other)?;
        Ok(Self {
            files: Arc::new(Files::open(dir, reserve, metrics.clone())?),
            permits: Arc::new(Semaphore::new(BLOB_CONCURRENCY)),
            metrics,
        })
    }

    /// Stores the bytes; when this returns they survive a power cut. Bytes
    /// that are here already are compared, not written again, and count as
    /// new for [`BlobStore::sweep`].
    ///
    /// # Errors
    /// [`BlobError::Full`] or [`BlobError::Io`]; nothing is left behind.
    pub async fn put(&self, bytes: Bytes) -> Result<ContentId, BlobError> {
        let metrics = self.metrics.clone();
        let outcome = self
            .blocking(move |files| {
                let since = Instant::now();
                let cid = ContentId::of(&bytes);
                let result = files.put(cid, &bytes);
                metrics.put(since, bytes.len(), &result);
                result.map(|_| cid)
            })
            .await;
        // Only a panic or a runtime that is going down ends here; the id was never computed.
        outcome.unwrap_or_else(|source| {
            Err(BlobError::Io {
                cid: ContentId::of(&[]),
                source,
            })
        })
    }

    /// Reads and verifies a blob. A corrupt one is set aside, not deleted.
    ///
    /// # Errors
    /// See [`BlobError`].
    pub async fn get(&self, cid: ContentId) -> Result<Bytes, BlobError> {
        let metrics = self.metrics.clone();
        self.blocking(move |files| {
            let since = Instant::now();
            let result = files.get(cid);
            metrics.get(since, &result);
            result
        })
        .await
        .unwrap_or_else(|source| Err(BlobError::Io { cid, source }))
    }

    /// Whether the blob's file is here; does not verify it.
    pub async fn contains(&self, cid: ContentId) -> bool {
        self.blocking(move |files| files.path(cid).is_file())
            .await
            .unwrap_or(false)
    }

    /// Size of the blob's file, if there is one; does not verify it.
    pub(crate) async fn size(&self, cid: ContentId) -> Result<Option<u64>, BlobError> {
        self.blocking(move |files| files.size(cid))
            .await
            .unwrap_or_else(|source| Err(BlobError::Io { cid, source }))
    }

    /// Up to [`BLOB_CHUNK_BYTES`] from `offset` on, and the size of the whole. Verifies
    /// the whole at offset 0, so that a peer does not fetch a rotten file to its end.
    pub(crate) async fn chunk(
        &self,
        cid: ContentId,
        offset: u64,
    ) -> Result<(Vec<u8>, u64), BlobError> {
        if offset == 0 {
            let whole = self.get(cid).await?;
            let first = &whole[..whole.len().min(BLOB_CHUNK_BYTES)];
            return Ok((first.to_vec(), whole.len() as u64));
        }
        self.blocking(move |files| files.read_at(cid, offset, BLOB_CHUNK_BYTES))
            .await
            .unwrap_or_else(|source| Err(BlobError::Io { cid, source }))
    }

    /// Verifies the blob, and makes it durable and new for [`BlobStore::sweep`],
    /// as if it had been put again.
    pub(crate) async fn hold(&self, cid: ContentId) -> Result<(), BlobError> {
        self.blocking(move |files| files.hold(cid))
            .await
            .unwrap_or_else(|source| Err(BlobError::Io { cid, source }))
    }

    /// Whether a blob of so many bytes fits, and leaves the metadata its room.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.files.has_room(bytes)
    }

    /// Removes blobs that `keep` does not want and that are older than `min_age`.
    /// Answers how many.
    ///
    /// `min_age` must be longer than a deploy takes from its put to its commit:
    /// until then nothing refers to the blob but the deploy itself.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn sweep(
        &self,
        keep: HashSet<ContentId>,
        min_age: Duration,
    ) -> Result<u64, std::io::Error> {
        self.blocking(move |files| files.sweep(&keep, min_age))
            .await?
    }

    /// Runs `work` on a blocking thread. It holds its permit itself and runs
    /// to its end even when the caller goes away.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> T + Send + 'static,
    ) -> io::Result<T> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let files = Arc::clone(&self.files);
        tokio::task::spawn_blocking(move || {
            let result = work(&files);
            drop(permit);
            result
        })
        .await
        .map_err(io::Error::other)
    }
}

//! A version's module, from wherever it is nearest: memory, the compiled
//! cache on disk, or the blob, of this node or another, and the compiler.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orama_cluster::{BlobError, BlobNet};
use orama_proto::ContentId;
use tokio::sync::Semaphore;

use super::turns::OneAtATime;
use crate::runtime::{BoxFuture, ModuleError, PreparedModule, Runtime};

/// How long an invocation waits for its module. The work goes on without it.
const LOAD_WITHIN: Duration = Duration::from_secs(30);
/// Modules compiled at once outside a deploy; each may hold a whole blob in memory.
const COMPILE_AT_ONCE: usize = 2;

/// A module that cannot be had now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Module(#[from] ModuleError),
    #[error("it is still being loaded after {} seconds", LOAD_WITHIN.as_secs())]
    Late,
}

/// Where a module's bytes come from: this node's disk, or its peers'. A trait,
/// so that tests need no mesh.
pub(crate) trait Blobs: Send + Sync + 'static {
    /// Answers when this node holds it, from another one if need be.
    fn ensure(&self, cid: ContentId) -> BoxFuture<'_, Result<(), BlobError>>;
    /// The blob, verified.
    fn get(&self, cid: ContentId) -> BoxFuture<'_, Result<Bytes, BlobError>>;
}

impl Blobs for BlobNet {
    fn ensure(&self, cid: ContentId) -> BoxFuture<'_, Result<(), BlobError>> {
        Box::pin(Self::ensure(self, cid))
    }
    fn get(&self, cid: ContentId) -> BoxFuture<'_, Result<Bytes, BlobError>> {
        Box::pin(Self::get(self, cid))
    }
}

/// Finds modules.
pub(crate) struct Modules {
    runtime: Runtime,
    blobs: Box<dyn Blobs>,
    loading: OneAtATime<ContentId>,
    compiling: Semaphore,
}

impl Modules {
    pub(crate) fn new(runtime: Runtime, blobs: impl Blobs) -> Self {
        Self {
            runtime,
            blobs: Box::new(blobs),
            loading: OneAtATime::default(),
            compiling: Semaphore::new(COMPILE_AT_ONCE),
        }
    }

    /// The module with this content.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub(crate) async fn get(&self, cid: ContentId) -> Result<Arc<PreparedModule>, LoadError> {
        if let Some(module) = self.runtime.loaded(&cid) {
            return Ok(module);
        }
        let find = self.find(cid);
        tokio::time::timeout(LOAD_WITHIN, find)
            .await
            .unwrap_or(Err(LoadError::Late))
    }

    async fn find(&self, cid: ContentId) -> Result<Arc<PreparedModule>, LoadError> {
        let turn = self.loading.enter(cid);
        let _turn = turn.taken().await;
        // Whoever was first may have loaded it meanwhile.
        if let Some(module) = self.runtime.loaded(&cid) {
            return Ok(module);
        }
        if let Some(module) = self.runtime.load(cid).await? {
            return Ok(module);
        }
        // From another node it may take long: nobody's compiling waits for that.
        self.blobs.ensure(cid).await?;
        let _place = self.compiling.acquire().await;
        let wasm: Bytes = self.blobs.get(cid).await?;
        Ok(self.runtime.prepare(cid, wasm).await?)
    }
}

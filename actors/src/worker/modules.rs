//! A version's module, from wherever it is nearest: memory, the compiled
//! cache on disk, or the blob and the compiler.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use orama_cluster::{BlobError, BlobStore};
use orama_proto::ContentId;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::runtime::{ModuleError, PreparedModule, Runtime};

/// Modules compiled at once outside a deploy; each may hold a whole blob in memory.
const COMPILE_AT_ONCE: usize = 2;

/// A module that cannot be had now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Module(#[from] ModuleError),
}

/// Finds modules.
pub(crate) struct Modules {
    runtime: Runtime,
    blobs: BlobStore,
    loading: OneAtATime,
    compiling: Semaphore,
}

impl Modules {
    pub(crate) fn new(runtime: Runtime, blobs: BlobStore) -> Self {
        Self {
            runtime,
            blobs,
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
        let turn = self.loading.enter(cid);
        // Nobody closes the gate, and then going on is right as well.
        let _turn = turn.gate.acquire().await;
        // Whoever was first may have loaded it meanwhile.
        if let Some(module) = self.runtime.loaded(&cid) {
            return Ok(module);
        }
        if let Some(module) = self.runtime.load(cid).await? {
            return Ok(module);
        }
        let _place = self.compiling.acquire().await;
        let wasm: Bytes = self.blobs.get(cid).await?;
        Ok(self.runtime.prepare(cid, wasm).await?)
    }
}

/// One loader per module; the others wait for it. Entries exist only while
/// somebody loads or waits.
#[derive(Default)]
struct OneAtATime(Mutex<HashMap<ContentId, Arc<Semaphore>>>);

impl OneAtATime {
    fn enter(&self, cid: ContentId) -> Turn<'_> {
        let mut gates = self.0.lock();
        let gate = gates
            .entry(cid)
            .or_insert_with(|| Arc::new(Semaphore::new(1)));
        Turn {
            gate: Arc::clone(gate),
            gates: self,
            cid,
        }
    }
}

struct Turn<'a> {
    gate: Arc<Semaphore>,
    gates: &'a OneAtATime,
    cid: ContentId,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut gates = self.gates.0.lock();
        // The map's and this one: nobody else is interested any more.
        if Arc::strong_count(&self.gate) <= 2 {
            gates.remove(&self.cid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loaders_take_turns_and_leave_nothing_behind() {
        let gates = OneAtATime::default();
        let (a, b) = (ContentId::of(b"a"), ContentId::of(b"b"));
        let first = gates.enter(a);
        let permit = first.gate.acquire().await.unwrap();
        let second = gates.enter(a);
        assert!(second.gate.try_acquire().is_err());
        let other = gates.enter(b);
        assert!(other.gate.try_acquire().is_ok());
        assert_eq!(gates.0.lock().len(), 2);
        drop(permit);
        drop(first);
        assert!(second.gate.try_acquire().is_ok());
        drop((second, other));
        assert!(gates.0.lock().is_empty());
    }
}

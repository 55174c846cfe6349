//! What stands around an invoker: the functions it knows, the modules on its
//! disk, and host functions at whose gate its guests wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use orama_cluster::BlobError;
use orama_proto::function::{FunctionStatus, FunctionVersion};
use orama_proto::{ContentId, FunctionName, Namespace, SecretName};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::runtime::{BoxFuture, HostServices};
use crate::worker::{Blobs, Catalog};

/// What a node knows of functions.
#[derive(Default)]
pub(super) struct Functions {
    pub(super) known: Mutex<Vec<Arc<FunctionVersion>>>,
    /// Acknowledged elsewhere: known once it is confirmed.
    pub(super) later: Mutex<Vec<Arc<FunctionVersion>>>,
    pub(super) no_leader: AtomicBool,
    pub(super) confirms: AtomicUsize,
}

impl Functions {
    fn find(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u64>,
    ) -> Option<Arc<FunctionVersion>> {
        let known = self.known.lock();
        let all = known.iter().filter(|f| {
            f.namespace == *namespace && f.name == *name && version.is_none_or(|v| f.version == v)
        });
        all.max_by_key(|f| f.version).cloned()
    }
}

/// A shared handle, so that the test keeps one.
pub(super) struct Shared(pub(super) Arc<Functions>);

impl Catalog for Shared {
    fn resolve(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u64>,
    ) -> Option<Arc<FunctionVersion>> {
        let found = self.0.find(namespace, name, version)?;
        (found.status == FunctionStatus::Active).then_some(found)
    }
    fn exists(&self, namespace: &Namespace, name: &FunctionName, version: Option<u64>) -> bool {
        self.0.find(namespace, name, version).is_some()
    }
    fn confirm(&self, _: Instant) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            self.0.confirms.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            if self.0.no_leader.load(Ordering::SeqCst) {
                return Err("no leader".to_owned());
            }
            let later = std::mem::take(&mut *self.0.later.lock());
            self.0.known.lock().extend(later);
            Ok(())
        })
    }
}

/// Where the guests of a node wait.
pub(super) struct Gate {
    pub(super) waiting: AtomicUsize,
    pub(super) open: Semaphore,
}

impl Gate {
    pub(super) fn open(&self) {
        self.open.add_permits(1_000);
    }
}

pub(super) struct Services(pub(super) Arc<Gate>);

impl HostServices for Services {
    fn secret<'a>(
        &'a self,
        _: &'a Namespace,
        _: &'a SecretName,
    ) -> BoxFuture<'a, Result<Option<Zeroizing<Vec<u8>>>, String>> {
        Box::pin(async move {
            self.0.waiting.fetch_add(1, Ordering::SeqCst);
            self.0.open.acquire().await.unwrap().forget();
            Ok(None)
        })
    }
}

/// Every module of the test, on every node's disk.
#[derive(Clone, Default)]
pub(super) struct Disk(pub(super) Arc<Mutex<HashMap<ContentId, Bytes>>>);

impl Blobs for Disk {
    fn ensure(&self, _: ContentId) -> BoxFuture<'_, Result<(), BlobError>> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn get(&self, cid: ContentId) -> BoxFuture<'_, Result<Bytes, BlobError>> {
        let found = self.0.lock().get(&cid).cloned();
        Box::pin(std::future::ready(found.ok_or(BlobError::Missing(cid))))
    }
}

//! Transfers to this node: one per blob however many ask, a few at once, each
//! on a task of its own.

use std::collections::HashMap;
use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use orama_proto::{ContentId, NodeId};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::Inner;
use super::pull::{Pull, Unfetched};
use crate::blobs::BlobError;

/// Transfers at once; each may hold a whole blob in memory. Also what one peer
/// answers on the bulk lane at once.
pub(super) const FETCHES_AT_ONCE: usize = 4;
/// Blobs that may wait for a transfer; further ones are refused.
pub(super) const FETCHES_MAX: usize = 256;
/// A transfer may take so long in all.
const FETCH_WITHIN: Duration = Duration::from_secs(300);

/// How a transfer ended, for everybody who waits for it.
#[derive(Debug, Clone)]
enum Failure {
    Missing,
    Full,
    Other(Arc<str>),
}

impl From<Unfetched> for Failure {
    fn from(why: Unfetched) -> Self {
        match why {
            Unfetched::Missing => Self::Missing,
            Unfetched::Full => Self::Full,
        }
    }
}

type Outcome = Result<Bytes, Failure>;

/// Transfers that run or wait.
pub(super) struct Fetches {
    running: Mutex<HashMap<ContentId, watch::Receiver<Option<Outcome>>>>,
    slots: Semaphore,
}

impl Default for Fetches {
    fn default() -> Self {
        Self {
            running: Mutex::default(),
            slots: Semaphore::new(FETCHES_AT_ONCE),
        }
    }
}

#[cfg(test)]
impl Fetches {
    pub(super) fn is_empty(&self) -> bool {
        self.running.lock().is_empty()
    }
}

/// Takes a transfer off the list however its task ends.
struct Listed(Arc<Inner>, ContentId);

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.fetches.running.lock().remove(&self.1);
    }
}

impl Inner {
    /// Fetches the blob from a peer, `first` before all others, verifies and stores it.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        cid: ContentId,
        first: Option<NodeId>,
    ) -> Result<Bytes, BlobError> {
        let failed = |kind, why: &str| BlobError::Io {
            cid,
            source: Error::new(kind, why.to_owned()),
        };
        let mut news = {
            let mut running = self.fetches.running.lock();
            match running.get(&cid) {
                Some(news) => news.clone(),
                None if running.len() >= FETCHES_MAX => {
                    let why = "too many blobs are being fetched";
                    return Err(failed(ErrorKind::ResourceBusy, why));
                }
                None => {
                    let (done, news) = watch::channel(None);
                    running.insert(cid, news.clone());
                    let listed = Listed(Arc::clone(self), cid);
                    // Not the caller's: it may go away, and others wait too.
                    self.runtime.spawn(async move {
                        let outcome = listed.0.transfer(cid, first).await;
                        done.send_replace(Some(outcome));
                        drop(listed);
                    });
                    news
                }
            }
        };
        let outcome = match news.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        match outcome {
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(Failure::Missing)) => Err(BlobError::Missing(cid)),
            Some(Err(Failure::Full)) => Err(BlobError::Full(cid)),
            Some(Err(Failure::Other(why))) => Err(failed(ErrorKind::Other, &why)),
            None => Err(failed(ErrorKind::Interrupted, "the transfer was stopped")),
        }
    }

    async fn transfer(&self, cid: ContentId, first: Option<NodeId>) -> Outcome {
        let _slot = self.fetches.slots.acquire().await;
        // An earlier transfer may have ended between the caller's look and its question.
        if self.store.contains(cid).await
            && let Ok(bytes) = self.store.get(cid).await
        {
            return Ok(bytes);
        }
        let since = Instant::now();
        let outcome = self.pull_and_store(cid, first).await;
        let label = match &outcome {
            Ok(_) => "ok",
            Err(Failure::Missing) => "missing",
            Err(Failure::Full) => "full",
            Err(Failure::Other(_)) => "failed",
        };
        self.metrics.fetches.with_label_values(&[label]).inc();
        if let Ok(bytes) = &outcome {
            let took = since.elapsed();
            self.metrics.fetch_seconds.observe(took.as_secs_f64());
            tracing::debug!(blob = %cid, bytes = bytes.len(), ?took, "blob fetched");
        }
        outcome
    }

    async fn pull_and_store(&self, cid: ContentId, first: Option<NodeId>) -> Outcome {
        let pull = Pull {
            peers: self.peers.as_ref(),
            cid,
            first,
            room: |bytes| self.store.has_room(bytes),
            metrics: &self.metrics,
        };
        let bytes = tokio::time::timeout(FETCH_WITHIN, pull.run())
            .await
            .map_err(|_| Failure::Other("the transfer took too long".into()))??;
        match self.store.put(bytes.clone()).await {
            Ok(_) => Ok(bytes),
            Err(BlobError::Full(_)) => Err(Failure::Full),
            Err(error) => Err(Failure::Other(error.to_string().into())),
        }
    }
}

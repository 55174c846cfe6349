//! What the node can tell about itself, and how it ends.

use std::time::Duration;

use orama_cluster::JournalQuery;
use orama_proto::ApiError;
use orama_proto::api::ActorInfo;
use orama_proto::limits::LOGS_MAX;

use super::{Inner, Logs};
use crate::errors;

/// How long a reader waits for records to reach the disk before it reads what is there.
pub(super) const FLUSH_WITHIN: Duration = Duration::from_secs(2);
/// How long a drain waits for the journal.
const LAST_FLUSH_WITHIN: Duration = Duration::from_secs(10);

impl Inner {
    pub(super) async fn logs(&self, mut query: JournalQuery) -> Result<Logs, ApiError> {
        query.limit = query.limit.min(LOGS_MAX);
        if !self.journal.flush(FLUSH_WITHIN).await {
            tracing::warn!("the journal is behind; a query answers what is on disk");
        }
        let store = self.journal_store.clone();
        tokio::task::spawn_blocking(move || store.query(&query))
            .await
            .map_err(|_| errors::unexpected("a journal query was interrupted"))?
            .map_err(|error| errors::journal(&error))
            .map(|records| Logs {
                records,
                silent: Vec::new(),
            })
    }

    pub(super) fn actors(&self) -> Vec<ActorInfo> {
        let mut all = self.invoker.workers.info();
        all.push(self.router.info());
        all.push(self.journal.info());
        all.extend(self.vaults.info());
        all
    }

    pub(super) async fn drain(&self, limit: Duration) -> usize {
        self.invoker.admission.close();
        self.deploys.close();
        let left = self.invoker.admission.idle(limit).await;
        if left > 0 {
            tracing::warn!(
                left,
                "invocations were still running at the end of the drain"
            );
        }
        self.router.stop();
        for task in self.upkeep.lock().drain(..) {
            task.abort();
        }
        if !self.journal.flush(LAST_FLUSH_WITHIN).await {
            tracing::error!("the journal could not be written out before the end");
        }
        self.journal.stop();
        self.vaults.stop();
        self.meta.shutdown().await;
        left
    }
}

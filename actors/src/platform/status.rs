//! What the node can tell about itself, and how it ends.

use std::time::Duration;

use orama_cluster::JournalQuery;
use orama_proto::ApiError;
use orama_proto::api::ActorInfo;

use super::{Inner, Logs};
use crate::errors;

/// How long a drain waits for the journal.
const LAST_FLUSH_WITHIN: Duration = Duration::from_secs(10);

impl Inner {
    pub(super) async fn logs(&self, query: JournalQuery) -> Result<Logs, ApiError> {
        // A namespace that was deleted and made anew has none of the old one's
        // history, although a node that was away may still have it on disk.
        let since = self.meta.namespace(&query.namespace).map(|e| e.created_at);
        let gathered = self.gather.logs(&self.cluster, query).await;
        let (mut records, silent) = gathered.map_err(|error| errors::journal(&error))?;
        if let Some(since) = since {
            records.retain(|record| record.completed_at >= since);
        }
        Ok(Logs { records, silent })
    }

    pub(super) fn actors(&self) -> Vec<ActorInfo> {
        let mut all = self.invoker.workers.info();
        all.push(self.router.info());
        all.push(self.journal.info());
        all.extend(self.vaults.info());
        all
    }

    pub(super) async fn step_down(&self) {
        self.router.leave();
        self.cluster.step_down().await;
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
        // Last: until here this node led what it led, and answered its peers.
        self.cluster.shutdown().await;
        left
    }
}

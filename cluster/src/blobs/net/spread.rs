//! A blob on a majority of the voters, before anything refers to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_proto::blob::{BlobReply, BlobRequest};
use orama_proto::{ContentId, NodeId};
use tokio::sync::mpsc;

use super::peers::ask;
use super::{Inner, TooFewCopies};

/// Before a voter that could not be reached or did not take the blob is asked again.
const AGAIN: Duration = Duration::from_millis(200);

impl Inner {
    pub(super) async fn spread(
        self: &Arc<Self>,
        cid: ContentId,
        deadline: Instant,
    ) -> Result<(), TooFewCopies> {
        let me = self.peers.me();
        let voters = self.peers.voters();
        let needed = voters.len() / 2 + 1;
        let mut held = usize::from(voters.contains(&me));
        // A node for itself is done here; one that knows of no voters at all has nobody to ask either.
        if held >= voters.len() {
            return Ok(());
        }
        let since = Instant::now();
        let bytes = self.store.size(cid).await.ok().flatten().unwrap_or(0);
        let (done, mut holding) = mpsc::channel(voters.len());
        for voter in voters.into_iter().filter(|node| *node != me) {
            let (inner, done) = (Arc::clone(self), done.clone());
            // On its own: beyond the majority it goes on when this call has answered.
            self.runtime.spawn(async move {
                if inner.until_held(voter, cid, bytes, deadline).await {
                    // Nobody waits for those beyond the majority.
                    let _ = done.send(()).await;
                }
            });
        }
        drop(done);
        let count = async {
            while held < needed && holding.recv().await.is_some() {
                held += 1;
            }
        };
        // Those who ask keep to the deadline themselves; this is for a runtime that is slow.
        let _ = tokio::time::timeout_at(deadline.into(), count).await;
        let (label, answer) = if held >= needed {
            let took = since.elapsed().as_secs_f64();
            self.metrics.spread_seconds.observe(took);
            ("ok", Ok(()))
        } else {
            ("too_few", Err(TooFewCopies { cid, held, needed }))
        };
        self.metrics.spreads.with_label_values(&[label]).inc();
        answer
    }

    /// Asks a voter until it holds the blob. Answers whether it does by the deadline.
    async fn until_held(
        &self,
        voter: NodeId,
        cid: ContentId,
        bytes: u64,
        deadline: Instant,
    ) -> bool {
        let request = BlobRequest::Hold { cid, bytes };
        loop {
            match ask(self.peers.as_ref(), voter, &request, deadline).await {
                Ok(BlobReply::Held) => return true,
                Ok(_) => tracing::debug!(blob = %cid, %voter, "a voter could not get a blob"),
                Err(error) => {
                    tracing::debug!(blob = %cid, %voter, %error, "a voter does not hold a blob yet");
                }
            }
            if Instant::now() + AGAIN >= deadline {
                return false;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

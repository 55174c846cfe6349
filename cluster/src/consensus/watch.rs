//! Watches one group: metrics, announcements of leader and members, and the
//! snapshot that is due by bytes, or when a keeper says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::{RaftMetrics, ServerState};
use orama_proto::NodeId;

use super::files::Keeping;
use super::group::{Group, Inner};
use super::metrics::Metrics;
use super::types::{Position, Types};

/// A snapshot is made after so many bytes of commands too: large ones would
/// otherwise leave a log that takes seconds to verify at the next start.
const SNAPSHOT_BYTES: u64 = 64 << 20;
/// A keeper is asked so often whether a snapshot is due.
const DUE_EVERY: Duration = Duration::from_millis(500);

/// What others are told about when it changes.
#[derive(PartialEq, Eq)]
struct Seen {
    leader: Option<u64>,
    term: u64,
    members: Option<Position>,
    settled: Option<Position>,
    stopped: bool,
}

impl Seen {
    fn of(now: &RaftMetrics<Types>) -> Self {
        Self {
            leader: now.current_leader,
            term: now.current_term,
            members: now.membership_config.log_id().map(Position::from),
            settled: now.committed_membership_config.log_id().map(Position::from),
            stopped: now.running_state.is_err(),
        }
    }
}

pub(super) struct Observer {
    metrics: Metrics,
    group: String,
    seen: Option<Seen>,
    /// The group was told to stop.
    stopping: Arc<AtomicBool>,
}

/// Whether the keeper wants a snapshot. Also the moment to delete a body that was sent.
async fn is_due(inner: &Inner) -> bool {
    let Some(keeping) = inner.keeping.clone() else {
        return false;
    };
    let applied = *inner.published.applied.borrow();
    let bytes = inner.published.unsaved.load(Ordering::Relaxed);
    let look = move |keeping: &Keeping| {
        keeping.tidy();
        keeping.is_due(applied, bytes)
    };
    tokio::task::spawn_blocking(move || look(&keeping))
        .await
        .unwrap_or(false)
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Observer {
    /// Ends with the group, which it does not keep alive.
    pub(super) fn spawn(group: &Group) {
        let mut changes = group.inner.raft.metrics();
        let inner = Arc::downgrade(&group.inner);
        let mut observer = Self {
            metrics: group.inner.shared.metrics.clone(),
            group: group.inner.id.to_string(),
            seen: None,
            stopping: Arc::clone(&group.inner.stopping),
        };
        let keeps = group.inner.keeping.is_some();
        let mut looks = tokio::time::interval(DUE_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::spawn(async move {
            loop {
                let news = observer.observe(&changes.borrow_watched());
                if let Some(inner) = inner.upgrade() {
                    if news {
                        inner.views.send_modify(|version| *version += 1);
                    }
                    // Answers at once; one that is under way is not begun again.
                    if !keeps && inner.published.unsaved.load(Ordering::Relaxed) >= SNAPSHOT_BYTES {
                        observer.snapshot(&inner).await;
                    }
                }
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() {
                        return;
                    },
                    _ = looks.tick(), if keeps => {
                        if let Some(inner) = inner.upgrade()
                            && is_due(&inner).await
                        {
                            observer.snapshot(&inner).await;
                        }
                    }
                }
            }
        });
    }

    async fn snapshot(&self, inner: &Inner) {
        if let Err(error) = inner.raft.trigger().snapshot().await {
            tracing::debug!(group = self.group, %error, "no snapshot");
        }
    }

    fn observe(&mut self, now: &RaftMetrics<Types>) -> bool {
        let labels = [self.group.as_str()];
        let gauges = [
            (
                &self.metrics.applied_index,
                now.last_applied.as_ref().map_or(0, |at| at.index),
            ),
            (
                &self.metrics.last_log_index,
                now.last_log_index.unwrap_or(0),
            ),
            (&self.metrics.term, now.current_term),
            (
                &self.metrics.leading,
                u64::from(now.state == ServerState::Leader),
            ),
        ];
        for (gauge, value) in gauges {
            gauge.with_label_values(&labels).set(number(value));
        }
        let seen = Seen::of(now);
        if self.seen.as_ref() == Some(&seen) {
            return false;
        }
        let before = self.seen.as_ref();
        if let Err(fatal) = &now.running_state
            && !matches!(fatal, Fatal::Stopped)
            && !self.stopping.load(Ordering::Relaxed)
            && before.is_none_or(|b| !b.stopped)
        {
            tracing::error!(group = self.group, error = %fatal, "the group has stopped; the node must be restarted");
        }
        if seen.leader.is_some() && before.is_none_or(|b| b.leader.is_none() || b.term != seen.term)
        {
            tracing::info!(
                group = self.group,
                leader = %NodeId(seen.leader.unwrap_or(0)),
                term = seen.term,
                "the group has a leader"
            );
            self.metrics.elections.with_label_values(&labels).inc();
        }
        self.seen = Some(seen);
        true
    }
}

//! Builds a snapshot of one moment while entries are applied.

use std::io;
use std::sync::Arc;

use openraft::RaftSnapshotBuilder;
use orama_proto::GroupId;

use super::files::Keeping;
use super::keeper::Resumed;
use super::log::GroupLog;
use super::machine::blocking;
use super::metrics::Metrics;
use super::snapshot::{SnapshotFile, SnapshotStore};
use super::state::{Pair, StateDb};
use super::types::{RaftSnapshot, RaftSnapshotMeta, Types};

/// What a snapshot is made of.
pub(super) enum Source {
    /// One moment's pairs.
    Pairs {
        pairs: io::Result<Vec<Pair>>,
        db: StateDb,
    },
    /// A keeper, whose copies may be farther than the moment and say so themselves.
    Files(Arc<Keeping>),
}

/// Writes one moment's state to a file while applying goes on.
pub(crate) struct Builder {
    pub(super) group: GroupId,
    pub(super) source: Option<Source>,
    pub(super) resumed: Resumed,
    pub(super) snapshots: Arc<SnapshotStore>,
    pub(super) log: GroupLog,
    pub(super) metrics: Metrics,
}

impl Builder {
    /// `None` when a leader's newer snapshot is there already.
    pub(super) async fn write(&mut self) -> io::Result<Option<SnapshotFile>> {
        let source = self
            .source
            .take()
            .ok_or_else(|| io::Error::other("the snapshot was built already"))?;
        let (resumed, snapshots) = (self.resumed.clone(), Arc::clone(&self.snapshots));
        blocking(move || match source {
            Source::Files(keeping) => keeping.build(&resumed),
            Source::Pairs { pairs, db } => {
                let pairs = pairs?;
                // Keeps the replay after a crash short; nothing depends on it.
                if let Err(error) = db.flush() {
                    tracing::warn!(%error, "the state was not flushed");
                }
                let file = snapshots.write(resumed.at, resumed.membership, &pairs)?;
                Ok(Some(file))
            }
        })
        .await
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot<SnapshotFile>> {
        let result = self.write().await;
        let outcome = match &result {
            Ok(Some(_)) => "built",
            Ok(None) => "overtaken",
            Err(_) => "failed",
        };
        let labels = [self.group.to_string(), outcome.into()];
        self.metrics.snapshots.with_label_values(&labels).inc();
        let file = match result {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(no_news()),
            Err(error) => {
                tracing::warn!(group = %self.group, %error, "a snapshot cannot be written; it is put off");
                return Ok(no_news());
            }
        };
        self.log.limit_purge(self.snapshots.purge_limit());
        let index = file.header.at.map_or(0, |at| at.index);
        tracing::info!(group = %self.group, index, bytes = file.header.body, "snapshot built");
        Ok(openraft::Snapshot {
            meta: file.meta(),
            snapshot: file,
        })
    }
}

/// What openraft is told when no snapshot could be written. It takes an error for
/// the end of the group; one of nothing is older than what it knows and changes
/// nothing. The next is due after as many entries again.
fn no_news() -> RaftSnapshot<SnapshotFile> {
    openraft::Snapshot {
        meta: RaftSnapshotMeta::default(),
        snapshot: SnapshotFile::nothing(),
    }
}

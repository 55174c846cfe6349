//! A group's state machine as openraft sees it: applies entries in batches,
//! builds and installs snapshots.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, TryStreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, StoredMembership};
use orama_proto::GroupId;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::fault::HaltReason;
use super::log::GroupLog;
use super::metrics::Metrics;
use super::snapshot::{SnapshotFile, SnapshotStore};
use super::state::{Change, GroupState, Pair, StateDb};
use super::types::{
    MembershipRecord, Position, RaftEntry, RaftLogId, RaftMembership, RaftSnapshot,
    RaftSnapshotMeta, Reply, Types,
};
use crate::disk;

/// So many entries go into one batch of the state at most.
const BATCH_ENTRIES: usize = 512;

/// What a command did.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// For whoever proposed it.
    pub(crate) reply: Vec<u8>,
    /// What changes in the stored state.
    pub(crate) changes: Vec<Change>,
}

/// What a group replicates. Both methods are deterministic: the same calls in
/// the same order lead to the same changes on every replica.
pub(crate) trait Machine: Send + Sync + 'static {
    /// Forgets everything and starts from these pairs.
    ///
    /// # Errors
    /// A text that says which pair cannot be understood.
    fn load(&self, pairs: &mut dyn Iterator<Item = (&[u8], &[u8])>) -> Result<(), String>;

    /// Applies one command.
    ///
    /// # Errors
    /// A text; the group stops, because going on would leave the replicas different.
    fn apply(&self, command: &[u8]) -> Result<Applied, String>;
}

/// What others may see of the state while it is applied to.
#[derive(Debug)]
pub(crate) struct Published {
    /// Index of the last applied entry.
    pub(crate) applied: watch::Sender<u64>,
    /// Hash of the state, with the index it belongs to.
    pub(crate) hash: Mutex<u128>,
    /// Bytes of commands applied since a snapshot was last begun or put off.
    pub(crate) unsaved: AtomicU64,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            applied: watch::Sender::new(0),
            hash: Mutex::new(0),
            unsaved: AtomicU64::new(0),
        }
    }
}

/// Everything the state machine of one group consists of.
pub(crate) struct GroupMachine {
    pub(crate) group: GroupId,
    pub(crate) state: GroupState,
    pub(crate) snapshots: Arc<SnapshotStore>,
    pub(crate) snapshot_dir: PathBuf,
    pub(crate) log: GroupLog,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) published: Arc<Published>,
    pub(crate) halt: HaltReason,
    pub(crate) metrics: Metrics,
}

impl GroupMachine {
    /// Shows the present state to readers.
    pub(crate) fn publish(&self) {
        *self.published.hash.lock() = self.state.hash;
        let index = self.state.at.map_or(0, |at| at.index);
        self.published.applied.send_replace(index);
    }

    /// Every pair of this moment: nothing is applied while this is awaited.
    async fn pairs(&self) -> io::Result<Vec<Pair>> {
        let state = self.state.clone();
        tokio::task::spawn_blocking(move || state.pairs())
            .await
            .unwrap_or_else(|e| Err(io::Error::other(e)))
    }

    fn builder(&self, pairs: io::Result<Vec<Pair>>) -> Builder {
        Builder {
            group: self.group,
            pairs: Some(pairs),
            at: self.state.at,
            membership: self.state.membership.clone(),
            snapshots: Arc::clone(&self.snapshots),
            log: self.log.clone(),
            db: self.state.db(),
            metrics: self.metrics.clone(),
        }
    }

    fn apply_batch(
        &mut self,
        batch: Vec<(RaftEntry, Option<ApplyResponder<Types>>)>,
    ) -> io::Result<()> {
        let mut changes = Vec::new();
        let mut replies = Vec::new();
        let mut at = self.state.at;
        let mut membership = self.state.membership.clone();
        for (entry, responder) in batch {
            at = Some(Position::from(entry.log_id));
            let reply = match entry.payload {
                EntryPayload::Blank => Reply::default(),
                EntryPayload::Normal(command) => {
                    let bytes = command.0.len() as u64;
                    self.published.unsaved.fetch_add(bytes, Ordering::Relaxed);
                    let applied = self.machine.apply(&command.0).map_err(|what| {
                        let index = entry.log_id.index;
                        io::Error::other(format!("entry {index} cannot be applied: {what}"))
                    })?;
                    changes.extend(applied.changes);
                    Reply(applied.reply)
                }
                EntryPayload::Membership(members) => {
                    let stored = StoredMembership::new(Some(entry.log_id), members);
                    membership = MembershipRecord::from(&stored);
                    Reply::default()
                }
            };
            replies.extend(responder.map(|r| (r, reply)));
        }
        if let Some(at) = at {
            self.state.apply(changes, at, membership)?;
        }
        self.publish();
        for (responder, reply) in replies {
            responder.send(reply);
        }
        Ok(())
    }
}

impl RaftStateMachine<Types> for GroupMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, RaftMembership)> {
        Ok((
            self.state.at.map(Into::into),
            self.state.membership.clone().into(),
        ))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut batches = entries.try_ready_chunks(BATCH_ENTRIES);
        loop {
            let batch = batches.try_next().await.map_err(|e| e.1);
            let done = match batch {
                Ok(None) => return Ok(()),
                Ok(Some(batch)) => self.apply_batch(batch),
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                tracing::error!(group = %self.group, error = %error, "entries cannot be applied; the group stops");
                self.halt.set_io(&error);
                return Err(error);
            }
        }
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        self.published.unsaved.store(0, Ordering::Relaxed);
        let pairs = self.pairs().await;
        let size: u64 = pairs.as_ref().map_or(0, |pairs| {
            pairs
                .iter()
                .map(|(k, v)| (k.len() + v.len() + 8) as u64)
                .sum()
        });
        // Without a snapshot the log just grows.
        if !force && !disk::has_room(&self.snapshot_dir, size) {
            tracing::warn!(group = %self.group, bytes = size, "no room for a snapshot; it is put off");
            let labels = [self.group.to_string(), "put_off".into()];
            self.metrics.snapshots.with_label_values(&labels).inc();
            return None;
        }
        Some(self.builder(pairs))
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let pairs = self.pairs().await;
        self.builder(pairs)
    }

    async fn install_snapshot(
        &mut self,
        _: &RaftSnapshotMeta,
        snapshot: SnapshotFile,
    ) -> io::Result<()> {
        let snapshots = Arc::clone(&self.snapshots);
        let machine = Arc::clone(&self.machine);
        let mut state = self.state.clone();
        let at = snapshot.header.at;
        let state = tokio::task::spawn_blocking(move || {
            let pairs = snapshot.pairs()?;
            if !snapshots.holds(&snapshot) {
                snapshots.adopt(&snapshot)?;
                snapshots.keep_newest_only()?;
            }
            state.replace(&pairs, at, snapshot.header.membership.clone())?;
            machine
                .load(&mut pairs.iter().map(|(k, v)| (&k[..], &v[..])))
                .map_err(io::Error::other)?;
            Ok::<_, io::Error>(state)
        })
        .await
        .unwrap_or_else(|e| Err(io::Error::other(e)))
        .inspect_err(|error| {
            tracing::error!(group = %self.group, %error, "a snapshot cannot be installed; the group stops");
            self.halt.set_io(error);
        })?;
        self.state = state;
        // The log ahead of it came from a leader, which can send it again.
        self.log.limit_purge(super::log::PurgeLimit::Snapshot(at));
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot<SnapshotFile>>> {
        let (purged, _) = self.log.ends();
        let newest = self.snapshots.newest().filter(|file| {
            file.header.at.map(|at| at.index) >= purged.map(|at| at.index) && file.path.exists()
        });
        let file = match newest {
            Some(file) => file,
            None if self.state.at.is_none() => return Ok(None),
            // They were damaged or deleted, and somebody needs what the log no longer has.
            None => {
                let pairs = self.pairs().await?;
                let (at, membership) = (self.state.at, self.state.membership.clone());
                let snapshots = Arc::clone(&self.snapshots);
                tokio::task::spawn_blocking(move || snapshots.write(at, membership, &pairs))
                    .await
                    .map_err(io::Error::other)??
            }
        };
        Ok(Some(openraft::Snapshot {
            meta: file.meta(),
            snapshot: file,
        }))
    }
}

/// Writes one moment's state to a file while applying goes on.
pub(crate) struct Builder {
    group: GroupId,
    pairs: Option<io::Result<Vec<Pair>>>,
    at: Option<Position>,
    membership: MembershipRecord,
    snapshots: Arc<SnapshotStore>,
    log: GroupLog,
    db: StateDb,
    metrics: Metrics,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot<SnapshotFile>> {
        let pairs = self
            .pairs
            .take()
            .ok_or_else(|| io::Error::other("the snapshot was built already"))?;
        let (at, membership) = (self.at, self.membership.clone());
        let (snapshots, db) = (Arc::clone(&self.snapshots), self.db.clone());
        let result = tokio::task::spawn_blocking(move || {
            let pairs = pairs?;
            // Keeps the replay after a crash short; nothing depends on it.
            if let Err(error) = db.flush() {
                tracing::warn!(%error, "the state was not flushed");
            }
            snapshots.write(at, membership, &pairs)
        })
        .await
        .unwrap_or_else(|e| Err(io::Error::other(e)));
        let outcome = if result.is_ok() { "built" } else { "failed" };
        let labels = [self.group.to_string(), outcome.into()];
        self.metrics.snapshots.with_label_values(&labels).inc();
        let file = match result {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(group = %self.group, %error, "a snapshot cannot be written; it is put off");
                return Ok(no_news());
            }
        };
        self.log.limit_purge(self.snapshots.purge_limit());
        tracing::info!(group = %self.group, index = at.map_or(0, |a| a.index), bytes = file.header.body, "snapshot built");
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

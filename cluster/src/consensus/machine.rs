//! A group's state machine as openraft sees it: applies entries in batches,
//! builds and installs snapshots.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, TryStreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, Membership, OptionalSend, StoredMembership};
use orama_proto::GroupId;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::build::{Builder, Source};
use super::fault::{HaltReason, is_full};
use super::files::Keeping;
use super::keeper::{KeptEntry, Resumed};
use super::log::GroupLog;
use super::metrics::Metrics;
use super::snapshot::{SnapshotFile, SnapshotStore};
use super::state::{Change, GroupState};
use super::types::{
    MembershipRecord, Position, RaftEntry, RaftLogId, RaftMembership, RaftSnapshot,
    RaftSnapshotMeta, Reply, Types,
};
use crate::disk;

/// So many entries go into one batch of the state at most.
const BATCH_ENTRIES: usize = 512;
/// A keeper is given about so many bytes of commands at once at most, one entry at least.
const BATCH_BYTES: usize = 4 << 20;

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
    /// Hash of the pairs; a keeper is asked for its own.
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

/// Where a group's state is.
pub(crate) enum Store {
    /// Pairs in sled, and who understands them.
    Pairs {
        state: GroupState,
        machine: Arc<dyn Machine>,
    },
    /// Files of a keeper, which has applied everything up to here.
    Files {
        keeping: Arc<Keeping>,
        resumed: Resumed,
    },
}

impl Store {
    pub(crate) fn at(&self) -> Option<Position> {
        match self {
            Self::Pairs { state, .. } => state.at,
            Self::Files { resumed, .. } => resumed.at,
        }
    }

    pub(crate) fn membership(&self) -> &MembershipRecord {
        match self {
            Self::Pairs { state, .. } => &state.membership,
            Self::Files { resumed, .. } => &resumed.membership,
        }
    }

    pub(crate) fn keeping(&self) -> Option<Arc<Keeping>> {
        match self {
            Self::Pairs { .. } => None,
            Self::Files { keeping, .. } => Some(Arc::clone(keeping)),
        }
    }
}

/// Everything the state machine of one group consists of.
pub(crate) struct GroupMachine {
    pub(crate) group: GroupId,
    pub(crate) store: Store,
    pub(crate) snapshots: Arc<SnapshotStore>,
    pub(crate) snapshot_dir: PathBuf,
    pub(crate) log: GroupLog,
    pub(crate) published: Arc<Published>,
    pub(crate) halt: HaltReason,
    pub(crate) metrics: Metrics,
}

type Batch = Vec<(RaftEntry, Option<ApplyResponder<Types>>)>;

/// The members that an entry sets, as they are recorded.
fn recorded(at: RaftLogId, members: Membership<u64, ()>) -> MembershipRecord {
    MembershipRecord::from(&StoredMembership::new(Some(at), members))
}

/// Runs what blocks; a panic is an error like any other.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(io::Error::other(e)))
}

impl GroupMachine {
    /// Shows the present state to readers.
    pub(crate) fn publish(&self) {
        if let Store::Pairs { state, .. } = &self.store {
            *self.published.hash.lock() = state.hash;
        }
        let index = self.store.at().map_or(0, |at| at.index);
        self.published.applied.send_replace(index);
    }

    /// What a snapshot of this moment is made of: nothing is applied while this is awaited.
    async fn source(&self) -> Source {
        match &self.store {
            Store::Pairs { state, .. } => {
                let copied = state.clone();
                Source::Pairs {
                    pairs: blocking(move || copied.pairs()).await,
                    db: state.db(),
                }
            }
            Store::Files { keeping, .. } => Source::Files(Arc::clone(keeping)),
        }
    }

    fn builder(&self, source: Source) -> Builder {
        Builder {
            group: self.group,
            source: Some(source),
            resumed: Resumed {
                at: self.store.at(),
                membership: self.store.membership().clone(),
            },
            snapshots: Arc::clone(&self.snapshots),
            log: self.log.clone(),
            metrics: self.metrics.clone(),
        }
    }

    async fn apply_batch(&mut self, batch: Batch) -> io::Result<()> {
        match &mut self.store {
            Store::Pairs { state, machine } => {
                let replies = apply_pairs(state, machine.as_ref(), &self.published, batch)?;
                self.publish();
                for (responder, reply) in replies {
                    responder.send(reply);
                }
                Ok(())
            }
            Store::Files { .. } => self.apply_files(batch).await,
        }
    }

    /// Gives entries to the keeper, some megabytes at a time.
    async fn apply_files(&mut self, batch: Batch) -> io::Result<()> {
        let mut rest = batch.into_iter().peekable();
        while rest.peek().is_some() {
            let Store::Files { keeping, resumed } = &mut self.store else {
                return Ok(());
            };
            let mut bytes = 0;
            let mut entries = Vec::new();
            let mut responders = Vec::new();
            let mut next = resumed.clone();
            while bytes < BATCH_BYTES
                && let Some((entry, responder)) = rest.next()
            {
                let at = Position::from(entry.log_id);
                let (membership, command) = match entry.payload {
                    EntryPayload::Blank => (None, None),
                    EntryPayload::Normal(command) => (None, Some(command.0)),
                    EntryPayload::Membership(members) => {
                        (Some(recorded(entry.log_id, members)), None)
                    }
                };
                next.at = Some(at);
                if let Some(members) = &membership {
                    next.membership = members.clone();
                }
                bytes += command.as_ref().map_or(0, Vec::len);
                entries.push(KeptEntry {
                    at,
                    membership,
                    command,
                });
                responders.push(responder);
            }
            let unsaved = &self.published.unsaved;
            unsaved.fetch_add(bytes as u64, Ordering::Relaxed);
            let worker = Arc::clone(keeping);
            let replies = blocking(move || worker.apply(entries)).await?;
            *resumed = next;
            self.publish();
            for (responder, reply) in responders.into_iter().zip(replies) {
                if let Some(responder) = responder {
                    responder.send(Reply(reply));
                }
            }
        }
        Ok(())
    }

    /// Says who must do what, and keeps the reason for whoever asks the group later.
    fn stops(&self, what: &'static str, error: &io::Error) {
        let advice = match is_full(error) {
            true => {
                "the disk is full: make room, then restart the node; it does not go on by itself"
            }
            false => {
                "restart the node: the state is checked, and made again from snapshot and log if need be"
            }
        };
        tracing::error!(group = %self.group, %error, advice, "{what}; the group stops on this node");
        self.halt.set_io(error);
    }

    fn put_off(&self, bytes: u64) {
        tracing::warn!(group = %self.group, bytes, "no room for a snapshot; it is put off");
        let labels = [self.group.to_string(), "put_off".into()];
        self.metrics.snapshots.with_label_values(&labels).inc();
    }
}

fn apply_pairs(
    state: &mut GroupState,
    machine: &dyn Machine,
    published: &Published,
    batch: Batch,
) -> io::Result<Vec<(ApplyResponder<Types>, Reply)>> {
    let mut changes = Vec::new();
    let mut replies = Vec::new();
    let mut at = state.at;
    let mut membership = state.membership.clone();
    for (entry, responder) in batch {
        at = Some(Position::from(entry.log_id));
        let reply = match entry.payload {
            EntryPayload::Blank => Reply::default(),
            EntryPayload::Normal(command) => {
                let bytes = command.0.len() as u64;
                published.unsaved.fetch_add(bytes, Ordering::Relaxed);
                let applied = machine.apply(&command.0).map_err(|what| {
                    let index = entry.log_id.index;
                    io::Error::other(format!("entry {index} cannot be applied: {what}"))
                })?;
                changes.extend(applied.changes);
                Reply(applied.reply)
            }
            EntryPayload::Membership(members) => {
                membership = recorded(entry.log_id, members);
                Reply::default()
            }
        };
        replies.extend(responder.map(|r| (r, reply)));
    }
    if let Some(at) = at {
        state.apply(changes, at, membership)?;
    }
    Ok(replies)
}

/// Replaces the pairs by a leader's.
fn install_pairs(
    mut state: GroupState,
    machine: &dyn Machine,
    snapshots: &SnapshotStore,
    snapshot: &SnapshotFile,
) -> io::Result<GroupState> {
    let pairs = snapshot.pairs()?;
    if !snapshots.holds(snapshot) {
        snapshots.adopt(snapshot)?;
        snapshots.keep_newest_only()?;
    }
    let Resumed { at, membership } = snapshot.resumed();
    state.replace(&pairs, at, membership)?;
    machine
        .load(&mut pairs.iter().map(|(k, v)| (&k[..], &v[..])))
        .map_err(io::Error::other)?;
    Ok(state)
}

impl RaftStateMachine<Types> for GroupMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, RaftMembership)> {
        Ok((
            self.store.at().map(Into::into),
            self.store.membership().clone().into(),
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
                Ok(Some(batch)) => self.apply_batch(batch).await,
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                self.stops("entries cannot be applied", &error);
                return Err(error);
            }
        }
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        self.published.unsaved.store(0, Ordering::Relaxed);
        let source = self.source().await;
        // Without a snapshot the log just grows.
        let room = match &source {
            Source::Pairs { pairs, .. } => {
                let pairs = pairs.iter().flatten();
                let size = pairs.map(|(k, v)| (k.len() + v.len() + 8) as u64).sum();
                match force || disk::has_room(&self.snapshot_dir, size) {
                    true => Ok(()),
                    false => Err(size),
                }
            }
            Source::Files(keeping) => {
                keeping.begun(self.store.at().map_or(0, |at| at.index));
                let keeping = Arc::clone(keeping);
                let room = blocking(move || Ok(keeping.has_room())).await;
                match force {
                    true => Ok(()),
                    false => room.unwrap_or(Ok(())),
                }
            }
        };
        if let Err(bytes) = room {
            self.put_off(bytes);
            return None;
        }
        Some(self.builder(source))
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let source = self.source().await;
        self.builder(source)
    }

    async fn install_snapshot(
        &mut self,
        _: &RaftSnapshotMeta,
        snapshot: SnapshotFile,
    ) -> io::Result<()> {
        let at = snapshot.header.at;
        let installed = match &self.store {
            Store::Pairs { state, machine } => {
                let (state, machine) = (state.clone(), Arc::clone(machine));
                let snapshots = Arc::clone(&self.snapshots);
                let install = move || {
                    let state = install_pairs(state, machine.as_ref(), &snapshots, &snapshot)?;
                    Ok(Store::Pairs { state, machine })
                };
                blocking(install).await
            }
            Store::Files { keeping, .. } => {
                let keeping = Arc::clone(keeping);
                let install = move || {
                    let resumed = keeping.install(&snapshot)?;
                    Ok(Store::Files { keeping, resumed })
                };
                blocking(install).await
            }
        };
        self.store =
            installed.inspect_err(|error| self.stops("a snapshot cannot be installed", error))?;
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
            None if self.store.at().is_none() => return Ok(None),
            // They were damaged or deleted, and somebody needs what the log no longer has.
            None => {
                let mut builder = self.get_snapshot_builder().await;
                match builder.write().await? {
                    Some(file) => file,
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(openraft::Snapshot {
            meta: file.meta(),
            snapshot: file,
        }))
    }
}

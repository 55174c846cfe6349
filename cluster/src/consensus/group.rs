//! One Raft group of this node, with nothing of openraft to be seen.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::storage::RaftLogStorageExt;
use openraft::{Config, EntryPayload, Membership, Raft, ServerState, SnapshotPolicy};
use orama_proto::{GroupId, NodeId};
use tokio::sync::watch;

use super::fault::{Halt, HaltReason, StorageFault};
use super::log::{GroupLog, RaftLog};
use super::machine::{GroupMachine, Machine, Published};
use super::metrics::Metrics;
use super::network::NoPeers;
use super::recover::{Paths, Recovered, recover, refuse_lost_log};
use super::state::StateDb;
use super::types::{Command, Position, RaftEntry, Types};
use crate::disk;

/// A proposal is at most so large.
pub(crate) const ENTRY_MAX_BYTES: usize = 1 << 20;
/// A proposal waits so long for a leader before it gives up.
const LEADER_WAIT: Duration = Duration::from_secs(5);
/// Proposals that openraft queues; further ones wait.
const QUEUE: u64 = 4096;
/// A snapshot is made after so many bytes of commands too: large ones would
/// otherwise leave a log that takes seconds to verify at the next start.
const SNAPSHOT_BYTES: u64 = 64 << 20;
/// Pause before a file that an earlier handle of this process still holds is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// How a group behaves.
#[derive(Debug, Clone)]
pub(crate) struct GroupOptions {
    /// A snapshot is made after so many entries, or 64 MiB of them.
    pub(crate) snapshot_every: u64,
    /// Opening fails when the group has no leader after this long.
    pub(crate) ready_within: Duration,
}

/// A group cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenFault {
    #[error(transparent)]
    Storage(#[from] StorageFault),
    #[error("no leader after {0:?}")]
    NotReady(Duration),
}

/// A proposal was not made, or its fate is unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProposeFault {
    #[error("there is no leader")]
    NoLeader,
    #[error("the disk is full")]
    Full,
    #[error("the group has stopped: {0}")]
    Stopped(String),
    /// Sent to the leader, or accepted here, and no answer in time: it may still be committed.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    #[error("{0} bytes are more than an entry may have")]
    TooLarge(usize),
}

impl ProposeFault {
    fn label(&self) -> &'static str {
        match self {
            Self::NoLeader => "no_leader",
            Self::Full => "full",
            Self::Stopped(_) => "stopped",
            Self::Unknown(_) => "unknown",
            Self::TooLarge(_) => "too_large",
        }
    }
}

/// A read index was not obtained, or not reached here in time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFault {
    #[error("no leader could be reached in time")]
    NoLeader,
    #[error("the group has stopped: {0}")]
    Stopped(String),
}

/// A group as this replica sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupView {
    pub(crate) leader: Option<NodeId>,
    pub(crate) term: u64,
    pub(crate) last: u64,
    pub(crate) applied: u64,
    pub(crate) voters: BTreeSet<NodeId>,
    pub(crate) learners: BTreeSet<NodeId>,
    /// A change of members is under way (joint configuration).
    pub(crate) changing: bool,
    /// On the leader: how far each other member's log is known to match.
    pub(crate) matched: BTreeMap<NodeId, u64>,
    /// The group has stopped on this node.
    pub(crate) stopped: bool,
}

impl GroupView {
    /// Whether a member's log is close enough to the leader's to vote: at most so many entries behind.
    pub(crate) fn caught_up(&self, node: NodeId, within: u64) -> bool {
        self.matched
            .get(&node)
            .is_some_and(|at| at.saturating_add(within) >= self.last)
    }
}

/// A proposal that is durable on a majority and applied here.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) index: u64,
    pub(crate) reply: Vec<u8>,
}

/// Handle of a running group. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Group {
    inner: Arc<Inner>,
}

struct Inner {
    id: GroupId,
    raft: Raft<Types, GroupMachine>,
    log: RaftLog,
    state: StateDb,
    halt: HaltReason,
    published: Arc<Published>,
    metrics: Metrics,
    disk: PathBuf,
}

/// Opens the files, waiting while an earlier handle of this process lets go of them.
async fn open_storage(
    paths: &Paths,
    id: GroupId,
    node: NodeId,
    machine: &Arc<dyn Machine>,
    metrics: &Metrics,
    within: Duration,
) -> Result<(RaftLog, Recovered), StorageFault> {
    let start = Instant::now();
    loop {
        let (paths, machine, metrics) = (paths.clone(), Arc::clone(machine), metrics.clone());
        let work = move || {
            refuse_lost_log(&paths)?;
            let log = RaftLog::open(&paths.log, &metrics)?;
            let recovered = recover(&paths, id, node, &log, machine.as_ref())?;
            Ok((log, recovered))
        };
        let result = tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
            Err(StorageFault::Start {
                group: id,
                what: e.to_string(),
            })
        });
        match result {
            Err(StorageFault::Busy { .. }) if start.elapsed() < within => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            other => return other,
        }
    }
}

/// Begins the log of a new group: the entry that makes this node its only member.
///
/// `Raft::initialize` writes the same one, but stands for election before it is
/// on disk, and so warns of its own message at most first starts. And a node that
/// dies between entry and election leaves just this, which every start can take up.
pub(super) async fn begin(mut log: GroupLog, node: NodeId) -> io::Result<()> {
    let members = BTreeSet::from([node.0]);
    let first = Position {
        term: 0,
        leader: node.0,
        index: 0,
    };
    let entry = RaftEntry {
        log_id: first.into(),
        payload: EntryPayload::Membership(Membership::new_with_defaults(
            vec![members.clone()],
            members,
        )),
    };
    log.blocking_append([entry]).await.map_err(io::Error::other)
}

fn config(id: GroupId, options: &GroupOptions) -> Result<Arc<Config>, StorageFault> {
    Config {
        cluster_name: id.to_string(),
        heartbeat_interval: 100,
        election_timeout_min: 500,
        election_timeout_max: 1000,
        enable_pre_vote: Some(true),
        // A restarted leader stands for election like everybody else: its first
        // entry then commits whatever its log holds. Restoring leadership
        // without one could serve a state that lags behind the log.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_every.max(1)),
        // The log keeps what lies after the older of two snapshots anyway.
        max_in_snapshot_log_to_keep: 0,
        max_payload_entries: 300,
        api_channel_size: Some(QUEUE),
        ..Config::default()
    }
    .validate()
    .map(Arc::new)
    .map_err(|e| StorageFault::Start {
        group: id,
        what: e.to_string(),
    })
}

/// A group that stopped for lack of room does not go on by itself.
fn full(room_again: bool) -> ProposeFault {
    if room_again {
        ProposeFault::Stopped(
            "the disk was full when the log was written; there is room again: restart the node"
                .into(),
        )
    } else {
        ProposeFault::Full
    }
}

impl Group {
    /// Opens the group's storage and starts it; answers when it leads and has
    /// applied everything its log held.
    pub(crate) async fn open(
        paths: &Paths,
        id: GroupId,
        node: NodeId,
        machine: Arc<dyn Machine>,
        options: &GroupOptions,
        metrics: Metrics,
    ) -> Result<Self, OpenFault> {
        let start = Instant::now();
        let within = options.ready_within;
        let (log, recovered) = open_storage(paths, id, node, &machine, &metrics, within).await?;
        if recovered.rebuilt {
            let labels = [id.to_string()];
            metrics.rebuilds.with_label_values(&labels).inc();
        }
        let failed = |what: String| OpenFault::Storage(StorageFault::Start { group: id, what });
        let mut alone = recovered.state.membership.is_sole_voter(node);
        if recovered.log.is_pristine() {
            begin(recovered.log.clone(), node)
                .await
                .map_err(|e| failed(e.to_string()))?;
            alone = true;
        }
        let (_, last) = recovered.log.ends();
        let published = Arc::<Published>::default();
        let halt = HaltReason::default();
        let state = recovered.state.db();
        let machine = GroupMachine {
            group: id,
            state: recovered.state,
            snapshots: recovered.snapshots,
            snapshot_dir: paths.snapshots.clone(),
            log: recovered.log.clone(),
            machine,
            published: Arc::clone(&published),
            halt: halt.clone(),
            metrics: metrics.clone(),
        };
        machine.publish();
        let config = config(id, options)?;
        let raft = Raft::new(node.0, config, NoPeers, recovered.log, machine)
            .await
            .map_err(|e| failed(e.to_string()))?;
        // Alone there is nobody to wait for. With peers the others refuse
        // while they hear a leader (pre-vote), and nothing is disturbed.
        raft.trigger()
            .elect(!alone)
            .await
            .map_err(|e| failed(e.to_string()))?;
        let inner = Inner {
            id,
            raft,
            log,
            state,
            halt,
            published,
            metrics,
            disk: paths.log.parent().map_or_else(PathBuf::new, PathBuf::from),
        };
        let group = Self {
            inner: Arc::new(inner),
        };
        group.watch_metrics();
        if let Err(error) = group.ready(last.map(|l| l.index), within).await {
            group.shutdown().await;
            return Err(error);
        }
        tracing::info!(
            group = %id,
            index = group.applied_index(),
            millis = start.elapsed().as_millis() as u64,
            "the group is ready"
        );
        Ok(group)
    }

    /// Leads, and has applied an entry of its own term and all that was there before.
    async fn ready(&self, last: Option<u64>, within: Duration) -> Result<(), OpenFault> {
        let wait = self.inner.raft.wait(Some(within));
        let ready = wait.metrics(
            |m| {
                let applied = m.last_applied.as_ref();
                m.running_state.is_err()
                    || (m.state == ServerState::Leader
                        && applied.map(|at| at.index) >= last
                        && applied.is_some_and(|at| at.leader_id.term == m.current_term))
            },
            "leads and has applied its log",
        );
        let stopped = |what: String| {
            OpenFault::Storage(StorageFault::Start {
                group: self.inner.id,
                what,
            })
        };
        match ready.await {
            Ok(m) => match m.running_state {
                Ok(()) => Ok(()),
                Err(fatal) => Err(stopped(self.stopped(&fatal.to_string()).to_string())),
            },
            Err(openraft::metrics::WaitError::Timeout(..)) => Err(OpenFault::NotReady(within)),
            Err(other) => Err(stopped(self.stopped(&other.to_string()).to_string())),
        }
    }

    fn watch_metrics(&self) {
        let mut changes = self.inner.raft.metrics();
        let metrics = self.inner.metrics.clone();
        let group = self.inner.id.to_string();
        // The task must not keep alive what it watches.
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            loop {
                {
                    let now = changes.borrow_watched();
                    let applied = now.last_applied.as_ref().map_or(0, |at| at.index);
                    let last = now.last_log_index.unwrap_or(0);
                    let labels = [group.as_str()];
                    metrics
                        .applied_index
                        .with_label_values(&labels)
                        .set(number(applied));
                    metrics
                        .last_log_index
                        .with_label_values(&labels)
                        .set(number(last));
                    metrics
                        .term
                        .with_label_values(&labels)
                        .set(number(now.current_term));
                }
                // Answers at once; one that is under way is not begun again.
                if let Some(inner) = inner.upgrade()
                    && inner.published.unsaved.load(Ordering::Relaxed) >= SNAPSHOT_BYTES
                    && let Err(error) = inner.raft.trigger().snapshot().await
                {
                    tracing::debug!(group, %error, "no snapshot");
                }
                // Ends with the group.
                if changes.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    fn stopped(&self, fallback: &str) -> ProposeFault {
        let reason = self
            .inner
            .halt
            .get()
            .or_else(|| self.inner.log.halt().get());
        match reason {
            Some(Halt::Full) => full(disk::has_room(&self.inner.disk, 0)),
            Some(Halt::Broken(what)) => ProposeFault::Stopped(what.clone()),
            None => ProposeFault::Stopped(fallback.to_owned()),
        }
    }

    /// Replicates a command: past fdatasync on a majority and applied here when this returns.
    pub(crate) async fn propose(&self, command: Vec<u8>) -> Result<Committed, ProposeFault> {
        let start = Instant::now();
        let result = self.try_propose(command).await;
        let group = self.inner.id.to_string();
        let label = result.as_ref().map_or_else(ProposeFault::label, |_| "ok");
        self.inner
            .metrics
            .proposals
            .with_label_values(&[group.as_str(), label])
            .inc();
        if result.is_ok() {
            self.inner
                .metrics
                .commit_seconds
                .with_label_values(&[group.as_str()])
                .observe(start.elapsed().as_secs_f64());
        }
        result
    }

    async fn try_propose(&self, command: Vec<u8>) -> Result<Committed, ProposeFault> {
        if command.len() > ENTRY_MAX_BYTES {
            return Err(ProposeFault::TooLarge(command.len()));
        }
        if !disk::has_room(&self.inner.disk, command.len() as u64) {
            return Err(ProposeFault::Full);
        }
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        let command = Command(command);
        loop {
            let error = match self.inner.raft.client_write(command.clone()).await {
                Ok(done) => {
                    return Ok(Committed {
                        index: done.log_id.index,
                        reply: done.data.0,
                    });
                }
                Err(error) => error,
            };
            match error {
                // A leader whose lease lapsed says the same for a moment; nothing was appended.
                RaftError::APIError(ClientWriteError::ForwardToLeader(to))
                    if to.leader_id.is_none() && start.elapsed() < LEADER_WAIT =>
                {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
                RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => {
                    return Err(ProposeFault::NoLeader);
                }
                RaftError::APIError(other) => {
                    return Err(ProposeFault::Stopped(other.to_string()));
                }
                RaftError::Fatal(fatal) => return Err(self.stopped(&fatal.to_string())),
            }
        }
    }

    /// Waits until this replica has applied everything that was committed before the
    /// call: the leader's read index, one request for all who wait at a moment; none
    /// on a leader with a valid lease.
    pub(crate) async fn confirm(&self, deadline: Instant) -> Result<(), ReadFault> {
        let _ = deadline;
        todo!()
    }

    /// How the group looks from here.
    pub(crate) fn view(&self) -> GroupView {
        todo!()
    }

    /// Announces every change of [`Group::view`]'s leader, term or members.
    pub(crate) fn views(&self) -> watch::Receiver<u64> {
        todo!()
    }

    /// Leader only: adds a learner and answers when the change is committed, not when it has caught up.
    pub(crate) async fn add_learner(&self, node: NodeId) -> Result<(), ProposeFault> {
        let _ = node;
        todo!()
    }

    /// Leader only: makes these the voters. A voter that is not among them becomes a learner.
    pub(crate) async fn set_voters(&self, voters: BTreeSet<NodeId>) -> Result<(), ProposeFault> {
        let _ = voters;
        todo!()
    }

    /// Leader only: forgets a learner.
    pub(crate) async fn remove_learner(&self, node: NodeId) -> Result<(), ProposeFault> {
        let _ = node;
        todo!()
    }

    /// Leader only: asks `to`, a voter that has caught up, to take over, and waits until it does.
    pub(crate) async fn transfer(&self, to: NodeId, deadline: Instant) -> Result<(), ProposeFault> {
        let _ = (to, deadline);
        todo!()
    }

    /// Index of the last applied entry.
    pub(crate) fn applied_index(&self) -> u64 {
        *self.inner.published.applied.borrow()
    }

    /// Hash of the whole state.
    pub(crate) fn state_hash(&self) -> u128 {
        *self.inner.published.hash.lock()
    }

    /// Announces the applied index.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.published.applied.subscribe()
    }

    /// Stops the group and writes what was held back.
    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(group = %self.inner.id, error = %error, "the group did not stop cleanly");
        }
        if let Err(error) = self.inner.log.close().await {
            tracing::warn!(group = %self.inner.id, error = %error, "the log's last marks were not written");
        }
        let state = self.inner.state.clone();
        let flushed = tokio::task::spawn_blocking(move || state.flush()).await;
        match flushed {
            Ok(Ok(())) => {}
            // Nothing is lost: the log has it.
            Ok(Err(error)) => {
                tracing::warn!(group = %self.inner.id, error = %error, "the state was not flushed");
            }
            Err(error) => {
                tracing::warn!(group = %self.inner.id, error = %error, "the state was not flushed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_met_a_full_disk_says_when_it_needs_a_restart() {
        assert!(matches!(full(false), ProposeFault::Full));
        let text = full(true).to_string();
        assert!(text.contains("restart"), "{text}");
    }
}

//! One Raft group of this node, with nothing of openraft to be seen: how it is
//! started and stopped. What is done with it is in `propose`, `read` and `members`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver;
use openraft::storage::RaftLogStorageExt;
use openraft::{Config, EntryPayload, Membership, Raft, ServerState, SnapshotPolicy};
use orama_proto::{GroupId, NodeId};
use tokio::sync::{Semaphore, watch};

use super::fault::{Halt, HaltReason, StorageFault};
use super::files::Keeping;
use super::groups::Begin;
use super::heard::Heard;
use super::link::Links;
use super::log::GroupLog;
use super::machine::{GroupMachine, Published};
use super::metrics::Metrics;
use super::network::Network;
use super::read::Readers;
use super::receive::Incoming;
use super::recover::{Recovered, Storage};
use super::types::{Position, RaftEntry, Types};
use super::watch::Observer;
use crate::disk;

/// A proposal is at most so large.
pub(crate) const ENTRY_MAX_BYTES: usize = 1 << 20;
/// Proposals that openraft queues; further ones wait.
const QUEUE: u64 = 4096;
/// A follower is told so often that there is a leader.
const HEARTBEAT_MILLIS: u64 = 150;
/// A follower that heard nothing waits for the leader's lease, which openraft makes
/// as long as the largest timeout, and then for a timeout of its own: an election
/// begins 1.15 to 1.5 s after the leader was last heard, five heartbeats at least
/// must go missing, and writes go on within 2 s.
const ELECTION_MILLIS: std::ops::Range<u64> = 400..750;
/// So long a leader believes in itself after a majority answered, and a follower in its leader.
pub(super) const LEASE: Duration = Duration::from_millis(ELECTION_MILLIS.end);
/// A leader whose lease lapsed sends nothing for so long (an election's worth at least), then tries again.
const SILENCE_MILLIS: u64 = 1600;

/// How a group behaves.
#[derive(Debug, Clone)]
pub(crate) struct GroupOptions {
    /// A snapshot is made after so many entries, or 64 MiB of them. A keeper decides itself.
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
    /// The leader's keeper does not let it into the log; nothing was appended.
    #[error("the leader refuses it: {0}")]
    Refused(String),
    /// Its turn did not come at the leader; nothing was appended. When to try again.
    #[error("others have their turn")]
    Busy(Duration),
}

impl ProposeFault {
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::NoLeader => "no_leader",
            Self::Full => "full",
            Self::Stopped(_) => "stopped",
            Self::Unknown(_) => "unknown",
            Self::TooLarge(_) => "too_large",
            Self::Refused(_) => "refused",
            Self::Busy(_) => "busy",
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
    pub(super) inner: Arc<Inner>,
}

/// What a node's groups have in common.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) node: NodeId,
    pub(super) links: Links,
    pub(super) metrics: Metrics,
    /// Room for the bytes of proposals under way.
    pub(super) room: Arc<Semaphore>,
}

pub(super) struct Inner {
    pub(super) id: GroupId,
    pub(super) shared: Shared,
    pub(super) raft: Raft<Types, GroupMachine>,
    pub(super) halt: HaltReason,
    /// Why the log of all groups stopped.
    pub(super) log_halt: HaltReason,
    pub(super) published: Arc<Published>,
    pub(super) disk: PathBuf,
    /// Of a group whose state is files of its own.
    pub(super) keeping: Option<Arc<Keeping>>,
    pub(super) readers: Readers,
    /// Readers to whom the leader's own word is enough.
    pub(super) weak: Readers,
    pub(super) heard: Heard,
    pub(super) incoming: Incoming,
    pub(super) views: watch::Sender<u64>,
    /// Whether the leader's place is being given away for lack of room.
    pub(super) stepping: AtomicBool,
    /// Whether entries are refused for lack of room; said once each time.
    pub(super) refusing: AtomicBool,
    /// The group was told to stop.
    pub(super) stopping: Arc<AtomicBool>,
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

fn config(id: GroupId, options: &GroupOptions, keeps: bool) -> Result<Arc<Config>, StorageFault> {
    // A keeper says itself when a snapshot is due.
    let snapshot_policy = match keeps {
        true => SnapshotPolicy::Never,
        false => SnapshotPolicy::LogsSinceLast(options.snapshot_every.max(1)),
    };
    Config {
        cluster_name: id.to_string(),
        heartbeat_interval: HEARTBEAT_MILLIS,
        election_timeout_min: ELECTION_MILLIS.start,
        election_timeout_max: ELECTION_MILLIS.end,
        enable_pre_vote: Some(true),
        // A restarted leader stands for election like everybody else: its first
        // entry then commits whatever its log holds. Restoring leadership
        // without one could serve a state that lags behind the log.
        enable_leader_restore: Some(false),
        // A leader that nobody answers falls silent, so that those who still hear
        // it elect another one.
        quorum_loss_probe_interval: Some(SILENCE_MILLIS),
        // A replica whose disk lost what it had synced is brought up to date
        // again; openraft's other answer is a panic of the leader.
        allow_log_reversion: Some(true),
        snapshot_policy,
        // The log keeps what lies after the older of two snapshots anyway.
        max_in_snapshot_log_to_keep: 0,
        max_payload_entries: 1024,
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
            "the disk was full when the log or the state was written; there is room again: restart the node"
                .into(),
        )
    } else {
        ProposeFault::Full
    }
}

/// Closes a keeper's files.
pub(super) async fn close(group: GroupId, keeping: Arc<Keeping>) {
    let closed = tokio::task::spawn_blocking(move || keeping.close()).await;
    if let Err(error) = closed {
        tracing::warn!(%group, %error, "the state was not closed cleanly");
    }
}

impl Group {
    /// Starts a group over its recovered storage. See [`super::Groups::start`].
    pub(super) async fn start(
        storage: &Storage,
        shared: Shared,
        id: GroupId,
        recovered: Recovered,
        options: &GroupOptions,
        begin_with: Begin,
    ) -> Result<Self, OpenFault> {
        let start = Instant::now();
        let node = shared.node;
        if recovered.rebuilt {
            let labels = [id.to_string()];
            shared.metrics.rebuilds.with_label_values(&labels).inc();
        }
        let failed = |what: String| OpenFault::Storage(StorageFault::Start { group: id, what });
        let pristine = recovered.log.is_pristine();
        if pristine && begin_with == Begin::Found {
            begin(recovered.log.clone(), node)
                .await
                .map_err(|e| failed(e.to_string()))?;
        }
        let (_, last) = recovered.log.ends();
        let published = Arc::<Published>::default();
        let halt = HaltReason::default();
        let snapshot_dir = storage.paths.snapshots.clone();
        let keeping = recovered.store.keeping();
        // While it is installed the state takes as much again, and a keeper's unpacked files too.
        let copies = if keeping.is_some() { 3 } else { 2 };
        let incoming = Incoming::new(&snapshot_dir, id, copies);
        let machine = GroupMachine {
            group: id,
            store: recovered.store,
            snapshots: recovered.snapshots,
            snapshot_dir,
            log: recovered.log.clone(),
            published: Arc::clone(&published),
            halt: halt.clone(),
            metrics: shared.metrics.clone(),
        };
        machine.publish();
        let network = Network {
            group: id,
            node,
            links: shared.links.clone(),
            metrics: shared.metrics.clone(),
            keeping: keeping.clone(),
        };
        let config = config(id, options, keeping.is_some())?;
        let raft = Raft::new(node.0, config, network, recovered.log, machine)
            .await
            .map_err(|e| failed(e.to_string()))?;
        let disk = storage.paths.log.parent();
        let inner = Inner {
            id,
            shared,
            raft,
            halt,
            log_halt: storage.log.halt().clone(),
            published,
            disk: disk.map_or_else(PathBuf::new, PathBuf::from),
            keeping,
            readers: Readers::default(),
            weak: Readers::default(),
            heard: Heard::default(),
            incoming,
            views: watch::Sender::new(0),
            stepping: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            stopping: Arc::default(),
        };
        let group = Self {
            inner: Arc::new(inner),
        };
        Observer::spawn(&group);
        if let Err(error) = group
            .stand(last.map(|l| l.index), options.ready_within)
            .await
        {
            group.shutdown().await;
            return Err(error);
        }
        tracing::info!(
            group = %id,
            index = group.applied_index(),
            millis = start.elapsed().as_millis() as u64,
            "the group runs"
        );
        Ok(group)
    }

    /// Stands for election if this node is a voter; alone, until it leads.
    async fn stand(&self, last: Option<u64>, within: Duration) -> Result<(), OpenFault> {
        let failed = |what: String| {
            let group = self.inner.id;
            OpenFault::Storage(StorageFault::Start { group, what })
        };
        let raft = &self.inner.raft;
        let voters: BTreeSet<u64> = raft
            .with_raft_state(|state| state.membership_state.effective().voter_ids().collect())
            .await
            .map_err(|e| failed(self.stopped(&e.to_string()).to_string()))?;
        if !voters.contains(&self.inner.shared.node.0) {
            return Ok(());
        }
        // Alone there is nobody to wait for. With peers the others refuse
        // while they hear a leader (pre-vote), and nothing is disturbed.
        let alone = voters.len() == 1;
        raft.trigger()
            .elect(!alone)
            .await
            .map_err(|e| failed(e.to_string()))?;
        if alone {
            self.ready(last, within).await?;
        }
        Ok(())
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

    pub(super) fn stopped(&self, fallback: &str) -> ProposeFault {
        let reason = self.inner.halt.get().or_else(|| self.inner.log_halt.get());
        match reason {
            Some(Halt::Full) => full(disk::has_room(&self.inner.disk, 0)),
            Some(Halt::Broken(what)) => ProposeFault::Stopped(what.clone()),
            None => ProposeFault::Stopped(fallback.to_owned()),
        }
    }

    /// Whether the group has stopped on this node.
    pub(super) fn is_stopped(&self) -> bool {
        self.inner
            .raft
            .metrics()
            .borrow_watched()
            .running_state
            .is_err()
    }

    /// Index of the last applied entry.
    pub(crate) fn applied_index(&self) -> u64 {
        *self.inner.published.applied.borrow()
    }

    /// Hash of the whole state. A keeper may have to look at its files for it.
    pub(crate) fn state_hash(&self) -> u128 {
        match &self.inner.keeping {
            Some(keeping) => keeping.keeper.hash(),
            None => *self.inner.published.hash.lock(),
        }
    }

    /// Announces the applied index.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.published.applied.subscribe()
    }

    /// Waits until the entry with this index is applied here; false when it was not in time.
    pub(crate) async fn wait_applied(&self, index: u64, deadline: Instant) -> bool {
        let mut changes = self.changes();
        let reached = changes.wait_for(|applied| *applied >= index);
        let reached = tokio::time::timeout_at(deadline.into(), reached).await;
        matches!(reached, Ok(Ok(_)))
    }

    /// Stops the group and closes a keeper's files. Log and sled stay open:
    /// [`super::Groups::shutdown`] closes them.
    pub(crate) async fn shutdown(&self) {
        self.inner.stopping.store(true, Ordering::Relaxed);
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(group = %self.inner.id, error = %error, "the group did not stop cleanly");
        }
        if let Some(keeping) = self.inner.keeping.clone() {
            close(self.inner.id, keeping).await;
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

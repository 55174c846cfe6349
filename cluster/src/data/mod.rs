//! The data groups: S Raft groups that share the node's log. A namespace belongs
//! to one of them for life; the group replicates its SQL database, and registers,
//! small linearizable values by which a cluster is checked from outside.
//!
//! Any node answers: one that holds no replica asks one that does. `OVERVIEW.md`
//! beside this file has the mental model.

mod apply;
mod command;
mod compare;
mod copies;
mod dropped;
mod gate;
#[cfg(test)]
mod golden_tests;
mod keeper;
mod metrics;
mod net;
mod parcels;
mod rebuild;
mod registers;
mod repair;
mod shape;
mod shares;
mod sql;
#[cfg(test)]
mod tests;
mod threads;
mod upkeep;
mod wire;
mod writes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use orama_proto::sql::DatabaseId;
use orama_proto::{GroupId, NodeId};
use parking_lot::RwLock;
use tokio::sync::Notify;

use crate::consensus::{
    Backend, Begin, Group, GroupOptions, Groups, Keeper, OpenFault, ProposeFault, ReadFault,
    StorageFault,
};
use crate::mesh::Mesh;
use crate::meta::MetaStore;
use crate::sql::DatabasesOptions;
use copies::Copies;
use gate::Gate;
use keeper::{DataKeeper, KeeperOptions};
use metrics::Metrics;
use parcels::Parcels;
use threads::Threads;
use writes::Writes;

pub use copies::Export;
pub use sql::{Answer, DatabaseStatus, SqlQuery, Written};

/// A register or a database cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// There is no such group.
    #[error("there is no data group {0}")]
    NoGroup(GroupId),
    /// The present value is not the expected one; nothing changed. Carries the present value.
    #[error("the register's value is another")]
    Differs(Option<String>),
    /// No leader or no replica could be reached in time; nothing changed.
    #[error("group {0} has no leader that can be reached")]
    Unavailable(GroupId),
    /// It may or may not have happened.
    #[error("group {0}: the outcome is unknown")]
    Unknown(GroupId),
    /// A key or value over its limit (256 bytes, 4 KiB), too many registers (10,000 a
    /// group), or a transaction over 1 MiB.
    #[error("{what}: the limit is {limit}")]
    Limit {
        /// Which.
        what: &'static str,
        /// How much there may be.
        limit: usize,
    },
    /// The replicas that can be reached are not as fresh as the read demands. Says how far they are
    /// off. Of a write: the leader refused it, nothing was proposed; what this node knows is old.
    #[error("the replica is stale: {0}")]
    Stale(String),
    /// This replica's copy of the database is being rebuilt, and no other could be reached; of a
    /// write: this node leads, nothing was proposed.
    #[error("the database is being rebuilt: {0}")]
    Fenced(String),
    /// The disk is full on the leader.
    #[error("group {0}: the leader's disk is full")]
    Full(GroupId),
    /// The database's writes take more of its group's time than their share, or too many of them
    /// wait; nothing was proposed. When to try again.
    #[error("the database's writes take long, and others have their turn: try again in {} s", whole_seconds(.0))]
    Busy(Duration),
    /// The group has stopped on this node.
    #[error("group {group} has stopped: {why}")]
    Stopped {
        /// Which.
        group: GroupId,
        /// Why.
        why: String,
    },
}

/// At least one: a client that waits for none comes back at once.
fn whole_seconds(time: &Duration) -> u64 {
    (time.as_secs_f64().ceil() as u64).max(1)
}

impl DataError {
    fn of_read(group: GroupId, fault: ReadFault) -> Self {
        match fault {
            ReadFault::NoLeader => Self::Unavailable(group),
            ReadFault::Stopped(why) => Self::Stopped { group, why },
        }
    }
    fn of_proposal(group: GroupId, fault: ProposeFault) -> Self {
        match fault {
            ProposeFault::NoLeader => Self::Unavailable(group),
            ProposeFault::Full => Self::Full(group),
            ProposeFault::Busy(again) => Self::Busy(again),
            ProposeFault::Stopped(why) => Self::Stopped { group, why },
            ProposeFault::Unknown(_) => Self::Unknown(group),
            ProposeFault::TooLarge(_) => sql::too_large(),
            ProposeFault::Refused(why) => Self::Stale(why),
        }
    }
}

/// What a write expects to find.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Expect {
    /// Anything.
    Anything,
    /// No value.
    Absent,
    /// This value.
    Value(String),
}

/// The longest key of a register, bytes.
pub const KEY_MAX_BYTES: usize = 256;
/// The longest value of a register, bytes.
pub const VALUE_MAX_BYTES: usize = 4096;
/// Registers of one group.
pub const REGISTERS_MAX: usize = 10_000;

/// Entries of a data group between two snapshots, for each of the metadata's: the state is
/// in files of its own, so a snapshot costs what changed and saves little at a restart.
const SNAPSHOT_RATIO: u64 = 20;

/// Settings of a node's data groups.
#[derive(Debug, Clone)]
pub(crate) struct DataOptions {
    /// Where the groups have their directories; `copies/` in it holds what is on its way.
    pub(crate) dir: PathBuf,
    /// The groups'.
    pub(crate) group: GroupOptions,
    /// Between two looks at the files: checkpoints, floors, leadership of fenced databases.
    pub(crate) tend_every: Duration,
    /// Between two looks for databases of deleted namespaces.
    pub(crate) drop_every: Duration,
    /// Between two comparisons with the other replicas.
    pub(crate) compare_every: Duration,
}

impl DataOptions {
    /// With the usual times.
    pub(crate) fn new(dir: PathBuf, group: GroupOptions) -> Self {
        Self {
            dir,
            group,
            tend_every: Duration::from_secs(1),
            drop_every: Duration::from_secs(5),
            compare_every: Duration::from_secs(3),
        }
    }
}

/// Handle of the data groups. Cheap to clone.
#[derive(Clone)]
pub struct DataGroups(Arc<Inner>);

struct Inner {
    node: NodeId,
    groups: Groups,
    meta: MetaStore,
    mesh: Option<Mesh>,
    options: DataOptions,
    /// Of the groups that run here.
    keepers: RwLock<BTreeMap<GroupId, Arc<DataKeeper>>>,
    /// Which replica is asked first next time.
    turn: AtomicUsize,
    metrics: Metrics,
    counters: crate::sql::Metrics,
    /// What all groups together may have open.
    databases: DatabasesOptions,
    gate: Arc<Gate>,
    threads: Threads,
    writes: Arc<Writes>,
    copies: Copies,
    parcels: Parcels,
    /// Told when a database was fenced.
    fenced: Arc<Notify>,
}

/// A replica on this node.
struct Replica {
    group: Group,
    keeper: Arc<DataKeeper>,
}

impl DataGroups {
    /// The handle, served on the mesh, with its upkeep; no group runs yet. To be called
    /// within a runtime.
    pub(crate) fn new(
        node: NodeId,
        groups: Groups,
        meta: MetaStore,
        mesh: Option<Mesh>,
        options: DataOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        let metrics = Metrics::register(registry)?;
        let inner = Arc::new(Inner {
            node,
            groups,
            meta,
            mesh,
            keepers: RwLock::default(),
            turn: AtomicUsize::new(0),
            counters: crate::sql::Metrics::register(registry)?,
            databases: DatabasesOptions::default(),
            gate: Arc::new(Gate::new(metrics.clone())),
            threads: Threads::new(gate::READS_AT_ONCE),
            writes: Arc::new(Writes::new(metrics.clone())),
            copies: Copies::new(&options.dir),
            parcels: Parcels::new(metrics.clone()),
            fenced: Arc::default(),
            metrics,
            options,
        });
        net::serve(&inner);
        upkeep::spawn(&inner);
        Ok(Self(inner))
    }

    /// Runs a group here, if it does not run yet.
    pub(crate) async fn start(&self, group: GroupId, begin: Begin) -> Result<Group, OpenFault> {
        if let Some(running) = self.0.groups.get(group) {
            return Ok(running);
        }
        let options = KeeperOptions {
            snapshot_entries: self
                .0
                .options
                .group
                .snapshot_every
                .saturating_mul(SNAPSHOT_RATIO),
            databases: self.0.databases.clone(),
        };
        let meta = self.0.meta.clone();
        // Only what is certain: a node may know a namespace before or after another one does.
        let outlived = move |id: &DatabaseId| {
            let entry = meta.namespace(&id.namespace);
            entry.is_some_and(|entry| entry.created_at > id.born)
        };
        let keeper = Arc::new(DataKeeper::new(
            group,
            self.0.groups.files_of(group),
            options,
            self.0.counters.clone(),
            self.0.metrics.clone(),
            Arc::clone(&self.0.fenced),
            Box::new(outlived),
        ));
        let backend = Backend::Files(Arc::clone(&keeper) as Arc<dyn Keeper>);
        let running = self
            .0
            .groups
            .start(group, backend, &self.0.options.group, begin)
            .await?;
        self.0.keepers.write().insert(group, keeper);
        Ok(running)
    }

    /// Stops a group here and deletes this node's copy.
    pub(crate) async fn remove(&self, group: GroupId) -> Result<(), StorageFault> {
        self.0.keepers.write().remove(&group);
        self.0.groups.remove(group).await
    }

    /// The group and its state, when this node is to hold a replica and the
    /// group was formed. Before, its founder would be deciding alone.
    fn replica(&self, group: GroupId) -> Option<Replica> {
        let topology = self.0.meta.topology();
        let placement = topology.groups.get(&group)?;
        if !placement.formed || !placement.replicas.contains(&self.0.node) {
            return None;
        }
        let running = self.0.groups.get(group)?;
        let keeper = self.0.keepers.read().get(&group).cloned()?;
        Some(Replica {
            group: running,
            keeper,
        })
    }

    fn check_group(&self, group: GroupId) -> Result<(), DataError> {
        let groups = self.0.meta.topology().data_groups;
        match group == GroupId::META || group.0 > groups {
            true => Err(DataError::NoGroup(group)),
            false => Ok(()),
        }
    }
}

/// When a try on one of several replicas ends, so that another one has time left.
fn share_of(deadline: Instant, tries: usize) -> Instant {
    let now = Instant::now();
    if tries <= 1 {
        return deadline;
    }
    now + deadline.saturating_duration_since(now) / 2
}

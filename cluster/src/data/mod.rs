//! The data groups: S Raft groups that share the node's log. A namespace
//! belongs to one of them. For now their machine holds registers, small
//! linearizable values by which a cluster is checked from outside.
//!
//! Any node answers: one that holds no replica asks one that does.

mod machine;
mod net;
mod sql;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use orama_proto::{GroupId, NodeId};
use parking_lot::RwLock;

use crate::consensus::{
    Backend, Begin, Group, GroupOptions, Groups, Machine, OpenFault, ProposeFault, ReadFault,
    StorageFault,
};
use crate::mesh::Mesh;
use crate::meta::MetaStore;
use machine::{Command, Registers, Reply};
use net::{Ask, Done};
pub use sql::{Answer, DatabaseStatus, Export, SqlQuery, Written};

/// A register cannot be read or written.
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
    /// A key or value over its limit (256 bytes, 4 KiB), or too many registers (10,000 a group).
    #[error("{what}: the limit is {limit}")]
    Limit {
        /// Which.
        what: &'static str,
        /// How much there may be.
        limit: usize,
    },
    /// The replicas that can be reached are not as fresh as the read demands. Says how far they are off.
    #[error("the replica is stale: {0}")]
    Stale(String),
    /// This replica's copy of the database is being rebuilt, and no other could be reached.
    #[error("the database is being rebuilt: {0}")]
    Fenced(String),
    /// The disk is full on the leader.
    #[error("group {0}: the leader's disk is full")]
    Full(GroupId),
    /// The group has stopped on this node.
    #[error("group {group} has stopped: {why}")]
    Stopped {
        /// Which.
        group: GroupId,
        /// Why.
        why: String,
    },
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

/// Handle of the data groups. Cheap to clone.
#[derive(Clone)]
pub struct DataGroups(Arc<Inner>);

struct Inner {
    node: NodeId,
    groups: Groups,
    meta: MetaStore,
    mesh: Option<Mesh>,
    options: GroupOptions,
    /// Machines of the groups that run here.
    machines: RwLock<BTreeMap<GroupId, Arc<Registers>>>,
    /// Which replica is asked first next time.
    turn: AtomicUsize,
}

impl DataGroups {
    /// The handle; nothing runs yet.
    pub(crate) fn new(
        node: NodeId,
        groups: Groups,
        meta: MetaStore,
        mesh: Option<Mesh>,
        options: GroupOptions,
    ) -> Self {
        let inner = Arc::new(Inner {
            node,
            groups,
            meta,
            mesh,
            options,
            machines: RwLock::default(),
            turn: AtomicUsize::new(0),
        });
        Self::serve(&inner);
        Self(inner)
    }

    /// Runs a group here, if it does not run yet.
    pub(crate) async fn start(&self, group: GroupId, begin: Begin) -> Result<Group, OpenFault> {
        if let Some(running) = self.0.groups.get(group) {
            return Ok(running);
        }
        let machine = Arc::<Registers>::default();
        let shared = Backend::Pairs(Arc::clone(&machine) as Arc<dyn Machine>);
        let running = self
            .0
            .groups
            .start(group, shared, &self.0.options, begin)
            .await?;
        self.0.machines.write().insert(group, machine);
        Ok(running)
    }

    /// Stops a group here and deletes this node's copy.
    pub(crate) async fn remove(&self, group: GroupId) -> Result<(), StorageFault> {
        self.0.machines.write().remove(&group);
        self.0.groups.remove(group).await
    }

    /// Reads a register, linearizably.
    ///
    /// # Errors
    /// See [`DataError`].
    pub async fn register(
        &self,
        group: GroupId,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<String>, DataError> {
        self.check(group, key, "")?;
        let key = key.to_owned();
        match self.run(Ask::Get { group, key }, deadline).await? {
            Done::Value(value) => Ok(value),
            Done::Set => Err(DataError::Unknown(group)),
        }
    }

    /// Sets a register when it is as expected.
    ///
    /// # Errors
    /// See [`DataError`].
    pub async fn set_register(
        &self,
        group: GroupId,
        key: &str,
        value: &str,
        expect: Expect,
        deadline: Instant,
    ) -> Result<(), DataError> {
        self.check(group, key, value)?;
        let (key, value) = (key.to_owned(), value.to_owned());
        let ask = Ask::Set {
            group,
            key,
            value,
            expect,
        };
        self.run(ask, deadline).await.map(drop)
    }

    fn check(&self, group: GroupId, key: &str, value: &str) -> Result<(), DataError> {
        let groups = self.0.meta.topology().data_groups;
        if group == GroupId::META || group.0 > groups {
            return Err(DataError::NoGroup(group));
        }
        let limit = |what, limit, bytes: usize| match bytes > limit {
            true => Err(DataError::Limit { what, limit }),
            false => Ok(()),
        };
        limit("bytes of a key", KEY_MAX_BYTES, key.len())?;
        limit("bytes of a value", VALUE_MAX_BYTES, value.len())
    }

    async fn run(&self, ask: Ask, deadline: Instant) -> Result<Done, DataError> {
        if self.replica(ask.group()).is_none() {
            return self.remote(&ask, deadline).await;
        }
        match self.local(&ask, deadline).await {
            // Nothing was done: perhaps another replica reaches the leader.
            Err(DataError::Unavailable(_)) if Instant::now() < deadline => {
                self.remote(&ask, deadline).await
            }
            // This copy is gone or broken; others can be read all the same.
            Err(DataError::Stopped { .. })
                if matches!(ask, Ask::Get { .. }) && self.0.mesh.is_some() =>
            {
                self.remote(&ask, deadline).await
            }
            other => other,
        }
    }

    /// The group and its registers, when this node is to hold a replica and the
    /// group was formed. Before, its founder would be deciding alone.
    fn replica(&self, group: GroupId) -> Option<(Group, Arc<Registers>)> {
        let topology = self.0.meta.topology();
        let placement = topology.groups.get(&group)?;
        if !placement.formed || !placement.replicas.contains(&self.0.node) {
            return None;
        }
        let running = self.0.groups.get(group)?;
        let machine = self.0.machines.read().get(&group).cloned()?;
        Some((running, machine))
    }

    async fn local(&self, ask: &Ask, deadline: Instant) -> Result<Done, DataError> {
        let id = ask.group();
        let Some((group, machine)) = self.replica(id) else {
            return Err(DataError::Unavailable(id));
        };
        let stopped = |why: String| DataError::Stopped { group: id, why };
        match ask.clone() {
            Ask::Get { key, .. } => {
                group.confirm(deadline).await.map_err(|fault| match fault {
                    ReadFault::NoLeader => DataError::Unavailable(id),
                    ReadFault::Stopped(why) => stopped(why),
                })?;
                Ok(Done::Value(machine.get(&key)))
            }
            Ask::Set {
                key, value, expect, ..
            } => {
                let command = Command::Set { key, value, expect };
                let command = command.encode().map_err(stopped)?;
                let proposal = tokio::time::timeout_at(deadline.into(), group.propose(command));
                let committed = proposal
                    .await
                    .map_err(|_| DataError::Unknown(id))?
                    .map_err(|fault| match fault {
                        ProposeFault::NoLeader => DataError::Unavailable(id),
                        ProposeFault::Full => DataError::Full(id),
                        ProposeFault::Stopped(why) => stopped(why),
                        ProposeFault::Unknown(_) => DataError::Unknown(id),
                        ProposeFault::TooLarge(_) => DataError::Limit {
                            what: "bytes of a value",
                            limit: VALUE_MAX_BYTES,
                        },
                    })?;
                match Reply::decode(&committed.reply).map_err(stopped)? {
                    Reply::Done => Ok(Done::Set),
                    Reply::Differs(value) => Err(DataError::Differs(value)),
                    Reply::Full => Err(too_many()),
                    Reply::TooLong => Err(DataError::Limit {
                        what: "bytes of a key or value",
                        limit: VALUE_MAX_BYTES,
                    }),
                }
            }
        }
    }
}

fn too_many() -> DataError {
    DataError::Limit {
        what: "registers of a group",
        limit: REGISTERS_MAX,
    }
}

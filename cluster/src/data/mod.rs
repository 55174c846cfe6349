//! The data groups: S Raft groups that share the node's log. A namespace
//! belongs to one of them. For now their machine holds registers, small
//! linearizable values by which a cluster is checked from outside.
//!
//! Any node answers: one that holds no replica asks one that does.

use std::time::Instant;

use orama_proto::GroupId;

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

/// Handle of the data groups. Cheap to clone.
#[derive(Clone)]
pub struct DataGroups {}

impl DataGroups {
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
        let _ = (group, key, deadline);
        todo!()
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
        let _ = (group, key, value, expect, deadline);
        todo!()
    }
}

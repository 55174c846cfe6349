//! The replicated metadata: proposing changes, reading from local memory.
//!
//! A change goes through the Raft group `meta` and is applied to the catalog,
//! the decoded state in memory that every read looks at. What is stored and how
//! is `keys`, what a command does is `apply`, durability is the consensus layer's.

mod apply;
mod catalog;
#[cfg(test)]
mod golden_tests;
mod keys;
mod machine;
#[cfg(test)]
mod model;
mod store;
#[cfg(test)]
mod tests;
mod topology;
#[cfg(test)]
mod topology_model;

use std::time::Duration;

use orama_proto::command::{MetaCommand, MetaRefusal};
use orama_proto::sealed::WrappedKey;
use orama_proto::{Namespace, Timestamp};

pub(crate) use machine::MetaMachine;
pub use store::MetaStore;

/// Settings of the metadata group.
#[derive(Debug, Clone)]
pub struct MetaOptions {
    /// A snapshot is made after so many entries, or 64 MiB of them.
    pub snapshot_every: u64,
    /// Opening fails when the group has no leader after this long.
    pub ready_within: Duration,
}

impl Default for MetaOptions {
    fn default() -> Self {
        Self {
            snapshot_every: 5_000,
            ready_within: Duration::from_secs(10),
        }
    }
}

/// The metadata group cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log or the state is damaged beyond what snapshot and log can rebuild, or the disk refused.
    #[error("{0}")]
    Storage(String),
    /// No leader in time.
    #[error("the metadata group has no leader after {0:?}")]
    NotReady(Duration),
}

/// A change was not made, or its fate is unknown.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// Applying refused it; nothing changed.
    #[error(transparent)]
    Refused(#[from] MetaRefusal),
    /// There is no leader now; nothing was proposed.
    #[error("the metadata group has no leader")]
    NoLeader,
    /// The disk is full; nothing was acknowledged.
    #[error("the disk that holds the Raft log is full")]
    Full,
    /// The group has stopped after a storage fault and must be restarted.
    #[error("the metadata group has stopped: {0}")]
    Stopped(String),
    /// It was sent to the leader and no answer came: it may or may not have been made.
    #[error("the outcome of the change is unknown: {0}")]
    Unknown(String),
    /// Larger than an entry may be.
    #[error("the change has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// The local metadata could not be confirmed to be up to date; reads may be stale.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmError {
    /// No leader answered in time.
    #[error("no leader of the metadata group could be reached in time")]
    NoLeader,
    /// The group has stopped on this node.
    #[error("the metadata group has stopped: {0}")]
    Stopped(String),
}

/// A namespace as the state machine holds it.
#[derive(Debug, Clone)]
pub struct NamespaceEntry {
    /// Its name.
    pub name: Namespace,
    /// Its wrapped data key.
    pub data_key: WrappedKey,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A command's name, for logs.
fn name_of(command: &MetaCommand) -> &'static str {
    match command {
        MetaCommand::InitPlatformKeys { .. } => "InitPlatformKeys",
        MetaCommand::CreateNamespace { .. } => "CreateNamespace",
        MetaCommand::DeleteNamespace { .. } => "DeleteNamespace",
        MetaCommand::CreateApiKey { .. } => "CreateApiKey",
        MetaCommand::RevokeApiKey { .. } => "RevokeApiKey",
        MetaCommand::DeployFunction { .. } => "DeployFunction",
        MetaCommand::RollbackFunction { .. } => "RollbackFunction",
        MetaCommand::SetFunctionEnabled { .. } => "SetFunctionEnabled",
        MetaCommand::DeleteFunction { .. } => "DeleteFunction",
        MetaCommand::PutSecret { .. } => "PutSecret",
        MetaCommand::DeleteSecret { .. } => "DeleteSecret",
        MetaCommand::RewrapDataKey { .. } => "RewrapDataKey",
        MetaCommand::RewrapPlatformKeys { .. } => "RewrapPlatformKeys",
        MetaCommand::InitCluster { .. } => "InitCluster",
        MetaCommand::PutMember { .. } => "PutMember",
        MetaCommand::SetMemberState { .. } => "SetMemberState",
        MetaCommand::RemoveMember { .. } => "RemoveMember",
        MetaCommand::PlaceGroup { .. } => "PlaceGroup",
    }
}

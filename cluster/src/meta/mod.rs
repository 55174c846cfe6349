//! The replicated metadata: proposing changes, reading from local memory.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use orama_proto::api::NamespaceInfo;
use orama_proto::command::{ApiKeyRecord, MetaCommand, MetaRefusal, MetaReply};
use orama_proto::function::FunctionVersion;
use orama_proto::sealed::{SealedValue, WrappedKey};
use orama_proto::{ContentId, FunctionName, Namespace, RequestId, SecretName, Timestamp};

use crate::DataDir;

/// Settings of the metadata group.
#[derive(Debug, Clone)]
pub struct MetaOptions {
    /// A snapshot is made after so many entries.
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
    /// Larger than an entry may be.
    #[error("the change has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
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

/// Handle of the metadata group. Cheap to clone. Reads never leave local
/// memory and never wait for consensus.
#[derive(Clone)]
pub struct MetaStore {}

impl MetaStore {
    /// Opens log, state and snapshots, starts the group, and answers when it
    /// leads and everything acknowledged earlier is applied.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        dir: &DataDir,
        options: MetaOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, OpenError> {
        todo!()
    }
    /// Makes a change; when this returns it is past fdatasync on a majority and visible here.
    /// Never answers `MetaReply::Refused`: that is an error.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(
        &self,
        request_id: &RequestId,
        command: MetaCommand,
    ) -> Result<MetaReply, ProposeError> {
        todo!()
    }
    /// The version to run: the given one when it is active, else the highest active one.
    pub fn resolve(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u64>,
    ) -> Option<Arc<FunctionVersion>> {
        todo!()
    }
    /// One version that is not deleted, active or not; the highest when none is named.
    pub fn function(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u64>,
    ) -> Option<Arc<FunctionVersion>> {
        todo!()
    }
    /// The versions that are not deleted, newest first; `None` when there is no such function.
    pub fn versions(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
    ) -> Option<Vec<Arc<FunctionVersion>>> {
        todo!()
    }
    /// The highest version that is not deleted of each function, by name.
    pub fn functions(&self, namespace: &Namespace) -> Vec<Arc<FunctionVersion>> {
        todo!()
    }
    /// Every active version of every namespace, for warming up.
    pub fn active_functions(&self) -> Vec<Arc<FunctionVersion>> {
        todo!()
    }
    /// A namespace.
    pub fn namespace(&self, namespace: &Namespace) -> Option<Arc<NamespaceEntry>> {
        todo!()
    }
    /// All namespaces with counts, by name.
    pub fn namespaces(&self) -> Vec<NamespaceInfo> {
        todo!()
    }
    /// All namespaces' entries, by name.
    pub fn namespace_entries(&self) -> Vec<Arc<NamespaceEntry>> {
        todo!()
    }
    /// The API key with this hash.
    pub fn api_key(&self, hash: &[u8; 32]) -> Option<Arc<ApiKeyRecord>> {
        todo!()
    }
    /// A namespace's API keys, oldest first.
    pub fn api_keys(&self, namespace: &Namespace) -> Vec<Arc<ApiKeyRecord>> {
        todo!()
    }
    /// A sealed secret.
    pub fn secret(&self, namespace: &Namespace, name: &SecretName) -> Option<Arc<SealedValue>> {
        todo!()
    }
    /// Names of a namespace's secrets, sorted.
    pub fn secrets(&self, namespace: &Namespace) -> Vec<SecretName> {
        todo!()
    }
    /// The cluster's own sealed keys.
    pub fn platform_keys(&self) -> Option<Arc<WrappedKey>> {
        todo!()
    }
    /// Every blob a version refers to.
    pub fn referenced_blobs(&self) -> HashSet<ContentId> {
        todo!()
    }
    /// Index of the last applied entry.
    pub fn applied_index(&self) -> u64 {
        todo!()
    }
    /// Hash of the whole state, equal on replicas that applied the same entries.
    pub fn state_hash(&self) -> u128 {
        todo!()
    }
    /// Announces the applied index after every change.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        todo!()
    }
    /// Stops the group and flushes.
    pub async fn shutdown(&self) {
        todo!()
    }
}

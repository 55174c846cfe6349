//! The handle that the rest of the node holds.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use orama_proto::api::NamespaceInfo;
use orama_proto::command::{ApiKeyRecord, COMMAND_VERSION, MetaCommand, MetaEnvelope, MetaReply};
use orama_proto::function::{FunctionStatus, FunctionVersion};
use orama_proto::sealed::{SealedValue, WrappedKey};
use orama_proto::topology::Topology;
use orama_proto::{
    ContentId, FunctionName, GroupId, Namespace, NodeId, RequestId, SecretName, Timestamp, record,
};

use super::catalog::{Catalog, Function};
use super::machine::{MetaMachine, read_reply};
use super::{ConfirmError, MetaOptions, NamespaceEntry, OpenError, ProposeError, name_of};
use crate::DataDir;
use crate::consensus::{
    Backend, Begin, ENTRY_MAX_BYTES, Group, GroupOptions, Groups, Machine, Metrics, OpenFault,
    Paths, ProposeFault, ReadFault,
};

/// Handle of the metadata group. Cheap to clone. Reads never leave local
/// memory and never wait for consensus.
#[derive(Clone)]
pub struct MetaStore {
    group: Group,
    machine: Arc<MetaMachine>,
    /// The groups of a store that opened them for itself.
    own: Option<Groups>,
}

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
        let paths = Paths {
            log: dir.raft_log(),
            state: dir.state(),
            snapshots: dir.snapshots(),
            databases: dir.databases(),
        };
        Self::open_paths(&paths, dir.node_id(), &options, registry).await
    }

    pub(super) async fn open_paths(
        paths: &Paths,
        node: NodeId,
        options: &MetaOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, OpenError> {
        let metrics = Metrics::register(registry)
            .map_err(|e| OpenError::Storage(format!("the metrics: {e}")))?;
        let machine = Arc::<MetaMachine>::default();
        let options = GroupOptions {
            snapshot_every: options.snapshot_every,
            ready_within: options.ready_within,
        };
        let shared = Backend::Pairs(Arc::clone(&machine) as Arc<dyn Machine>);
        let groups = Groups::open(paths, node, None, metrics)
            .await
            .map_err(|fault| OpenError::Storage(fault.to_string()))?;
        let group = match groups
            .start(GroupId::META, shared, &options, Begin::Found)
            .await
        {
            Ok(group) => group,
            Err(fault) => {
                groups.shutdown().await;
                return Err(match fault {
                    OpenFault::Storage(fault) => OpenError::Storage(fault.to_string()),
                    OpenFault::NotReady(after) => OpenError::NotReady(after),
                });
            }
        };
        Ok(Self {
            group,
            machine,
            own: Some(groups),
        })
    }

    /// The store of a metadata group that runs, over the machine it was started with.
    pub(crate) fn over(group: Group, machine: Arc<MetaMachine>) -> Self {
        Self {
            group,
            machine,
            own: None,
        }
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
        self.propose_at(request_id, Timestamp::now(), command).await
    }

    pub(super) async fn propose_at(
        &self,
        request_id: &RequestId,
        at: Timestamp,
        command: MetaCommand,
    ) -> Result<MetaReply, ProposeError> {
        let name = name_of(&command);
        let envelope = MetaEnvelope {
            request_id: request_id.clone(),
            at,
            command,
        };
        let bytes = record::encode(COMMAND_VERSION, &envelope)
            .map_err(|e| ProposeError::Stopped(e.to_string()))?;
        drop(envelope);
        let committed = self.group.propose(bytes).await.map_err(|fault| {
            tracing::debug!(request_id = %request_id, command = name, error = %fault, "the change was not made");
            match fault {
                ProposeFault::NoLeader | ProposeFault::Busy(_) => ProposeError::NoLeader,
                ProposeFault::Full => ProposeError::Full,
                ProposeFault::Stopped(why) | ProposeFault::Refused(why) => {
                    ProposeError::Stopped(why)
                }
                ProposeFault::Unknown(why) => ProposeError::Unknown(why),
                ProposeFault::TooLarge(bytes) => ProposeError::TooLarge {
                    bytes,
                    limit: ENTRY_MAX_BYTES,
                },
            }
        })?;
        let reply = read_reply(&committed.reply).map_err(ProposeError::Stopped)?;
        let refused = matches!(reply, MetaReply::Refused(_));
        tracing::debug!(request_id = %request_id, command = name, index = committed.index, refused, "applied");
        match reply {
            MetaReply::Refused(refusal) => Err(refusal.into()),
            reply => Ok(reply),
        }
    }

    /// Waits until everything that was acknowledged anywhere before this call is
    /// visible here: asks the leader for its read index (one call for all who
    /// wait) and waits until it is applied. A group of one asks nobody.
    ///
    /// # Errors
    /// See [`ConfirmError`].
    pub async fn confirm(&self, deadline: Instant) -> Result<(), ConfirmError> {
        self.group
            .confirm(deadline)
            .await
            .map_err(|fault| match fault {
                ReadFault::NoLeader => ConfirmError::NoLeader,
                ReadFault::Stopped(why) => ConfirmError::Stopped(why),
            })
    }

    /// Members and placement of groups: local memory.
    pub fn topology(&self) -> Arc<Topology> {
        self.read(|c| Arc::clone(&c.topology))
    }

    fn read<T>(&self, look: impl FnOnce(&Catalog) -> T) -> T {
        look(&self.machine.catalog.read())
    }

    fn read_function<T>(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        look: impl FnOnce(&Function) -> Option<T>,
    ) -> Option<T> {
        self.read(|c| {
            c.spaces
                .get(namespace)
                .and_then(|s| s.functions.get(name))
                .and_then(look)
        })
    }

    /// The version to run: the given one when it is active, else the highest active one.
    /// With no version given the highest active one; a given one that is not
    /// active is not replaced by another.
    pub fn resolve(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u64>,
    ) -> Option<Arc<FunctionVersion>> {
        self.read_function(namespace, name, |f| match version {
            None => f.latest_active().cloned(),
            Some(v) => f
                .versions
                .get(&v)
                .filter(|v| v.status == FunctionStatus::Active)
                .cloned(),
        })
    }

    /// One version that is not deleted, active or not; the highest when none is named.
    pub fn function(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u64>,
    ) -> Option<Arc<FunctionVersion>> {
        self.read_function(namespace, name, |f| match version {
            None => f.latest().cloned(),
            Some(v) => f.versions.get(&v).cloned(),
        })
    }

    /// The versions that are not deleted, newest first; `None` when there is no such function.
    pub fn versions(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
    ) -> Option<Vec<Arc<FunctionVersion>>> {
        self.read_function(namespace, name, |f| {
            let versions: Vec<_> = f.versions.values().rev().cloned().collect();
            (!versions.is_empty()).then_some(versions)
        })
    }

    /// The highest version that is not deleted of each function, by name.
    pub fn functions(&self, namespace: &Namespace) -> Vec<Arc<FunctionVersion>> {
        self.read(|c| {
            let space = c.spaces.get(namespace);
            let functions = space.into_iter().flat_map(|s| s.functions.values());
            functions.filter_map(|f| f.latest().cloned()).collect()
        })
    }

    /// Every active version of every namespace, for warming up.
    pub fn active_functions(&self) -> Vec<Arc<FunctionVersion>> {
        self.read(|c| {
            c.spaces
                .values()
                .flat_map(|s| s.functions.values())
                .flat_map(|f| f.versions.values())
                .filter(|v| v.status == FunctionStatus::Active)
                .cloned()
                .collect()
        })
    }

    /// A namespace.
    pub fn namespace(&self, namespace: &Namespace) -> Option<Arc<NamespaceEntry>> {
        self.read(|c| c.spaces.get(namespace).map(|s| Arc::clone(&s.entry)))
    }

    /// All namespaces with counts, by name.
    pub fn namespaces(&self) -> Vec<NamespaceInfo> {
        self.read(|c| {
            c.spaces
                .values()
                .map(|space| NamespaceInfo {
                    name: space.entry.name.to_string(),
                    created_at: space.entry.created_at,
                    functions: space.live().count() as u64,
                    secrets: space.secrets.len() as u64,
                    api_keys: space.keys.len() as u64,
                })
                .collect()
        })
    }

    /// All namespaces' entries, by name.
    pub fn namespace_entries(&self) -> Vec<Arc<NamespaceEntry>> {
        self.read(|c| c.spaces.values().map(|s| Arc::clone(&s.entry)).collect())
    }

    /// The API key with this hash.
    pub fn api_key(&self, hash: &[u8; 32]) -> Option<Arc<ApiKeyRecord>> {
        self.read(|c| c.keys_by_hash.get(hash).cloned())
    }

    /// A namespace's API keys, oldest first.
    pub fn api_keys(&self, namespace: &Namespace) -> Vec<Arc<ApiKeyRecord>> {
        let mut keys: Vec<_> = self.read(|c| {
            let space = c.spaces.get(namespace);
            space
                .into_iter()
                .flat_map(|s| s.keys.values().cloned())
                .collect()
        });
        keys.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        keys
    }

    /// A sealed secret.
    pub fn secret(&self, namespace: &Namespace, name: &SecretName) -> Option<Arc<SealedValue>> {
        self.read(|c| c.spaces.get(namespace)?.secrets.get(name).cloned())
    }

    /// Names of a namespace's secrets, sorted.
    pub fn secrets(&self, namespace: &Namespace) -> Vec<SecretName> {
        self.read(|c| {
            let space = c.spaces.get(namespace);
            space
                .into_iter()
                .flat_map(|s| s.secrets.keys().cloned())
                .collect()
        })
    }

    /// The cluster's own sealed keys.
    pub fn platform_keys(&self) -> Option<Arc<WrappedKey>> {
        self.read(|c| c.platform.clone())
    }

    /// Every blob a version refers to.
    pub fn referenced_blobs(&self) -> HashSet<ContentId> {
        self.read(|c| {
            c.spaces
                .values()
                .flat_map(|s| s.functions.values())
                .flat_map(|f| f.versions.values())
                .map(|v| v.wasm_cid)
                .collect()
        })
    }

    /// Index of the last applied entry.
    pub fn applied_index(&self) -> u64 {
        self.group.applied_index()
    }

    /// Hash of the whole state, equal on replicas that applied the same entries.
    pub fn state_hash(&self) -> u128 {
        self.group.state_hash()
    }

    /// Announces the applied index after every change.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.group.changes()
    }

    /// Stops the group and flushes.
    pub async fn shutdown(&self) {
        match &self.own {
            Some(groups) => groups.shutdown().await,
            None => self.group.shutdown().await,
        }
    }
}

impl std::fmt::Debug for MetaStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetaStore")
            .field("applied_index", &self.applied_index())
            .finish_non_exhaustive()
    }
}

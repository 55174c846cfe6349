//! From a data directory to what runs on it: settings checked, mesh and log
//! opened, the metadata's group running. Who the node then is: [`super::alone`]
//! and [`super::linked`].

use std::path::PathBuf;
use std::sync::Arc;

use orama_proto::topology::ClusterId;
use orama_proto::{GroupId, NodeId, limits};

use super::core::Core;
use super::metrics::Metrics;
use super::{Cluster, ClusterError, ClusterOptions, alone, linked};
use crate::DataDir;
use crate::consensus::{self, Begin, GroupOptions, Groups, OpenFault, Paths, StorageFault};
use crate::data::{DataGroups, DataOptions};
use crate::mesh::{Mesh, MeshError, MeshOptions, NodeKey};
use crate::meta::{MetaMachine, MetaStore};

pub(super) fn storage(what: impl ToString) -> ClusterError {
    ClusterError::Storage(what.to_string())
}

pub(super) fn opened(fault: OpenFault) -> ClusterError {
    match fault {
        OpenFault::NotReady(after) => ClusterError::NotReady(after),
        OpenFault::Storage(StorageFault::Foreign { group, .. }) if group == GroupId::META => {
            ClusterError::Refused("it was removed from the cluster".into())
        }
        OpenFault::Storage(fault) => storage(fault),
    }
}

fn check(options: &ClusterOptions) -> Result<(), ClusterError> {
    let settings = |what: &str| Err(ClusterError::Settings(what.into()));
    if options.name.is_empty() || options.name.len() > limits::ADDRESS_MAX_BYTES {
        return settings("the node's name must have 1 to 256 bytes");
    }
    if options.data_groups as usize > limits::DATA_GROUPS_MAX {
        return settings("there are at most 256 data groups");
    }
    if !(1..=limits::REPLICAS_MAX).contains(&options.replicas) {
        return settings("a data group has 1 to 9 replicas");
    }
    if options.voters_max.is_multiple_of(2) || options.voters_max > limits::REPLICAS_MAX {
        return settings("the number of voters must be odd and at most 9");
    }
    Ok(())
}

/// What is open before the metadata runs.
pub(super) struct Opened {
    node: NodeId,
    options: ClusterOptions,
    pub(super) groups: Groups,
    mesh: Option<Mesh>,
    metrics: Metrics,
    databases: PathBuf,
    registry: prometheus::Registry,
}

impl Opened {
    pub(super) async fn run_meta(self, begin: Begin) -> Result<Arc<Core>, ClusterError> {
        let group_options = GroupOptions {
            snapshot_every: self.options.snapshot_every,
            ready_within: self.options.ready_within,
        };
        let machine = Arc::<MetaMachine>::default();
        let shared = Arc::clone(&machine) as Arc<dyn consensus::Machine>;
        let shared = consensus::Backend::Pairs(shared);
        let group = self
            .groups
            .start(GroupId::META, shared, &group_options, begin)
            .await
            .map_err(opened)?;
        let meta = MetaStore::over(group.clone(), machine);
        let data = DataGroups::new(
            self.node,
            self.groups.clone(),
            meta.clone(),
            self.mesh.clone(),
            DataOptions::new(self.databases, group_options),
            &self.registry,
        )
        .map_err(|e| ClusterError::Mesh(MeshError::Metrics(e)))?;
        Ok(Core::new(
            self.node,
            self.options,
            self.groups,
            meta,
            group,
            data,
            self.mesh,
            self.metrics,
        ))
    }
}

/// Where a node lives, and who it is.
pub(super) struct Home {
    pub(super) paths: Paths,
    pub(super) node: NodeId,
    /// Needed by a node with a mesh.
    pub(super) key: Option<NodeKey>,
}

/// See [`Cluster::start`].
pub(super) async fn start(
    dir: &DataDir,
    options: ClusterOptions,
    registry: &prometheus::Registry,
) -> Result<Cluster, ClusterError> {
    let home = Home {
        paths: Paths {
            log: dir.raft_log(),
            state: dir.state(),
            snapshots: dir.snapshots(),
            databases: dir.databases(),
        },
        node: dir.node_id(),
        key: options.links.is_some().then(|| dir.key().clone()),
    };
    start_in(home, options, registry).await
}

/// The same without a data directory's lock and key file.
pub(super) async fn start_in(
    home: Home,
    options: ClusterOptions,
    registry: &prometheus::Registry,
) -> Result<Cluster, ClusterError> {
    let Home { paths, node, key } = home;
    check(&options)?;
    let metered = |e: prometheus::Error| ClusterError::Mesh(MeshError::Metrics(e));
    let metrics = Metrics::register(registry).map_err(metered)?;
    let consensus = consensus::Metrics::register(registry).map_err(metered)?;
    let mesh = match (&options.links, key) {
        (None, _) => None,
        (Some(_), None) => return Err(ClusterError::Settings("the node has no key".into())),
        (Some(links), Some(key)) => {
            if key.node_id() != node {
                return Err(ClusterError::Settings(
                    "the key on disk is another node's".into(),
                ));
            }
            let options = MeshOptions {
                key,
                name: options.name.clone(),
                version: options.version.clone(),
                listen: links.listen.clone(),
                advertise: links.advertise.clone(),
                secrets: links.secrets.clone(),
            };
            Some(Mesh::start(options, registry).await?)
        }
    };
    let groups = Groups::open(&paths, node, mesh.clone(), consensus).await;
    let groups = match groups {
        Ok(groups) => groups,
        Err(fault) => {
            if let Some(mesh) = &mesh {
                mesh.shutdown().await;
            }
            return Err(storage(fault));
        }
    };
    let opened = Opened {
        node,
        groups: groups.clone(),
        mesh: mesh.clone(),
        metrics,
        options: options.clone(),
        databases: paths.databases.clone(),
        registry: registry.clone(),
    };
    let started = match (mesh.clone(), options.links) {
        (Some(mesh), Some(links)) => linked::start(opened, mesh, links).await,
        _ => alone::start(opened).await,
    };
    if started.is_err() {
        groups.shutdown().await;
        if let Some(mesh) = mesh {
            mesh.shutdown().await;
        }
    }
    started
}

/// A cluster's name.
pub(super) fn draw() -> Result<ClusterId, ClusterError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(storage)?;
    Ok(ClusterId(u128::from_be_bytes(bytes)))
}

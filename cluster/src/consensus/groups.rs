//! The Raft groups of this node: one log, one state database, one network for all of them.

use std::sync::Arc;

use orama_proto::{GroupId, NodeId};

use super::fault::StorageFault;
use super::group::{Group, GroupOptions, OpenFault};
use super::machine::Machine;
use super::metrics::Metrics;
use super::recover::Paths;
use crate::mesh::Mesh;

/// What to do with a group of which this node has nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Begin its log, with this node as its only voter.
    Found,
    /// Wait until its leader makes this node a learner.
    Wait,
}

/// Handle of the node's groups. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Groups {}

impl Groups {
    /// Opens the log and the state database, and serves the groups' messages on the mesh.
    pub(crate) async fn open(
        paths: &Paths,
        node: NodeId,
        mesh: Option<Mesh>,
        metrics: Metrics,
    ) -> Result<Self, StorageFault> {
        let _ = (paths, node, mesh, metrics);
        todo!()
    }

    /// Whether anything was ever written for the group here.
    pub(crate) fn is_pristine(&self, id: GroupId) -> Result<bool, StorageFault> {
        let _ = id;
        todo!()
    }

    /// Starts a group. It answers as soon as the group runs; whether it is up to date says
    /// [`Group::ready`] (a group of one, and one that is founded, are ready when this returns).
    pub(crate) async fn start(
        &self,
        id: GroupId,
        machine: Arc<dyn Machine>,
        options: &GroupOptions,
        begin: Begin,
    ) -> Result<Group, OpenFault> {
        let _ = (id, machine, options, begin);
        todo!()
    }

    /// A group that runs here.
    pub(crate) fn get(&self, id: GroupId) -> Option<Group> {
        let _ = id;
        todo!()
    }

    /// Stops a group and deletes what is stored of it. Only for a replica that
    /// its group has removed and that the topology does not name any more.
    pub(crate) async fn remove(&self, id: GroupId) -> Result<(), StorageFault> {
        let _ = id;
        todo!()
    }

    /// Stops every group, writes what was held back, closes the log.
    pub(crate) async fn shutdown(&self) {
        todo!()
    }
}

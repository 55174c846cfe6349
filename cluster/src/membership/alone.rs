//! A node for itself: a cluster of one without a mesh.

use std::sync::Arc;

use orama_proto::GroupId;
use orama_proto::command::MetaCommand;
use orama_proto::topology::Placement;

use super::core::Core;
use super::start::{Opened, draw, opened, storage};
use super::{Cluster, ClusterError, replicas};
use crate::consensus::Begin;

/// Runs the metadata and every data group here.
pub(super) async fn start(opened: Opened) -> Result<Cluster, ClusterError> {
    let groups = opened.groups.clone();
    let core = match opened.run_meta(Begin::Found).await {
        Ok(core) => core,
        Err(error) => return Err(error),
    };
    let result = settle_alone(&core).await;
    if let Err(error) = result {
        core.stop_tasks().await;
        groups.shutdown().await;
        return Err(error);
    }
    core.watch_standing(&core.meta.topology());
    core.metrics.topology(&core.meta.topology());
    core.metrics.voters.set(1);
    core.spawn(replicas::run(Arc::clone(&core)));
    Ok(Cluster::over(core, None))
}

/// Cluster, member and data groups of a node for itself. Everything that is
/// missing is begun at once and shares the log's commits.
async fn settle_alone(core: &Core) -> Result<(), ClusterError> {
    let topology = core.meta.topology();
    let voters = core.meta_group.view().voters;
    let others = topology.nodes.keys().any(|n| *n != core.node);
    if others || voters.iter().any(|n| *n != core.node) {
        return Err(ClusterError::Settings(format!(
            "this node belongs to a cluster of {}: it needs the cluster secret and a mesh",
            topology.nodes.len().max(voters.len())
        )));
    }
    let count = match topology.cluster {
        Some(_) => topology.data_groups,
        None => core.options.data_groups,
    };
    let ids: Vec<GroupId> = (1..=count).map(GroupId).collect();
    let starts = ids.iter().map(|g| core.data.start(*g, Begin::Found));
    for started in futures::future::join_all(starts).await {
        started.map_err(opened)?;
    }
    let mut commands = Vec::new();
    let mut epoch = topology.epoch;
    if topology.cluster.is_none() {
        commands.push(MetaCommand::InitCluster {
            cluster: draw()?,
            data_groups: count,
            first_voters: 1,
        });
        epoch += 1;
    }
    let mut member = core.member();
    if let Some(recorded) = topology.nodes.get(&core.node) {
        member.state = recorded.state;
        member.joined_at = recorded.joined_at;
    }
    if topology.nodes.get(&core.node) != Some(&member) {
        commands.push(MetaCommand::PutMember {
            member,
            replaces: None,
        });
        epoch += 1;
    }
    for group in ids {
        let placement = Placement {
            replicas: vec![core.node],
            founder: topology.groups.get(&group).map_or(core.node, |p| p.founder),
            formed: true,
        };
        if topology.groups.get(&group) != Some(&placement) {
            commands.push(MetaCommand::PlaceGroup {
                group,
                placement,
                epoch,
            });
            epoch += 1;
        }
    }
    // They reach the log in this order, and each counts on the one before it.
    let proposals = commands.into_iter().map(|command| core.propose(command));
    for done in futures::future::join_all(proposals).await {
        done.map_err(storage)?;
    }
    Ok(())
}

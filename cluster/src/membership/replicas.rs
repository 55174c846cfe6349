//! This node's copies of data groups: started where the topology says so, led
//! to where it says, deleted when group and topology agree that they are not needed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_proto::topology::{NodeState, Placement, Topology};
use orama_proto::{GroupId, NodeId};

use super::core::Core;
use super::quorum::Wanted;
use super::{controller, status};
use crate::consensus::{Begin, Group, OpenFault};
use crate::meta::ProposeError;

/// Between two looks when nothing changes.
const TICK: Duration = Duration::from_millis(500);
/// Before something that did not work is tried again at once.
const BREATH: Duration = Duration::from_millis(20);
/// Confirming the topology before something is begun or deleted.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);
/// Handing over a group.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(3);

/// Runs as long as the node.
pub(super) async fn run(core: Arc<Core>) {
    let mut changes = core.meta.changes();
    loop {
        let topology = core.meta.topology();
        start_copies(&core, &topology).await;
        announce_founded(&core).await;
        let mut done = follow(&core).await;
        done |= drop_copies(&core).await;
        count_leaderless(&core);
        if done {
            tokio::time::sleep(BREATH).await;
            continue;
        }
        tokio::select! {
            _ = changes.changed() => tokio::time::sleep(BREATH).await,
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

fn named(topology: &Topology, node: NodeId) -> impl Iterator<Item = (GroupId, &Placement)> {
    let groups = topology.groups.iter();
    groups
        .filter(move |(_, p)| p.replicas.contains(&node))
        .map(|(g, p)| (*g, p))
}

/// Whether anything of the group is stored here. When it cannot be told, it is.
fn stored(core: &Core, group: GroupId) -> bool {
    !core.groups.is_pristine(group).unwrap_or(false)
}

/// Starts what is to be here, and what is here although it is to go: until its
/// group has let it go, it may have to vote.
pub(super) async fn start_copies(core: &Core, topology: &Topology) {
    let groups = (1..=topology.data_groups).map(GroupId);
    let missing = groups.filter(|g| core.groups.get(*g).is_none());
    let starts = missing.filter_map(|group| {
        let placement = topology.groups.get(&group);
        let here = placement.is_some_and(|p| p.replicas.contains(&core.node));
        let found = placement.is_some_and(|p| !p.formed && p.founder == core.node);
        (here || stored(core, group)).then_some((group, found))
    });
    let starts = starts.map(|(group, found)| async move {
        let result = if found && !stored(core, group) {
            begin(core, group).await
        } else {
            core.data.start(group, Begin::Wait).await.map(drop)
        };
        if let Err(error) = result {
            tracing::error!(%group, %error, "a replica cannot be started");
        }
    });
    futures::future::join_all(starts).await;
}

/// Begins a group's log: only when the topology, confirmed, still says that
/// nobody did. Otherwise a node that comes back with an old topology could begin
/// it a second time.
async fn begin(core: &Core, group: GroupId) -> Result<(), OpenFault> {
    if core.mesh.is_some() {
        let deadline = Instant::now() + CONFIRM_WITHIN;
        if core.meta.confirm(deadline).await.is_err() {
            return Ok(());
        }
        let topology = core.meta.topology();
        let placement = topology.groups.get(&group);
        if !placement.is_some_and(|p| !p.formed && p.founder == core.node) {
            return Ok(());
        }
    }
    core.data.start(group, Begin::Found).await.map(drop)
}

/// Tells the cluster that groups this node founds exist.
async fn announce_founded(core: &Core) {
    // Each change raises the epoch; a few tries are enough for all of them.
    for _ in 0..3 {
        let topology = core.meta.topology();
        let founded = named(&topology, core.node).filter(|(group, p)| {
            !p.formed && p.founder == core.node && core.groups.get(*group).is_some()
        });
        let mut conflict = false;
        let mut epoch = topology.epoch;
        // One after the other in the log, all under way at once: the epochs follow from each other.
        let proposals = founded.map(|(group, placement)| {
            let formed = Placement {
                formed: true,
                ..placement.clone()
            };
            let proposal = core.place(group, formed, epoch);
            epoch += 1;
            proposal
        });
        let proposals: Vec<_> = proposals.collect();
        if proposals.is_empty() {
            return;
        }
        for result in futures::future::join_all(proposals).await {
            match result {
                Ok(_) => {}
                Err(ProposeError::Refused(_)) => conflict = true,
                Err(error) => {
                    tracing::info!(%error, "a founded group is announced later");
                    return;
                }
            }
        }
        if !conflict {
            return;
        }
    }
}

/// Brings the members of the groups this node leads in line with their placement.
async fn follow(core: &Core) -> bool {
    let topology = core.meta.topology();
    let linked = core.linked(&topology);
    let gone = core.gone(&topology, None);
    let nodes = topology.nodes.values();
    let active: BTreeSet<NodeId> = nodes
        .filter(|m| m.state == NodeState::Active)
        .map(|m| m.id)
        .collect();
    let steps = topology.groups.iter().filter(|(_, p)| p.formed);
    let steps = steps.filter_map(|(id, placement)| {
        let group = core.groups.get(*id)?;
        let view = group.view();
        let want: BTreeSet<NodeId> = placement.replicas.iter().copied().collect();
        let wanted = Wanted {
            me: core.node,
            view: &view,
            want: &want,
            hold: &want,
            linked: &linked,
            gone: &gone,
            active: &active,
            voters_max: want.len(),
        };
        let step = wanted.step()?;
        Some((*id, group, step))
    });
    let steps: Vec<_> = steps.collect();
    let taken = steps
        .iter()
        .map(|(id, group, step)| controller::take(core, *id, group, step.clone()));
    let taken = futures::future::join_all(taken).await;
    taken.into_iter().any(|done| done)
}

/// Deletes copies that neither the topology nor their group counts on.
async fn drop_copies(core: &Core) -> bool {
    let topology = core.meta.topology();
    let idle = |t: &Topology, g: GroupId| {
        let placement = t.groups.get(&g);
        placement.is_some_and(|p| p.formed && !p.replicas.contains(&core.node))
    };
    let candidates: Vec<GroupId> = topology
        .groups
        .keys()
        .copied()
        .filter(|g| idle(&topology, *g) && core.groups.get(*g).is_some())
        .collect();
    if candidates.is_empty()
        || core.mesh.is_none()
        || core
            .meta
            .confirm(Instant::now() + CONFIRM_WITHIN)
            .await
            .is_err()
    {
        return false;
    }
    // What the others say: this copy may be behind and not know that it was let go.
    let views = status::leaders(core, Duration::from_secs(1)).await;
    // Asking took its time: the copy may have been wanted here again since.
    let confirmed = core.meta.confirm(Instant::now() + CONFIRM_WITHIN).await;
    if confirmed.is_err() {
        return false;
    }
    let topology = core.meta.topology();
    let mut done = false;
    for group in candidates {
        let out = views.get(&group).is_some_and(|v| {
            !v.changing && !v.voters.contains(&core.node) && !v.learners.contains(&core.node)
        });
        if !out || !idle(&topology, group) {
            continue;
        }
        match core.data.remove(group).await {
            Ok(()) => {
                tracing::info!(%group, "the copy of a group that lives elsewhere now was deleted");
                done = true;
            }
            Err(error) => tracing::warn!(%group, %error, "an unneeded copy cannot be deleted"),
        }
    }
    done
}

fn count_leaderless(core: &Core) {
    let groups = (1..=core.meta.topology().data_groups).map(GroupId);
    let copies = groups.filter_map(|g| core.groups.get(g));
    let copies = copies.chain([core.meta_group.clone()]);
    let count = copies.filter(|g| g.view().leader.is_none()).count();
    core.metrics
        .leaderless
        .set(i64::try_from(count).unwrap_or(i64::MAX));
}

/// A group that runs here.
pub(super) fn running(core: &Core, group: GroupId) -> Option<Group> {
    if group == GroupId::META {
        return Some(core.meta_group.clone());
    }
    core.groups.get(group)
}

/// Has `to` lead a group that this node leads.
pub(super) async fn hand_over(core: &Core, group: GroupId, to: NodeId) -> Result<(), String> {
    let running = running(core, group).ok_or_else(|| format!("{group} does not run here"))?;
    if running.view().leader != Some(core.node) {
        return Err(format!("this node does not lead {group}"));
    }
    let deadline = Instant::now() + HAND_OVER_WITHIN;
    let moved = running.transfer(to, deadline).await;
    moved.map_err(|e| e.to_string())
}

//! The leader of `meta` keeps the cluster in shape: members of `meta`, places
//! and leaders of data groups. It decides anew from what it sees, does one step,
//! and looks again; a leader that takes over halfway goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_proto::command::MetaCommand;
use orama_proto::topology::{NodeState, Topology};
use orama_proto::{GroupId, NodeId};

use super::core::Core;
use super::placement::{Action, Picture, plan};
use super::quorum::{Step, Wanted};
use super::wire::{Answer, Ask};
use super::{replicas, status};
use crate::consensus::Group;

/// Between two looks when nothing changes.
const TICK: Duration = Duration::from_millis(500);
/// Between two steps.
const BREATH: Duration = Duration::from_millis(20);
/// One change of a group's members.
const STEP_WITHIN: Duration = Duration::from_secs(10);
/// A group whose leader was moved rests for so long.
const REST: Duration = Duration::from_secs(10);
/// Members are asked for their groups for so long.
const VIEWS_WITHIN: Duration = Duration::from_secs(1);

/// Runs as long as the node; idle on all but the leader of `meta`.
pub(super) async fn run(core: Arc<Core>) {
    let mut changes = core.meta.changes();
    let mut views = core.meta_group.views();
    let mut leading: Option<Instant> = None;
    let mut moved: BTreeMap<GroupId, Instant> = BTreeMap::new();
    loop {
        let view = core.meta_group.view();
        core.metrics
            .voters
            .set(i64::try_from(view.voters.len()).unwrap_or(i64::MAX));
        if view.leader == Some(core.node) && !view.stopped {
            let since = *leading.get_or_insert_with(Instant::now);
            moved.retain(|_, at| at.elapsed() < REST);
            if look(&core, since, &mut moved).await {
                tokio::time::sleep(BREATH).await;
                continue;
            }
        } else {
            leading = None;
        }
        tokio::select! {
            _ = changes.changed() => tokio::time::sleep(BREATH).await,
            _ = views.changed() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// One look; answers whether something was done.
async fn look(core: &Core, since: Instant, moved: &mut BTreeMap<GroupId, Instant>) -> bool {
    let topology = core.meta.topology();
    if topology.cluster.is_none() {
        return false;
    }
    let gone = core.gone(&topology, Some(since));
    if follow_members(core, &topology, &gone).await {
        return true;
    }
    let groups = status::leaders(core, VIEWS_WITHIN).await;
    // While the members were asked, things may have changed; the placement
    // carries the epoch it was decided on.
    let linked = core.linked(&topology);
    let meta = core.meta_group.view();
    let picture = Picture {
        topology: &topology,
        meta: &meta,
        groups: &groups,
        linked: &linked,
        gone: &gone,
        resting: &moved.keys().copied().collect(),
        replicas: core.options.replicas,
        complete: !topology.groups.is_empty() || meta.voters.len() >= core.voters_at_first(),
    };
    let mut done = false;
    for action in plan(&picture) {
        let label = action.label();
        match act(core, &topology, action.clone(), moved).await {
            Ok(()) => {
                core.metrics.actions.with_label_values(&[label]).inc();
                tracing::info!(?action, "the cluster was changed");
                done = true;
            }
            Err(why) => tracing::info!(?action, why, "a change of the cluster is put off"),
        }
        // The rest was decided on a topology that is gone.
        if done {
            break;
        }
    }
    done
}

/// Brings the members of `meta` in line with the topology.
async fn follow_members(core: &Core, topology: &Topology, gone: &BTreeSet<NodeId>) -> bool {
    let hold: BTreeSet<NodeId> = topology.nodes.keys().copied().collect();
    let in_state = |wanted: &[NodeState]| -> BTreeSet<NodeId> {
        let nodes = topology.nodes.values();
        nodes
            .filter(|m| wanted.contains(&m.state))
            .map(|m| m.id)
            .collect()
    };
    let want = in_state(&[NodeState::Active, NodeState::Draining]);
    let view = core.meta_group.view();
    let wanted = Wanted {
        me: core.node,
        view: &view,
        want: &want,
        hold: &hold,
        linked: &core.linked(topology),
        gone,
        active: &in_state(&[NodeState::Active]),
        voters_max: core.options.voters_max,
    };
    match wanted.step() {
        Some(step) => take(core, GroupId::META, &core.meta_group, step).await,
        None => false,
    }
}

/// Takes a step in a group that this node leads; answers whether it was done.
pub(super) async fn take(core: &Core, id: GroupId, group: &Group, step: Step) -> bool {
    let label = step.label();
    let shown = format!("{step:?}");
    let deadline = Instant::now() + STEP_WITHIN;
    let work = async {
        match step {
            Step::AddLearner(node) => group.add_learner(node).await,
            Step::SetVoters(voters) => group.set_voters(voters).await,
            Step::RemoveLearner(node) => group.remove_learner(node).await,
            Step::HandOver(to) => group.transfer(to, Instant::now() + REST / 2).await,
        }
    };
    match tokio::time::timeout_at(deadline.into(), work).await {
        Ok(Ok(())) => {
            core.metrics.actions.with_label_values(&[label]).inc();
            tracing::info!(group = %id, step = shown, "the group's members were changed");
            true
        }
        Ok(Err(error)) => {
            tracing::info!(group = %id, step = shown, %error, "a change of the group's members is put off");
            false
        }
        Err(_) => {
            tracing::info!(group = %id, step = shown, "a change of the group's members takes long");
            false
        }
    }
}

async fn act(
    core: &Core,
    topology: &Topology,
    action: Action,
    moved: &mut BTreeMap<GroupId, Instant>,
) -> Result<(), String> {
    match action {
        Action::Remove(node) => {
            let command = MetaCommand::RemoveMember { node };
            core.propose(command).await.map_err(|e| e.to_string())?;
        }
        Action::Place(group, placement) => {
            let placed = core.place(group, placement, topology.epoch).await;
            placed.map_err(|e| e.to_string())?;
        }
        Action::Lead { group, from, to } => {
            moved.insert(group, Instant::now());
            if from == core.node {
                return replicas::hand_over(core, group, to).await;
            }
            match core.ask(from, &Ask::Lead { group, to }, STEP_WITHIN).await {
                Ok(Answer::Done) => {}
                Ok(Answer::Later(why)) => return Err(why),
                Ok(_) => return Err("the answer is not understood".into()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
    Ok(())
}

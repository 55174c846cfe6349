//! What an operator asks for: drain, leave, transfer.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use orama_proto::command::{MetaCommand, MetaRefusal};
use orama_proto::topology::{Member, NodeState, Topology};
use orama_proto::{GroupId, NodeId, RequestId};

use super::core::Core;
use super::quorum::majority;
use super::wire::{Answer, Ask};
use super::{Departure, OperationError};
use super::{replicas, status};
use crate::meta::ProposeError;

/// Confirming the topology an operation is decided on.
const CONFIRM_WITHIN: Duration = Duration::from_secs(3);

async fn confirmed(core: &Core) -> Result<std::sync::Arc<Topology>, OperationError> {
    let deadline = Instant::now() + CONFIRM_WITHIN;
    let confirmed = core.meta.confirm(deadline).await;
    confirmed.map_err(|e| OperationError::Unavailable(e.to_string()))?;
    Ok(core.meta.topology())
}

/// The member that is meant: its id, its name, or the beginning of its id when that says which.
fn find<'a>(topology: &'a Topology, text: &str) -> Result<&'a Member, OperationError> {
    let members = || topology.nodes.values();
    if let Some(member) = members().find(|m| m.name == text || m.id.to_string() == text) {
        return Ok(member);
    }
    let mut alike = members().filter(|m| text.len() >= 4 && m.id.to_string().starts_with(text));
    match (alike.next(), alike.next()) {
        (Some(member), None) => Ok(member),
        _ => Err(OperationError::Missing(format!("node {text:?}"))),
    }
}

fn failed(error: ProposeError) -> OperationError {
    match error {
        ProposeError::Refused(MetaRefusal::Missing { what, name }) => {
            OperationError::Missing(format!("{what} {name}"))
        }
        ProposeError::Refused(refusal) => OperationError::Refused(refusal.to_string()),
        other => OperationError::Unavailable(other.to_string()),
    }
}

async fn set_state(
    core: &Core,
    request_id: &RequestId,
    node: NodeId,
    state: NodeState,
) -> Result<(), OperationError> {
    let command = MetaCommand::SetMemberState { node, state };
    let proposed = core.meta.propose(request_id, command).await;
    proposed.map(drop).map_err(failed)
}

/// See `Cluster::drain`.
pub(super) async fn drain(
    core: &Core,
    request_id: &RequestId,
    node: &str,
    undo: bool,
) -> Result<(), OperationError> {
    let topology = confirmed(core).await?;
    let member = find(&topology, node)?;
    let name = &member.name;
    if member.state == NodeState::Leaving {
        return Err(OperationError::Refused(format!("{name} is leaving")));
    }
    let mut others = topology.nodes.values().filter(|m| m.id != member.id);
    if !undo && !others.any(|m| m.state == NodeState::Active) {
        return Err(OperationError::Refused(format!(
            "{name} is the only active node"
        )));
    }
    let state = match undo {
        true => NodeState::Active,
        false => NodeState::Draining,
    };
    set_state(core, request_id, member.id, state).await
}

/// Why a member must stay; `None` when it may leave.
pub(super) fn needed(
    topology: &Topology,
    voters: &BTreeSet<NodeId>,
    linked: &BTreeSet<NodeId>,
    node: NodeId,
) -> Option<String> {
    let stay = |m: &&Member| m.id != node && m.state != NodeState::Leaving;
    let stays: BTreeSet<NodeId> = topology.nodes.values().filter(stay).map(|m| m.id).collect();
    if stays.is_empty() {
        return Some("it is the last node".into());
    }
    let takes = |n: &NodeId| {
        topology
            .nodes
            .get(n)
            .is_some_and(|m| m.state == NodeState::Active)
    };
    if !stays.intersection(linked).any(takes) {
        return Some("no other active node can be reached".into());
    }
    if !majority(voters, linked) {
        return Some("too few voters of meta can be reached".into());
    }
    for (group, placement) in &topology.groups {
        if !placement.replicas.contains(&node) {
            continue;
        }
        let replicas: BTreeSet<NodeId> = placement.replicas.iter().copied().collect();
        // A second replica is a learner's copy: the voter is enough to go on.
        let voting: BTreeSet<NodeId> = match replicas.len() {
            2 if linked.contains(&node) => continue,
            _ => replicas,
        };
        if placement.formed && !majority(&voting, linked) {
            return Some(format!("too few replicas of {group} can be reached"));
        }
    }
    None
}

/// See `Cluster::leave`.
pub(super) async fn leave(
    core: &Core,
    request_id: &RequestId,
    node: &str,
    deadline: Instant,
) -> Result<Departure, OperationError> {
    let topology = confirmed(core).await?;
    let member = find(&topology, node)?;
    let id = member.id;
    if member.state != NodeState::Leaving {
        let voters = core.meta_group.view().voters;
        if let Some(why) = needed(&topology, &voters, &core.linked(&topology), id) {
            let name = &member.name;
            return Err(OperationError::Refused(format!(
                "{name} cannot leave: {why}"
            )));
        }
        set_state(core, request_id, id, NodeState::Leaving).await?;
    }
    let mut changes = core.meta.changes();
    let mut removed = core.removed.subscribe();
    let gone = async {
        while core.meta.topology().nodes.contains_key(&id) {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return false },
                // Whoever leaves itself may not see the end of it.
                told = removed.wait_for(|removed| *removed) => return told.is_ok(),
            }
        }
        true
    };
    // When it takes longer it goes on by itself.
    let gone = tokio::time::timeout_at(deadline.into(), gone).await;
    Ok(Departure {
        id,
        gone: gone.unwrap_or(false),
    })
}

/// See `Cluster::transfer`.
pub(super) async fn transfer(
    core: &Core,
    group: GroupId,
    node: &str,
    deadline: Instant,
) -> Result<(), OperationError> {
    // As fresh as can be had: moving a leader must also work when `meta` has none.
    let _ = core.meta.confirm(Instant::now() + CONFIRM_WITHIN / 3).await;
    let topology = core.meta.topology();
    if group.0 > topology.data_groups {
        return Err(OperationError::Missing(format!("group {}", group.0)));
    }
    let member = find(&topology, node)?;
    let to = member.id;
    let name = &member.name;
    if member.state != NodeState::Active {
        return Err(OperationError::Refused(format!(
            "{name} is {}, it leads nothing",
            member.state.as_str()
        )));
    }
    let view = match replicas::running(core, group).map(|g| g.view()) {
        Some(view) if view.leader.is_some() => Some(view),
        _ => {
            let within = deadline.saturating_duration_since(Instant::now());
            let views = status::leaders(core, within.min(Duration::from_secs(1))).await;
            views.get(&group).cloned()
        }
    };
    let leader = view.as_ref().and_then(|v| v.leader);
    let (Some(view), Some(leader)) = (view, leader) else {
        return Err(OperationError::Unavailable(format!(
            "{group} has no leader"
        )));
    };
    if leader == to {
        return Ok(());
    }
    if !view.voters.contains(&to) {
        return Err(OperationError::Refused(format!(
            "{name} is no voter of {group}"
        )));
    }
    if leader == core.node {
        let moved = replicas::hand_over(core, group, to).await;
        return moved.map_err(OperationError::Unavailable);
    }
    let within = deadline.saturating_duration_since(Instant::now());
    match core.ask(leader, &Ask::Lead { group, to }, within).await {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Later(why)) => Err(OperationError::Unavailable(why)),
        Ok(_) => Err(OperationError::Unavailable(
            "the answer is not understood".into(),
        )),
        Err(error) => Err(OperationError::Unavailable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use orama_proto::Timestamp;
    use orama_proto::topology::Placement;

    use super::*;

    fn topology(nodes: u64, replicas: &[u64]) -> Topology {
        let mut topology = Topology::default();
        for n in 1..=nodes {
            let member = Member {
                id: NodeId(n),
                name: format!("n{n}"),
                addresses: Vec::new(),
                version: "1".into(),
                state: NodeState::Active,
                joined_at: Timestamp(0),
            };
            topology.nodes.insert(NodeId(n), member);
        }
        let replicas: Vec<NodeId> = replicas.iter().map(|n| NodeId(*n)).collect();
        let placement = Placement {
            founder: replicas[0],
            replicas,
            formed: true,
        };
        topology.groups.insert(GroupId(1), placement);
        topology
    }

    fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().map(|n| NodeId(*n)).collect()
    }

    #[test]
    fn a_node_stays_while_data_depends_on_it() {
        let three = topology(3, &[1, 2, 3]);
        let all = set(&[1, 2, 3]);
        let why = |t: &Topology, linked: &[u64], node| needed(t, &all, &set(linked), NodeId(node));
        assert_eq!(why(&three, &[1, 2, 3], 3), None);
        assert_eq!(why(&three, &[1, 2], 3), None, "a dead one may be taken out");
        assert!(why(&three, &[3], 3).is_some(), "nobody else is there");
        assert!(why(&three, &[1], 3).unwrap().contains("meta"));
        assert!(needed(&topology(1, &[1]), &set(&[1]), &set(&[1]), NodeId(1)).is_some());
        let two = topology(2, &[1, 2]);
        assert_eq!(needed(&two, &set(&[1]), &set(&[1, 2]), NodeId(1)), None);
        assert!(needed(&two, &set(&[1]), &set(&[1]), NodeId(2)).is_some());
        let mut drained = topology(2, &[1]);
        drained.nodes.get_mut(&NodeId(2)).unwrap().state = NodeState::Draining;
        let why = needed(&drained, &set(&[1]), &set(&[1, 2]), NodeId(1));
        assert!(why.unwrap().contains("active"));
    }

    #[test]
    fn a_member_is_found_by_name_id_or_its_beginning() {
        let topology = topology(3, &[1]);
        assert_eq!(find(&topology, "n2").unwrap().id, NodeId(2));
        let id = NodeId(3).to_string();
        assert_eq!(find(&topology, &id).unwrap().id, NodeId(3));
        assert!(find(&topology, "0000").is_err(), "it says not which");
        assert!(find(&topology, "n9").is_err());
    }
}

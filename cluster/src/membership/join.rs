//! Letting a node in, and being let in.

use std::time::{Duration, Instant};

use orama_proto::command::{MetaCommand, MetaRefusal};
use orama_proto::topology::{ClusterId, Member, NodeState, Topology};
use orama_proto::{GroupId, NodeId, Timestamp};

use super::ClusterError;
use super::core::{Core, ask};
use super::status;
use super::wire::{Answer, Ask, Known};
use crate::mesh::Mesh;
use crate::meta::ProposeError;

/// A member whose name is taken over must have been out of reach for so long:
/// a link that breaks for a moment is no death.
const DEAD_AFTER: Duration = Duration::from_secs(5);
/// The leader confirms that it leads.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);
/// One request to be let in.
const ASK_WITHIN: Duration = Duration::from_secs(15);
/// Between two lines about what is awaited.
const REPORT: Duration = Duration::from_secs(5);

/// `1.4.2` and `1.5.0` work together, `1.4` and `1.6` or `2.0` do not.
fn compatible(one: &str, other: &str) -> bool {
    let parse = |text: &str| {
        let mut parts = text.split(['.', '-', '+']).map(str::parse::<u64>);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    };
    match (parse(one), parse(other)) {
        (Some((major, minor)), Some((their_major, their_minor))) => {
            major == their_major && minor.abs_diff(their_minor) <= 1
        }
        // Not one of ours; somebody's build. Equal is all that can be asked.
        _ => one == other,
    }
}

/// Lets a node in, if this one leads and nothing speaks against it. May be
/// asked again at any time: what is done already is not done twice.
pub(super) async fn admit(core: &Core, from: NodeId, member: Member, pristine: bool) -> Answer {
    let name = member.name.clone();
    let answer = check_and_admit(core, from, member, pristine).await;
    let result = match &answer {
        Answer::Joined { .. } => {
            tracing::info!(node = %from, name, "a node was let in");
            "joined"
        }
        Answer::Elsewhere(_) => "elsewhere",
        Answer::Refused(why) => {
            tracing::warn!(node = %from, name, why, "a node was refused");
            "refused"
        }
        _ => "later",
    };
    core.metrics.joins.with_label_values(&[result]).inc();
    answer
}

async fn check_and_admit(core: &Core, from: NodeId, member: Member, pristine: bool) -> Answer {
    let view = core.meta_group.view();
    let topology = core.meta.topology();
    match view.leader {
        Some(leader) if leader == core.node => {}
        Some(leader) => {
            let addresses = topology
                .nodes
                .get(&leader)
                .map(|m| core.addresses_of(m))
                .unwrap_or_default();
            return Answer::Elsewhere(Known {
                node: leader,
                addresses,
            });
        }
        None => return Answer::Later("the cluster has no leader".into()),
    }
    if let Err(error) = core.meta.confirm(Instant::now() + CONFIRM_WITHIN).await {
        return Answer::Later(error.to_string());
    }
    let topology = core.meta.topology();
    if member.id != from || member.name.is_empty() {
        return Answer::Refused("the record is not the caller's".into());
    }
    if !compatible(&core.options.version, &member.version) {
        return Answer::Refused(format!(
            "version {} does not work with version {}",
            member.version, core.options.version
        ));
    }
    let known = topology.nodes.get(&from);
    if known.is_some_and(|m| m.state == NodeState::Leaving) {
        return Answer::Refused("the node is leaving the cluster".into());
    }
    if pristine && known.is_some() {
        if let Some(group) = counted_on(core, from).await {
            return Answer::Refused(format!(
                "{group} counts on what this node stored, and its disk is empty: remove the whole data directory, so that it comes back as a new node"
            ));
        }
        // Its copy of the metadata is gone: what it acknowledged does not count any more.
        if view.learners.contains(&from)
            && view.matched.contains_key(&from)
            && let Err(error) = core.meta_group.remove_learner(from).await
        {
            return Answer::Later(error.to_string());
        }
    }
    let replaces = match namesake(core, &topology, from, &member.name) {
        Ok(replaces) => replaces,
        Err(answer) => return answer,
    };
    let record = Member {
        state: NodeState::Active,
        joined_at: Timestamp::now(),
        ..member
    };
    let command = MetaCommand::PutMember {
        member: record,
        replaces,
    };
    match core.propose(command).await {
        Ok(_) => joined(core),
        Err(ProposeError::Refused(refusal @ MetaRefusal::Conflict { .. })) => {
            Answer::Later(refusal.to_string())
        }
        Err(ProposeError::Refused(refusal)) => Answer::Refused(refusal.to_string()),
        Err(error) => Answer::Later(error.to_string()),
    }
}

/// A group in whose decisions the node's disk has a part: a voter of `meta`, or in any data group.
async fn counted_on(core: &Core, node: NodeId) -> Option<GroupId> {
    if core.meta_group.view().voters.contains(&node) {
        return Some(GroupId::META);
    }
    let views = status::leaders(core, Duration::from_secs(1)).await;
    let topology = core.meta.topology();
    let mut groups = topology.groups.iter().filter(|(_, p)| p.formed);
    let inside = groups.find(|(group, placement)| match views.get(*group) {
        Some(v) => v.voters.contains(&node) || v.learners.contains(&node),
        // Nobody knows: as if it did. This is when its vote would matter most.
        None => placement.replicas.contains(&node),
    });
    inside.map(|(group, _)| *group)
}

/// The member whose name the new one has, when it is dead and may be replaced.
fn namesake(
    core: &Core,
    topology: &Topology,
    from: NodeId,
    name: &str,
) -> Result<Option<NodeId>, Answer> {
    let mut others = topology.nodes.values();
    let Some(old) = others.find(|m| m.name == name && m.id != from) else {
        return Ok(None);
    };
    let linked = core.linked(topology);
    if linked.contains(&old.id) {
        return Err(Answer::Refused(format!(
            "the name {name:?} is used by node {}, which is running",
            old.id
        )));
    }
    if core.silent_for(old.id) < DEAD_AFTER {
        return Err(Answer::Later(format!(
            "the name {name:?} was used by node {} a moment ago",
            old.id
        )));
    }
    let mut placements = topology.groups.iter();
    let only = placements.find(|(_, p)| {
        p.formed && p.replicas.contains(&old.id) && !p.replicas.iter().any(|n| linked.contains(n))
    });
    match only {
        Some((group, _)) => Err(Answer::Refused(format!(
            "no other replica of {group} than that of the earlier {name:?} can be reached: bring it back, or use another name"
        ))),
        None => Ok(Some(old.id)),
    }
}

fn joined(core: &Core) -> Answer {
    let topology = core.meta.topology();
    let Some(cluster) = topology.cluster else {
        return Answer::Later("the cluster is being formed".into());
    };
    let members = topology.nodes.values().map(|m| Known {
        node: m.id,
        addresses: core.addresses_of(m),
    });
    let mut members: Vec<Known> = members.collect();
    for known in core.known() {
        match members.iter_mut().find(|m| m.node == known.node) {
            // First hand comes first.
            Some(member) => {
                let recorded = std::mem::take(&mut member.addresses);
                member.addresses = known.addresses;
                for address in recorded {
                    if !member.addresses.contains(&address) {
                        member.addresses.push(address);
                    }
                }
            }
            None => continue,
        }
    }
    for member in &mut members {
        member
            .addresses
            .truncate(orama_proto::limits::ADDRESSES_PER_MEMBER);
    }
    Answer::Joined { cluster, members }
}

/// Asks to be let in until somebody does. Answers the cluster.
pub(super) async fn request(
    core: &Core,
    mesh: &Mesh,
    pristine: bool,
) -> Result<ClusterId, ClusterError> {
    let mut changes = mesh.changes();
    let mut hint: Option<NodeId> = None;
    let mut pause = Duration::from_millis(50);
    let mut reported: Option<Instant> = None;
    loop {
        let peers = mesh.peers();
        let members = peers.iter().filter(|p| p.cluster.is_some()).map(|p| p.id);
        let target = hint
            .take()
            .filter(|n| mesh.linked(*n))
            .or_else(|| members.min_by_key(|_| std::cmp::Reverse(rand_order())));
        let why = match target {
            None => "no member can be reached".to_owned(),
            Some(target) => {
                let question = Ask::Join {
                    member: core.member(),
                    pristine,
                };
                match ask(mesh, target, &question, ASK_WITHIN).await {
                    Ok(Answer::Joined { cluster, members }) => {
                        for known in members.iter().filter(|k| k.node != core.node) {
                            mesh.keep(known.node, &known.addresses);
                        }
                        core.learn(members);
                        return Ok(cluster);
                    }
                    Ok(Answer::Elsewhere(leader)) => {
                        if !leader.addresses.is_empty() && leader.is_sound() {
                            mesh.keep(leader.node, &leader.addresses);
                        }
                        hint = Some(leader.node);
                        if !mesh.linked(leader.node) {
                            let wait = Duration::from_secs(1);
                            let _ = tokio::time::timeout(wait, changes.changed()).await;
                        } else {
                            continue;
                        }
                        format!("the leader {} cannot be reached", leader.node)
                    }
                    Ok(Answer::Refused(why)) => return Err(ClusterError::Refused(why)),
                    Ok(Answer::Later(why)) => why,
                    Ok(_) => "the answer is not understood".into(),
                    Err(error) => error.to_string(),
                }
            }
        };
        if reported.is_none_or(|at| at.elapsed() >= REPORT) {
            reported = Some(Instant::now());
            tracing::info!(why, "waiting to be let into the cluster");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Spreads the questions over the members.
fn rand_order() -> u32 {
    getrandom::u32().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::compatible;

    #[test]
    fn neighbouring_versions_work_together() {
        assert!(compatible("0.1.0", "0.1.9") && compatible("1.4.0", "1.5.2"));
        assert!(compatible("1.5.0-rc1", "1.4.9") && compatible("dev", "dev"));
        assert!(!compatible("1.4.0", "1.6.0") && !compatible("1.9.0", "2.0.0"));
        assert!(!compatible("dev", "1.0.0") && !compatible("1", "2"));
    }
}

//! What the commands about members and placement do.
//!
//! Each works on a copy of the topology and replaces the shared value at the
//! end, so that a refused one leaves no trace and readers never see half of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use orama_proto::command::{MetaCommand, MetaReply};
use orama_proto::limits;
use orama_proto::topology::{ClusterId, Member, NodeState, Placement, Topology};
use orama_proto::{GroupId, NodeId};

use super::apply::{Outcome, Stop, conflict, exists, limit, missing, put, remove};
use super::keys::{self, TopologyRecord};
use crate::consensus::Change;

/// Applies a command about the topology. The epoch rises exactly when something changes.
pub(super) fn apply(
    shared: &mut Arc<Topology>,
    command: MetaCommand,
    changes: &mut Vec<Change>,
) -> Outcome {
    let mut draft = Draft {
        topology: Topology::clone(shared),
        changes: Vec::new(),
    };
    let changed = match command {
        MetaCommand::InitCluster {
            cluster,
            data_groups,
            first_voters,
        } => draft.init(cluster, data_groups, first_voters)?,
        MetaCommand::PutMember { member, replaces } => draft.put_member(member, replaces)?,
        MetaCommand::SetMemberState { node, state } => draft.set_state(node, state)?,
        MetaCommand::RemoveMember { node } => draft.remove_member(node)?,
        MetaCommand::PlaceGroup {
            group,
            placement,
            epoch,
        } => draft.place(group, placement, epoch)?,
        other => {
            let name = super::name_of(&other);
            return Err(Stop::Fault(format!("{name} is no topology command")));
        }
    };
    if !changed {
        return Ok(MetaReply::Unchanged);
    }
    let topology = &mut draft.topology;
    topology.epoch = topology.epoch.saturating_add(1);
    let record = TopologyRecord {
        cluster: topology.cluster,
        data_groups: topology.data_groups,
        first_voters: topology.first_voters,
        epoch: topology.epoch,
    };
    put(&mut draft.changes, keys::TOPOLOGY.to_vec(), &record)?;
    changes.append(&mut draft.changes);
    *shared = Arc::new(draft.topology);
    Ok(MetaReply::Done)
}

/// Whether a removed member would be missed by this placement. Who founded a
/// group that is formed is history.
fn names(placement: &Placement, node: NodeId) -> bool {
    placement.replicas.contains(&node) || (!placement.formed && placement.founder == node)
}

fn check_sizes(member: &Member) -> Result<(), Stop> {
    let bytes = |what: &str, text: &str| limit(what, text.len(), limits::ADDRESS_MAX_BYTES + 1);
    bytes("bytes of a member's name", &member.name)?;
    bytes("bytes of a member's version", &member.version)?;
    for address in &member.addresses {
        bytes("bytes of an address", address)?;
    }
    let count = member.addresses.len();
    limit(
        "addresses of a member",
        count,
        limits::ADDRESSES_PER_MEMBER + 1,
    )
}

struct Draft {
    topology: Topology,
    changes: Vec<Change>,
}

impl Draft {
    fn init(
        &mut self,
        cluster: ClusterId,
        data_groups: u32,
        first_voters: u32,
    ) -> Result<bool, Stop> {
        if self.topology.cluster.is_some() {
            return Ok(false);
        }
        limit(
            "data groups",
            data_groups as usize,
            limits::DATA_GROUPS_MAX + 1,
        )?;
        self.topology.cluster = Some(cluster);
        self.topology.data_groups = data_groups;
        self.topology.first_voters = first_voters;
        Ok(true)
    }

    fn formed(&self) -> Result<(), Stop> {
        match self.topology.cluster {
            Some(_) => Ok(()),
            None => Err(missing("cluster", "")),
        }
    }

    fn member(&mut self, node: NodeId) -> Result<&mut Member, Stop> {
        let member = self.topology.nodes.get_mut(&node);
        member.ok_or_else(|| missing("member", node))
    }

    fn put_member(&mut self, mut member: Member, replaces: Option<NodeId>) -> Result<bool, Stop> {
        self.formed()?;
        check_sizes(&member)?;
        let known = self.topology.nodes.get(&member.id);
        if replaces == Some(member.id) && known.is_none() {
            return Err(missing("member", member.id));
        }
        // One that is gone already was replaced by an earlier try of the same join.
        let gone = replaces
            .filter(|old| *old != member.id)
            .and_then(|old| self.topology.nodes.get(&old));
        if gone.is_some_and(|old| old.name != member.name) {
            return Err(conflict("member"));
        }
        let gone = gone.map(|old| old.id);
        let mut others = self.topology.nodes.values();
        let namesake = others
            .find(|m| m.name == member.name && m.id != member.id && Some(m.id) != gone)
            .is_some();
        if namesake {
            return Err(exists("member", &member.name));
        }
        match known {
            Some(known) => {
                // Whoever writes its own record may not have seen a drain yet.
                member.state = known.state;
                member.joined_at = known.joined_at;
                if gone.is_none() && *known == member {
                    return Ok(false);
                }
            }
            None => {
                let count = self.topology.nodes.len() - usize::from(gone.is_some());
                limit("members", count, limits::MEMBERS_MAX)?;
            }
        }
        if let Some(old) = gone {
            self.topology.nodes.remove(&old);
            remove(&mut self.changes, keys::member(old));
            self.substitute(old, member.id)?;
        }
        put(&mut self.changes, keys::member(member.id), &member)?;
        self.topology.nodes.insert(member.id, member);
        Ok(true)
    }

    /// Puts `new` where placements name `old`.
    fn substitute(&mut self, old: NodeId, new: NodeId) -> Result<(), Stop> {
        for (group, placement) in &mut self.topology.groups {
            if !names(placement, old) {
                continue;
            }
            placement.replicas.retain(|n| *n != new);
            for node in &mut placement.replicas {
                if *node == old {
                    *node = new;
                }
            }
            if !placement.formed && placement.founder == old {
                placement.founder = new;
            }
            put(&mut self.changes, keys::placement(*group), placement)?;
        }
        Ok(())
    }

    fn set_state(&mut self, node: NodeId, state: NodeState) -> Result<bool, Stop> {
        let stay = self
            .topology
            .nodes
            .values()
            .any(|m| m.id != node && m.state != NodeState::Leaving);
        let member = self.member(node)?;
        if member.state == state {
            return Ok(false);
        }
        // Two that leave at once must not leave nobody; and a group's founder
        // that leaves may be replaced, so it cannot come back.
        if member.state == NodeState::Leaving || (state == NodeState::Leaving && !stay) {
            return Err(conflict("member"));
        }
        member.state = state;
        let member = member.clone();
        put(&mut self.changes, keys::member(node), &member)?;
        Ok(true)
    }

    fn remove_member(&mut self, node: NodeId) -> Result<bool, Stop> {
        self.member(node)?;
        if self.topology.groups.values().any(|p| names(p, node)) {
            return Err(conflict("placement"));
        }
        if self.topology.nodes.len() == 1 {
            return Err(conflict("member"));
        }
        self.topology.nodes.remove(&node);
        remove(&mut self.changes, keys::member(node));
        Ok(true)
    }

    fn place(&mut self, group: GroupId, placement: Placement, epoch: u64) -> Result<bool, Stop> {
        let topology = &self.topology;
        if group == GroupId::META || group.0 > topology.data_groups {
            return Err(missing("data group", group.0));
        }
        let before = topology.groups.get(&group);
        if before == Some(&placement) {
            return Ok(false);
        }
        if epoch != topology.epoch {
            return Err(conflict("topology"));
        }
        limit(
            "replicas of a group",
            placement.replicas.len(),
            limits::REPLICAS_MAX + 1,
        )?;
        let distinct: BTreeSet<_> = placement.replicas.iter().collect();
        if distinct.is_empty() || distinct.len() != placement.replicas.len() {
            return Err(conflict("placement"));
        }
        if let Some(stranger) = distinct.iter().find(|n| !topology.nodes.contains_key(n)) {
            return Err(missing("member", stranger));
        }
        let founder = placement.founder;
        if !(placement.formed || placement.replicas.contains(&founder)) {
            return Err(conflict("founder"));
        }
        if let Some(before) = before {
            // A founder that may still come back could begin the group's log a second time.
            let old = topology.nodes.get(&before.founder);
            let final_founder = before.formed || old.is_some_and(|m| m.state != NodeState::Leaving);
            if (before.formed && !placement.formed) || (final_founder && founder != before.founder)
            {
                return Err(conflict("founder"));
            }
        }
        put(&mut self.changes, keys::placement(group), &placement)?;
        self.topology.groups.insert(group, placement);
        Ok(true)
    }
}

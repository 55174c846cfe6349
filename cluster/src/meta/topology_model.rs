//! The topology commands' meaning once more, naively, and random ones.

use orama_proto::command::MetaCommand;
use orama_proto::topology::{ClusterId, Member, NodeState, Placement, Topology};
use orama_proto::{GroupId, NodeId, Timestamp, limits};
use proptest::prelude::*;

use super::model::Kind;

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct TopologyModel {
    pub(super) cluster: Option<(ClusterId, u32)>,
    pub(super) epoch: u64,
    pub(super) members: Vec<Member>,
    pub(super) placements: Vec<(GroupId, Placement)>,
}

impl From<&Topology> for TopologyModel {
    fn from(topology: &Topology) -> Self {
        Self {
            cluster: topology.cluster.map(|c| (c, topology.data_groups)),
            epoch: topology.epoch,
            members: topology.nodes.values().cloned().collect(),
            placements: topology
                .groups
                .iter()
                .map(|(g, p)| (*g, p.clone()))
                .collect(),
        }
    }
}

impl TopologyModel {
    pub(super) fn sorted(mut self) -> Self {
        self.members.sort_by_key(|m| m.id);
        self.placements.sort_by_key(|p| p.0);
        self
    }

    fn at(&self, id: NodeId) -> Option<usize> {
        self.members.iter().position(|m| m.id == id)
    }

    pub(super) fn apply(&mut self, command: &MetaCommand) -> Option<Kind> {
        let kind = match command.clone() {
            MetaCommand::InitCluster {
                cluster,
                data_groups,
                ..
            } => self.init(cluster, data_groups),
            MetaCommand::PutMember { member, replaces } => self.put(member, replaces),
            MetaCommand::SetMemberState { node, state } => self.state(node, state),
            MetaCommand::RemoveMember { node } => self.remove(node),
            MetaCommand::PlaceGroup {
                group,
                placement,
                epoch,
            } => self.place(group, placement, epoch),
            _ => return None,
        };
        self.epoch += u64::from(kind == Kind::Done);
        Some(kind)
    }

    fn init(&mut self, cluster: ClusterId, groups: u32) -> Kind {
        if self.cluster.is_some() {
            return Kind::Unchanged;
        }
        if groups as usize > limits::DATA_GROUPS_MAX {
            return Kind::Limit;
        }
        self.cluster = Some((cluster, groups));
        Kind::Done
    }

    fn put(&mut self, mut member: Member, replaces: Option<NodeId>) -> Kind {
        if self.cluster.is_none() {
            return Kind::Missing;
        }
        if member.addresses.len() > limits::ADDRESSES_PER_MEMBER {
            return Kind::Limit;
        }
        let present = self.at(member.id);
        if replaces == Some(member.id) && present.is_none() {
            return Kind::Missing;
        }
        let old = replaces.filter(|o| *o != member.id && self.at(*o).is_some());
        if let Some(old) = old
            && self.members[self.at(old).unwrap()].name != member.name
        {
            return Kind::Conflict;
        }
        for m in &self.members {
            if m.name == member.name && m.id != member.id && Some(m.id) != old {
                return Kind::Exists;
            }
        }
        if let Some(at) = present {
            member.state = self.members[at].state;
            member.joined_at = self.members[at].joined_at;
            if self.members[at] == member && old.is_none() {
                return Kind::Unchanged;
            }
            self.members.remove(at);
        }
        if let Some(old) = old {
            self.members.retain(|m| m.id != old);
            for (_, p) in &mut self.placements {
                if p.replicas.contains(&old) {
                    p.replicas.retain(|n| *n != member.id);
                    let at = p.replicas.iter().position(|n| *n == old).unwrap();
                    p.replicas[at] = member.id;
                }
                if p.founder == old && !p.formed {
                    p.founder = member.id;
                }
            }
        }
        self.members.push(member);
        Kind::Done
    }

    fn state(&mut self, node: NodeId, state: NodeState) -> Kind {
        let Some(at) = self.at(node) else {
            return Kind::Missing;
        };
        let before = self.members[at].state;
        if before == state {
            return Kind::Unchanged;
        }
        let left = self
            .members
            .iter()
            .filter(|m| m.id != node && m.state != NodeState::Leaving)
            .count();
        if before == NodeState::Leaving || (state == NodeState::Leaving && left == 0) {
            return Kind::Conflict;
        }
        self.members[at].state = state;
        Kind::Done
    }

    fn remove(&mut self, node: NodeId) -> Kind {
        let Some(at) = self.at(node) else {
            return Kind::Missing;
        };
        for (_, p) in &self.placements {
            if p.replicas.contains(&node) || (p.founder == node && !p.formed) {
                return Kind::Conflict;
            }
        }
        if self.members.len() == 1 {
            return Kind::Conflict;
        }
        self.members.remove(at);
        Kind::Done
    }

    fn place(&mut self, group: GroupId, new: Placement, epoch: u64) -> Kind {
        let groups = self.cluster.map_or(0, |c| c.1);
        if group.0 == 0 || group.0 > groups {
            return Kind::Missing;
        }
        let before = self.placements.iter().position(|p| p.0 == group);
        if before.is_some_and(|at| self.placements[at].1 == new) {
            return Kind::Unchanged;
        }
        if epoch != self.epoch {
            return Kind::Conflict;
        }
        let mut nodes = new.replicas.clone();
        nodes.sort();
        nodes.dedup();
        if nodes.is_empty() || nodes.len() < new.replicas.len() {
            return Kind::Conflict;
        }
        if nodes.iter().any(|n| self.at(*n).is_none()) {
            return Kind::Missing;
        }
        if !new.formed && !new.replicas.contains(&new.founder) {
            return Kind::Conflict;
        }
        if let Some(at) = before {
            let old = &self.placements[at].1;
            let stays = self
                .at(old.founder)
                .is_some_and(|m| self.members[m].state != NodeState::Leaving);
            if old.formed && (!new.formed || new.founder != old.founder) {
                return Kind::Conflict;
            }
            if stays && new.founder != old.founder {
                return Kind::Conflict;
            }
            self.placements.remove(at);
        }
        self.placements.push((group, new));
        Kind::Done
    }
}

/// Few nodes, names and groups, so that commands meet. Epochs are small: the
/// driver of a test replaces [`NOW`] by the present one.
pub(super) fn commands() -> impl Strategy<Value = MetaCommand> {
    let node = || (1u64..5).prop_map(NodeId);
    let state = prop::sample::select(vec![
        NodeState::Active,
        NodeState::Draining,
        NodeState::Leaving,
    ]);
    let member = (node(), 0u8..4, 0usize..3).prop_map(|(id, name, addresses)| Member {
        id,
        name: format!("n{name}"),
        addresses: vec!["/ip4/10.0.0.1/tcp/1".into(); addresses],
        version: "1".into(),
        state: NodeState::Active,
        joined_at: Timestamp(id.0),
    });
    let placement = (prop::collection::vec(node(), 0..4), node(), any::<bool>()).prop_map(
        |(replicas, founder, formed)| Placement {
            replicas,
            founder,
            formed,
        },
    );
    prop_oneof![
        1 => (any::<u128>(), 0u32..4).prop_map(|(id, data_groups)| MetaCommand::InitCluster { cluster: ClusterId(id), data_groups, first_voters: data_groups }),
        6 => (member, prop::option::of(node())).prop_map(|(member, replaces)| MetaCommand::PutMember { member, replaces }),
        2 => (node(), state).prop_map(|(node, state)| MetaCommand::SetMemberState { node, state }),
        2 => node().prop_map(|node| MetaCommand::RemoveMember { node }),
        8 => (0u32..4, placement, prop::option::weighted(0.1, 0u64..20)).prop_map(|(group, placement, epoch)| MetaCommand::PlaceGroup {
            group: GroupId(group), placement, epoch: epoch.unwrap_or(NOW),
        }),
    ]
}

/// Stands for "the present epoch" in a random command.
pub(super) const NOW: u64 = u64::MAX;

/// Replaces [`NOW`].
pub(super) fn at_epoch(command: MetaCommand, now: u64) -> MetaCommand {
    match command {
        MetaCommand::PlaceGroup {
            group,
            placement,
            epoch: NOW,
        } => MetaCommand::PlaceGroup {
            group,
            placement,
            epoch: now,
        },
        other => other,
    }
}

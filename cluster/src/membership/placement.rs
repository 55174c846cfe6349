//! Where data groups should live: a pure function from what the leader of
//! `meta` knows to what should change. Nothing here waits, asks or remembers.
//!
//! - A placement changes when a member joined, leaves, was removed, or has been
//!   out of contact for long and another can take its place. Lost contact alone
//!   changes nothing.
//! - One replica of a group changes at a time, and only when the last change
//!   has arrived in the group itself.
//! - Leaders move only to make a difference of two smaller.

use std::collections::{BTreeMap, BTreeSet};

use orama_proto::topology::{NodeState, Placement, Topology};
use orama_proto::{GroupId, NodeId};

use super::quorum::CLOSE;
use crate::consensus::GroupView;

/// What the leader of `meta` knows.
#[derive(Debug)]
pub(super) struct Picture<'a> {
    pub(super) topology: &'a Topology,
    /// The metadata group.
    pub(super) meta: &'a GroupView,
    /// Data groups as their leaders see them; one without a leader is missing.
    pub(super) groups: &'a BTreeMap<GroupId, GroupView>,
    /// Members that can be reached, this node among them.
    pub(super) linked: &'a BTreeSet<NodeId>,
    /// Members out of contact for so long that they are replaced.
    pub(super) gone: &'a BTreeSet<NodeId>,
    /// Groups whose leader moved a moment ago.
    pub(super) resting: &'a BTreeSet<GroupId>,
    /// Replicas of a group, as far as there are nodes.
    pub(super) replicas: usize,
    /// A cluster that is being formed has the voters it waits for.
    pub(super) complete: bool,
}

/// What should be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Forget a member that holds nothing any more.
    Remove(NodeId),
    /// Place a group so.
    Place(GroupId, Placement),
    /// Have the group's leader hand over.
    Lead {
        group: GroupId,
        from: NodeId,
        to: NodeId,
    },
}

impl Action {
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Remove(_) => "remove_member",
            Self::Place(..) => "place_group",
            Self::Lead { .. } => "move_leader",
        }
    }
}

/// What should be done now, at most one of each kind.
pub(super) fn plan(picture: &Picture<'_>) -> Vec<Action> {
    let mut actions: Vec<Action> = picture.removal().into_iter().collect();
    match picture.place() {
        Some(action) => actions.push(action),
        None => actions.extend(picture.balance_leaders()),
    }
    actions
}

impl Picture<'_> {
    fn state(&self, node: NodeId) -> Option<NodeState> {
        self.topology.nodes.get(&node).map(|m| m.state)
    }

    /// May get something new.
    fn eligible(&self, node: NodeId) -> bool {
        self.state(node) == Some(NodeState::Active) && self.linked.contains(&node)
    }

    /// A leaving member that holds nothing any more.
    fn removal(&self) -> Option<Action> {
        let leaving = self.topology.nodes.values();
        leaving
            .filter(|m| m.state == NodeState::Leaving)
            .map(|m| m.id)
            .find(|id| !self.meta.voters.contains(id) && !self.holds(*id))
            .filter(|_| !self.meta.changing)
            .map(Action::Remove)
    }

    /// Whether a data group needs the node or may still count on it.
    fn holds(&self, node: NodeId) -> bool {
        self.topology.groups.iter().any(|(group, placement)| {
            let named = placement.replicas.contains(&node)
                || (!placement.formed && placement.founder == node);
            let inside = match self.groups.get(group) {
                Some(view) => view.voters.contains(&node) || view.learners.contains(&node),
                // Nobody knows: as if it did.
                None => placement.formed,
            };
            named || inside
        })
    }

    fn counts(&self) -> BTreeMap<NodeId, usize> {
        let mut counts: BTreeMap<_, _> = self.topology.nodes.keys().map(|n| (*n, 0)).collect();
        for placement in self.topology.groups.values() {
            for node in &placement.replicas {
                *counts.entry(*node).or_default() += 1;
            }
        }
        counts
    }

    /// Members that may get a replica, the emptiest first.
    fn spare(&self, except: &[NodeId]) -> Vec<NodeId> {
        let mut spare: Vec<_> = self
            .counts()
            .into_iter()
            .filter(|(node, _)| self.eligible(*node) && !except.contains(node))
            .map(|(node, count)| (count, node))
            .collect();
        spare.sort_unstable();
        spare.into_iter().map(|(_, node)| node).collect()
    }

    /// The first placement that should change.
    fn place(&self) -> Option<Action> {
        if !self.complete {
            return None;
        }
        let all = (1..=self.topology.data_groups).map(GroupId);
        for group in all {
            let next = match self.topology.groups.get(&group) {
                None => self.first(),
                Some(now) if !now.formed => self.other_founder(now),
                Some(now) => self.mend(group, now),
            };
            if let Some(next) = next {
                return Some(Action::Place(group, next));
            }
        }
        self.even_out()
    }

    fn first(&self) -> Option<Placement> {
        let mut replicas = self.spare(&[]);
        replicas.truncate(self.replicas.max(1));
        let founded = |node: &NodeId| {
            let placements = self.topology.groups.values();
            placements.filter(|p| p.founder == *node).count()
        };
        let founder = *replicas.iter().min_by_key(|n| (founded(n), **n))?;
        Some(Placement {
            replicas,
            founder,
            formed: false,
        })
    }

    /// Another founder for one that leaves and cannot be reached. Its group was
    /// never used, and leaving is final, so that it cannot begin it any more.
    fn other_founder(&self, now: &Placement) -> Option<Placement> {
        let leaves = self.state(now.founder) == Some(NodeState::Leaving);
        (leaves && !self.linked.contains(&now.founder)).then(|| self.first())?
    }

    /// Whether the last change of the placement has arrived in the group.
    fn settled(&self, group: GroupId, now: &Placement) -> bool {
        self.groups.get(&group).is_some_and(|view| {
            let inside: BTreeSet<_> = view.voters.union(&view.learners).collect();
            let named: BTreeSet<_> = now.replicas.iter().collect();
            view.leader.is_some() && !view.changing && inside == named
        })
    }

    fn mend(&self, group: GroupId, now: &Placement) -> Option<Placement> {
        let view = self.groups.get(&group).filter(|v| v.leader.is_some())?;
        let settled = self.settled(group, now);
        let inside = |n: &NodeId| view.voters.contains(n) || view.learners.contains(n);
        let leaves = |n: &NodeId| matches!(self.state(*n), Some(NodeState::Leaving) | None);
        let lost = |n: &NodeId| self.gone.contains(n) && !self.linked.contains(n);
        let spare = self.spare(&now.replicas);
        // One that is not in the group yet can be exchanged although the change
        // that brings it is under way: it has nothing to lose.
        let bad = now
            .replicas
            .iter()
            .filter(|n| settled || !inside(n))
            .find(|n| leaves(n) || lost(n));
        if let Some(bad) = bad {
            let mut replicas = now.replicas.clone();
            match spare.first() {
                Some(other) => {
                    for node in &mut replicas {
                        if node == bad {
                            *node = *other;
                        }
                    }
                }
                // Fewer replicas only for one that leaves for good, and only when
                // one that has everything stays.
                None if leaves(bad) => replicas.retain(|n| n != bad),
                None => return None,
            }
            let keeps = |n: &NodeId| {
                inside(n)
                    && self.linked.contains(n)
                    && (view.leader == Some(*n) || view.caught_up(*n, CLOSE))
            };
            if !replicas.iter().any(keeps) {
                // The only full copy goes last: first there is one more.
                let room = settled && now.replicas.len() < self.replicas.max(2);
                replicas = now.replicas.clone();
                replicas.push(*spare.first().filter(|_| room)?);
                if !replicas.iter().any(keeps) {
                    return None;
                }
            }
            return Some(Placement {
                replicas,
                ..now.clone()
            });
        }
        if settled && now.replicas.len() < self.replicas {
            let mut replicas = now.replicas.clone();
            replicas.push(*spare.first()?);
            return Some(Placement {
                replicas,
                ..now.clone()
            });
        }
        None
    }

    /// Moves one replica from the fullest member to the emptiest, when all groups are settled.
    fn even_out(&self) -> Option<Action> {
        let groups = &self.topology.groups;
        if !groups.iter().all(|(g, p)| p.formed && self.settled(*g, p)) {
            return None;
        }
        let counts = self.counts();
        let active = |n: &NodeId| self.eligible(*n);
        let (empty, fewest) = counts
            .iter()
            .filter(|(n, _)| active(n))
            .min_by_key(|(n, count)| (**count, **n))?;
        let (full, most) = counts
            .iter()
            .filter(|(n, _)| active(n))
            .max_by_key(|(n, count)| (**count, **n))?;
        if *most < *fewest + 2 {
            return None;
        }
        // Rather a follower's copy than the leader's.
        let (group, now) = groups
            .iter()
            .filter(|(_, p)| p.replicas.contains(full) && !p.replicas.contains(empty))
            .min_by_key(|(g, _)| {
                (
                    self.groups.get(*g).and_then(|v| v.leader) == Some(*full),
                    **g,
                )
            })?;
        let mut next = now.clone();
        for node in &mut next.replicas {
            if node == full {
                *node = *empty;
            }
        }
        Some(Action::Place(*group, next))
    }

    fn balance_leaders(&self) -> Option<Action> {
        let mut leads: BTreeMap<NodeId, usize> = self
            .topology
            .nodes
            .keys()
            .filter(|n| self.eligible(**n))
            .map(|n| (*n, 0))
            .collect();
        for view in self.groups.values() {
            if let Some(count) = view.leader.and_then(|n| leads.get_mut(&n)) {
                *count += 1;
            }
        }
        for (group, placement) in &self.topology.groups {
            let Some(view) = self.groups.get(group) else {
                continue;
            };
            if self.resting.contains(group) || !self.settled(*group, placement) {
                continue;
            }
            // A leader that drains hands over by itself.
            let Some((from, has)) = view.leader.and_then(|n| Some((n, *leads.get(&n)?))) else {
                continue;
            };
            let to = view
                .voters
                .iter()
                .filter(|n| **n != from && view.caught_up(**n, CLOSE))
                .filter_map(|n| Some((*leads.get(n)?, *n)))
                .min();
            if let Some((count, to)) = to
                && has >= count + 2
            {
                let group = *group;
                return Some(Action::Lead { group, from, to });
            }
        }
        None
    }
}

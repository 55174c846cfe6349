//! What the planner decides, case by case and over random histories.

use std::collections::{BTreeMap, BTreeSet};

use orama_proto::topology::{ClusterId, Member, NodeState, Placement, Topology};
use orama_proto::{GroupId, NodeId, Timestamp};
use proptest::prelude::*;

use super::placement::{Action, Picture, plan};
use crate::consensus::GroupView;

struct World {
    topology: Topology,
    meta: GroupView,
    groups: BTreeMap<GroupId, GroupView>,
    linked: BTreeSet<NodeId>,
    gone: BTreeSet<NodeId>,
    resting: BTreeSet<GroupId>,
    complete: bool,
}

impl World {
    fn new(nodes: u64, groups: u32) -> Self {
        let mut world = Self {
            topology: Topology {
                cluster: Some(ClusterId(1)),
                data_groups: groups,
                ..Topology::default()
            },
            meta: GroupView::default(),
            groups: BTreeMap::new(),
            linked: BTreeSet::new(),
            gone: BTreeSet::new(),
            resting: BTreeSet::new(),
            complete: true,
        };
        for n in 1..=nodes {
            world.join(n);
        }
        world
    }
    fn join(&mut self, n: u64) {
        let id = NodeId(n);
        let member = Member {
            id,
            name: format!("n{n}"),
            addresses: Vec::new(),
            version: "1".into(),
            state: NodeState::Active,
            joined_at: Timestamp(0),
        };
        self.topology.nodes.insert(id, member);
        self.linked.insert(id);
    }
    fn state(&mut self, n: u64, state: NodeState) {
        self.topology.nodes.get_mut(&NodeId(n)).unwrap().state = state;
    }
    fn die(&mut self, n: u64) {
        self.linked.remove(&NodeId(n));
        self.gone.insert(NodeId(n));
    }
    fn plan(&self) -> Vec<Action> {
        plan(&Picture {
            topology: &self.topology,
            meta: &self.meta,
            groups: &self.groups,
            linked: &self.linked,
            gone: &self.gone,
            resting: &self.resting,
            replicas: 3,
            complete: self.complete,
        })
    }
    /// The groups do what the placement says, as far as their members live.
    fn follow(&mut self) {
        for (group, placement) in &mut self.topology.groups {
            if !placement.formed {
                if !self.linked.contains(&placement.founder) {
                    continue;
                }
                placement.formed = true;
                let view = self.groups.entry(*group).or_default();
                view.leader = Some(placement.founder);
                view.voters = BTreeSet::from([placement.founder]);
            }
            let view = self.groups.entry(*group).or_default();
            let live = |n: &&NodeId| self.linked.contains(n);
            if view.voters.iter().filter(live).count() * 2 <= view.voters.len() {
                view.leader = None;
                continue;
            }
            let named: BTreeSet<NodeId> = placement.replicas.iter().copied().collect();
            if named
                .iter()
                .all(|n| self.linked.contains(n) || view.voters.contains(n))
            {
                view.voters = named;
            }
            if !view
                .leader
                .is_some_and(|l| view.voters.contains(&l) && self.linked.contains(&l))
            {
                view.leader = view.voters.iter().find(live).copied();
            }
            view.last = 10;
            view.matched = view.voters.iter().filter(live).map(|n| (*n, 10)).collect();
        }
    }
    fn act(&mut self, action: Action) {
        match action {
            Action::Remove(node) => {
                assert!(
                    self.topology
                        .groups
                        .values()
                        .all(|p| !p.replicas.contains(&node))
                );
                self.topology.nodes.remove(&node);
                self.linked.remove(&node);
                self.gone.remove(&node);
            }
            Action::Place(group, placement) => {
                let before = self.topology.groups.insert(group, placement.clone());
                self.check(group, before, &placement);
            }
            Action::Lead { group, from, to } => {
                let view = self.groups.get_mut(&group).unwrap();
                assert_eq!(view.leader, Some(from));
                assert!(view.voters.contains(&to));
                view.leader = Some(to);
            }
        }
    }
    /// What may never be planned.
    fn check(&self, group: GroupId, before: Option<Placement>, after: &Placement) {
        assert!(!after.replicas.is_empty() && after.replicas.len() <= 3);
        let Some(before) = before else { return };
        assert!(!before.formed || (after.formed && after.founder == before.founder));
        let lost: Vec<_> = before
            .replicas
            .iter()
            .filter(|n| !after.replicas.contains(n))
            .collect();
        assert!(
            lost.len() <= 1 || !before.formed,
            "one at a time: {before:?} {after:?}"
        );
        if before.formed {
            let view = &self.groups[&group];
            assert!(view.leader.is_some(), "{group} has no leader");
            let full = |n: &NodeId| self.linked.contains(n) && view.matched.contains_key(n);
            assert!(
                after.replicas.iter().any(full),
                "the last full replica went"
            );
        }
        for new in after
            .replicas
            .iter()
            .filter(|n| !before.replicas.contains(n))
        {
            assert_eq!(self.topology.nodes[new].state, NodeState::Active);
            assert!(self.linked.contains(new));
        }
    }
    fn settle(&mut self) -> usize {
        for round in 0..400 {
            self.follow();
            let actions = self.plan();
            if actions.is_empty() {
                return round;
            }
            let action = actions.into_iter().next().unwrap();
            self.act(action);
        }
        panic!("it never comes to rest: {:?}", self.plan());
    }
    fn counts(&self) -> Vec<usize> {
        let nodes = self.topology.nodes.values();
        nodes
            .filter(|m| m.state == NodeState::Active && self.linked.contains(&m.id))
            .map(|m| {
                let groups = self.topology.groups.values();
                groups.filter(|p| p.replicas.contains(&m.id)).count()
            })
            .collect()
    }
    fn leads(&self) -> BTreeMap<NodeId, usize> {
        let mut leads = BTreeMap::new();
        for view in self.groups.values() {
            *leads.entry(view.leader.unwrap()).or_default() += 1;
        }
        leads
    }
}

#[test]
fn groups_are_placed_when_the_cluster_is_complete() {
    let mut world = World::new(3, 4);
    world.complete = false;
    assert!(world.plan().is_empty());
    world.complete = true;
    world.settle();
    assert_eq!(world.counts(), [4, 4, 4]);
    let founders: BTreeSet<_> = world.topology.groups.values().map(|p| p.founder).collect();
    assert_eq!(founders.len(), 3, "founders are spread");
}

#[test]
fn a_cluster_of_one_grows_and_is_evened_out() {
    let mut world = World::new(1, 4);
    world.settle();
    assert_eq!(world.counts(), [4]);
    world.join(2);
    world.join(3);
    world.settle();
    assert_eq!(world.counts(), [4, 4, 4]);
    world.join(4);
    world.join(5);
    world.settle();
    let counts = world.counts();
    assert_eq!(counts.iter().sum::<usize>(), 12);
    assert!(counts.iter().all(|n| (2..=3).contains(n)), "{counts:?}");
    let leads = world.leads();
    assert!(leads.values().all(|n| *n <= 2), "{leads:?}");
}

#[test]
fn lost_contact_alone_changes_nothing() {
    let mut world = World::new(5, 4);
    world.settle();
    world.linked.remove(&NodeId(2));
    world.follow();
    let places = world
        .plan()
        .into_iter()
        .filter(|a| !matches!(a, Action::Lead { .. }));
    assert_eq!(places.count(), 0);
}

#[test]
fn one_that_is_gone_for_long_is_replaced_where_another_can() {
    let mut world = World::new(3, 4);
    world.settle();
    world.die(3);
    let before = world.topology.groups.clone();
    world.settle();
    assert_eq!(world.topology.groups, before, "nobody to take over");
    world.join(4);
    world.settle();
    assert_eq!(world.counts(), [4, 4, 4]);
    // It comes back and is used again, evenly.
    world.gone.clear();
    world.linked.insert(NodeId(3));
    world.settle();
    assert_eq!(world.counts(), [3, 3, 3, 3]);
}

#[test]
fn a_group_without_a_leader_is_left_alone() {
    let mut world = World::new(4, 1);
    world.settle();
    let held = world.topology.groups[&GroupId(1)].replicas.clone();
    world.die(held[0].0);
    world.die(held[1].0);
    world.groups.clear();
    assert!(world.plan().is_empty());
}

#[test]
fn whoever_leaves_loses_everything_and_is_removed_last() {
    let mut world = World::new(4, 4);
    world.settle();
    world.state(1, NodeState::Leaving);
    world.meta.voters = BTreeSet::from([NodeId(1)]);
    world.settle();
    assert!(
        world.topology.nodes.contains_key(&NodeId(1)),
        "it still votes"
    );
    world.meta.voters.clear();
    world.settle();
    assert!(!world.topology.nodes.contains_key(&NodeId(1)));
    assert_eq!(world.counts(), [4, 4, 4]);
    world.state(2, NodeState::Leaving);
    world.settle();
    assert_eq!(world.counts(), [4, 4], "fewer replicas than wanted");
}

#[test]
fn a_draining_node_gets_nothing_new() {
    let mut world = World::new(3, 3);
    world.state(3, NodeState::Draining);
    world.settle();
    assert!(
        world
            .topology
            .groups
            .values()
            .all(|p| !p.replicas.contains(&NodeId(3)))
    );
}

#[test]
fn leaders_rest_after_a_move() {
    let mut world = World::new(3, 4);
    world.settle();
    for view in world.groups.values_mut() {
        view.leader = Some(NodeId(1));
    }
    let first = world.plan();
    let [Action::Lead { group, from, .. }] = first[..] else {
        panic!("{first:?}")
    };
    assert_eq!(from, NodeId(1));
    world.resting.insert(group);
    let next = world.plan();
    assert!(matches!(next[..], [Action::Lead { group: other, .. }] if other != group));
    world.resting = world.groups.keys().copied().collect();
    assert!(world.plan().is_empty());
}

#[derive(Debug, Clone)]
enum Event {
    Join,
    Die(u64),
    Return(u64),
    Drain(u64),
    Leave(u64),
    Step,
}

fn events() -> impl Strategy<Value = Event> {
    let node = || 1u64..8;
    prop_oneof![
        2 => Just(Event::Join),
        1 => node().prop_map(Event::Die),
        2 => node().prop_map(Event::Return),
        1 => node().prop_map(Event::Drain),
        1 => node().prop_map(Event::Leave),
        8 => Just(Event::Step),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// `World::act` checks every decision; here the world just turns.
    #[test]
    fn no_history_leads_to_a_dangerous_plan(events in prop::collection::vec(events(), 1..60)) {
        let mut world = World::new(3, 4);
        let mut next = 4;
        for event in events {
            let present = |w: &World, n: u64| w.topology.nodes.contains_key(&NodeId(n));
            match event {
                Event::Join if next < 8 => { world.join(next); next += 1; }
                Event::Join => {}
                Event::Die(n) if present(&world, n) && world.linked.len() > 1 => world.die(n),
                Event::Return(n) if present(&world, n) => {
                    world.linked.insert(NodeId(n));
                    world.gone.remove(&NodeId(n));
                }
                Event::Drain(n) if present(&world, n) => world.state(n, NodeState::Draining),
                Event::Leave(n) if present(&world, n) => {
                    let stay = world.topology.nodes.values()
                        .filter(|m| m.id != NodeId(n) && m.state != NodeState::Leaving).count();
                    if stay > 0 { world.state(n, NodeState::Leaving); }
                }
                Event::Step => {
                    for action in world.plan().into_iter().take(1) { world.act(action); }
                    world.follow();
                }
                _ => {}
            }
        }
        // Everybody back: it comes to rest, and whoever leaves is gone.
        let all: Vec<_> = world.topology.nodes.keys().copied().collect();
        world.linked.extend(all);
        world.gone.clear();
        world.settle();
        let any = |state| world.topology.nodes.values().any(|m| m.state == state);
        // Only draining nodes left: nobody takes anything new, and whoever has it stays.
        prop_assert!(any(NodeState::Active) || any(NodeState::Draining));
        if any(NodeState::Active) {
            prop_assert!(!any(NodeState::Leaving));
        }
    }
}

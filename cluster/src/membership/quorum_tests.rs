//! Steps towards the wanted members, one by one and at random.

use std::collections::{BTreeMap, BTreeSet};

use orama_proto::NodeId;
use proptest::prelude::*;

use super::quorum::{Step, Wanted, majority, odd};
use crate::consensus::GroupView;

fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().map(|n| NodeId(*n)).collect()
}

fn view(voters: &[u64], learners: &[u64]) -> GroupView {
    let all = voters.iter().chain(learners);
    GroupView {
        leader: Some(NodeId(1)),
        last: 1000,
        voters: set(voters),
        learners: set(learners),
        matched: all.map(|n| (NodeId(*n), 1000)).collect(),
        ..GroupView::default()
    }
}

struct Case {
    view: GroupView,
    want: BTreeSet<NodeId>,
    hold: BTreeSet<NodeId>,
    linked: BTreeSet<NodeId>,
    gone: BTreeSet<NodeId>,
    active: BTreeSet<NodeId>,
}

impl Case {
    fn new(voters: &[u64], learners: &[u64], want: &[u64]) -> Self {
        let all: Vec<u64> = (1..10).collect();
        Self {
            view: view(voters, learners),
            want: set(want),
            hold: set(want),
            linked: set(&all),
            gone: set(&[]),
            active: set(&all),
        }
    }
    fn dead(mut self, node: u64) -> Self {
        self.linked.remove(&NodeId(node));
        self.gone.insert(NodeId(node));
        self
    }
    fn cut(mut self, node: u64) -> Self {
        self.linked.remove(&NodeId(node));
        self
    }
    fn behind(mut self, node: u64) -> Self {
        self.view.matched.insert(NodeId(node), 5);
        self
    }
    fn drained(mut self, node: u64) -> Self {
        self.active.remove(&NodeId(node));
        self
    }
    fn step(&self) -> Option<Step> {
        Wanted {
            me: NodeId(1),
            view: &self.view,
            want: &self.want,
            hold: &self.hold,
            linked: &self.linked,
            gone: &self.gone,
            active: &self.active,
            voters_max: 5,
        }
        .step()
    }
}

fn voters(nodes: &[u64]) -> Option<Step> {
    Some(Step::SetVoters(set(nodes)))
}

#[test]
fn a_cluster_grows_to_odd_numbers() {
    assert_eq!(Case::new(&[1], &[], &[1]).step(), None);
    let two = Case::new(&[1], &[], &[1, 2]).step();
    assert_eq!(two, Some(Step::AddLearner(NodeId(2))));
    assert_eq!(
        Case::new(&[1], &[2], &[1, 2]).step(),
        None,
        "one voter of two"
    );
    assert_eq!(Case::new(&[1], &[2, 3], &[1, 2, 3]).behind(3).step(), None);
    assert_eq!(
        Case::new(&[1], &[2, 3], &[1, 2, 3]).step(),
        voters(&[1, 2, 3])
    );
    assert_eq!(Case::new(&[1, 2, 3], &[4], &[1, 2, 3, 4]).step(), None);
    assert_eq!(
        Case::new(&[1, 2, 3], &[4, 5], &[1, 2, 3, 4, 5]).step(),
        voters(&[1, 2, 3, 4, 5])
    );
    let six = Case::new(&[1, 2, 3, 4, 5], &[6, 7], &[1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(six.step(), None, "five at most");
}

#[test]
fn a_voter_is_replaced_only_by_one_that_is_there() {
    let gone = Case::new(&[1, 2, 3], &[], &[1, 2, 3]).dead(3);
    assert_eq!(gone.step(), None, "nobody else");
    let spare = || Case::new(&[1, 2, 3], &[4], &[1, 2, 3, 4]);
    assert_eq!(spare().dead(3).step(), voters(&[1, 2, 4]));
    assert_eq!(spare().cut(3).step(), None, "not gone long enough");
    assert_eq!(spare().dead(3).behind(4).step(), None, "not caught up");
    assert_eq!(spare().dead(3).dead(4).step(), None);
}

#[test]
fn one_that_was_removed_stays_until_its_successor_votes() {
    let next = |learners: &[u64]| Case::new(&[1, 2, 3], learners, &[1, 2, 4]).cut(3);
    assert_eq!(next(&[]).step(), Some(Step::AddLearner(NodeId(4))));
    assert_eq!(next(&[4]).behind(4).step(), None);
    assert_eq!(next(&[4]).cut(4).step(), None, "cut off for a moment");
    assert_eq!(next(&[4]).step(), voters(&[1, 2, 4]));
    let done = Case::new(&[1, 2, 4], &[3], &[1, 2, 4]);
    assert_eq!(done.step(), Some(Step::RemoveLearner(NodeId(3))));
}

#[test]
fn whoever_leaves_is_demoted_first_and_a_leader_hands_over() {
    let mut five = Case::new(&[1, 2, 3, 4, 5], &[], &[1, 2, 3, 4]);
    five.hold = set(&[1, 2, 3, 4, 5]);
    assert_eq!(five.step(), voters(&[1, 2, 3]));
    let leader = Case::new(&[1, 2, 3], &[], &[2, 3]);
    assert_eq!(leader.step(), Some(Step::HandOver(NodeId(2))));
    let last = Case::new(&[1], &[2], &[2]);
    assert_eq!(last.step(), voters(&[2]), "nobody to hand over to");
    let draining = Case::new(&[1, 2, 3], &[], &[1, 2, 3]).drained(1);
    assert_eq!(draining.step(), Some(Step::HandOver(NodeId(2))));
    assert_eq!(draining.drained(2).behind(3).step(), None);
}

#[test]
fn without_a_majority_nothing_is_begun() {
    let cut = Case::new(&[1, 2, 3], &[4], &[1, 2, 3, 4, 5]);
    assert_eq!(cut.dead(2).dead(3).step(), None);
    let mut busy = Case::new(&[1], &[2, 3], &[1, 2, 3]);
    busy.view.changing = true;
    assert_eq!(busy.step(), None);
    busy.view.changing = false;
    busy.view.leader = Some(NodeId(2));
    assert_eq!(busy.step(), None);
}

#[test]
fn odd_numbers() {
    let odds: Vec<_> = (0..7).map(odd).collect();
    assert_eq!(odds, [1, 1, 1, 3, 3, 5, 5]);
}

fn nodes() -> impl Strategy<Value = BTreeSet<NodeId>> {
    prop::collection::btree_set((1u64..8).prop_map(NodeId), 0..7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_step_endangers_the_group(
        voters in nodes(), learners in nodes(), want in nodes(), more in nodes(),
        linked in nodes(), gone in nodes(), active in nodes(), slow in nodes(),
    ) {
        let me = NodeId(1);
        let mut voters = voters;
        voters.insert(me);
        let learners: BTreeSet<_> = learners.difference(&voters).copied().collect();
        let mut linked = linked;
        linked.insert(me);
        let gone: BTreeSet<_> = gone.difference(&linked).copied().collect();
        let hold: BTreeSet<_> = want.union(&more).copied().collect();
        let all: Vec<NodeId> = voters.union(&learners).copied().collect();
        let matched: BTreeMap<_, _> =
            all.iter().map(|n| (*n, if slow.contains(n) { 1 } else { 1000 })).collect();
        let view = GroupView {
            leader: Some(me), last: 1000, voters, learners, matched, ..GroupView::default()
        };
        let wanted = Wanted {
            me, view: &view, want: &want, hold: &hold, linked: &linked, gone: &gone,
            active: &active, voters_max: 5,
        };
        match wanted.step() {
            None => {}
            Some(Step::AddLearner(node)) => prop_assert!(want.contains(&node) && !all.contains(&node)),
            Some(Step::RemoveLearner(node)) => {
                prop_assert!(view.learners.contains(&node) && !hold.contains(&node));
            }
            Some(Step::HandOver(node)) => {
                prop_assert!(view.voters.contains(&node) && linked.contains(&node) && !slow.contains(&node));
            }
            Some(Step::SetVoters(new)) => {
                prop_assert!(!new.is_empty() && new.len() <= 5 && new.len() % 2 == 1);
                prop_assert!(new.is_subset(&want));
                prop_assert!(majority(&new, &linked) && majority(&view.voters, &linked));
                // Who is new has caught up, so something up to date decides on.
                for node in new.difference(&view.voters) {
                    prop_assert!(linked.contains(node) && !slow.contains(node));
                }
                // A voter in contact goes only for good or for an even number.
                let lost: Vec<_> = view.voters.difference(&new)
                    .filter(|n| want.contains(n) && !gone.contains(n)).collect();
                prop_assert!(lost.is_empty() || view.voters.len() > new.len(), "{lost:?}");
            }
        }
    }
}

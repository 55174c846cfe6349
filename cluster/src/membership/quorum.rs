//! A group's members, brought in line with who should be in it: one safe step
//! at a time. Pure: the leader of a group calls it again and again.
//!
//! - A voter goes only when the rest can decide without it, and when somebody
//!   is on the way to take its place, not before that one has caught up.
//! - The number of voters is odd: a second and a fourth voter let a group
//!   survive no more failures than one and three, and make every write wait for more.
//!   Two nodes therefore mean one voter and one learner that holds a copy.

use std::collections::BTreeSet;

use orama_proto::NodeId;

use crate::consensus::GroupView;

/// A learner may vote, and a voter take over, when it is at most so many entries behind.
pub(super) const CLOSE: u64 = 100;

/// A group, as its leader sees it, and who should be in it.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// This node.
    pub(super) me: NodeId,
    pub(super) view: &'a GroupView,
    /// May vote.
    pub(super) want: &'a BTreeSet<NodeId>,
    /// May hold a copy; all of `want` and perhaps more.
    pub(super) hold: &'a BTreeSet<NodeId>,
    /// Reached now, this node among them.
    pub(super) linked: &'a BTreeSet<NodeId>,
    /// Out of contact for so long that another may take their place.
    pub(super) gone: &'a BTreeSet<NodeId>,
    /// Meant to lead.
    pub(super) active: &'a BTreeSet<NodeId>,
    pub(super) voters_max: usize,
}

/// What the leader does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    AddLearner(NodeId),
    SetVoters(BTreeSet<NodeId>),
    RemoveLearner(NodeId),
    HandOver(NodeId),
}

impl Step {
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::AddLearner(_) => "add_learner",
            Self::SetVoters(_) => "set_voters",
            Self::RemoveLearner(_) => "remove_learner",
            Self::HandOver(_) => "hand_over",
        }
    }
}

/// The largest odd number that is not larger; one for none.
pub(super) fn odd(n: usize) -> usize {
    if n.is_multiple_of(2) {
        n.saturating_sub(1).max(1)
    } else {
        n
    }
}

/// Whether those of `nodes` that can be reached can decide alone.
pub(super) fn majority(nodes: &BTreeSet<NodeId>, linked: &BTreeSet<NodeId>) -> bool {
    nodes.intersection(linked).count() * 2 > nodes.len()
}

impl Wanted<'_> {
    /// The next step; `None` when all is as it should be, or nothing can be done now.
    pub(super) fn step(&self) -> Option<Step> {
        let view = self.view;
        if view.leader != Some(self.me) || view.changing || view.stopped {
            return None;
        }
        // Without a majority nothing would be committed, and a change that is
        // begun and cannot end blocks the next one.
        if !majority(&view.voters, self.linked) {
            return None;
        }
        let missing = self
            .want
            .iter()
            .find(|n| !self.present(**n) && self.linked.contains(n));
        if let Some(node) = missing {
            return Some(Step::AddLearner(*node));
        }
        if let Some(step) = self.change_voters() {
            return Some(step);
        }
        if let Some(node) = view.learners.iter().find(|n| !self.hold.contains(n)) {
            return Some(Step::RemoveLearner(*node));
        }
        if !self.active.contains(&self.me) {
            return self.heir(&view.voters, true).map(Step::HandOver);
        }
        None
    }

    fn present(&self, node: NodeId) -> bool {
        self.view.voters.contains(&node) || self.view.learners.contains(&node)
    }

    fn ready(&self, node: NodeId) -> bool {
        self.view.learners.contains(&node)
            && self.linked.contains(&node)
            && self.view.caught_up(node, CLOSE)
    }

    /// Who could take over from this node at once.
    fn heir(&self, among: &BTreeSet<NodeId>, active_only: bool) -> Option<NodeId> {
        among
            .iter()
            .copied()
            .filter(|n| {
                *n != self.me
                    && self.view.voters.contains(n)
                    && self.linked.contains(n)
                    && self.view.caught_up(*n, CLOSE)
            })
            .filter(|n| !active_only || self.active.contains(n))
            .min_by_key(|n| (!self.active.contains(n), *n))
    }

    fn change_voters(&self) -> Option<Step> {
        let new = self.voters()?;
        if new == self.view.voters || !majority(&new, self.linked) {
            return None;
        }
        if !new.contains(&self.me)
            && let Some(heir) = self.heir(&new, false)
        {
            return Some(Step::HandOver(heir));
        }
        Some(Step::SetVoters(new))
    }

    /// Who should vote as things are; `None` while somebody is on the way whose
    /// arrival makes it unnecessary to get by with fewer.
    fn voters(&self) -> Option<BTreeSet<NodeId>> {
        let voters = &self.view.voters;
        let (mut able, mut coming) = (Vec::new(), 0);
        for node in self.want {
            let gone = self.gone.contains(node);
            let class = match (voters.contains(node), self.ready(*node)) {
                (true, _) if !gone => 0,
                (_, true) => 1,
                (true, _) => 2,
                (false, false) => {
                    coming += usize::from(!gone);
                    continue;
                }
            };
            able.push((
                class,
                *node != self.me,
                !self.linked.contains(node),
                !self.active.contains(node),
                *node,
            ));
        }
        let most = self.voters_max.max(1);
        let size = odd(able.len().min(most));
        let later = odd((able.len() + coming).min(most));
        if able.is_empty() || (later > size && size < voters.len()) {
            return None;
        }
        able.sort_unstable();
        Some(able.into_iter().take(size).map(|entry| entry.4).collect())
    }
}

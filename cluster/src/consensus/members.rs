//! How a group looks, and how its members and its leader are changed.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::{Duration, Instant};

use openraft::ChangeMembers;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;
use orama_proto::NodeId;
use tokio::sync::watch;

use super::group::{Group, GroupView, ProposeFault};
use super::types::Types;

/// A change of members has so long to be committed (two entries at most).
const CHANGE_WAIT: Duration = Duration::from_secs(10);
/// The view shows a committed change after so long at the latest.
const SHOWN_WAIT: Duration = Duration::from_secs(1);
/// A leader whose disk is full tries so long to give its place away.
const STEP_ASIDE_WAIT: Duration = Duration::from_secs(3);

type WriteError = RaftError<Types, ClientWriteError<Types>>;

impl Group {
    /// The leader as this replica knows it.
    pub(super) fn leader(&self) -> Option<NodeId> {
        let metrics = self.inner.raft.metrics();
        let leader = metrics.borrow_watched().current_leader;
        leader.map(NodeId)
    }

    /// The term that this replica knows of.
    pub(super) fn term(&self) -> u64 {
        self.inner.raft.metrics().borrow_watched().current_term
    }

    /// Waits until this replica knows of another leader than this one.
    pub(super) async fn superseded(&self, leader: NodeId) {
        let mut views = self.views();
        while self.leader().is_none_or(|now| now == leader) {
            if views.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Whether this node is the only voter.
    pub(super) fn is_alone(&self) -> bool {
        let metrics = self.inner.raft.metrics();
        let now = metrics.borrow_watched();
        now.membership_config
            .voter_ids()
            .eq([self.inner.shared.node.0])
    }

    /// How the group looks from here.
    pub(crate) fn view(&self) -> GroupView {
        let metrics = self.inner.raft.metrics();
        let now = metrics.borrow_watched();
        let members = &now.membership_config;
        let settled = &now.committed_membership_config;
        let matched = now.replication.iter().flatten();
        GroupView {
            leader: now.current_leader.map(NodeId),
            term: now.current_term,
            last: now.last_log_index.unwrap_or(0),
            applied: now.last_applied.as_ref().map_or(0, |at| at.index),
            voters: members.voter_ids().map(NodeId).collect(),
            learners: members.membership().learner_ids().map(NodeId).collect(),
            changing: members.get_joint_config().len() > 1 || members.log_id() != settled.log_id(),
            matched: matched
                .filter_map(|(id, at)| Some((NodeId(*id), at.as_ref()?.index)))
                .collect(),
            stopped: now.running_state.is_err(),
        }
    }

    /// Announces every change of [`Group::view`]'s leader, term or members.
    pub(crate) fn views(&self) -> watch::Receiver<u64> {
        self.inner.views.subscribe()
    }

    /// Leader only: adds a learner and answers when the change is committed, not when it has
    /// caught up. `NoLeader` also while another change is under way: nothing was done.
    pub(crate) async fn add_learner(&self, node: NodeId) -> Result<(), ProposeFault> {
        let view = self.leading()?;
        if view.voters.contains(&node) || view.learners.contains(&node) {
            return Ok(());
        }
        self.change(self.inner.raft.add_learner(node.0, (), false))
            .await
    }

    /// Leader only: makes these the voters; each must be a member. A voter that is not among
    /// them becomes a learner. `NoLeader` also while another change is under way.
    pub(crate) async fn set_voters(&self, voters: BTreeSet<NodeId>) -> Result<(), ProposeFault> {
        let view = self.leading()?;
        if view.voters == voters && !view.changing {
            return Ok(());
        }
        let voters: BTreeSet<u64> = voters.iter().map(|node| node.0).collect();
        self.change(self.inner.raft.change_membership(voters, true))
            .await
    }

    /// Leader only: forgets a learner. `NoLeader` also while another change is under way.
    pub(crate) async fn remove_learner(&self, node: NodeId) -> Result<(), ProposeFault> {
        let view = self.leading()?;
        if !view.learners.contains(&node) {
            return Ok(());
        }
        let gone = ChangeMembers::RemoveNodes(BTreeSet::from([node.0]));
        self.change(self.inner.raft.change_membership(gone, true))
            .await
    }

    /// openraft logs a refused change as an error; asking first keeps the log quiet.
    fn leading(&self) -> Result<GroupView, ProposeFault> {
        let view = self.view();
        if view.stopped {
            return Err(self.stopped("it was shut down"));
        }
        let joint_of_others = view.changing && {
            let metrics = self.inner.raft.metrics();
            let now = metrics.borrow_watched();
            now.membership_config.log_id() != now.committed_membership_config.log_id()
        };
        if view.leader != Some(self.inner.shared.node) || joint_of_others {
            return Err(ProposeFault::NoLeader);
        }
        Ok(view)
    }

    async fn change(
        &self,
        change: impl Future<Output = Result<ClientWriteResponse<Types>, WriteError>>,
    ) -> Result<(), ProposeFault> {
        match tokio::time::timeout(CHANGE_WAIT, change).await {
            Ok(Ok(done)) => {
                // The next change looks at the view first, which follows in a moment.
                let wait = self.inner.raft.wait(Some(SHOWN_WAIT));
                let shown = wait.metrics(
                    |now| *now.committed_membership_config.log_id() >= Some(done.log_id),
                    "the change is to be seen",
                );
                let _ = shown.await;
                Ok(())
            }
            Ok(Err(RaftError::Fatal(fatal))) => Err(self.stopped(&fatal.to_string())),
            Ok(Err(RaftError::APIError(error))) => Err(match error {
                ClientWriteError::ForwardToLeader(_) | ClientWriteError::PreconditionFailed(_) => {
                    ProposeFault::NoLeader
                }
                ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)) => {
                    ProposeFault::NoLeader
                }
                other => ProposeFault::Unknown(other.to_string()),
            }),
            Err(_) => Err(ProposeFault::Unknown(format!(
                "the change was not committed within {CHANGE_WAIT:?}"
            ))),
        }
    }

    /// Leader only: asks `to`, a voter that has caught up, to take over, and waits until it does.
    pub(crate) async fn transfer(&self, to: NodeId, deadline: Instant) -> Result<(), ProposeFault> {
        let mut views = self.inner.raft.metrics();
        // A leader that has asked takes no changes until another one leads, so it
        // asks only somebody who has everything.
        loop {
            let view = self.leading_or_changing()?;
            if to == self.inner.shared.node {
                return Ok(());
            }
            if !view.voters.contains(&to) {
                return Err(ProposeFault::NoLeader);
            }
            if view.caught_up(to, 0) {
                break;
            }
            let changed = tokio::time::timeout_at(deadline.into(), views.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Err(ProposeFault::NoLeader);
            }
        }
        self.inner
            .raft
            .trigger()
            .transfer_leader(to.0)
            .await
            .map_err(|fatal| self.stopped(&fatal.to_string()))?;
        let left = deadline.saturating_duration_since(Instant::now());
        self.inner
            .raft
            .wait(Some(left))
            .metrics(
                |now| now.current_leader.is_some_and(|l| l == to.0),
                "it leads",
            )
            .await
            .map(|_| ())
            .map_err(|_| ProposeFault::Unknown(format!("{to} does not lead in time")))
    }

    fn leading_or_changing(&self) -> Result<GroupView, ProposeFault> {
        let view = self.view();
        if view.stopped {
            return Err(self.stopped("it was shut down"));
        }
        if view.leader != Some(self.inner.shared.node) {
            return Err(ProposeFault::NoLeader);
        }
        Ok(view)
    }

    /// A leader that has no room for entries lets another one lead, if one can.
    pub(super) fn step_aside(&self) {
        let metrics = self.inner.raft.metrics();
        let leads = metrics.borrow_watched().state == ServerState::Leader;
        let view = self.view();
        let me = self.inner.shared.node;
        let mut others = view.voters.iter().filter(|id| **id != me);
        let Some(to) = others.find(|id| view.caught_up(**id, 0)).copied() else {
            return;
        };
        if !leads
            || self
                .inner
                .stepping
                .swap(true, std::sync::atomic::Ordering::AcqRel)
        {
            return;
        }
        let group = self.clone();
        tokio::spawn(async move {
            tracing::warn!(group = %group.inner.id, %to, "the disk is full; another node is asked to lead");
            let deadline = Instant::now() + STEP_ASIDE_WAIT;
            if let Err(error) = group.transfer(to, deadline).await {
                tracing::debug!(group = %group.inner.id, %error, "nobody took over");
            }
            let stepping = &group.inner.stepping;
            stepping.store(false, std::sync::atomic::Ordering::Release);
        });
    }
}

//! Changes: proposed here when this node leads, sent to the leader when not.
//!
//! Two kinds of failure, never mixed up. *Nothing was appended*: openraft says
//! so (no leader, a lapsed lease), or the request never left; it is tried again.
//! *Perhaps*: it was handed over and no answer came; it is never tried again here,
//! because the command might be made twice.

use std::time::{Duration, Instant};

use openraft::errors::{ClientWriteError, RaftError};
use orama_proto::NodeId;
use serde_bytes::ByteBuf;

use super::admission::{NotIn, UnderWay};
use super::group::{Committed, ENTRY_MAX_BYTES, Group, ProposeFault};
use super::types::Command;
use super::wire::{self, GroupAnswer, GroupRequest};
use crate::disk;
use crate::mesh::{CallError, Lane, Service};

/// A proposal looks so long for a leader before it gives up.
const LEADER_WAIT: Duration = Duration::from_secs(5);
/// A leader has so long to commit an entry. One that lost its peers would wait
/// for ever: openraft ends a pending write only when its entry is applied or replaced.
const COMMIT_WAIT: Duration = Duration::from_secs(10);
/// A leader that has no room has so long to be followed by another one.
const FULL_WAIT: Duration = Duration::from_secs(2);
/// A leader is given so much longer to answer somebody else's proposal.
const ANSWER_WAIT: Duration = Duration::from_secs(11);
/// After the leader's answer this replica has so long to apply the entry too.
const APPLY_WAIT: Duration = Duration::from_secs(5);
/// Commands under way on a node have at most so many bytes; further ones wait.
pub(super) const ROOM_BYTES: usize = 64 << 20;
/// A leader that has a successor is waited for so long.
const SUPERSEDED_WAIT: Duration = Duration::from_millis(500);
const PAUSE_FIRST: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// What one try came to.
enum Tried {
    Done(Result<Committed, ProposeFault>),
    /// Nothing was appended; the leader may be this one.
    Elsewhere(Option<NodeId>),
}

impl Group {
    /// Replicates a command, wherever its leader is: past fdatasync on a majority and
    /// applied here when this returns. (Only a replica that lags 5 s behind its leader
    /// answers before it has applied the entry itself.)
    pub(crate) async fn propose(&self, command: Vec<u8>) -> Result<Committed, ProposeFault> {
        self.propose_until(command, Instant::now() + LEADER_WAIT + ANSWER_WAIT)
            .await
    }

    /// The same for somebody who waits until then: a command that has to wait for its turn is
    /// refused early enough to be told so.
    pub(crate) async fn propose_until(
        &self,
        command: Vec<u8>,
        until: Instant,
    ) -> Result<Committed, ProposeFault> {
        let start = Instant::now();
        let result = self.try_propose(command, until).await;
        let group = self.inner.id.to_string();
        let label = result.as_ref().map_or_else(ProposeFault::label, |_| "ok");
        let metrics = &self.inner.shared.metrics;
        let labels = [group.as_str(), label];
        metrics.proposals.with_label_values(&labels).inc();
        if result.is_ok() {
            metrics
                .commit_seconds
                .with_label_values(&[group.as_str()])
                .observe(start.elapsed().as_secs_f64());
        }
        result
    }

    async fn try_propose(
        &self,
        command: Vec<u8>,
        until: Instant,
    ) -> Result<Committed, ProposeFault> {
        if command.len() > ENTRY_MAX_BYTES {
            return Err(ProposeFault::TooLarge(command.len()));
        }
        let deadline = Instant::now() + LEADER_WAIT;
        let mut pause = PAUSE_FIRST;
        let full_until = Instant::now() + FULL_WAIT;
        loop {
            let tried = match self.propose_here(&command, until).await {
                Tried::Elsewhere(Some(leader)) if leader != self.inner.shared.node => {
                    self.propose_there(leader, &command, until).await
                }
                tried => tried,
            };
            match tried {
                // Nothing was appended, and a leader without room asks another one to lead.
                Tried::Done(Err(ProposeFault::Full))
                    if !self.is_alone() && Instant::now() + pause < full_until => {}
                Tried::Done(result) => return result,
                Tried::Elsewhere(_) => {}
            }
            if Instant::now() + pause >= deadline {
                return Err(ProposeFault::NoLeader);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One try with this node as the leader.
    async fn propose_here(&self, command: &[u8], until: Instant) -> Tried {
        if self.is_stopped() {
            return Tried::Done(Err(self.stopped("it was shut down")));
        }
        // Asked of the leader only: what counts is the disk of whoever appends.
        let view = self.leader();
        if view != Some(self.inner.shared.node) && view.is_some() {
            return Tried::Elsewhere(view);
        }
        if view.is_some() && !disk::has_room(&self.inner.disk, command.len() as u64) {
            self.step_aside();
            return Tried::Done(Err(ProposeFault::Full));
        }
        let pass = match view {
            None => None,
            Some(_) => match self.admitted(command, until).await {
                Ok(pass) => pass,
                Err(NotIn::Fault(fault)) => return Tried::Done(Err(fault)),
                Err(NotIn::Again) => return Tried::Elsewhere(None),
            },
        };
        // Not while it waited for its turn: all groups of the node share the log's room.
        let bytes = u32::try_from(command.len().max(1)).unwrap_or(u32::MAX);
        let room = self.inner.shared.room.acquire_many(bytes);
        let _room = match tokio::time::timeout(LEADER_WAIT, room).await {
            Ok(Ok(room)) => room,
            // The log takes nothing at present; nothing was handed to it.
            Ok(Err(_)) | Err(_) => return Tried::Done(Err(ProposeFault::NoLeader)),
        };
        let mut command = command.to_vec();
        // Right before it is appended, and always: who leads may have changed just now.
        if let Some(keeping) = &self.inner.keeping
            && let Err(why) = keeping.keeper.stamp(&mut command)
        {
            return Tried::Done(Err(ProposeFault::Refused(why)));
        }
        let raft = self.inner.raft.clone();
        let write = async move { raft.client_write(Command(command)).await };
        let error = match UnderWay::new(write, pass).answer(COMMIT_WAIT).await {
            Some(Ok(done)) => {
                return Tried::Done(Ok(Committed {
                    index: done.log_id.index,
                    reply: done.data.0,
                }));
            }
            Some(Err(error)) => error,
            None => {
                let what = format!("it was not committed within {COMMIT_WAIT:?}");
                return Tried::Done(Err(ProposeFault::Unknown(what)));
            }
        };
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
                Tried::Elsewhere(to.leader_id.map(NodeId))
            }
            // Appended, and another leader's entries took its place here; it may
            // have been committed before that.
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => Tried::Done(Err(
                ProposeFault::Unknown("the leader changed before it was committed".into()),
            )),
            RaftError::APIError(other) => {
                Tried::Done(Err(ProposeFault::Stopped(other.to_string())))
            }
            // It may be in the log, alone too, and is applied at the next start then. What was
            // refused before anything was appended is told above.
            RaftError::Fatal(fatal) => Tried::Done(Err(ProposeFault::Unknown(
                self.stopped(&fatal.to_string()).to_string(),
            ))),
        }
    }

    /// One try with another node as the leader.
    async fn propose_there(&self, leader: NodeId, command: &[u8], until: Instant) -> Tried {
        let message = GroupRequest::Propose(ByteBuf::from(command));
        let deadline = until.min(Instant::now() + ANSWER_WAIT);
        let asked = self.ask_leader(leader, &message, deadline);
        tokio::pin!(asked);
        let answer = tokio::select! {
            answer = &mut asked => answer,
            // It may be gone without a word. What it answered is on its way, if anything is.
            () = self.superseded(leader) => tokio::time::timeout(SUPERSEDED_WAIT, asked)
                .await
                .unwrap_or(Err(CallError::Lost(leader))),
        };
        let tried = match answer {
            Ok(GroupAnswer::Committed { index, reply }) => {
                if !self.wait_applied(index, Instant::now() + APPLY_WAIT).await {
                    tracing::debug!(group = %self.inner.id, index, "committed, and not applied here yet");
                }
                let reply = reply.into_vec();
                Tried::Done(Ok(Committed { index, reply }))
            }
            // A leader that stopped took nothing; the others elect another one.
            Ok(GroupAnswer::NotLeader | GroupAnswer::Stopped(_)) => Tried::Elsewhere(None),
            Ok(GroupAnswer::Full) => Tried::Done(Err(ProposeFault::Full)),
            Ok(GroupAnswer::Refused(why)) => Tried::Done(Err(ProposeFault::Refused(why))),
            Ok(GroupAnswer::Busy(millis)) => {
                let again = Duration::from_millis(millis);
                Tried::Done(Err(ProposeFault::Busy(again)))
            }
            Ok(GroupAnswer::TooLarge(bytes)) => Tried::Done(Err(ProposeFault::TooLarge(
                usize::try_from(bytes).unwrap_or(usize::MAX),
            ))),
            Ok(GroupAnswer::Unknown(why)) => Tried::Done(Err(ProposeFault::Unknown(why))),
            Ok(GroupAnswer::ReadIndex(_)) => Tried::Done(Err(ProposeFault::Unknown(
                "the leader answered another question".into(),
            ))),
            Err(error) if error.maybe_handled() => {
                Tried::Done(Err(ProposeFault::Unknown(error.to_string())))
            }
            Err(error) => {
                tracing::debug!(group = %self.inner.id, %leader, %error, "the leader was not asked");
                Tried::Elsewhere(None)
            }
        };
        let label = match &tried {
            Tried::Done(Ok(_)) => "ok",
            Tried::Done(Err(fault)) => fault.label(),
            Tried::Elsewhere(_) => "not_leader",
        };
        let labels = [self.inner.id.to_string(), label.to_owned()];
        let forwarded = &self.inner.shared.metrics.forwarded;
        forwarded.with_label_values(&labels).inc();
        tried
    }

    /// Asks the group's leader. An answer that cannot be read counts as none.
    pub(super) async fn ask_leader(
        &self,
        leader: NodeId,
        message: &GroupRequest,
        deadline: Instant,
    ) -> Result<GroupAnswer, CallError> {
        let Some(links) = &self.inner.shared.links else {
            return Err(CallError::NotSent(leader));
        };
        let body = wire::request(self.inner.id, message).map_err(|_| CallError::NotSent(leader))?;
        let answer = links.call(leader, Lane::Calls, Service::Group, body, deadline);
        wire::read_answer(&answer.await?).map_err(|what| {
            tracing::debug!(group = %self.inner.id, %leader, what, "an answer cannot be read");
            CallError::Lost(leader)
        })
    }

    /// A proposal of another node. Not to be dropped halfway.
    pub(super) async fn serve_proposal(&self, command: Vec<u8>, until: Instant) -> GroupAnswer {
        if command.len() > ENTRY_MAX_BYTES {
            return GroupAnswer::TooLarge(command.len() as u64);
        }
        if self.is_stopped() {
            return GroupAnswer::Stopped("it was shut down".into());
        }
        match self.propose_here(&command, until).await {
            Tried::Elsewhere(_) => GroupAnswer::NotLeader,
            Tried::Done(Ok(Committed { index, reply })) => GroupAnswer::Committed {
                index,
                reply: ByteBuf::from(reply),
            },
            Tried::Done(Err(fault)) => match fault {
                ProposeFault::NoLeader => GroupAnswer::NotLeader,
                ProposeFault::Full => GroupAnswer::Full,
                ProposeFault::Busy(again) => {
                    GroupAnswer::Busy(u64::try_from(again.as_millis()).unwrap_or(u64::MAX))
                }
                // It may have reached the log before, which is all there is when the leader
                // is the only voter.
                ProposeFault::Stopped(why) => GroupAnswer::Unknown(why),
                ProposeFault::Unknown(why) => GroupAnswer::Unknown(why),
                ProposeFault::TooLarge(bytes) => GroupAnswer::TooLarge(bytes as u64),
                ProposeFault::Refused(why) => GroupAnswer::Refused(why),
            },
        }
    }
}

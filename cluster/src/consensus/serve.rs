//! Answers other nodes: Raft messages of every group that runs here, and
//! proposals and read indexes for the groups this node leads.
//!
//! Whoever is on the mesh may speak (admission is the boundary), but only for
//! itself: a vote or an append is taken from the node it names.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use orama_proto::GroupId;

use super::group::Group;
use super::groups::{Inner, running};
use super::receive::Refused;
use super::snapshot::SnapshotFile;
use super::types::{Position, RaftVote, Types, VoteRecord};
use super::wire::{
    self, Append, Appended, Ballot, Chunk, GroupAnswer, GroupRequest, RaftAnswer, RaftRequest,
    SnapshotId, Transfer,
};
use crate::disk;
use crate::mesh::{BoxFuture, Declined, Handler, Incoming};

/// Serves [`crate::mesh::Service::Raft`].
pub(super) struct RaftService(pub(super) Weak<Inner>);

/// Serves [`crate::mesh::Service::Group`].
pub(super) struct GroupService(pub(super) Weak<Inner>);

fn find(groups: &Weak<Inner>, id: GroupId) -> Result<Group, Declined> {
    running(groups, id).ok_or_else(|| Declined(format!("group {id} does not run here")))
}

fn declined(why: impl ToString) -> Declined {
    Declined(why.to_string())
}

impl Handler for RaftService {
    fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Declined>> {
        let groups = self.0.clone();
        Box::pin(async move {
            let (id, message) = wire::read_request::<RaftRequest>(&incoming.body)?;
            if message.sender() != incoming.from.0 {
                return Err(declined("the message is of another node"));
            }
            let group = find(&groups, id)?;
            wire::answer(&group.serve_raft(message).await?)
        })
    }
}

impl Handler for GroupService {
    fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Declined>> {
        let groups = self.0.clone();
        Box::pin(async move {
            let (id, message) = wire::read_request::<GroupRequest>(&incoming.body)?;
            let group = find(&groups, id)?;
            let answer = match message {
                // Goes on when the caller's link breaks: what was begun is finished.
                GroupRequest::Propose(command) => {
                    let deadline = incoming.deadline;
                    let command = command.into_vec();
                    tokio::spawn(async move { group.serve_proposal(command, deadline).await })
                        .await
                        .unwrap_or_else(|e| GroupAnswer::Unknown(e.to_string()))
                }
                GroupRequest::ReadIndex => group.serve_index().await,
                GroupRequest::WeakIndex => group.serve_weak_index().await,
            };
            wire::answer(&answer)
        })
    }
}

fn is_continuous(append: &Append) -> bool {
    let mut due = append.prev.map_or(0, |at| at.index.saturating_add(1));
    append.entries.iter().all(|entry| {
        let fits = entry.at.index == due;
        due = due.saturating_add(1);
        fits
    })
}

fn ballot(ballot: Ballot) -> VoteRequest<Types> {
    VoteRequest {
        vote: ballot.vote.into(),
        last_log_id: ballot.last.map(Into::into),
        leadership_transfer: ballot.transfer,
    }
}

fn voted(answer: &VoteResponse<Types>) -> RaftAnswer {
    RaftAnswer::Vote {
        vote: VoteRecord::from(&answer.vote),
        granted: answer.vote_granted,
        last: answer.last_log_id.map(Position::from),
    }
}

impl Group {
    async fn serve_raft(&self, message: RaftRequest) -> Result<RaftAnswer, Declined> {
        let raft = &self.inner.raft;
        match message {
            RaftRequest::Append(append) => self.serve_append(append).await,
            RaftRequest::Vote(request) => {
                let answer = raft.vote(ballot(request)).await;
                answer.map(|a| voted(&a)).map_err(declined)
            }
            RaftRequest::PreVote(request) => {
                let answer = raft.pre_vote(ballot(request)).await;
                answer.map(|a| voted(&a)).map_err(declined)
            }
            RaftRequest::Transfer(Transfer { from, to, last }) => {
                let request = TransferLeaderRequest::new(from.into(), to, last.map(Into::into));
                let answer = raft.handle_transfer_leader(request).await;
                let answer = answer.map_err(declined)?;
                Ok(RaftAnswer::Transfer(answer.map_err(|e| e.to_string())))
            }
            RaftRequest::Offer(vote, id) => match self.overruled(vote, id) {
                Some(answer) => Ok(answer),
                None => self.receive(move |incoming| incoming.offer(id)).await,
            },
            RaftRequest::Chunk(vote, chunk) => match self.overruled(vote, chunk.id) {
                Some(answer) => Ok(answer),
                None => self.serve_chunk(chunk).await,
            },
            RaftRequest::Install(vote, id) => match self.overruled(vote, id) {
                Some(answer) => Ok(answer),
                None => self.serve_install(vote, id).await,
            },
        }
    }

    async fn serve_append(&self, append: Append) -> Result<RaftAnswer, Declined> {
        if !is_continuous(&append) {
            return Err(declined("the entries have a gap"));
        }
        // Refusing in time keeps the replica alive: what the log cannot write
        // stops it. The leader tries again.
        if !append.entries.is_empty() {
            let bytes: usize = append.entries.iter().map(|e| e.size()).sum();
            if !disk::has_room(&self.inner.disk, bytes as u64) {
                if !self.inner.refusing.swap(true, Ordering::Relaxed) {
                    tracing::error!(group = %self.inner.id, "the disk is full: this replica takes no entries until there is room");
                }
                return Err(declined("there is no room for entries"));
            }
            if self.inner.refusing.swap(false, Ordering::Relaxed) {
                tracing::info!(group = %self.inner.id, "there is room again: this replica takes entries");
            }
        }
        let (arrived, commit) = (Instant::now(), append.commit.map(|at| at.index));
        let request = AppendEntriesRequest {
            vote: append.vote.into(),
            prev_log_id: append.prev.map(Into::into),
            entries: append.entries.into_iter().map(Into::into).collect(),
            leader_commit: append.commit.map(Into::into),
        };
        let answer = self.inner.raft.append_entries(request).await;
        let answer = answer.map_err(declined)?;
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            self.inner.heard.note(arrived, commit);
        }
        Ok(RaftAnswer::Append(match answer {
            AppendEntriesResponse::Success => Appended::All,
            AppendEntriesResponse::PartialSuccess(at) => Appended::Upto(at.map(Position::from)),
            AppendEntriesResponse::Conflict => Appended::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Appended::Higher(VoteRecord::from(&vote)),
        }))
    }

    /// The answer when a snapshot's sender leads no more, or what it sends is applied here.
    fn overruled(&self, vote: VoteRecord, id: SnapshotId) -> Option<RaftAnswer> {
        let metrics = self.inner.raft.metrics();
        let now = metrics.borrow_watched();
        if now.vote > RaftVote::from(vote) {
            return Some(RaftAnswer::Snapshot(VoteRecord::from(&now.vote)));
        }
        let applied = now.last_applied.as_ref().map(|at| Position::from(*at));
        (applied.is_some() && applied >= id.at).then_some(RaftAnswer::Snapshot(vote))
    }

    async fn receive(
        &self,
        work: impl FnOnce(&super::receive::Incoming) -> Result<u64, Refused> + Send + 'static,
    ) -> Result<RaftAnswer, Declined> {
        let incoming = self.inner.incoming.clone();
        let done = tokio::task::spawn_blocking(move || work(&incoming)).await;
        done.map_err(declined)?
            .map(RaftAnswer::Want)
            .map_err(declined)
    }

    async fn serve_chunk(&self, chunk: Chunk) -> Result<RaftAnswer, Declined> {
        let labels = [self.inner.id.to_string(), "received".to_owned()];
        let bytes = &self.inner.shared.metrics.snapshot_bytes;
        bytes
            .with_label_values(&labels)
            .inc_by(chunk.bytes.len() as u64);
        self.receive(move |incoming| incoming.chunk(&chunk)).await
    }

    /// Verifies and installs what was received, to the end even if the caller gives up.
    async fn serve_install(
        &self,
        vote: VoteRecord,
        id: SnapshotId,
    ) -> Result<RaftAnswer, Declined> {
        let group = self.clone();
        let work = async move {
            let incoming = group.inner.incoming.clone();
            let (verify, keeping) = (incoming.clone(), group.inner.keeping.clone());
            let of = group.inner.id;
            let take = move || -> Result<SnapshotFile, Refused> {
                let file = verify.finish(id)?;
                match keeping {
                    None => Ok(file),
                    Some(keeping) => keeping.unpack(file).map_err(|error| {
                        verify.done();
                        tracing::warn!(group = %of, %error, "a snapshot was received and cannot be unpacked; it is sent again");
                        Refused::Io(error)
                    }),
                }
            };
            let file = tokio::task::spawn_blocking(take)
                .await
                .map_err(declined)?
                .map_err(declined)?;
            let answer = group.install(vote, file).await;
            let cleared = tokio::task::spawn_blocking(move || incoming.done());
            cleared.await.map_err(declined)?;
            answer
        };
        tokio::spawn(work).await.map_err(declined)?
    }

    async fn install(&self, vote: VoteRecord, file: SnapshotFile) -> Result<RaftAnswer, Declined> {
        let index = file.header.at.map_or(0, |at| at.index);
        let snapshot = openraft::Snapshot {
            meta: file.meta(),
            snapshot: file,
        };
        let raft = &self.inner.raft;
        let answer = raft.install_full_snapshot(vote.into(), snapshot).await;
        let answer = answer.map_err(declined)?;
        tracing::info!(group = %self.inner.id, index, "a snapshot was received");
        Ok(RaftAnswer::Snapshot(VoteRecord::from(&answer.vote)))
    }
}

/// The handlers of a node's groups.
pub(super) fn handlers(groups: &Arc<Inner>) -> (Arc<dyn Handler>, Arc<dyn Handler>) {
    (
        Arc::new(RaftService(Arc::downgrade(groups))),
        Arc::new(GroupService(Arc::downgrade(groups))),
    )
}

//! openraft's way to the other replicas of a group.
//!
//! Heartbeats, commit marks and votes travel on their own lane, so that neither
//! entries nor snapshots ever delay them.

use std::future::Future;
use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use orama_proto::{GroupId, NodeId};

use super::files::Keeping;
use super::link::Links;
use super::metrics::Metrics;
use super::send::Transmission;
use super::snapshot::SnapshotFile;
use super::types::{EntryRecord, Position, RaftSnapshot, RaftVote, Types, VoteRecord};
use super::wire::{self, APPEND_MAX_BYTES, Append, Appended, Ballot, RaftAnswer, RaftRequest};
use crate::mesh::{CallError, Lane, Service};

/// A replica has so long to take entries and sync them. openraft's own figure is
/// the heartbeat's interval, in which a busy disk does not sync a megabyte.
const APPEND_WAIT: Duration = Duration::from_secs(2);
/// Pauses before a replica that is not there is tried again.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_millis(200);

/// Makes the connections of one group.
#[derive(Clone)]
pub(super) struct Network {
    pub(super) group: GroupId,
    pub(super) node: NodeId,
    pub(super) links: Links,
    pub(super) metrics: Metrics,
    /// Makes the bodies of a keeper's snapshots.
    pub(super) keeping: Option<Arc<Keeping>>,
}

/// The connection to one replica.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) network: Network,
    pub(super) target: NodeId,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, (): &()) -> Peer {
        Peer {
            network: self.clone(),
            target: NodeId(target),
        }
    }
}

impl Peer {
    /// One request and its answer.
    pub(super) async fn call(
        &self,
        lane: Lane,
        message: &RaftRequest,
        ttl: Duration,
        action: RPCTypes,
    ) -> Result<RaftAnswer, RPCError<Types>> {
        let target = self.target;
        let Some(links) = &self.network.links else {
            let what = format!("this node has no link to node {target}");
            return Err(Unreachable::from_string(what).into());
        };
        let body = wire::request(self.network.group, message)
            .map_err(|e| RPCError::from(NetworkError::from_string(e)))?;
        let deadline = Instant::now() + ttl;
        let answer = links.call(target, lane, Service::Raft, body, deadline);
        match answer.await {
            Ok(body) => wire::read_answer(&body).map_err(|what| {
                NetworkError::from_string(format!("node {target} answered nonsense: {what}")).into()
            }),
            Err(CallError::Deadline(_)) => Err(Timeout {
                action,
                id: self.network.node.0,
                target: target.0,
                timeout: ttl,
            }
            .into()),
            Err(error @ (CallError::Busy(_) | CallError::Lost(_))) => {
                Err(NetworkError::from_string(error).into())
            }
            // Nobody there, or the group does not run there (yet): no hurry.
            Err(
                error @ (CallError::NotSent(_)
                | CallError::Declined { .. }
                | CallError::TooLarge { .. }),
            ) => Err(Unreachable::from_string(error).into()),
        }
    }

    fn unexpected(&self) -> RPCError<Types> {
        let what = format!("node {} answered another question", self.target);
        NetworkError::from_string(what).into()
    }

    async fn ballot(
        &self,
        message: RaftRequest,
        option: &RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let ttl = option.hard_ttl();
        match self
            .call(Lane::Heartbeat, &message, ttl, RPCTypes::Vote)
            .await?
        {
            RaftAnswer::Vote {
                vote,
                granted,
                last,
            } => Ok(VoteResponse {
                vote: vote.into(),
                vote_granted: granted,
                last_log_id: last.map(Into::into),
            }),
            _ => Err(self.unexpected()),
        }
    }
}

fn ballot(rpc: &VoteRequest<Types>) -> Ballot {
    Ballot {
        vote: VoteRecord::from(&rpc.vote),
        last: rpc.last_log_id.map(Into::into),
        transfer: rpc.leadership_transfer,
    }
}

/// The stored forms of as many entries as one append may have, and whether that is all.
fn fitting(entries: &[super::types::RaftEntry]) -> (Vec<EntryRecord>, bool) {
    let mut sum = 0;
    let mut out = Vec::with_capacity(entries.len());
    for entry in entries {
        let record = EntryRecord::from(entry);
        sum += record.size();
        if !out.is_empty() && sum > APPEND_MAX_BYTES {
            return (out, false);
        }
        out.push(record);
    }
    (out, true)
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let (entries, whole) = fitting(&rpc.entries);
        let upto = entries.last().map(|e| e.at);
        let (lane, ttl) = match upto {
            None => (Lane::Heartbeat, option.hard_ttl()),
            Some(_) => (Lane::Consensus, APPEND_WAIT.max(option.hard_ttl())),
        };
        let message = RaftRequest::Append(Append {
            vote: VoteRecord::from(&rpc.vote),
            prev: rpc.prev_log_id.map(Position::from),
            entries,
            commit: rpc.leader_commit.map(Position::from),
        });
        let answer = self.call(lane, &message, ttl, RPCTypes::AppendEntries);
        match answer.await? {
            RaftAnswer::Append(appended) => Ok(match appended {
                Appended::All if whole => AppendEntriesResponse::Success,
                Appended::All => AppendEntriesResponse::PartialSuccess(upto.map(Into::into)),
                Appended::Upto(at) => AppendEntriesResponse::PartialSuccess(at.map(Into::into)),
                Appended::Conflict => AppendEntriesResponse::Conflict,
                Appended::Higher(vote) => AppendEntriesResponse::HigherVote(vote.into()),
            }),
            _ => Err(self.unexpected()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ballot(RaftRequest::Vote(ballot(&rpc)), &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ballot(RaftRequest::PreVote(ballot(&rpc)), &option)
            .await
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: RaftSnapshot<SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let sending = Transmission::new(self.clone(), vote, snapshot.snapshot);
        tokio::select! {
            sent = sending.run() => sent,
            closed = cancel => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let message = RaftRequest::Transfer(wire::Transfer {
            from: VoteRecord::from(req.from_leader()),
            to: *req.to_node_id(),
            last: req.last_log_id().map(|at| Position::from(*at)),
        });
        let ttl = option.hard_ttl();
        let answer = self.call(Lane::Heartbeat, &message, ttl, RPCTypes::TransferLeader);
        match answer.await? {
            RaftAnswer::Transfer(Ok(())) => Ok(Ok(())),
            RaftAnswer::Transfer(Err(why)) => Err(NetworkError::from_string(why).into()),
            _ => Err(self.unexpected()),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let pauses = iter::successors(Some(BACKOFF_FIRST), |last| {
            Some((*last * 2).min(BACKOFF_MAX))
        });
        Some(Backoff::new(pauses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::types::{Command, RaftEntry};
    use openraft::EntryPayload;

    #[test]
    fn one_append_is_bounded_and_has_one_entry_at_least() {
        let entry = |index, size| RaftEntry {
            log_id: Position {
                term: 1,
                leader: 1,
                index,
            }
            .into(),
            payload: EntryPayload::Normal(Command(vec![1; size])),
        };
        let many: Vec<_> = (0..9).map(|i| entry(i, 1 << 20)).collect();
        let (some, whole) = fitting(&many);
        assert!(!whole && some.len() == 3, "{}", some.len());
        let (one, whole) = fitting(&[entry(1, 2 * APPEND_MAX_BYTES)]);
        assert!(whole && one.len() == 1);
    }
}

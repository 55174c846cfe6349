//! The network of a group that has no peers: everybody is unreachable.
//!
//! A single voter never calls it. It answers honestly if a membership ever
//! names somebody else.

use std::future::Future;
use std::io;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use super::snapshot::SnapshotFile;
use super::types::{RaftSnapshot, RaftVote, Types};

/// Makes connections to nobody.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NoPeers;

/// A connection to a peer that is not there.
#[derive(Debug)]
pub(crate) struct NoPeer {
    target: u64,
}

impl RaftNetworkFactory<Types> for NoPeers {
    type Network = NoPeer;

    async fn new_client(&mut self, target: u64, (): &()) -> NoPeer {
        NoPeer { target }
    }
}

impl NoPeer {
    fn unreachable(&self) -> Unreachable<Types> {
        let what = format!("no network to node {:016x}", self.target);
        Unreachable::new(&io::Error::new(io::ErrorKind::NotConnected, what))
    }
}

impl RaftNetworkV2<Types> for NoPeer {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        Err(self.unreachable().into())
    }
    async fn vote(
        &mut self,
        _: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(self.unreachable().into())
    }
    // The default grants; an absent peer grants nothing.
    async fn pre_vote(
        &mut self,
        _: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(self.unreachable().into())
    }
    async fn full_snapshot(
        &mut self,
        _: RaftVote,
        _: RaftSnapshot<SnapshotFile>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(self.unreachable().into())
    }
}

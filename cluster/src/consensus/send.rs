//! Sends a snapshot: an offer, chunks from where the receiver says, the request
//! to install it. A lost chunk costs that chunk; a broken link costs nothing but
//! the time, because the next offer of the same snapshot goes on where it stopped.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{NetworkError, RPCError, StreamingError};
use openraft::network::RPCTypes;
use openraft::raft::SnapshotResponse;
use serde_bytes::ByteBuf;
use xxhash_rust::xxh3::xxh3_64;

use super::bodies::Body;
use super::files::Keeping;
use super::network::Peer;
use super::snapshot::SnapshotFile;
use super::types::{RaftVote, Types, VoteRecord};
use super::wire::{CHUNK_MAX_BYTES, Chunk, RaftAnswer, RaftRequest, SnapshotId};
use crate::mesh::Lane;

/// A receiver has so long for a chunk.
const CHUNK_WAIT: Duration = Duration::from_secs(5);
/// A receiver has so long to verify and install the whole, and more of a large one.
const INSTALL_WAIT: Duration = Duration::from_secs(60);
/// What a slow receiver verifies, unpacks and installs in a second.
const INSTALL_BYTES: u64 = 4 << 20;
/// So many failures without a step forward end this transmission; openraft begins another.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(50);

/// One snapshot on its way to one replica.
pub(super) struct Transmission {
    peer: Peer,
    vote: VoteRecord,
    snapshot: SnapshotFile,
}

fn failed(what: impl ToString) -> StreamingError<Types> {
    NetworkError::from_string(what).into()
}

fn install_wait(length: u64) -> Duration {
    INSTALL_WAIT + Duration::from_secs(length / INSTALL_BYTES)
}

/// What is sent: a snapshot as it lies there, or the body that a keeper makes of it.
enum Source {
    File(File),
    Body(Body),
}

impl Source {
    fn file(&self) -> &File {
        match self {
            Self::File(file) => file,
            Self::Body(body) => &body.file,
        }
    }
}

/// The open file keeps its bytes even when newer snapshots replace it meanwhile.
fn open(
    snapshot: &SnapshotFile,
    keeping: Option<&Keeping>,
) -> io::Result<(Arc<Source>, SnapshotId)> {
    let source = match keeping {
        Some(keeping) => Source::Body(keeping.body(snapshot)?),
        None => Source::File(File::open(&snapshot.path)?),
    };
    let file = source.file();
    let length = file.metadata()?.len();
    let mut sum = [0; 16];
    file.read_exact_at(&mut sum, length.saturating_sub(16))?;
    let id = SnapshotId {
        at: snapshot.header.at,
        length,
        sum,
    };
    Ok((Arc::new(source), id))
}

fn read(file: &File, id: SnapshotId, offset: u64) -> io::Result<Chunk> {
    let left = usize::try_from(id.length.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; left.min(CHUNK_MAX_BYTES)];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(Chunk {
        id,
        offset,
        sum: xxh3_64(&bytes),
        bytes: ByteBuf::from(bytes),
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StreamingError<Types>> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(failed)?
        // Not openraft's storage error, which would stop the group: the next
        // attempt takes the newest snapshot there is then.
        .map_err(failed)
}

impl Transmission {
    pub(super) fn new(peer: Peer, vote: RaftVote, snapshot: SnapshotFile) -> Self {
        Self {
            peer,
            vote: VoteRecord::from(&vote),
            snapshot,
        }
    }

    async fn call(
        &self,
        message: &RaftRequest,
        ttl: Duration,
    ) -> Result<RaftAnswer, RPCError<Types>> {
        let action = RPCTypes::InstallSnapshot;
        self.peer.call(Lane::Bulk, message, ttl, action).await
    }

    pub(super) async fn run(self) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let snapshot = self.snapshot.clone();
        let keeping = self.peer.network.keeping.clone();
        let (source, id) = blocking(move || open(&snapshot, keeping.as_deref())).await?;
        let mut wanted = None;
        let mut failures = 0;
        loop {
            let answer = match wanted {
                None => {
                    let offer = RaftRequest::Offer(self.vote, id);
                    self.call(&offer, CHUNK_WAIT).await
                }
                Some(offset) if offset >= id.length => {
                    let install = RaftRequest::Install(self.vote, id);
                    self.call(&install, install_wait(id.length)).await
                }
                Some(offset) => {
                    let source = Arc::clone(&source);
                    let chunk = blocking(move || read(source.file(), id, offset)).await?;
                    let bytes = chunk.bytes.len() as u64;
                    let labels = [self.peer.network.group.to_string(), "sent".to_owned()];
                    let sent = &self.peer.network.metrics.snapshot_bytes;
                    sent.with_label_values(&labels).inc_by(bytes);
                    self.call(&RaftRequest::Chunk(self.vote, chunk), CHUNK_WAIT)
                        .await
                }
            };
            let error = match answer {
                Ok(RaftAnswer::Snapshot(vote)) => return Ok(SnapshotResponse::new(vote.into())),
                Ok(RaftAnswer::Want(next)) if wanted.is_none_or(|last| next > last) => {
                    wanted = Some(next.min(id.length));
                    failures = 0;
                    continue;
                }
                // The chunk arrived damaged, or out of turn: the receiver says where to go on.
                Ok(RaftAnswer::Want(next)) => {
                    wanted = Some(next);
                    failed("a chunk was not taken")
                }
                Ok(_) => failed("the receiver answered another question"),
                Err(error) => {
                    wanted = None;
                    error.into()
                }
            };
            failures += 1;
            if failures >= ATTEMPTS {
                return Err(error);
            }
            tokio::time::sleep(PAUSE * failures).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_snapshot_may_take_longer_to_be_installed() {
        let seconds = |length| install_wait(length).as_secs();
        assert_eq!(seconds(0), 60);
        assert_eq!(seconds(INSTALL_BYTES - 1), 60);
        assert_eq!(seconds(10 << 30), 60 + 2560);
        // A length that nobody can have does not overflow.
        assert!(seconds(u64::MAX) > 1 << 40);
    }
}

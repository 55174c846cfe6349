//! One transfer: chunk after chunk from whoever has the blob, going on where
//! the last holder broke off, until the bytes are what their name says.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use orama_proto::blob::{BLOB_CHUNK_BYTES, BlobChunk, BlobReply, BlobRequest};
use orama_proto::{ContentId, NodeId};
use xxhash_rust::xxh3::xxh3_64;

use super::metrics::Metrics;
use super::peers::{Peers, ask};
use crate::blobs::BLOB_MAX_BYTES;
use crate::mesh::CallError;

/// How often all holders are looked for. A round that brings nothing is the last.
const ROUNDS: usize = 3;
/// Before holders are looked for again.
const ROUND_PAUSE: Duration = Duration::from_millis(200);
/// How long a node has to say whether it has a blob.
const HAS_WITHIN: Duration = Duration::from_secs(2);
/// How long a chunk may take.
const CHUNK_WITHIN: Duration = Duration::from_secs(10);
/// A chunk that is not the last has at least so many bytes: a peer must not keep a transfer alive with crumbs.
const CHUNK_MIN_BYTES: u64 = 64 << 10;
/// How often a chunk is asked for again when the holder's bulk lane is full, and the pause before.
const BUSY_TRIES: u32 = 40;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// A blob did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfetched {
    /// Nobody that can be reached has it whole.
    Missing,
    /// There is no room for it here.
    Full,
}

/// A transfer under way.
pub(super) struct Pull<'a, R> {
    pub(super) peers: &'a dyn Peers,
    pub(super) cid: ContentId,
    /// Asked first and without being asked whether it has it.
    pub(super) first: Option<NodeId>,
    /// Whether there is room for so many bytes.
    pub(super) room: R,
    pub(super) metrics: &'a Metrics,
}

/// What came so far, and from whom.
#[derive(Default)]
struct Partial {
    bytes: Vec<u8>,
    total: Option<u64>,
    from: BTreeSet<NodeId>,
}

/// Why a holder's part of a transfer ended.
enum End {
    /// All bytes are here.
    Whole,
    /// It broke off; another holder may go on.
    Broken,
    /// It says that the blob has another size than an earlier holder said.
    Differs,
    /// No room.
    Full,
}

impl<R: Fn(u64) -> bool> Pull<'_, R> {
    /// Gets the blob's bytes, verified.
    pub(super) async fn run(self) -> Result<Bytes, Unfetched> {
        let mut got = Partial::default();
        // Set once bytes of several holders did not fit together: then each must deliver alone.
        let mut alone = false;
        let mut liars = BTreeSet::new();
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
            let mut news = false;
            let mut holders = self.holders(&liars);
            while let Some(holder) = holders.next().await {
                let Some(holder) = holder else { continue };
                if alone {
                    got = Partial::default();
                }
                let before = got.bytes.len();
                let mut end = self.take(&mut got, holder).await;
                if matches!(end, End::Differs) {
                    // Either may be the liar.
                    alone = true;
                    got = Partial::default();
                    end = self.take(&mut got, holder).await;
                }
                news |= got.bytes.len() > before;
                match end {
                    End::Full => return Err(Unfetched::Full),
                    End::Broken | End::Differs => continue,
                    End::Whole => {}
                }
                let whole = std::mem::take(&mut got);
                let bytes = Bytes::from(whole.bytes);
                if self.verify(bytes.clone()).await {
                    return Ok(bytes);
                }
                self.metrics.wrong.inc();
                tracing::warn!(blob = %self.cid, from = ?whole.from, "other bytes came than were asked for");
                alone = true;
                news = true;
                if whole.from.len() == 1 {
                    liars.extend(whole.from);
                }
            }
            if !news {
                break;
            }
        }
        Err(Unfetched::Missing)
    }

    /// The holders, as they answer; `None` for a node that has nothing to give.
    fn holders(
        &self,
        liars: &BTreeSet<NodeId>,
    ) -> impl futures::Stream<Item = Option<NodeId>> + Unpin + use<'_, R> {
        let peers = self.peers;
        let request = BlobRequest::Has { cid: self.cid };
        let first = self.first.filter(|node| !liars.contains(node));
        let linked = peers.linked();
        // All of them at once: whoever answers first is the least busy one.
        let asked: FuturesUnordered<_> = linked
            .into_iter()
            .filter(|node| Some(*node) != first && !liars.contains(node))
            .map(|node| {
                let request = request.clone();
                async move {
                    let deadline = Instant::now() + HAS_WITHIN;
                    match ask(peers, node, &request, deadline).await {
                        Ok(BlobReply::Here { bytes }) if bytes <= BLOB_MAX_BYTES as u64 => {
                            Some(node)
                        }
                        _ => None,
                    }
                }
            })
            .collect();
        futures::stream::iter(first.map(Some)).chain(asked)
    }

    /// Takes chunks from one holder for as long as it gives them.
    async fn take(&self, got: &mut Partial, holder: NodeId) -> End {
        loop {
            let offset = got.bytes.len() as u64;
            let Some(chunk) = self.chunk(holder, offset).await else {
                return End::Broken;
            };
            match got.total {
                None if chunk.total > BLOB_MAX_BYTES as u64 => return End::Broken,
                None if !(self.room)(chunk.total) => return End::Full,
                None => got.total = Some(chunk.total),
                Some(total) if total != chunk.total => return End::Differs,
                Some(_) => {}
            }
            let Some(left) = chunk.total.checked_sub(offset) else {
                return End::Broken;
            };
            let len = chunk.bytes.len() as u64;
            if len > left
                || len < left.min(CHUNK_MIN_BYTES)
                || chunk.bytes.len() > BLOB_CHUNK_BYTES
                || xxh3_64(&chunk.bytes) != chunk.digest
            {
                tracing::debug!(blob = %self.cid, from = %holder, offset, "a chunk is damaged");
                return End::Broken;
            }
            self.metrics.received.inc_by(len);
            got.bytes.extend_from_slice(&chunk.bytes);
            got.from.insert(holder);
            if len == left {
                return End::Whole;
            }
        }
    }

    async fn chunk(&self, holder: NodeId, offset: u64) -> Option<BlobChunk> {
        let cid = self.cid;
        let request = BlobRequest::Read { cid, offset };
        for _ in 0..BUSY_TRIES {
            match ask(self.peers, holder, &request, Instant::now() + CHUNK_WITHIN).await {
                Ok(BlobReply::Chunk(chunk)) => return Some(chunk),
                // Its lane is shared with snapshots and other transfers.
                Err(CallError::Busy(_)) => tokio::time::sleep(BUSY_PAUSE).await,
                Ok(_) => return None,
                Err(error) => {
                    tracing::debug!(blob = %cid, %error, offset, "a transfer broke off");
                    return None;
                }
            }
        }
        None
    }

    async fn verify(&self, bytes: Bytes) -> bool {
        let hashed = tokio::task::spawn_blocking(move || ContentId::of(&bytes)).await;
        hashed.is_ok_and(|found| found == self.cid)
    }
}

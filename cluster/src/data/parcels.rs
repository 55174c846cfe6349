//! What other nodes fetch from this one piece by piece: long answers, and copies of
//! databases. A parcel that nobody fetches from is thrown away after a while.

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use orama_proto::NodeId;
use parking_lot::Mutex;

use super::copies::TempCopy;
use super::metrics::Metrics;
use super::wire::PIECE_BYTES;

/// Parcels of a node at once.
const PARCELS_MAX: usize = 32;
/// Bytes of parcels in memory at once.
const MEMORY_MAX_BYTES: usize = 128 << 20;
/// Thrown away when nobody fetched from it for so long.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(30);

/// Where a parcel's bytes are.
pub(super) enum Source {
    /// A long answer.
    Memory(Bytes),
    /// A copy of a database, for a client of this node or for another node.
    File(TempCopy),
}

impl Source {
    fn in_memory(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File(_) => 0,
        }
    }
    /// At most [`PIECE_BYTES`] from there on; nothing at the end. Blocks for a file.
    pub(super) fn piece(&self, offset: u64) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => {
                let start = usize::try_from(offset)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let end = start.saturating_add(PIECE_BYTES).min(bytes.len());
                Ok(bytes.slice(start..end))
            }
            Self::File(copy) => {
                let mut file = std::fs::File::open(copy.path())?;
                file.seek(SeekFrom::Start(offset))?;
                let mut piece = Vec::new();
                file.take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
                Ok(piece.into())
            }
        }
    }
}

struct Parcel {
    source: Arc<Source>,
    /// Nobody else gets it.
    to: NodeId,
    touched: Instant,
}

/// The parcels of a node.
pub(super) struct Parcels {
    waiting: Mutex<HashMap<u128, Parcel>>,
    metrics: Metrics,
}

impl Parcels {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            waiting: Mutex::default(),
            metrics,
        }
    }

    /// Keeps something for a node; `None` when there is no room. Answers what to fetch it by.
    pub(super) fn put(&self, source: Source, to: NodeId) -> Option<u128> {
        let mut token = [0; 16];
        getrandom::fill(&mut token).ok()?;
        let token = u128::from_be_bytes(token);
        self.sweep();
        let mut waiting = self.waiting.lock();
        let held: usize = waiting.values().map(|p| p.source.in_memory()).sum();
        if waiting.len() >= PARCELS_MAX || held + source.in_memory() > MEMORY_MAX_BYTES {
            return None;
        }
        let parcel = Parcel {
            source: Arc::new(source),
            to,
            touched: Instant::now(),
        };
        waiting.insert(token, parcel);
        self.count(waiting.len());
        Some(token)
    }

    /// What a node fetches from.
    pub(super) fn get(&self, token: u128, by: NodeId) -> Option<Arc<Source>> {
        let mut waiting = self.waiting.lock();
        let parcel = waiting.get_mut(&token).filter(|p| p.to == by)?;
        parcel.touched = Instant::now();
        Some(Arc::clone(&parcel.source))
    }

    /// It is not needed any more.
    pub(super) fn release(&self, token: u128, by: NodeId) {
        let mut waiting = self.waiting.lock();
        if waiting.get(&token).is_some_and(|p| p.to == by) {
            waiting.remove(&token);
        }
        self.count(waiting.len());
    }

    /// Throws away what nobody fetches.
    pub(super) fn sweep(&self) {
        self.sweep_idle(KEPT_FOR);
    }

    pub(super) fn sweep_idle(&self, kept_for: Duration) {
        let mut waiting = self.waiting.lock();
        waiting.retain(|_, parcel| {
            let kept = parcel.touched.elapsed() < kept_for;
            if !kept {
                tracing::info!(to = %parcel.to, "nobody takes a copy or a long answer; it is thrown away");
            }
            kept
        });
        self.count(waiting.len());
    }

    fn count(&self, waiting: usize) {
        let count = i64::try_from(waiting).unwrap_or(i64::MAX);
        self.metrics.parcels.set(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcels() -> Parcels {
        Parcels::new(Metrics::register(&prometheus::Registry::new()).unwrap())
    }

    #[test]
    fn a_parcel_is_for_one_node_and_comes_in_pieces() {
        let (parcels, me, other) = (parcels(), NodeId(1), NodeId(2));
        let bytes = Bytes::from(vec![7; PIECE_BYTES + 10]);
        let token = parcels.put(Source::Memory(bytes.clone()), me).unwrap();
        assert!(parcels.get(token, other).is_none());
        parcels.release(token, other);
        let source = parcels.get(token, me).unwrap();
        let first = source.piece(0).unwrap();
        let second = source.piece(first.len() as u64).unwrap();
        assert_eq!((first.len(), second.len()), (PIECE_BYTES, 10));
        assert!(source.piece(bytes.len() as u64).unwrap().is_empty());
        assert!(source.piece(u64::MAX).unwrap().is_empty());
        parcels.release(token, me);
        assert!(parcels.get(token, me).is_none());
    }

    #[test]
    fn there_are_so_many_and_of_so_many_bytes() {
        let (parcels, me) = (parcels(), NodeId(1));
        let half = Bytes::from(vec![0; MEMORY_MAX_BYTES / 2]);
        for _ in 0..2 {
            assert!(parcels.put(Source::Memory(half.clone()), me).is_some());
        }
        assert!(parcels.put(Source::Memory(half), me).is_none());
        for _ in 2..PARCELS_MAX {
            assert!(parcels.put(Source::Memory(Bytes::new()), me).is_some());
        }
        assert!(parcels.put(Source::Memory(Bytes::new()), me).is_none());
    }
}

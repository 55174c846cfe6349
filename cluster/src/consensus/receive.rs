//! Takes a snapshot that a leader sends in chunks: into a file beside the
//! snapshots, which becomes one of them when all of it is there and verified.
//!
//! One at a time for a group; a newer offer replaces an unfinished one, the same
//! offer goes on where it stopped. Everything here blocks.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orama_proto::GroupId;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::container::verify;
use super::snapshot::SnapshotFile;
use super::wire::{Chunk, SnapshotId};
use crate::disk;

/// Why a chunk or an offer is not taken; for the sender's log.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("there is no room for a snapshot of {0} bytes")]
    NoRoom(u64),
    #[error("another snapshot is being installed")]
    Installing,
    #[error("no such snapshot is being received")]
    Unknown,
    #[error("the snapshot is not what was offered: {0}")]
    Damaged(String),
    #[error("the snapshot cannot be stored: {0}")]
    Io(#[from] io::Error),
}

struct Partial {
    id: SnapshotId,
    file: File,
    written: u64,
}

#[derive(Default)]
struct Slot {
    partial: Option<Partial>,
    installing: bool,
}

/// The place for one group's incoming snapshot. Cheap to clone.
#[derive(Clone)]
pub(super) struct Incoming {
    group: GroupId,
    dir: PathBuf,
    path: PathBuf,
    /// So many times its length is needed on disk until it is installed.
    copies: u64,
    slot: Arc<Mutex<Slot>>,
}

impl Incoming {
    pub(super) fn new(dir: &Path, group: GroupId, copies: u64) -> Self {
        Self {
            group,
            dir: dir.to_owned(),
            // The suffix lets the next start remove what a crash leaves.
            path: dir.join(format!("{:08x}-incoming.tmp", group.0)),
            copies,
            slot: Arc::default(),
        }
    }

    /// From which byte on the snapshot is wanted.
    pub(super) fn offer(&self, id: SnapshotId) -> Result<u64, Refused> {
        let mut slot = self.slot.lock();
        if slot.installing {
            return Err(Refused::Installing);
        }
        if let Some(partial) = slot.partial.as_ref().filter(|p| p.id == id) {
            return Ok(partial.written);
        }
        slot.partial = None;
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
        if !disk::has_room(&self.dir, id.length.saturating_mul(self.copies)) {
            return Err(Refused::NoRoom(id.length));
        }
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(&self.path)?;
        slot.partial = Some(Partial {
            id,
            file,
            written: 0,
        });
        Ok(0)
    }

    /// Takes the next chunk. Answers which byte is wanted next: one that is
    /// damaged or out of turn is asked for again.
    pub(super) fn chunk(&self, chunk: &Chunk) -> Result<u64, Refused> {
        let mut slot = self.slot.lock();
        let partial = slot
            .partial
            .as_mut()
            .filter(|p| p.id == chunk.id)
            .ok_or(Refused::Unknown)?;
        let bytes = chunk.bytes.as_slice();
        let end = chunk.offset.saturating_add(bytes.len() as u64);
        let fits = chunk.offset == partial.written && end <= partial.id.length;
        if fits && xxh3_64(bytes) == chunk.sum {
            partial.file.write_all_at(bytes, partial.written)?;
            partial.written = end;
        }
        Ok(partial.written)
    }

    /// Verifies the whole. Nothing else is taken until [`Self::done`].
    pub(super) fn finish(&self, id: SnapshotId) -> Result<SnapshotFile, Refused> {
        let mut slot = self.slot.lock();
        if slot.installing {
            return Err(Refused::Installing);
        }
        let whole = |p: &Partial| p.id == id && p.written == id.length;
        if !slot.partial.as_ref().is_some_and(whole) {
            return Err(Refused::Unknown);
        }
        let partial = slot.partial.take().ok_or(Refused::Unknown)?;
        slot.installing = true;
        drop(slot);
        let verified = || -> Result<SnapshotFile, Refused> {
            partial.file.sync_all()?;
            let header = verify(&self.path).map_err(|e| Refused::Damaged(e.to_string()))?;
            if header.group != self.group.0 || header.at != id.at {
                return Err(Refused::Damaged("it is another one".into()));
            }
            Ok(SnapshotFile {
                path: self.path.clone(),
                header: Arc::new(header),
                unpacked: None,
            })
        };
        // A panic must not keep the place for ever.
        let file = catch_unwind(AssertUnwindSafe(verified))
            .unwrap_or_else(|_| Err(Refused::Damaged("its structure is inconsistent".into())));
        if file.is_err() {
            self.done();
        }
        file
    }

    /// What was verified is installed, or not wanted any more.
    pub(super) fn done(&self) {
        // It is gone when it was installed; else it is in the way.
        let _ = fs::remove_file(&self.path);
        self.slot.lock().installing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::snapshot::SnapshotStore;
    use crate::consensus::types::{MembershipRecord, Position};
    use serde_bytes::ByteBuf;

    fn chunk(id: SnapshotId, all: &[u8], offset: usize, size: usize) -> Chunk {
        let bytes = &all[offset..(offset + size).min(all.len())];
        Chunk {
            id,
            offset: offset as u64,
            sum: xxh3_64(bytes),
            bytes: ByteBuf::from(bytes),
        }
    }

    #[test]
    fn chunks_are_taken_in_turn_and_the_whole_is_verified() {
        let source = tempfile::tempdir().unwrap();
        let (store, _) = SnapshotStore::open(source.path(), GroupId(2)).unwrap();
        let at = Some(Position {
            term: 1,
            leader: 1,
            index: 9,
        });
        let pairs: Vec<_> = (0..50u8).map(|i| (vec![1, i], vec![i; 40])).collect();
        let file = store
            .write(at, MembershipRecord::default(), &pairs)
            .unwrap();
        let all = fs::read(&file.path).unwrap();
        let id = SnapshotId {
            at,
            length: all.len() as u64,
            sum: [0; 16],
        };

        let dir = tempfile::tempdir().unwrap();
        let incoming = Incoming::new(dir.path(), GroupId(2), 2);
        assert_eq!(incoming.offer(id).unwrap(), 0);
        assert_eq!(incoming.chunk(&chunk(id, &all, 0, 100)).unwrap(), 100);
        // Out of turn, twice, damaged: asked for again.
        assert_eq!(incoming.chunk(&chunk(id, &all, 300, 100)).unwrap(), 100);
        assert_eq!(incoming.chunk(&chunk(id, &all, 0, 100)).unwrap(), 100);
        let mut bad = chunk(id, &all, 100, 100);
        bad.bytes[5] ^= 1;
        assert_eq!(incoming.chunk(&bad).unwrap(), 100);
        // The link broke: the same offer goes on, another begins anew.
        assert_eq!(incoming.offer(id).unwrap(), 100);
        assert!(matches!(incoming.finish(id), Err(Refused::Unknown)));
        assert_eq!(
            incoming.chunk(&chunk(id, &all, 100, all.len())).unwrap(),
            id.length
        );
        let received = incoming.finish(id).unwrap();
        assert_eq!(received.pairs().unwrap(), pairs);
        assert!(matches!(incoming.offer(id), Err(Refused::Installing)));
        incoming.done();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        // What does not verify as a whole is not installed, whatever its chunks say.
        let other = SnapshotId {
            at: None,
            length: 64,
            sum: [0; 16],
        };
        assert_eq!(incoming.offer(other).unwrap(), 0);
        incoming.chunk(&chunk(other, &[7; 64], 0, 64)).unwrap();
        assert!(matches!(incoming.finish(other), Err(Refused::Damaged(_))));
        let huge = SnapshotId {
            at: None,
            length: u64::MAX,
            sum: [0; 16],
        };
        assert!(matches!(incoming.offer(huge), Err(Refused::NoRoom(_))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

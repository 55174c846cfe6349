//! The open log as readers see it: which entries there are, and their bytes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orama_proto::GroupId;
use parking_lot::Mutex;

use super::appender::Appender;
use super::files::{Directory, Files, SegmentFile};
use super::index::{Index, Place};
use super::record;
use super::segment::Sizes;
use super::tail::Tail;
use crate::consensus::fault::StorageFault;
use crate::consensus::types::{Position, RaftEntry, VoteRecord};

/// Entries that lie side by side are read at once, up to so many bytes.
const READ_BYTES: usize = 1 << 20;

/// One change of the log.
#[derive(Debug)]
pub(super) enum Op {
    /// Adds entries with consecutive indices; those from the first on are gone.
    Append {
        group: GroupId,
        first: u64,
        /// Their records, encoded by whoever appends.
        records: Vec<u8>,
    },
    /// Sets the vote.
    Vote { group: GroupId, vote: VoteRecord },
    /// Sets the commit mark.
    Committed { group: GroupId, at: Position },
    /// Removes every entry from this index on.
    Truncate { group: GroupId, from: u64 },
    /// Removes every entry up to here and says so.
    Purge { group: GroupId, upto: Position },
    /// Removes everything of a group.
    Erase { group: GroupId },
}

/// The open log. Cloned readers share it; only the writer thread changes it.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) index: Arc<Mutex<Index>>,
    /// For messages.
    path: Arc<PathBuf>,
}

/// Entries side by side in one segment.
struct Run {
    file: Arc<dyn SegmentFile>,
    segment: u32,
    offset: u32,
    entries: Vec<(u64, u32)>,
    bytes: usize,
}

impl Engine {
    /// Opens or creates the directory and verifies all of it. Blocks.
    pub(super) fn open(path: &Path) -> Result<(Self, Appender), StorageFault> {
        let files = Directory::open(path)?;
        Self::over(path, Arc::new(files), Sizes::default())
    }

    /// The same over files of the caller's choice.
    pub(super) fn over(
        path: &Path,
        files: Arc<dyn Files>,
        sizes: Sizes,
    ) -> Result<(Self, Appender), StorageFault> {
        let (index, appender) = Appender::open(files, sizes)?;
        let engine = Self {
            index,
            path: Arc::new(path.to_owned()),
        };
        Ok((engine, appender))
    }

    /// Whether nothing is there of a group.
    pub(super) fn is_pristine(&self, group: GroupId) -> bool {
        let index = self.index.lock();
        index.groups.get(&group).is_none_or(|found| {
            found.vote.is_none() && found.purged.is_none() && found.entries.is_empty()
        })
    }

    /// What a group's log looks like. Reads its last entry.
    pub(super) fn tail(&self, group: GroupId) -> Result<Tail, StorageFault> {
        let (vote, purged, committed, first, end) = {
            let index = self.index.lock();
            let Some(found) = index.groups.get(&group) else {
                return Ok(Tail::default());
            };
            (
                found.vote.map(|(vote, _)| vote),
                found.purged.map(|(at, _)| at),
                found.committed.map(|(at, _)| at),
                found.first,
                found.end(),
            )
        };
        if purged.is_none() && first > 0 {
            return Err(StorageFault::LogRecord {
                group,
                record: "entry 0".into(),
                what: format!("it is missing, entry {first} is there"),
            });
        }
        let mut last = purged;
        if end > first {
            self.visit(group, end - 1, end, |entry, _| {
                last = Some(entry.log_id.into());
                true
            })?;
        }
        Ok(Tail::found(vote, purged, committed, last))
    }

    /// Visits what there is of a group's entries with `from <= index < to` in
    /// order, each with the size of its record, until `visit` answers false. Blocks.
    pub(super) fn visit(
        &self,
        group: GroupId,
        mut from: u64,
        to: u64,
        mut visit: impl FnMut(RaftEntry, usize) -> bool,
    ) -> Result<(), StorageFault> {
        let mut bytes = Vec::new();
        while from < to
            && let Some(run) = self.run(group, from, to)
        {
            let read = |bytes: &mut Vec<u8>| {
                bytes.resize(run.bytes, 0);
                run.file.read_at(u64::from(run.offset), bytes)
            };
            let damaged = |index: u64, what: String| StorageFault::LogRecord {
                group,
                record: format!("entry {index}"),
                what: format!(
                    "{what} (segment {:08x} of {}, from byte {})",
                    run.segment,
                    self.path.display(),
                    run.offset
                ),
            };
            read(&mut bytes).map_err(|e: io::Error| damaged(from, e.to_string()))?;
            let mut rest = &bytes[..];
            for &(index, length) in &run.entries {
                let (raw, after) = rest
                    .split_at_checked(length as usize)
                    .ok_or_else(|| damaged(index, "it is cut off".into()))?;
                rest = after;
                let (found, _) = record::parse(raw).map_err(|e| damaged(index, e.to_string()))?;
                if found.group != group || found.at.index != index {
                    let what = format!("it is entry {} of group {}", found.at.index, found.group);
                    return Err(damaged(index, what));
                }
                let entry = found.entry().map_err(|e| damaged(index, e.to_string()))?;
                if !visit(entry, raw.len()) {
                    return Ok(());
                }
                from = index + 1;
            }
        }
        Ok(())
    }

    /// The first entries of a range that can be read at once.
    fn run(&self, group: GroupId, from: u64, to: u64) -> Option<Run> {
        let index = self.index.lock();
        let found = index.groups.get(&group)?;
        let from = from.max(found.first);
        let to = to.min(found.end());
        let first = found.entry(from).filter(|_| from < to)?;
        let mut run = Run {
            file: Arc::clone(&index.segment(first.segment)?.file),
            segment: first.segment,
            offset: first.offset,
            entries: Vec::new(),
            bytes: 0,
        };
        for at in from..to {
            let Some(Place {
                segment,
                offset,
                length,
            }) = found.entry(at)
            else {
                break;
            };
            let adjoins = segment == run.segment
                && usize::try_from(offset).ok() == (run.offset as usize).checked_add(run.bytes);
            let fits = run.entries.is_empty() || run.bytes + length as usize <= READ_BYTES;
            if !adjoins || !fits {
                break;
            }
            run.entries.push((at, length));
            run.bytes += length as usize;
        }
        Some(run)
    }
}

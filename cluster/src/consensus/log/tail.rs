//! What a group's log looks like now, in memory: marks, last entry, and the
//! newest entries themselves.
//!
//! openraft reads an entry right after appending it, before it is on disk, and
//! again to apply it. Entries that are not durable yet are always here; durable
//! ones stay while there is room, so the normal path never reads the file.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::consensus::types::{Position, RaftEntry, VoteRecord};

/// Durable entries are kept up to so many bytes.
pub(super) const RECENT_BYTES: usize = 8 << 20;

/// Marks and newest entries of one group.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub(super) vote: Option<VoteRecord>,
    pub(super) purged: Option<Position>,
    pub(super) committed: Option<Position>,
    pub(super) last: Option<Position>,
    /// Where the log began when nothing was purged; 0 but in openraft's own tests.
    first: u64,
    /// A contiguous end of the log, each entry with the size of its cell.
    recent: BTreeMap<u64, (RaftEntry, usize)>,
    bytes: usize,
    /// Entries below this index are on disk.
    durable: u64,
    /// The group was erased: this is a log of the past, nothing may be added.
    pub(super) erased: bool,
}

/// A range as a reader finds it.
pub(super) struct Slice {
    /// Where the part that is only on disk ends; it begins where the range does.
    pub(super) disk: std::ops::Range<u64>,
    /// The entries after that, with their sizes.
    pub(super) recent: Vec<(RaftEntry, usize)>,
}

impl Tail {
    /// A log as it was found on disk.
    pub(super) fn found(
        vote: Option<VoteRecord>,
        purged: Option<Position>,
        committed: Option<Position>,
        last: Option<Position>,
    ) -> Self {
        let last = last.or(purged);
        Self {
            vote,
            purged,
            committed,
            last,
            durable: last.map_or(0, |at| at.index + 1),
            ..Self::default()
        }
    }

    /// Where the next entry must stand, unless the log is new or some are to be replaced.
    pub(super) fn next(&self) -> Option<u64> {
        self.last.map(|last| last.index + 1)
    }

    pub(super) fn append(&mut self, entry: RaftEntry, size: usize) {
        let at = Position::from(entry.log_id);
        // An index may be appended again after a truncation.
        self.durable = self.durable.min(at.index);
        if let Some((_, old)) = self.recent.insert(at.index, (entry, size)) {
            self.bytes -= old;
        }
        self.bytes += size;
        if self.last.is_none() {
            self.first = at.index;
        }
        self.last = Some(at);
    }

    /// Everything up to `index` is on disk: makes room.
    pub(super) fn durable_through(&mut self, index: u64) {
        self.durable = self.durable.max(index + 1);
        while self.bytes > RECENT_BYTES {
            match self.recent.first_entry() {
                Some(first) if *first.key() < self.durable => {
                    self.bytes -= first.remove().1;
                }
                _ => break,
            }
        }
    }

    /// Drops every entry after `keep`. Answers the first dropped index.
    pub(super) fn truncate(&mut self, keep: Option<Position>) -> Option<u64> {
        let from = keep.map_or(0, |at| at.index + 1);
        if self.last.is_none_or(|last| last.index < from) {
            return None;
        }
        let gone = self.recent.split_off(&from);
        self.bytes -= gone.values().map(|(_, size)| size).sum::<usize>();
        self.durable = self.durable.min(from);
        self.last = keep.or(self.purged);
        Some(from)
    }

    /// Drops every entry up to `upto`. Answers false when they are gone already.
    pub(super) fn purge(&mut self, upto: Position) -> bool {
        if self.purged.is_some_and(|p| p.index >= upto.index) {
            return false;
        }
        let rest = self.recent.split_off(&(upto.index + 1));
        self.bytes = rest.values().map(|(_, size)| size).sum();
        self.recent = rest;
        self.purged = Some(upto);
        if self.last.is_none_or(|last| last.index <= upto.index) {
            self.last = Some(upto);
            self.durable = self.durable.max(upto.index + 1);
        }
        true
    }

    /// What there is of `from <= index < to`.
    pub(super) fn slice(&self, from: u64, to: u64) -> Slice {
        let from = from.max(self.purged.map_or(self.first, |p| p.index + 1));
        let to = to.min(self.last.map_or(0, |last| last.index + 1));
        if from >= to {
            return Slice {
                disk: from..from,
                recent: Vec::new(),
            };
        }
        let recent: Vec<_> = self
            .recent
            .range((Bound::Included(from), Bound::Excluded(to)))
            .map(|(_, held)| held.clone())
            .collect();
        let end = recent.first().map_or(to, |(entry, _)| entry.log_id.index);
        Slice {
            disk: from..end,
            recent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::EntryPayload;

    fn at(index: u64) -> Position {
        Position {
            term: 1,
            leader: 1,
            index,
        }
    }

    fn entry(index: u64) -> RaftEntry {
        RaftEntry {
            log_id: at(index).into(),
            payload: EntryPayload::Blank,
        }
    }

    #[test]
    fn only_durable_entries_make_room() {
        let mut tail = Tail::default();
        let size = RECENT_BYTES / 4;
        for index in 0..8 {
            tail.append(entry(index), size);
        }
        assert_eq!(tail.slice(0, 100).recent.len(), 8, "nothing is durable yet");
        tail.durable_through(1);
        assert_eq!(tail.slice(0, 100).disk, 0..2, "only what is durable went");
        tail.durable_through(7);
        let slice = tail.slice(0, 100);
        assert_eq!((slice.disk, slice.recent.len()), (0..4, 4));
    }

    #[test]
    fn truncating_and_purging_move_the_ends() {
        let mut tail = Tail::default();
        for index in 0..6 {
            tail.append(entry(index), 10);
        }
        tail.durable_through(5);
        assert_eq!(tail.truncate(Some(at(9))), None);
        assert_eq!(tail.truncate(Some(at(3))), Some(4));
        assert_eq!(tail.last, Some(at(3)));
        assert!(tail.purge(at(1)) && !tail.purge(at(0)));
        assert_eq!(tail.slice(0, 100).recent.len(), 2);
        assert!(tail.purge(at(9)));
        assert_eq!((tail.last, tail.bytes), (Some(at(9)), 0));
        assert!(tail.slice(0, 100).recent.is_empty());
    }
}

//! Where everything that is alive lies: twelve bytes an entry, in memory.
//!
//! The writer changes it when a batch is durable, readers look up places. Every
//! segment knows how many bytes in it are still needed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use orama_proto::GroupId;

use super::files::SegmentFile;
use crate::consensus::types::{Position, VoteRecord};

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
}

/// The marks of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mark {
    Vote,
    Purged,
    Committed,
}

/// What is alive of a group.
#[derive(Debug, Default)]
pub(super) struct GroupIndex {
    pub(super) vote: Option<(VoteRecord, Place)>,
    pub(super) purged: Option<(Position, Place)>,
    pub(super) committed: Option<(Position, Place)>,
    /// Index of the first entry.
    pub(super) first: u64,
    pub(super) entries: VecDeque<Place>,
}

impl GroupIndex {
    /// The index after the last entry.
    pub(super) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(super) fn entry(&self, index: u64) -> Option<Place> {
        let nth = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.entries.get(nth).copied()
    }

    pub(super) fn mark(&self, mark: Mark) -> Option<Place> {
        match mark {
            Mark::Vote => self.vote.map(|(_, place)| place),
            Mark::Purged => self.purged.map(|(_, place)| place),
            Mark::Committed => self.committed.map(|(_, place)| place),
        }
    }

    /// Every place of it.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let marks = [Mark::Vote, Mark::Purged, Mark::Committed];
        let marks = marks.into_iter().filter_map(|mark| self.mark(mark));
        marks.chain(self.entries.iter().copied())
    }
}

/// A segment that is there.
pub(super) struct Segment {
    pub(super) file: Arc<dyn SegmentFile>,
    pub(super) size: u64,
    /// Bytes of records in it that are alive.
    pub(super) live: u64,
}

/// Everything of all groups.
pub(super) struct Index {
    /// Number of the first of `segments`.
    base: u32,
    segments: VecDeque<Segment>,
    pub(super) groups: HashMap<GroupId, GroupIndex>,
    live: u64,
    disk: u64,
}

impl Index {
    pub(super) fn new(base: u32) -> Self {
        Self {
            base,
            segments: VecDeque::new(),
            groups: HashMap::new(),
            live: 0,
            disk: 0,
        }
    }

    pub(super) fn base(&self) -> u32 {
        self.base
    }
    /// Bytes of records that are alive.
    pub(super) fn live(&self) -> u64 {
        self.live
    }
    /// Bytes of all segments.
    pub(super) fn disk(&self) -> u64 {
        self.disk
    }

    pub(super) fn segment(&self, number: u32) -> Option<&Segment> {
        let nth = number.checked_sub(self.base)?;
        self.segments.get(nth as usize)
    }

    /// Adds the segment after the last one.
    pub(super) fn add_segment(&mut self, file: Arc<dyn SegmentFile>, size: u64) {
        self.disk += size;
        self.segments.push_back(Segment {
            file,
            size,
            live: 0,
        });
    }

    /// Forgets the oldest segment.
    pub(super) fn drop_oldest(&mut self) {
        if let Some(gone) = self.segments.pop_front() {
            self.disk -= gone.size;
            self.base += 1;
        }
    }

    /// The oldest segment that holds something alive, or `until`.
    pub(super) fn first_alive(&self, until: u32) -> u32 {
        let dead = self.segments.iter().take_while(|s| s.live == 0).count();
        self.base.saturating_add(dead as u32).min(until)
    }

    /// Takes over a group as it was found, counting its places.
    pub(super) fn adopt(&mut self, group: GroupId, found: GroupIndex) {
        for place in found.places() {
            count(&mut self.segments, self.base, place, true);
            self.live += u64::from(place.length);
        }
        self.groups.insert(group, found);
    }

    fn edit(&mut self, group: GroupId) -> (&mut GroupIndex, Counter<'_>) {
        let counter = Counter {
            base: self.base,
            segments: &mut self.segments,
            live: &mut self.live,
        };
        (self.groups.entry(group).or_default(), counter)
    }

    /// Adds an entry; those from its index on are gone.
    pub(super) fn append(&mut self, group: GroupId, index: u64, place: Place) {
        let (state, mut counter) = self.edit(group);
        if index < state.end() {
            cut(state, &mut counter, index);
        }
        if state.entries.is_empty() {
            state.first = index;
        }
        counter.add(place);
        state.entries.push_back(place);
    }

    /// An entry or mark lies elsewhere now, if it has not changed since.
    pub(super) fn move_entry(&mut self, group: GroupId, index: u64, from: Place, to: Place) {
        let (state, mut counter) = self.edit(group);
        let nth = index.checked_sub(state.first).unwrap_or(u64::MAX);
        let nth = usize::try_from(nth).unwrap_or(usize::MAX);
        if let Some(place) = state.entries.get_mut(nth)
            && *place == from
        {
            *place = to;
            counter.replace(Some(from), to);
        }
    }

    pub(super) fn set_vote(&mut self, group: GroupId, vote: VoteRecord, place: Place) {
        let (state, mut counter) = self.edit(group);
        let old = state.vote.replace((vote, place));
        counter.replace(old.map(|(_, place)| place), place);
    }

    pub(super) fn set_committed(&mut self, group: GroupId, at: Position, place: Place) {
        let (state, mut counter) = self.edit(group);
        let old = state.committed.replace((at, place));
        counter.replace(old.map(|(_, place)| place), place);
    }

    /// Everything up to `upto` is gone.
    pub(super) fn purge(&mut self, group: GroupId, upto: Position, place: Place) {
        let (state, mut counter) = self.edit(group);
        let old = state.purged.replace((upto, place));
        counter.replace(old.map(|(_, place)| place), place);
        while state.first <= upto.index
            && let Some(gone) = state.entries.pop_front()
        {
            counter.remove(gone);
            state.first += 1;
        }
    }

    /// Everything from `from` on is gone.
    pub(super) fn truncate(&mut self, group: GroupId, from: u64) {
        let (state, mut counter) = self.edit(group);
        cut(state, &mut counter, from);
    }

    /// Nothing of the group remains.
    pub(super) fn erase(&mut self, group: GroupId) {
        if let Some(gone) = self.groups.remove(&group) {
            for place in gone.places() {
                count(&mut self.segments, self.base, place, false);
                self.live -= u64::from(place.length);
            }
        }
    }
}

fn cut(state: &mut GroupIndex, counter: &mut Counter<'_>, from: u64) {
    while state.end() > from
        && let Some(gone) = state.entries.pop_back()
    {
        counter.remove(gone);
    }
}

fn count(segments: &mut VecDeque<Segment>, base: u32, place: Place, add: bool) {
    let nth = place.segment.checked_sub(base).unwrap_or(u32::MAX);
    if let Some(segment) = segments.get_mut(nth as usize) {
        let length = u64::from(place.length);
        segment.live = match add {
            true => segment.live + length,
            false => segment.live.saturating_sub(length),
        };
    }
}

/// Keeps the books while a group is changed.
struct Counter<'a> {
    base: u32,
    segments: &'a mut VecDeque<Segment>,
    live: &'a mut u64,
}

impl Counter<'_> {
    fn add(&mut self, place: Place) {
        count(self.segments, self.base, place, true);
        *self.live += u64::from(place.length);
    }
    fn remove(&mut self, place: Place) {
        count(self.segments, self.base, place, false);
        *self.live = self.live.saturating_sub(u64::from(place.length));
    }
    fn replace(&mut self, old: Option<Place>, new: Place) {
        if let Some(old) = old {
            self.remove(old);
        }
        self.add(new);
    }
}

//! Keeps the log's size in proportion to what is alive in it.
//!
//! Segments are removed oldest first, so one entry of an idle group would hold
//! all that follow. When the log takes more than twice what is alive (and some
//! slack), whatever is alive in the oldest segment is written again, a bounded
//! piece with every batch, and then that segment is free.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use orama_proto::GroupId;
use parking_lot::Mutex;

use super::files::SegmentFile;
use super::index::{Index, Mark, Place};
use super::record::{self, Tag};
use super::segment::Sizes;
use crate::consensus::types::{Position, VoteRecord};

#[derive(Debug, Clone, Copy)]
enum Item {
    Entry(GroupId, u64),
    Mark(GroupId, Mark),
}

/// A record that the frame holds again.
#[derive(Debug, Clone, Copy)]
enum Moved {
    Entry(GroupId, u64, Place),
    Vote(GroupId, VoteRecord),
    Purged(GroupId, Position),
    Committed(GroupId, Position),
}

/// What is being moved.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    /// The segment that is being emptied.
    target: u32,
    work: VecDeque<Item>,
    /// What the frame under way holds, and where in it.
    moved: Vec<(usize, Moved)>,
    /// A live record could not be read: its segment stays, and the log grows.
    stopped: bool,
}

impl Cleaner {
    /// Adds records to the front of a frame, `limit` bytes or little more.
    pub(super) fn gather(
        &mut self,
        index: &Mutex<Index>,
        current: u32,
        sizes: &Sizes,
        limit: usize,
        frame: &mut Vec<u8>,
    ) {
        self.moved.clear();
        if self.stopped {
            return;
        }
        let end = frame.len() + limit;
        let mut reads = Vec::new();
        {
            let index = index.lock();
            if self.work.is_empty() {
                self.plan(&index, current, sizes);
            }
            let mut room = limit;
            while room > 0
                && frame.len() < end
                && let Some(item) = self.work.pop_front()
            {
                match item {
                    Item::Mark(group, mark) => self.mark(&index, group, mark, frame),
                    Item::Entry(group, at) => {
                        let place = index.groups.get(&group).and_then(|g| g.entry(at));
                        let alive = place.filter(|p| p.segment == self.target);
                        if let (Some(place), Some(segment)) = (alive, index.segment(self.target)) {
                            room = room.saturating_sub(place.length as usize);
                            reads.push((group, at, place, Arc::clone(&segment.file)));
                        }
                    }
                }
            }
        }
        for (group, at, place, file) in reads {
            match read(&*file, group, at, place) {
                Ok(raw) => {
                    let moved = Moved::Entry(group, at, place);
                    self.moved.push((frame.len(), moved));
                    record::put_moved(frame, &raw);
                }
                Err(error) => {
                    tracing::error!(group = %group, index = at, %error, "an entry of the Raft log cannot be read; old segments stay");
                    self.stopped = true;
                    return;
                }
            }
        }
    }

    fn plan(&mut self, index: &Index, current: u32, sizes: &Sizes) {
        let oldest = index.first_alive(current);
        let allowed = index.live().saturating_mul(2).saturating_add(sizes.slack);
        if oldest == current || index.disk() <= allowed {
            return;
        }
        self.target = oldest;
        for (group, found) in &index.groups {
            for mark in [Mark::Vote, Mark::Purged, Mark::Committed] {
                if found.mark(mark).is_some_and(|p| p.segment == oldest) {
                    self.work.push_back(Item::Mark(*group, mark));
                }
            }
            for (at, place) in (found.first..).zip(&found.entries) {
                if place.segment == oldest {
                    self.work.push_back(Item::Entry(*group, at));
                }
            }
        }
    }

    fn mark(&mut self, index: &Index, group: GroupId, mark: Mark, frame: &mut Vec<u8>) {
        let Some(found) = index.groups.get(&group) else {
            return;
        };
        if found.mark(mark).is_none_or(|p| p.segment != self.target) {
            return;
        }
        let start = frame.len();
        let moved = match mark {
            Mark::Vote => found.vote.map(|(vote, _)| {
                record::put_vote(frame, group, vote);
                Moved::Vote(group, vote)
            }),
            Mark::Purged => found.purged.map(|(at, _)| {
                record::put_position(frame, Tag::Purged, group, at);
                Moved::Purged(group, at)
            }),
            Mark::Committed => found.committed.map(|(at, _)| {
                record::put_position(frame, Tag::Committed, group, at);
                Moved::Committed(group, at)
            }),
        };
        self.moved.extend(moved.map(|moved| (start, moved)));
    }

    /// The frame is durable: what it holds again lies there now.
    pub(super) fn apply(&mut self, index: &mut Index, place: impl Fn(usize, usize) -> Place) {
        for (start, moved) in self.moved.drain(..) {
            let here = place(start, record::HEAD);
            match moved {
                Moved::Entry(group, at, old) => {
                    let to = place(start, old.length as usize);
                    index.move_entry(group, at, old, to);
                }
                Moved::Vote(group, vote) => index.set_vote(group, vote, here),
                Moved::Purged(group, at) => index.purge(group, at, here),
                Moved::Committed(group, at) => index.set_committed(group, at, here),
            }
        }
    }
}

/// The verified bytes of an entry.
fn read(file: &dyn SegmentFile, group: GroupId, index: u64, at: Place) -> io::Result<Vec<u8>> {
    let mut raw = vec![0; at.length as usize];
    file.read_at(u64::from(at.offset), &mut raw)?;
    let (found, _) =
        record::parse(&raw).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    if found.group != group || found.at.index != index {
        let what = "another record is in its place";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(raw)
}

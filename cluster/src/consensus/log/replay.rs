//! The records of a log, one after the other, into what is alive at its end.

use std::collections::{BTreeMap, HashMap};

use orama_proto::GroupId;

use super::index::{GroupIndex, Place};
use super::record::{Record, Tag};
use crate::consensus::fault::StorageFault;

/// Groups as far as the records were seen.
#[derive(Debug, Default)]
pub(super) struct Replay {
    groups: HashMap<GroupId, Seen>,
}

/// A group; moved entries may be seen after newer ones, so its entries are sparse for a while.
#[derive(Debug, Default)]
struct Seen {
    marks: GroupIndex,
    entries: BTreeMap<u64, Place>,
}

impl Replay {
    /// Forgets everything: the segments before this one are leftovers.
    pub(super) fn clear(&mut self) {
        self.groups.clear();
    }

    /// Takes a verified record that lies at `place`.
    pub(super) fn take(&mut self, record: &Record<'_>, place: Place) {
        match record.tag {
            Tag::Seal | Tag::Close | Tag::Open => return,
            Tag::Erase => {
                self.groups.remove(&record.group);
                return;
            }
            _ => {}
        }
        let seen = self.groups.entry(record.group).or_default();
        let index = record.at.index;
        match record.tag {
            Tag::Entry => {
                if seen
                    .entries
                    .last_key_value()
                    .is_some_and(|(i, _)| *i >= index)
                {
                    drop(seen.entries.split_off(&index));
                }
                seen.entries.insert(index, place);
            }
            Tag::Moved => {
                seen.entries.insert(index, place);
            }
            Tag::Vote => seen.marks.vote = Some((record.vote(), place)),
            Tag::Committed => seen.marks.committed = Some((record.at, place)),
            Tag::Truncate => drop(seen.entries.split_off(&index)),
            Tag::Purged => {
                seen.marks.purged = Some((record.at, place));
                seen.entries = seen.entries.split_off(&index.saturating_add(1));
            }
            Tag::Erase | Tag::Seal | Tag::Close | Tag::Open => {}
        }
    }

    /// The groups, none of which misses an entry.
    pub(super) fn finish(self) -> Result<Vec<(GroupId, GroupIndex)>, StorageFault> {
        let mut out = Vec::with_capacity(self.groups.len());
        for (group, Seen { mut marks, entries }) in self.groups {
            let purged = marks.purged.map(|(at, _)| at.index.saturating_add(1));
            let first = entries.first_key_value().map(|(index, _)| *index);
            // A log that was never purged begins with entry 0; a test's may begin anywhere.
            marks.first = purged.or(first).unwrap_or(0);
            for (index, place) in entries {
                let expected = marks.end();
                if index != expected {
                    return Err(StorageFault::LogRecord {
                        group,
                        record: format!("entry {expected}"),
                        what: format!("it is missing, entry {index} is there"),
                    });
                }
                marks.entries.push_back(place);
            }
            out.push((group, marks));
        }
        Ok(out)
    }
}

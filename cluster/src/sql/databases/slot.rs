//! What is known of one file of one database. A file that is replaced gets another slot, so
//! whoever holds this one and finds it gone looks again.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use orama_proto::sql::DatabaseId;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

use super::super::{Applied, Mark, Writer};
use super::directory::{Row, Saved};

/// Entries whose effect hash is remembered.
const RECENT: usize = 64;
/// Boundaries of the group's log, in entries. What a database's hash was when the log got there
/// is remembered longer: one that is written all the time is never at the same entry on two
/// replicas when they are asked, and was at the same boundaries.
const BOUNDARY: u64 = 1024;
/// So many boundaries are remembered.
const BOUNDARIES: usize = 32;
/// The boundary that is compared is so many back: another replica may not be there yet.
const BOUNDARY_BACK: usize = 2;

/// One database in one file. A few hundred bytes while it is not open.
pub(super) struct Slot {
    pub(super) id: DatabaseId,
    pub(super) generation: u64,
    pub(super) path: PathBuf,
    /// Held by who changes the database or its file; long.
    pub(super) work: Mutex<Work>,
    /// Held for moments, also under `work`.
    pub(super) info: Mutex<Info>,
}

/// What needs the file to itself.
#[derive(Default)]
pub(super) struct Work {
    pub(super) writer: Option<Box<Writer>>,
    /// Its place among the open writers.
    pub(super) turn: u64,
}

/// What can be asked while the file is in use.
#[derive(Debug, Default)]
pub(super) struct Info {
    /// Whether `group.db` names it. Before, it does not exist for anybody else.
    pub(super) named: bool,
    /// Removed or replaced.
    pub(super) gone: bool,
    /// Whether it was opened and looked at since the start.
    pub(super) verified: bool,
    /// See [`Row::hardened`].
    pub(super) hardened: bool,
    pub(super) mark: Mark,
    /// The mark that is on disk for certain.
    pub(super) safe: Mark,
    /// See [`Row::required`].
    pub(super) required: u64,
    /// The last entry that was skipped because it is fenced.
    pub(super) missed: u64,
    pub(super) bytes: u64,
    pub(super) log_bytes: u64,
    /// Whether it is among those that the next floor has to look at.
    pub(super) dirty: bool,
    /// Bytes of its log when readers last kept it from being emptied.
    pub(super) blocked: u64,
    pub(super) fenced: Option<Box<str>>,
    pub(super) saved: Option<Box<Saved>>,
    pub(super) recent: VecDeque<(u64, u128)>,
    /// Boundaries between two entries of this database, and its hash there.
    pub(super) boundaries: VecDeque<(u64, u128)>,
}

impl Slot {
    pub(super) fn new(id: DatabaseId, generation: u64, path: PathBuf, info: Info) -> Arc<Self> {
        Arc::new(Self {
            id,
            generation,
            path,
            work: Mutex::default(),
            info: Mutex::new(info),
        })
    }
    pub(super) fn gone(&self) -> bool {
        self.info.lock().gone
    }
    pub(super) fn fence(&self) -> Option<String> {
        self.info.lock().fenced.as_deref().map(str::to_owned)
    }
}

impl Info {
    pub(super) fn of(row: &Row) -> Self {
        let mark = Mark {
            applied: row.applied,
            hash: row.hash,
        };
        Self {
            named: true,
            hardened: row.hardened,
            mark,
            safe: mark,
            required: row.required,
            bytes: row.bytes,
            fenced: row.fenced.as_deref().map(Box::from),
            saved: row.saved.clone().map(Box::new),
            ..Self::default()
        }
    }

    pub(super) fn row(&self, generation: u64) -> Row {
        Row {
            generation,
            hardened: self.hardened,
            applied: self.safe.applied,
            hash: self.safe.hash,
            required: self.required,
            bytes: self.bytes,
            fenced: self.fenced.as_deref().map(str::to_owned),
            saved: self.saved.as_deref().cloned(),
        }
    }

    /// What the file must have, when it is opened.
    pub(super) fn at_least(&self) -> u64 {
        self.required.max(self.mark.applied)
    }
    /// Everything that this database was ever given.
    pub(super) fn reached(&self) -> u64 {
        self.at_least().max(self.missed)
    }
    /// Whether it is being rebuilt and lacks entries that only its rebuilder brings.
    pub(super) fn incomplete(&self) -> bool {
        self.required > self.mark.applied
    }

    pub(super) fn remember(&mut self, mark: Mark) {
        if mark.applied == 0
            || self
                .recent
                .back()
                .is_some_and(|(at, _)| *at == mark.applied)
        {
            return;
        }
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((mark.applied, mark.hash));
    }
    pub(super) fn remember_all(&mut self, applied: &[Applied]) {
        let fresh = applied.iter().filter(|a| a.outcome.is_some());
        let mut before = self.recent.back().copied();
        for done in fresh.clone() {
            // The last boundary before this entry, unless the one before it is past it too.
            let boundary = done.index.saturating_sub(1) / BOUNDARY * BOUNDARY;
            if let Some((_, hash)) = before.filter(|(at, _)| *at <= boundary) {
                if self.boundaries.len() >= BOUNDARIES {
                    self.boundaries.pop_front();
                }
                self.boundaries.push_back((boundary, hash));
            }
            before = Some((done.index, done.hash));
        }
        let skip = fresh.clone().count().saturating_sub(RECENT);
        for done in fresh.skip(skip) {
            self.remember(Mark {
                applied: done.index,
                hash: done.hash,
            });
        }
    }
    pub(super) fn hash_at(&self, index: u64) -> Option<u128> {
        if self.mark.applied == index && index > 0 {
            return Some(self.mark.hash);
        }
        let known = self.recent.iter().rev().chain(&self.boundaries);
        known
            .copied()
            .find(|(at, _)| *at == index)
            .map(|(_, hash)| hash)
    }
    /// The boundary at which it is compared, and its hash there.
    pub(super) fn passed(&self) -> Option<Mark> {
        let at = self.boundaries.len().saturating_sub(BOUNDARY_BACK + 1);
        let (applied, hash) = self.boundaries.get(at).copied()?;
        Some(Mark { applied, hash })
    }

    /// What it adds to the group's totals.
    pub(super) fn part(&self, id: &DatabaseId) -> Part {
        if !self.named || self.gone {
            return Part::default();
        }
        let saved = self.saved.as_ref().is_some_and(|s| s.mark() == self.mark);
        Part {
            hash: database_hash(id, self.mark),
            databases: 1,
            bytes: self.bytes,
            log_bytes: self.log_bytes,
            unsaved: if saved { 0 } else { self.bytes },
            fenced: usize::from(self.fenced.is_some()),
        }
    }
}

/// A database's share of the totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) hash: u128,
    pub(super) databases: usize,
    pub(super) bytes: u64,
    pub(super) log_bytes: u64,
    pub(super) unsaved: u64,
    pub(super) fenced: usize,
}

/// One that nothing was applied to is as if it were not there.
fn database_hash(id: &DatabaseId, mark: Mark) -> u128 {
    if mark.applied == 0 {
        return 0;
    }
    let mut sum = Xxh3::new();
    sum.update(b"database\0");
    sum.update(id.namespace.as_str().as_bytes());
    sum.update(&[0]);
    sum.update(&id.born.0.to_be_bytes());
    sum.update(&mark.hash.to_be_bytes());
    sum.digest128()
}

/// A register's share of the group's hash.
pub(super) fn register_hash(key: &str, value: &str) -> u128 {
    let mut sum = Xxh3::new();
    sum.update(b"register\0");
    sum.update(&(key.len() as u64).to_be_bytes());
    sum.update(key.as_bytes());
    sum.update(value.as_bytes());
    sum.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_proto::sql::SqlOutcome;

    fn applied(index: u64) -> Applied {
        Applied {
            index,
            outcome: Some(SqlOutcome::Committed(Vec::new())),
            hash: u128::from(index) * 3,
            took: std::time::Duration::ZERO,
        }
    }

    #[test]
    fn hashes_at_boundaries_do_not_depend_on_how_batches_are_cut() {
        let entries: Vec<u64> = (1..200).map(|n| n * 307).collect();
        let mut cuts = [1, 7, 64, 1000].map(|cut| {
            let mut info = Info::default();
            for batch in entries.chunks(cut) {
                let batch: Vec<_> = batch.iter().map(|index| applied(*index)).collect();
                info.remember_all(&batch);
            }
            info
        });
        let last = entries[entries.len() - 1];
        for info in &mut cuts {
            assert_eq!(info.boundaries.len(), BOUNDARIES);
            for boundary in (1..=20).map(|back| last / BOUNDARY * BOUNDARY - back * BOUNDARY) {
                let before = entries.iter().rev().find(|e| **e <= boundary).unwrap();
                assert_eq!(info.hash_at(boundary), Some(u128::from(*before) * 3));
            }
            let passed = info.passed().unwrap();
            assert_eq!(passed.applied % BOUNDARY, 0);
            assert!(passed.applied + 2 * BOUNDARY < last);
        }
        // One that is written seldom has those that it jumped over, the last of them each time.
        let mut seldom = Info::default();
        seldom.remember_all(&[applied(10), applied(5000)]);
        assert_eq!(
            (seldom.hash_at(4096), seldom.hash_at(2048)),
            (Some(30), None)
        );
        assert_eq!(seldom.passed().map(|p| p.applied), Some(4096));
    }
}

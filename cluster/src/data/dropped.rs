//! Databases that were deleted lately: an entry that comes after the drop must not make one anew.
//!
//! A node that has not heard of the deletion yet may still propose for the old database, and a
//! leader may append it behind the drop. So what was dropped is a part of the replicated state:
//! it is kept as a register of ours, in every snapshot and in the group's hash, and every
//! replica answers such an entry alike.

use std::collections::VecDeque;
use std::fmt::Write as _;

use orama_proto::sql::{DatabaseId, SqlCode, SqlError, SqlOutcome};
use orama_proto::{Namespace, Timestamp};

use crate::sql::Databases;

/// Registers that begin so are the group's own.
pub(super) const OURS: char = '\0';
const KEY: &str = "\0dropped";
/// So many are remembered, the oldest go. Much later than its drop nothing comes any more.
pub(super) const DROPPED_MAX: usize = 1024;

/// What was dropped, and by which entry; the oldest first.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    all: VecDeque<(u64, DatabaseId)>,
    changed: bool,
}

impl Dropped {
    /// As the registers have it.
    pub(super) fn read(databases: &Databases) -> Self {
        let text = databases.register(KEY).unwrap_or_default();
        Self {
            all: text.lines().filter_map(line).collect(),
            changed: false,
        }
    }

    /// The entry that dropped it.
    pub(super) fn by(&self, id: &DatabaseId) -> Option<u64> {
        let mut newest = self.all.iter().rev();
        newest
            .find(|(_, dropped)| dropped == id)
            .map(|(index, _)| *index)
    }

    /// Notes a drop.
    pub(super) fn note(&mut self, index: u64, id: DatabaseId) {
        self.all.retain(|(_, dropped)| *dropped != id);
        if self.all.len() >= DROPPED_MAX {
            self.all.pop_front();
        }
        self.all.push_back((index, id));
        self.changed = true;
    }

    /// The register and its value, when it is to be written.
    pub(super) fn changed(&mut self) -> Option<(String, String)> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut text = String::with_capacity(self.all.len() * 48);
        for (index, id) in &self.all {
            // Writing into a string does not fail.
            let _ = writeln!(text, "{index} {} {}", id.born.0, id.namespace);
        }
        Some((KEY.to_owned(), text))
    }
}

fn line(line: &str) -> Option<(u64, DatabaseId)> {
    let mut parts = line.splitn(3, ' ');
    let index = parts.next()?.parse().ok()?;
    let born = Timestamp(parts.next()?.parse().ok()?);
    let namespace = Namespace::parse(parts.next()?).ok()?;
    Some((index, DatabaseId { namespace, born }))
}

/// What a transaction for a dropped database is answered.
pub(super) fn outcome() -> SqlOutcome {
    let why = "the namespace was deleted; nothing was changed";
    SqlOutcome::RolledBack {
        failed: 0,
        error: SqlError::new(SqlCode::Unavailable, why),
        before: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> DatabaseId {
        DatabaseId {
            namespace: Namespace::parse(&format!("ns-{}", n % 7)).unwrap(),
            born: Timestamp(n),
        }
    }

    #[test]
    fn so_many_are_remembered_and_survive_as_text() {
        let mut dropped = Dropped::default();
        assert_eq!(dropped.changed(), None);
        for n in 1..=DROPPED_MAX as u64 + 5 {
            dropped.note(n * 2, id(n));
        }
        dropped.note(9_000, id(7));
        let (key, text) = dropped.changed().unwrap();
        assert!(key.starts_with(OURS));
        assert_eq!(dropped.changed(), None, "it is written once");
        let read: VecDeque<_> = text.lines().filter_map(line).collect();
        assert_eq!(read, dropped.all);
        assert_eq!(dropped.all.len(), DROPPED_MAX);
        assert_eq!((dropped.by(&id(5)), dropped.by(&id(6))), (None, Some(12)));
        assert_eq!(dropped.by(&id(7)), Some(9_000), "the last one counts");
    }
}

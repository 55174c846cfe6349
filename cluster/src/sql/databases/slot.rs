//! One database of the group: what is known of it, and its writer while it is open.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use orama_proto::sql::DatabaseId;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

use super::copies::Copy;
use super::directory::Row;
use super::{DatabaseInfo, Mark};
use crate::sql::Writer;

/// So many of the last entries' hashes are remembered for comparisons.
const RING: usize = 64;

/// A database.
pub(super) struct Slot {
    pub(super) id: DatabaseId,
    /// Held while entries are applied, and while the file is replaced.
    pub(super) writer: Mutex<Option<Writer>>,
    pub(super) state: Mutex<State>,
}

/// What is known without opening it.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) generation: u64,
    pub(super) mark: Mark,
    pub(super) bytes: u64,
    pub(super) fenced: Option<String>,
    /// The file has this much at least, even after a power cut.
    pub(super) hardened: u64,
    /// Somebody looked at the file since the start.
    pub(super) checked: bool,
    /// The newest copy.
    pub(super) saved: Option<Copy>,
    ring: VecDeque<(u64, u128)>,
}

impl Slot {
    pub(super) fn new(row: Row) -> Self {
        let state = State {
            generation: row.generation,
            mark: row.mark,
            bytes: row.bytes,
            fenced: row.fenced,
            hardened: row.mark.applied,
            checked: false,
            saved: None,
            ring: VecDeque::new(),
        };
        Self {
            id: row.id,
            writer: Mutex::new(None),
            state: Mutex::new(state),
        }
    }

    pub(super) fn row(&self) -> Row {
        let state = self.state.lock();
        Row {
            id: self.id.clone(),
            generation: state.generation,
            mark: state.mark,
            bytes: state.bytes,
            fenced: state.fenced.clone(),
        }
    }

    pub(super) fn info(&self) -> DatabaseInfo {
        let state = self.state.lock();
        DatabaseInfo {
            id: self.id.clone(),
            mark: state.mark,
            bytes: state.bytes,
            fenced: state.fenced.clone(),
        }
    }

    /// What it adds to the hash of the group.
    pub(super) fn hash(&self, mark: Mark) -> u128 {
        hash_of(&self.id, mark)
    }

    pub(super) fn hash_at(&self, index: u64) -> Option<u128> {
        let state = self.state.lock();
        if state.mark.applied == index && state.checked {
            return Some(state.mark.hash);
        }
        let found = state.ring.iter().find(|(at, _)| *at == index);
        found.map(|(_, hash)| *hash)
    }
}

impl State {
    /// Entries were applied: how far it is after each.
    pub(super) fn advance(&mut self, marks: impl Iterator<Item = Mark>) {
        for mark in marks {
            if self.ring.len() == RING {
                self.ring.pop_front();
            }
            self.ring.push_back((mark.applied, mark.hash));
            self.mark = mark;
        }
    }

    /// It is another file from here on.
    pub(super) fn renew(&mut self, generation: u64, mark: Mark, bytes: u64) {
        self.generation = generation;
        self.mark = mark;
        self.bytes = bytes;
        self.hardened = mark.applied;
        self.fenced = None;
        self.checked = false;
        self.ring.clear();
    }

    /// Whether a copy would be the same as the newest one.
    pub(super) fn is_saved(&self) -> bool {
        self.saved
            .as_ref()
            .is_some_and(|copy| copy.mark == self.mark)
    }
}

/// A database's part in the hash of its group; nothing before its first entry.
pub(super) fn hash_of(id: &DatabaseId, mark: Mark) -> u128 {
    if mark.applied == 0 {
        return 0;
    }
    let mut hash = Xxh3::new();
    hash.update(id.namespace.as_str().as_bytes());
    hash.update(&id.born.0.to_be_bytes());
    hash.update(&mark.hash.to_be_bytes());
    hash.digest128()
}

/// A register's part in the hash of its group.
pub(super) fn hash_of_register(name: &str, value: &str) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&(name.len() as u64).to_be_bytes());
    hash.update(name.as_bytes());
    hash.update(value.as_bytes());
    hash.digest128()
}

/// The file of a generation.
pub(super) fn path_of(live: &Path, generation: u64) -> PathBuf {
    live.join(format!("{generation:016x}.db"))
}

/// Deletes a database's file and what SQLite keeps beside it.
pub(super) fn delete(path: &Path) -> std::io::Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

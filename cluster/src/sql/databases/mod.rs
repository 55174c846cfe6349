//! The databases of one data group on this node: which there are, their files,
//! the connections that are open, and how far all of them are safely on disk.
//!
//! ```text
//! DIR/group.db              registers, the floor, which databases there are and in which file
//! DIR/live/GENERATION.db    a database; one that is replaced as a whole gets another number
//! DIR/backups/SUM.db        a copy that a local snapshot names; never written again
//! ```

mod body;
mod copies;
mod directory;
mod metrics;
mod open;
mod read;
mod safety;
mod save;
mod slot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use orama_proto::sql::DatabaseId;
use parking_lot::{Mutex, RwLock};

use self::directory::{Directory, Row};
pub(crate) use self::metrics::Metrics;
use self::read::Readers;
use self::slot::{Slot, hash_of_register, path_of};
use super::{Applied, EngineFault, Item, Mark, Query, Writer};

/// Bounds of what one node holds open for one group.
#[derive(Debug, Clone)]
pub(crate) struct DatabasesOptions {
    /// Databases with an open writer.
    pub(crate) open_max: usize,
    /// Open readers over all databases.
    pub(crate) readers_max: usize,
}

impl Default for DatabasesOptions {
    fn default() -> Self {
        Self {
            open_max: 64,
            readers_max: 64,
        }
    }
}

/// Everything up to `at` is safely in the files: where a restart goes on. `opaque` is the
/// caller's (position and membership, encoded).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Floor {
    pub(crate) index: u64,
    pub(crate) opaque: Vec<u8>,
}

/// A database that differs from the other replicas', or whose file is damaged: nothing is
/// applied to it or read from it until it is rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the database {id} is fenced: {why}")]
pub(crate) struct Fenced {
    pub(crate) id: DatabaseId,
    pub(crate) why: String,
}

/// What is known of a database without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatabaseInfo {
    pub(crate) id: DatabaseId,
    pub(crate) mark: Mark,
    pub(crate) bytes: u64,
    pub(crate) fenced: Option<String>,
}

/// A copy of a database as a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backup {
    pub(crate) path: PathBuf,
    pub(crate) mark: Mark,
    pub(crate) bytes: u64,
    /// xxh3-128 of the file.
    pub(crate) sum: u128,
}

/// A backup or the floor could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveFault {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Engine(#[from] EngineFault),
}

/// The databases of one group. Shared by who applies (one at a time: the methods that
/// change take `&self` and a lock inside), readers and upkeep. Everything here blocks.
pub(crate) struct Databases {
    live: PathBuf,
    backups: PathBuf,
    options: DatabasesOptions,
    metrics: Metrics,
    /// Whether the last process ended in order: then files need not be read as a whole.
    clean: bool,
    directory: Mutex<Directory>,
    slots: RwLock<HashMap<DatabaseId, Arc<Slot>>>,
    registers: RwLock<Registers>,
    /// Sum over databases and registers.
    hash: Mutex<u128>,
    /// Databases with an open writer, the one used last at the end.
    writers: Mutex<VecDeque<DatabaseId>>,
    readers: Readers,
    floor: Mutex<Option<Floor>>,
    /// One save, reset or removal of copies at a time.
    saving: Mutex<()>,
}

#[derive(Debug, Default)]
struct Registers {
    values: BTreeMap<String, String>,
    applied: u64,
}

impl Databases {
    fn slot(&self, id: &DatabaseId) -> Option<Arc<Slot>> {
        self.slots.read().get(id).cloned()
    }

    fn all(&self) -> Vec<Arc<Slot>> {
        self.slots.read().values().cloned().collect()
    }

    /// A database's part of the group's hash changes.
    fn rehash(&self, old: u128, new: u128) {
        let mut hash = self.hash.lock();
        *hash = hash.wrapping_sub(old).wrapping_add(new);
    }

    // ---- applying -------------------------------------------------------------

    /// Applies entries to one database, in order; makes it when it is missing. A fenced
    /// database skips them (`Err` in the inner result); a file that proves damaged when it is
    /// opened or used is fenced. `Err`: the group must stop.
    pub(crate) fn apply(
        &self,
        id: &DatabaseId,
        items: &[Item<'_>],
    ) -> Result<Result<Vec<Applied>, Fenced>, EngineFault> {
        let slot = match self.slot(id) {
            Some(slot) => slot,
            None => self.create(id)?,
        };
        let mut writer = slot.writer.lock();
        if let Err(fenced) = self.open_writer(&slot, &mut writer)? {
            return Ok(Err(fenced));
        }
        let Some(open) = writer.as_mut() else {
            return Err(EngineFault::Io("the writer is gone".into()));
        };
        let result = open.apply(items);
        let (now, bytes) = (open.mark(), open.bytes());
        let applied = match result {
            Ok(applied) => applied,
            Err(EngineFault::Damaged(what)) => {
                *writer = None;
                return self.fence_slot(&slot, &what).map(Err);
            }
            Err(fault) => {
                // What the file has is known again when it is opened again.
                *writer = None;
                slot.state.lock().checked = false;
                return Err(fault);
            }
        };
        let mut state = slot.state.lock();
        let before = slot.hash(state.mark);
        let news = applied.iter().filter(|a| a.outcome.is_some());
        state.advance(news.map(|a| Mark {
            applied: a.index,
            hash: a.hash,
        }));
        state.mark = now;
        state.bytes = bytes;
        drop(state);
        self.rehash(before, slot.hash(now));
        Ok(Ok(applied))
    }

    fn create(&self, id: &DatabaseId) -> Result<Arc<Slot>, EngineFault> {
        let mut directory = self.directory.lock();
        let row = Row {
            id: id.clone(),
            generation: directory.next_generation()?,
            mark: Mark::default(),
            bytes: 0,
            fenced: None,
        };
        directory.insert(&row)?;
        let slot = Arc::new(Slot::new(row));
        slot.state.lock().checked = true;
        self.slots.write().insert(id.clone(), Arc::clone(&slot));
        self.metrics.databases.inc();
        Ok(slot)
    }

    /// Opens the writer when it is not, and looks whether the file is what it should be.
    fn open_writer(
        &self,
        slot: &Slot,
        writer: &mut Option<Writer>,
    ) -> Result<Result<(), Fenced>, EngineFault> {
        let state = slot.state.lock().clone();
        if let Some(why) = state.fenced {
            return Ok(Err(Fenced {
                id: slot.id.clone(),
                why,
            }));
        }
        if writer.is_some() {
            self.used(&slot.id);
            return Ok(Ok(()));
        }
        let path = path_of(&self.live, state.generation);
        if state.hardened > 0 && !path.exists() {
            return self.fence_slot(slot, "its file is missing").map(Err);
        }
        let whole = !state.checked && !self.clean && state.bytes <= CHECK_MAX_BYTES;
        let open = match Writer::open(&path, whole) {
            Ok(open) => open,
            Err(EngineFault::Damaged(what)) => return self.fence_slot(slot, &what).map(Err),
            Err(fault) => return Err(fault),
        };
        let mark = open.mark();
        if mark.applied < state.hardened {
            let what = format!(
                "its file ends at entry {}, it had entry {} before",
                mark.applied, state.hardened
            );
            return self.fence_slot(slot, &what).map(Err);
        }
        let before = {
            let mut state = slot.state.lock();
            let before = slot.hash(state.mark);
            state.mark = mark;
            state.bytes = open.bytes();
            state.checked = true;
            before
        };
        self.rehash(before, slot.hash(mark));
        *writer = Some(open);
        self.metrics.open.inc();
        self.used(&slot.id);
        Ok(Ok(()))
    }

    /// Closes the writer that was not used for longest when there are too many.
    fn used(&self, id: &DatabaseId) {
        let mut writers = self.writers.lock();
        if writers.back() == Some(id) {
            return;
        }
        writers.retain(|other| other != id);
        writers.push_back(id.clone());
        let over = writers.len().saturating_sub(self.options.open_max.max(1));
        let oldest: Vec<DatabaseId> = writers.drain(..over).collect();
        drop(writers);
        for id in oldest {
            let Some(slot) = self.slot(&id) else { continue };
            let closed = slot.writer.try_lock().and_then(|mut writer| writer.take());
            if closed.is_some() {
                self.metrics.open.dec();
            }
        }
    }

    /// Fences a database because of what was found in its file.
    fn fence_slot(&self, slot: &Slot, why: &str) -> Result<Fenced, EngineFault> {
        let mut row = slot.row();
        row.fenced = Some(why.to_owned());
        self.directory.lock().replace(&row)?;
        slot.state.lock().fenced = Some(why.to_owned());
        self.readers.forget(&slot.id);
        self.metrics.fenced.inc();
        Ok(Fenced {
            id: slot.id.clone(),
            why: why.to_owned(),
        })
    }

    /// Deletes a database. Idempotent.
    pub(crate) fn remove(&self, id: &DatabaseId, _index: u64) -> Result<(), EngineFault> {
        let Some(slot) = self.slot(id) else {
            return Ok(());
        };
        let mut writer = slot.writer.lock();
        self.directory.lock().remove(id)?;
        self.slots.write().remove(id);
        self.readers.forget(id);
        if writer.take().is_some() {
            self.metrics.open.dec();
        }
        self.metrics.databases.dec();
        let state = slot.state.lock().clone();
        self.rehash(slot.hash(state.mark), 0);
        let path = path_of(&self.live, state.generation);
        // Nobody names it any more: what cannot be deleted now is swept at the next start.
        if let Err(error) = slot::delete(&path) {
            tracing::warn!(database = %id, %error, "the file of a removed database cannot be deleted");
        }
        Ok(())
    }

    /// A register (small values by which tests check a cluster), as of the entry `index`.
    pub(crate) fn register(&self, key: &str) -> Option<String> {
        self.registers.read().values.get(key).cloned()
    }

    /// How many registers there are.
    pub(crate) fn registers(&self) -> usize {
        self.registers.read().values.len()
    }

    /// Sets registers: entries at or before the registers' own mark are skipped by the caller,
    /// who asks [`Self::registers_applied`].
    pub(crate) fn set_registers(
        &self,
        index: u64,
        changes: &[(String, String)],
    ) -> Result<(), EngineFault> {
        self.directory.lock().set_registers(index, changes)?;
        let mut registers = self.registers.write();
        for (name, value) in changes {
            let old = registers.values.insert(name.clone(), value.clone());
            let old = old.map_or(0, |old| hash_of_register(name, &old));
            self.rehash(old, hash_of_register(name, value));
        }
        registers.applied = index;
        Ok(())
    }

    pub(crate) fn registers_applied(&self) -> u64 {
        self.registers.read().applied
    }

    /// Sum over all databases and registers: equal on replicas with the same applied index.
    pub(crate) fn hash(&self) -> u128 {
        *self.hash.lock()
    }

    /// All databases, by id.
    pub(crate) fn list(&self) -> Vec<DatabaseInfo> {
        let mut all: Vec<_> = self.all().iter().map(|slot| slot.info()).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// The effect hash after the entry `index` (its last one, or a recent one).
    pub(crate) fn hash_at(&self, id: &DatabaseId, index: u64) -> Option<u128> {
        self.slot(id)?.hash_at(index)
    }

    /// Where a restart goes on; `None` when nothing was ever made safe.
    pub(crate) fn floor(&self) -> Option<Floor> {
        self.floor.lock().clone()
    }
}

/// After a stop that was none, files up to this size are read as a whole when they are opened.
const CHECK_MAX_BYTES: u64 = 64 << 20;

//! What makes applied entries survive a power cut, and what replaces a file
//! that is not what it should be.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use orama_proto::sql::DatabaseId;
use rusqlite::{Connection, OpenFlags};

use super::copies::{self, Contents, Copy};
use super::directory::{Row, fault};
use super::slot::{Slot, delete, hash_of, hash_of_register, path_of};
use super::{Databases, Floor, Mark, Registers, SaveFault};
use crate::data_dir::sync_dir;
use crate::sql::{EngineFault, raw};

/// A write-ahead log this long is written back.
const LOG_BYTES: u64 = 4 << 20;
/// One this long is a warning: a reader keeps it from being cut.
const LOG_LONG_BYTES: u64 = 256 << 20;

type Pairs = [(Vec<u8>, Vec<u8>)];

fn log_of(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Syncs a file that may be gone: then what was in it was synced elsewhere.
fn sync(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_data(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

impl Databases {
    /// Syncs everything written since the last floor, then makes this the floor. Applying
    /// goes on meanwhile; everything up to `floor.index` was applied before the call.
    ///
    /// The write-ahead log has everything since it was last begun, and SQLite begins it anew only
    /// after it has synced the database file (synchronous=NORMAL); so syncing the log is enough.
    /// (Closing a descriptor drops the process's locks on that file: SQLite has none on a log.)
    pub(crate) fn harden(&self, floor: &Floor) -> Result<(), SaveFault> {
        let timer = self.metrics.floor_seconds.start_timer();
        let mut rows = Vec::new();
        let mut hardened = Vec::new();
        for slot in self.all() {
            let row = {
                let state = slot.state.lock();
                if state.mark.applied <= state.hardened || state.fenced.is_some() {
                    continue;
                }
                drop(state);
                slot.row()
            };
            sync(&log_of(&path_of(&self.live, row.generation)))?;
            hardened.push((slot, row.generation, row.mark.applied));
            rows.push(row);
        }
        sync_dir(&self.live)?;
        self.directory.lock().set_floor(floor, &rows)?;
        for (slot, generation, applied) in hardened {
            let mut state = slot.state.lock();
            if state.generation == generation {
                state.hardened = state.hardened.max(applied);
            }
        }
        *self.floor.lock() = Some(floor.clone());
        timer.observe_duration();
        Ok(())
    }

    /// Keeps write-ahead logs short: writes back those that are long. Called often.
    pub(crate) fn checkpoint(&self) -> Result<(), SaveFault> {
        let open: Vec<DatabaseId> = self.writers.lock().iter().cloned().collect();
        for slot in open.iter().filter_map(|id| self.slot(id)) {
            let (generation, fenced) = {
                let state = slot.state.lock();
                (state.generation, state.fenced.is_some())
            };
            let path = path_of(&self.live, generation);
            let bytes = std::fs::metadata(log_of(&path)).map_or(0, |m| m.len());
            if fenced || bytes < LOG_BYTES {
                continue;
            }
            let done = self.write_back(&path).map_err(|e| fault(&e))?;
            self.metrics.checkpoints.inc();
            if !done && bytes >= LOG_LONG_BYTES {
                self.metrics.long_logs.inc();
                tracing::warn!(database = %slot.id, bytes, "a long read keeps a write-ahead log from being cut");
            }
        }
        Ok(())
    }

    /// Writes a log back into its database; whether all of it was.
    pub(super) fn write_back(&self, path: &Path) -> rusqlite::Result<bool> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags_and_vfs(path, flags, raw::VFS)?;
        conn.pragma_update(None, "synchronous", "NORMAL")?;
        conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            let (log, done): (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok(log == done)
        })
    }

    /// Replaces everything live by what a manifest names (or by nothing), and sets the floor.
    /// Atomic: after a crash it is all old or all new.
    pub(crate) fn reset(&self, manifest: &Pairs, floor: Option<&Floor>) -> Result<(), SaveFault> {
        let _saving = self.saving.lock();
        let contents = Contents::read(manifest)?;
        let mut new = Vec::new();
        for (id, copy) in &contents.copies {
            let generation = self.directory.lock().next_generation()?;
            let path = path_of(&self.live, generation);
            copies::restore(&copy.path(&self.backups), copy, &path)?;
            new.push((
                Row {
                    id: id.clone(),
                    generation,
                    mark: copy.mark,
                    bytes: copy.bytes,
                    fenced: None,
                },
                copy.clone(),
            ));
        }
        sync_dir(&self.live)?;
        let rows: Vec<Row> = new.iter().map(|(row, _)| row.clone()).collect();
        let applied = contents.registers_applied;
        // Nobody begins to use an old file once the directory names the new ones.
        let mut slots = self.slots.write();
        self.directory
            .lock()
            .reset(&rows, &contents.registers, applied, floor)?;
        let old: Vec<Arc<Slot>> = slots.drain().map(|(_, slot)| slot).collect();
        let mut hash = 0u128;
        for (row, copy) in new {
            hash = hash.wrapping_add(hash_of(&row.id, row.mark));
            let slot = Slot::new(row);
            slot.state.lock().saved = Some(copy);
            slots.insert(slot.id.clone(), Arc::new(slot));
        }
        for (name, value) in &contents.registers {
            hash = hash.wrapping_add(hash_of_register(name, value));
        }
        self.metrics
            .databases
            .add(i64::try_from(slots.len()).unwrap_or(0) - i64::try_from(old.len()).unwrap_or(0));
        drop(slots);
        *self.registers.write() = Registers {
            values: contents.registers.into_iter().collect(),
            applied,
        };
        *self.hash.lock() = hash;
        *self.floor.lock() = floor.cloned();
        self.writers.lock().clear();
        for slot in old {
            self.readers.forget(&slot.id);
            self.close_file(&slot);
        }
        Ok(())
    }

    /// Closes and deletes a file that nothing names any more.
    fn close_file(&self, slot: &Slot) {
        if slot.writer.lock().take().is_some() {
            self.metrics.open.dec();
        }
        let generation = slot.state.lock().generation;
        if let Err(error) = delete(&path_of(&self.live, generation)) {
            tracing::warn!(%error, "the file of a replaced database cannot be deleted; it is swept at the next start");
        }
    }

    /// Fences a database, durably, until [`Self::replace`].
    pub(crate) fn fence(&self, id: &DatabaseId, why: &str) -> Result<(), EngineFault> {
        let Some(slot) = self.slot(id) else {
            return Ok(());
        };
        let mut writer = slot.writer.lock();
        if slot.state.lock().fenced.is_some() {
            return Ok(());
        }
        if writer.take().is_some() {
            self.metrics.open.dec();
        }
        self.fence_slot(&slot, why).map(drop)
    }

    /// Puts a verified copy (or nothing: `None`) in the place of a fenced database and lifts the
    /// fence. The caller, who holds up applying, then applies what the copy lacks.
    pub(crate) fn replace(&self, id: &DatabaseId, copy: Option<&Path>) -> Result<Mark, SaveFault> {
        let Some(slot) = self.slot(id) else {
            return Err(
                io::Error::new(io::ErrorKind::NotFound, "there is no such database").into(),
            );
        };
        let mut writer = slot.writer.lock();
        let generation = self.directory.lock().next_generation()?;
        let path = path_of(&self.live, generation);
        let (mark, bytes) = match copy {
            None => (Mark::default(), 0),
            Some(from) => {
                let (sum, bytes) = copies::sum_of(from)?;
                let copy = Copy {
                    mark: Mark::default(),
                    bytes,
                    sum,
                };
                copies::restore(from, &copy, &path)?;
                sync_dir(&self.live)?;
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let mark = Connection::open_with_flags_and_vfs(&path, flags, raw::VFS)
                    .and_then(|conn| copies::mark_in(&conn))
                    .map_err(|e| fault(&e))?;
                (mark, bytes)
            }
        };
        let row = Row {
            id: id.clone(),
            generation,
            mark,
            bytes,
            fenced: None,
        };
        self.directory.lock().replace(&row)?;
        if writer.take().is_some() {
            self.metrics.open.dec();
        }
        let (old, before) = {
            let mut state = slot.state.lock();
            let (old, before) = (state.generation, hash_of(id, state.mark));
            state.renew(generation, mark, bytes);
            (old, before)
        };
        self.rehash(before, hash_of(id, mark));
        self.readers.forget(id);
        self.metrics.replaced.inc();
        if let Err(error) = delete(&path_of(&self.live, old)) {
            tracing::warn!(database = %id, %error, "a replaced file cannot be deleted; it is swept at the next start");
        }
        Ok(mark)
    }
}

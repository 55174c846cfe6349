//! Exchanging files: a fenced database's, or all of a group. New files are whole and synced
//! before one transaction of the directory names them instead of the old ones.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orama_proto::sql::DatabaseId;

use super::super::{Applied, EngineFault, Item, Mark, Writer};
use super::backups::verify;
use super::directory::{Change, Directory, Durable, Row, Saved, State};
use super::manifest::{Entry, Manifest, Pair};
use super::slot::{Info, Slot};
use super::table::Registers;
use super::{Databases, Floor, SaveFault, files, layout, points, remove_erased};
use crate::data_dir::{make_dir, sync_dir};
use crate::disk;

/// The write-ahead log of a staged file is emptied at this length.
const STAGED_LOG_BYTES: u64 = 8 << 20;

/// A file that is to replace a database, and is brought up to date beside it. It goes with this
/// when it was not put in place. Everything of it blocks.
pub(crate) struct Staged {
    id: DatabaseId,
    path: PathBuf,
    /// What it replaces.
    old: Option<Arc<Slot>>,
    writer: Option<Box<Writer>>,
    mark: Mark,
    placed: bool,
}

impl Staged {
    /// How far it is, as the file says itself: index and hash are always one pair of one file.
    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    /// The entry that the database had got to before and this one has not yet.
    pub(crate) fn lacks(&self) -> Option<u64> {
        let reached = self.old.as_ref().map_or(0, |old| old.info.lock().reached());
        (reached > self.mark.applied).then_some(reached)
    }

    /// Applies entries to it, in order; those that it has are skipped.
    pub(crate) fn apply(&mut self, items: &[Item<'_>]) -> Result<Vec<Applied>, EngineFault> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(Box::new(Writer::open(&self.path, false)?)),
        };
        let applied = writer.apply(items);
        self.mark = writer.mark();
        if files::sizes(&self.path).1 >= STAGED_LOG_BYTES {
            files::checkpoint(&self.path)?;
        }
        applied
    }

    /// Has everything in the file itself, synced, so that it can be moved. It can still be
    /// written to afterwards.
    pub(crate) fn seal(&mut self) -> Result<(), SaveFault> {
        if self.writer.take().is_none() {
            return Ok(());
        }
        // Of the last connection: its end leaves no write-ahead log.
        files::settle(&self.path)?;
        File::open(&self.path)?.sync_all()?;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        self.writer = None;
        if !self.placed
            && let Err(error) = files::remove(&self.path)
        {
            tracing::warn!(database = %self.id, %error, "a copy that was not put in place stays until the next start");
        }
    }
}

impl Databases {
    /// Fences a database, durably, until [`Self::replace`].
    pub(crate) fn fence(&self, id: &DatabaseId, why: &str) -> Result<(), EngineFault> {
        loop {
            let slot = self.table.get(id).filter(|slot| slot.info.lock().named);
            let Some(slot) = slot else { return Ok(()) };
            let mut work = slot.work.lock();
            self.check_open()?;
            if !slot.gone() {
                return self.fence_slot(&slot, &mut work, why).map(drop);
            }
        }
    }

    /// Bytes of a database's file, and of the copy in this node's last snapshot, whichever is more.
    pub(crate) fn bytes_of(&self, id: &DatabaseId) -> u64 {
        self.table.get(id).map_or(0, |slot| {
            let info = slot.info.lock();
            info.bytes.max(info.saved.as_ref().map_or(0, |s| s.bytes))
        })
    }

    /// Puts a verified copy (or nothing: `None`) beside the database that it is to replace, and
    /// reads it whole. Takes as long as that takes, and holds up nobody.
    pub(crate) fn stage(&self, id: &DatabaseId, copy: Option<&Path>) -> Result<Staged, SaveFault> {
        self.check_open()?;
        let dir = layout::staged(&self.dir);
        make_dir(&dir)?;
        let mut staged = Staged {
            id: id.clone(),
            path: dir.join(layout::staged_name()),
            old: self.table.get(id),
            writer: None,
            mark: Mark::default(),
            placed: false,
        };
        if let Some(copy) = copy {
            let bytes = fs::metadata(copy)?.len();
            if !disk::leaves(&dir, bytes, disk::BULK_RESERVED_BYTES) {
                return Err(EngineFault::Full.into());
            }
            files::copy_file(copy, &staged.path)?;
            let writer = Writer::open(&staged.path, true)?;
            staged.mark = writer.mark();
            staged.writer = Some(Box::new(writer));
        }
        points::reached("copy staged");
        Ok(staged)
    }

    /// Puts what was staged in the place of the fenced database and lifts the fence. The caller,
    /// who holds up applying, sees to it that nothing is lacking: until the database is where it
    /// was, it is taken for fenced. Refused when the database is another one than at the beginning.
    pub(crate) fn exchange(&self, mut staged: Staged) -> Result<Mark, SaveFault> {
        staged.seal()?;
        let _floor = self.floor.lock();
        self.check_open()?;
        let (id, old) = (staged.id.clone(), staged.old.clone());
        // Nobody uses the old file from here on: its row is about to name the new one.
        let mut old_work = old.as_ref().map(|old| old.work.lock());
        let same = match (&old, &self.table.get(&id)) {
            (None, None) => true,
            (Some(old), Some(now)) => Arc::ptr_eq(old, now) && !old.gone(),
            _ => false,
        };
        if !same {
            return Err(io::Error::other("the database became another one meanwhile").into());
        }
        let mut info = Info {
            named: true,
            verified: true,
            mark: staged.mark,
            safe: staged.mark,
            ..Info::default()
        };
        info.remember(staged.mark);
        if let Some(old) = &old {
            info.required = old.info.lock().reached();
        }
        let generation = self.next_generation();
        let path = layout::live_file(&self.dir, &id.namespace, generation);
        if staged.path.try_exists()? {
            fs::rename(&staged.path, &path)?;
            info.hardened = true;
            let (bytes, log_bytes) = files::sizes(&path);
            (info.bytes, info.log_bytes) = (bytes + log_bytes, log_bytes);
        }
        staged.placed = true;
        points::reached("copy placed");
        let slot = self.slot(id.clone(), generation, info);
        let named = sync_dir(&layout::live(&self.dir))
            .map_err(SaveFault::Io)
            .and_then(|()| {
                let named = self.table.directory(|directory| {
                    let mut state = directory.state().clone();
                    state.generation = state.generation.max(generation);
                    let row = slot.info.lock().row(generation);
                    directory.commit(Durable::Now, state, &[Change::Put(&id, row)])?;
                    // Before anybody who waits for the directory writes the old one's row again.
                    self.table.put(&slot);
                    Ok(())
                });
                Ok(named?)
            });
        if let Err(fault) = named {
            let _ = files::remove(&path);
            return Err(fault);
        }
        points::reached("copy named");
        self.metrics.replaced.inc();
        if let (Some(old), Some(work)) = (&old, old_work.as_mut()) {
            // For a person to look at; it costs nothing but room, and that is bounded.
            // The exchange is done: failing here would leave a file that nobody completes.
            if let Err(error) = self.discard(old, work, true) {
                tracing::warn!(database = %id, %error, "a replaced file stays until the next start");
            }
        }
        Ok(staged.mark)
    }

    /// Both in one.
    #[cfg(test)]
    pub(crate) fn replace(&self, id: &DatabaseId, copy: Option<&Path>) -> Result<Mark, SaveFault> {
        self.exchange(self.stage(id, copy)?)
    }

    /// Replaces everything live by what a manifest names (or by nothing), and sets the floor.
    /// Atomic: after a crash it is all old or all new.
    pub(crate) fn reset(&self, manifest: &[Pair], floor: Option<&Floor>) -> Result<(), SaveFault> {
        let _backups = self.backups.lock();
        let _floor = self.floor.lock();
        self.check_open()?;
        let manifest = Manifest::read(manifest)?;
        let rows = place_all(&self.dir, &manifest, || self.next_generation())?;
        points::reached("copies placed");
        let slots: Vec<Arc<Slot>> = rows
            .iter()
            .map(|(id, row)| self.slot(id.clone(), row.generation, Info::of(row)))
            .collect();
        let generation = *self.generation.lock();
        // Nobody sees the new rows before the old slots are gone.
        let replaced = self.table.directory(|directory| {
            let mut state = directory.state().clone();
            state.generation = generation;
            state.registers_applied = manifest.registers_applied;
            state.set_floor(floor);
            let mut changes = vec![Change::Clear];
            changes.extend(rows.iter().map(|(id, row)| Change::Put(id, row.clone())));
            let registers = manifest.registers.iter();
            changes.extend(registers.map(|(k, v)| Change::Register(k, v)));
            directory.commit(Durable::Now, state, &changes)?;
            drop(changes);
            let registers = Registers {
                values: manifest.registers,
                applied: manifest.registers_applied,
            };
            Ok(self.table.replace_all(&slots, registers))
        })?;
        points::reached("copies named");
        for old in replaced {
            let mut work = old.work.lock();
            if let Err(error) = self.discard(&old, &mut work, false) {
                tracing::warn!(database = %old.id, %error, "an old file stays until the next start");
            }
        }
        Ok(())
    }

    /// The same for a directory that cannot be opened: [`Self::open`] succeeds afterwards. A
    /// crash on the way leaves one that still cannot be opened.
    pub(crate) fn reset_dir(
        dir: &Path,
        manifest: &[Pair],
        floor: Option<&Floor>,
    ) -> io::Result<()> {
        make_dir(dir)?;
        remove_erased(dir)?;
        layout::make(dir)?;
        let manifest = Manifest::read(manifest)?;
        let (path, damaged) = (layout::directory(dir), layout::directory_damaged(dir));
        match fs::rename(&path, &damaged) {
            Err(e) if e.kind() == ErrorKind::NotFound => File::create(&damaged)?.sync_all()?,
            other => other?,
        }
        sync_dir(dir)?;
        layout::sweep(dir, &std::collections::BTreeSet::new())?;
        let mut state = State::new();
        let rows = place_all(dir, &manifest, || {
            state.generation += 1;
            state.generation
        })?;
        state.registers_applied = manifest.registers_applied;
        state.set_floor(floor);
        let mut changes = Vec::new();
        changes.extend(rows.iter().map(|(id, row)| Change::Put(id, row.clone())));
        let registers = manifest.registers.iter();
        changes.extend(registers.map(|(k, v)| Change::Register(k, v)));
        Directory::create(dir, &state, &changes)?;
        files::remove_one(&damaged)?;
        sync_dir(dir)
    }
}

/// Copies all that a manifest names to new places, durably.
fn place_all(
    dir: &Path,
    manifest: &Manifest,
    mut generation: impl FnMut() -> u64,
) -> io::Result<Vec<(DatabaseId, Row)>> {
    let mut rows = Vec::with_capacity(manifest.databases.len());
    let placed = manifest.databases.iter().try_for_each(|(id, entry)| {
        let generation = generation();
        let row = match entry {
            Entry::Saved(saved) => {
                let from = layout::backup_file(dir, &id.namespace, saved.applied, saved.serial);
                let to = layout::live_file(dir, &id.namespace, generation);
                rows.push((id.clone(), row(generation, saved)));
                return verify(&from, saved, || files::copy_file(&from, &to));
            }
            Entry::Fenced { required, why } => Row {
                generation,
                hardened: false,
                applied: 0,
                hash: 0,
                required: *required,
                bytes: 0,
                fenced: Some(format!("the snapshot has no copy of it: {why}")),
                saved: None,
            },
        };
        rows.push((id.clone(), row));
        Ok(())
    });
    let placed = placed.and_then(|()| sync_dir(&layout::live(dir)));
    match placed {
        Ok(()) => Ok(rows),
        Err(error) => {
            for (id, row) in rows {
                // What stays behind is swept at the next start.
                let _ = files::remove(&layout::live_file(dir, &id.namespace, row.generation));
            }
            Err(error)
        }
    }
}

fn row(generation: u64, saved: &Saved) -> Row {
    Row {
        generation,
        hardened: true,
        applied: saved.applied,
        hash: saved.hash,
        required: saved.applied,
        bytes: saved.bytes,
        fenced: None,
        saved: Some(saved.clone()),
    }
}

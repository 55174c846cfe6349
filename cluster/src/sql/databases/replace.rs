//! Exchanging files: a fenced database's, or all of a group. New files are whole and synced
//! before one transaction of the directory names them instead of the old ones.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use orama_proto::sql::DatabaseId;

use super::super::{EngineFault, Mark, Writer};
use super::backups::verify;
use super::directory::{Change, Directory, Durable, Row, Saved, State};
use super::manifest::{Entry, Manifest, Pair};
use super::slot::{Info, Slot};
use super::table::Registers;
use super::{Databases, Floor, SaveFault, files, layout, points, remove_erased};
use crate::data_dir::{make_dir, sync_dir};

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

    /// Puts a verified copy (or nothing: `None`) in the place of a fenced database and lifts the
    /// fence. The caller, who holds up applying, then applies what the copy lacks: until the
    /// database is where it was, a restart or a snapshot takes it for fenced.
    pub(crate) fn replace(&self, id: &DatabaseId, copy: Option<&Path>) -> Result<Mark, SaveFault> {
        let _floor = self.floor.lock();
        self.check_open()?;
        let old = self.table.get(id);
        let mut info = Info {
            named: true,
            verified: true,
            ..Info::default()
        };
        if let Some(old) = &old {
            info.required = old.info.lock().reached();
        }
        let generation = self.next_generation();
        let path = layout::live_file(&self.dir, &id.namespace, generation);
        let writer = match copy {
            Some(copy) => match place(copy, &path) {
                Ok(writer) => {
                    info.hardened = true;
                    info.mark = writer.mark();
                    info.safe = info.mark;
                    info.remember(info.mark);
                    let (bytes, log_bytes) = files::sizes(&path);
                    (info.bytes, info.log_bytes) = (bytes + log_bytes, log_bytes);
                    Some(Box::new(writer))
                }
                Err(fault) => {
                    let _ = files::remove(&path);
                    return Err(fault);
                }
            },
            None => None,
        };
        let mark = info.mark;
        let slot = self.slot(id.clone(), generation, info);
        // Nobody uses the old file from here on: its row is about to name the new one.
        let mut old_work = old.as_ref().map(|old| old.work.lock());
        points::reached("copy placed");
        self.table.directory(|directory| {
            let mut state = directory.state().clone();
            state.generation = state.generation.max(generation);
            let row = slot.info.lock().row(generation);
            directory.commit(Durable::Now, state, &[Change::Put(id, row)])
        })?;
        points::reached("copy named");
        if writer.is_some() {
            let mut work = slot.work.lock();
            work.writer = writer;
            self.handles.used(&slot, &mut work);
        }
        self.table.put(&slot);
        if mark.applied > 0 {
            self.table.soil(&slot);
        }
        self.metrics.replaced.inc();
        if let (Some(old), Some(work)) = (&old, old_work.as_mut()) {
            // For a person to look at; it costs nothing but room, and that is bounded.
            // The exchange is done: failing here would leave a file that nobody completes.
            if let Err(error) = self.discard(old, work, true) {
                tracing::warn!(database = %id, %error, "a replaced file stays until the next start");
            }
        }
        Ok(mark)
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

/// Copies a closed database file to its place, durably, and opens it: it is read whole.
fn place(copy: &Path, path: &Path) -> Result<Writer, SaveFault> {
    files::copy_file(copy, path)?;
    if let Some(live) = path.parent() {
        sync_dir(live)?;
    }
    Ok(Writer::open(path, true)?)
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

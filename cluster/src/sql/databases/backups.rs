//! Backups: copies of databases that local snapshots name.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orama_proto::sql::DatabaseId;

use super::super::EngineFault;
use super::directory::{Durable, Saved};
use super::files::{self, Copied};
use super::manifest::{Entry, Manifest, Pair, Pairs};
use super::metrics::Timed;
use super::slot::Slot;
use super::{Backup, Databases, SaveFault, layout, points};
use crate::data_dir::sync_dir;

/// Serial numbers of backups. Its lock is held while backups are made and deleted.
pub(super) struct Backups {
    next: u64,
    /// Of a body that was unpacked last: its manifest may not be known to whoever calls `keep` yet.
    pub(super) unpacked: BTreeSet<String>,
}

impl Backups {
    /// Numbers go on after those of files that are there, and after `highest`.
    pub(super) fn new(names: &BTreeSet<String>, highest: u64) -> Self {
        let there = names.iter().filter_map(|n| layout::serial(n)).max();
        Self {
            next: there.unwrap_or(0).max(highest).saturating_add(1),
            unpacked: BTreeSet::new(),
        }
    }
    pub(super) fn serial(&mut self) -> u64 {
        let serial = self.next;
        self.next = self.next.saturating_add(1);
        serial
    }
}

/// What became of a database in a save.
enum Outcome {
    Gone,
    Entry(Entry),
    /// One that has nothing in it.
    Nothing,
}

impl Databases {
    /// Bytes of the databases that changed since the last [`Self::save`]: what the next one writes.
    pub(crate) fn unsaved_bytes(&self) -> u64 {
        self.table.unsaved()
    }

    /// Backs up (SQLite's backup API) what changed since the last save, and answers the manifest:
    /// pairs that name every register and every backup with its sum. Applying goes on
    /// meanwhile: each copy says itself how far it is, at least to where the group was at the call.
    pub(crate) fn save(&self) -> Result<Pairs, SaveFault> {
        let mut backups = self.backups.lock();
        self.check_open()?;
        let slots = self.table.all();
        let mut manifest = Manifest::default();
        {
            let registers = self.table.registers.lock();
            manifest.registers = registers.values.clone();
            manifest.registers_applied = registers.applied;
        }
        let mut fresh = Vec::new();
        let saved = self.save_all(&mut backups, &slots, &mut manifest, &mut fresh);
        let done = saved.and_then(|()| {
            sync_dir(&layout::backups(&self.dir))?;
            points::reached("backups synced");
            let written: Vec<Arc<Slot>> = fresh.iter().map(|(s, _)| Arc::clone(s)).collect();
            for (slot, saved) in &fresh {
                let saved = Box::new(saved.clone());
                self.table.change(slot, |info| info.saved = Some(saved));
            }
            Ok(self.table.write_rows(Durable::Later, &written, |_| {})?)
        });
        if let Err(fault) = done {
            for (slot, saved) in &fresh {
                let known = |s: &Saved| s.serial == saved.serial;
                self.table.change(slot, |info| {
                    if info.saved.as_deref().is_some_and(known) {
                        info.saved = None;
                    }
                });
                // What stays behind goes with the next `keep`.
                let _ = files::remove_one(&self.backup_path(&slot.id, saved));
            }
            return Err(fault);
        }
        Ok(manifest.pairs()?)
    }

    fn save_all(
        &self,
        backups: &mut Backups,
        slots: &[Arc<Slot>],
        manifest: &mut Manifest,
        fresh: &mut Vec<(Arc<Slot>, Saved)>,
    ) -> Result<(), SaveFault> {
        for slot in slots {
            let before = fresh.len();
            match self.save_one(backups, slot, fresh)? {
                Outcome::Entry(entry) => {
                    manifest.databases.insert(slot.id.clone(), entry);
                }
                // Removed, or replaced, since the call began: then its present slot counts.
                Outcome::Gone if fresh.len() == before => {
                    let present = self.table.get(&slot.id).filter(|s| !Arc::ptr_eq(s, slot));
                    if let Some(present) = present
                        && let Outcome::Entry(entry) = self.save_one(backups, &present, fresh)?
                    {
                        manifest.databases.insert(slot.id.clone(), entry);
                    }
                }
                Outcome::Gone | Outcome::Nothing => {}
            }
        }
        Ok(())
    }

    fn save_one(
        &self,
        backups: &mut Backups,
        slot: &Arc<Slot>,
        fresh: &mut Vec<(Arc<Slot>, Saved)>,
    ) -> Result<Outcome, SaveFault> {
        if let Err(why) = self.ready_to_save(slot)? {
            let required = slot.info.lock().reached();
            return Ok(Outcome::Entry(Entry::Fenced { required, why }));
        }
        {
            let info = slot.info.lock();
            if info.gone || !info.named {
                return Ok(Outcome::Gone);
            }
            if info.incomplete() {
                return Ok(Outcome::Entry(Entry::Fenced {
                    required: info.reached(),
                    why: "it was being rebuilt".into(),
                }));
            }
            if info.mark.applied == 0 {
                return Ok(Outcome::Nothing);
            }
            if let Some(saved) = &info.saved
                && saved.mark() == info.mark
            {
                return Ok(Outcome::Entry(Entry::Saved((**saved).clone())));
            }
        }
        let serial = backups.serial();
        let part = layout::backups(&self.dir).join(format!("{serial}.part"));
        let copied = match self.copy(slot, &part, true) {
            // Whether it succeeded or not: it may have been read without its log, which was deleted.
            _ if slot.gone() => {
                files::remove(&part)?;
                Self::wait_until_gone(slot);
                return Ok(Outcome::Gone);
            }
            Ok(copied) => copied,
            Err(fault) => {
                let _ = files::remove(&part);
                return self.not_saved(slot, fault);
            }
        };
        let saved = Saved {
            serial,
            applied: copied.mark.applied,
            hash: copied.mark.hash,
            bytes: copied.bytes,
            sum: copied.sum,
        };
        std::fs::rename(&part, self.backup_path(&slot.id, &saved))?;
        points::reached("backup written");
        fresh.push((Arc::clone(slot), saved.clone()));
        Ok(Outcome::Entry(Entry::Saved(saved)))
    }

    /// One that nobody used since an unclean stop is looked at: what is saved is relied on.
    fn ready_to_save(&self, slot: &Arc<Slot>) -> Result<Result<(), String>, EngineFault> {
        let known = {
            let info = slot.info.lock();
            info.saved.as_ref().is_some_and(|s| s.mark() == info.mark)
        };
        let unnamed = !slot.info.lock().named;
        match known || unnamed {
            true => Ok(slot.fence().map_or(Ok(()), Err)),
            false => self.ready(slot),
        }
    }

    /// A file that cannot be read as a database is fenced, and the rest is saved.
    fn not_saved(&self, slot: &Arc<Slot>, fault: SaveFault) -> Result<Outcome, SaveFault> {
        let SaveFault::Engine(EngineFault::Damaged(why)) = fault else {
            return Err(fault);
        };
        let mut work = slot.work.lock();
        if slot.gone() {
            return Ok(Outcome::Gone);
        }
        self.fence_slot(slot, &mut work, &why)?;
        let required = slot.info.lock().reached();
        Ok(Outcome::Entry(Entry::Fenced { required, why }))
    }

    fn copy(&self, slot: &Slot, to: &Path, durable: bool) -> Result<Copied, SaveFault> {
        let _timed = Timed::new(&self.metrics.backup_seconds);
        let copied =
            self.handles
                .opening(|| match files::copy_database(&slot.path, to, durable) {
                    Err(SaveFault::Engine(fault @ EngineFault::Handles)) => Err(fault),
                    other => Ok(other),
                })??;
        self.metrics.backups.inc();
        self.metrics.backup_bytes.inc_by(copied.bytes);
        Ok(copied)
    }

    pub(super) fn backup_path(&self, id: &DatabaseId, saved: &Saved) -> PathBuf {
        layout::backup_file(&self.dir, &id.namespace, saved.applied, saved.serial)
    }

    /// Deletes backups that none of these manifests names.
    pub(crate) fn keep(&self, manifests: &[Pairs]) -> io::Result<()> {
        let mut backups = self.backups.lock();
        let mut named = BTreeSet::new();
        for pairs in manifests {
            for (id, saved) in Manifest::read(pairs)?.saved() {
                named.insert(layout::backup_name(
                    &id.namespace,
                    saved.applied,
                    saved.serial,
                ));
            }
        }
        if backups.unpacked.is_subset(&named) {
            backups.unpacked.clear();
        }
        let dir = layout::backups(&self.dir);
        let mut deleted = BTreeSet::new();
        for name in layout::names(&dir)? {
            if !named.contains(&name) && !backups.unpacked.contains(&name) {
                files::remove_one(&dir.join(&name))?;
                deleted.insert(name);
            }
        }
        for slot in self.table.all() {
            self.table.change(&slot, |info| {
                let lost = info.saved.as_ref().is_some_and(|s| {
                    deleted.contains(&layout::backup_name(
                        &slot.id.namespace,
                        s.applied,
                        s.serial,
                    ))
                });
                if lost {
                    info.saved = None;
                }
            });
        }
        Ok(())
    }

    /// A fresh copy of a database in the file `to`, which is not synced. `None`: it does not exist.
    pub(crate) fn backup(&self, id: &DatabaseId, to: &Path) -> Result<Option<Backup>, SaveFault> {
        loop {
            self.check_open()?;
            let slot = self.table.get(id).filter(|slot| slot.info.lock().named);
            let Some(slot) = slot else { return Ok(None) };
            if slot.gone() {
                Self::wait_until_gone(&slot);
                continue;
            }
            let incomplete = slot.info.lock().incomplete();
            let ready = match self.ready(&slot)? {
                Ok(()) if incomplete => Err("it is being rebuilt".to_owned()),
                ready => ready,
            };
            if let Err(why) = ready {
                return Err(EngineFault::Damaged(why).into());
            }
            let copied = match self.copy(&slot, to, false) {
                // Read without its log, perhaps.
                _ if slot.gone() => continue,
                Ok(copied) => copied,
                Err(fault) => {
                    // One that is damaged is fenced like one that is saved.
                    if let SaveFault::Engine(EngineFault::Damaged(why)) = &fault {
                        let mut work = slot.work.lock();
                        if !slot.gone() {
                            self.fence_slot(&slot, &mut work, why)?;
                        }
                    }
                    return Err(fault);
                }
            };
            return Ok(Some(Backup {
                path: to.to_owned(),
                mark: copied.mark,
                bytes: copied.bytes,
                sum: copied.sum,
            }));
        }
    }

    /// The copy of a database that a manifest names, verified.
    pub(crate) fn saved(&self, manifest: &[Pair], id: &DatabaseId) -> io::Result<Option<Backup>> {
        match Manifest::read(manifest)?.databases.get(id) {
            None => Ok(None),
            Some(Entry::Fenced { why, .. }) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the snapshot has no copy of {id}: {why}"),
            )),
            Some(Entry::Saved(saved)) => {
                let path = self.backup_path(id, saved);
                verify(&path, saved, || files::sum(&path))?;
                Ok(Some(Backup {
                    path,
                    mark: saved.mark(),
                    bytes: saved.bytes,
                    sum: saved.sum,
                }))
            }
        }
    }
}

/// Compares a backup, read one way or another, with what was written.
pub(super) fn verify(
    path: &Path,
    saved: &Saved,
    read: impl FnOnce() -> io::Result<(u64, u128)>,
) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let (bytes, sum) = read().map_err(named)?;
    match bytes == saved.bytes && sum == saved.sum {
        true => Ok(()),
        false => Err(files::damaged(path, "the backup is not what was written")),
    }
}

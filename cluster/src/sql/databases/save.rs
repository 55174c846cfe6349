//! Copies for snapshots: what changed since the last one is copied, the rest is named again.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use orama_proto::sql::DatabaseId;

use super::copies::{Contents, Copy, copy_live, verify};
use super::slot::path_of;
use super::{Backup, Databases, SaveFault, body};
use crate::data_dir::sync_dir;
use crate::disk;

type Pairs = [(Vec<u8>, Vec<u8>)];

impl Databases {
    /// Bytes of the databases that changed since the last [`Self::save`]: what the next one writes.
    pub(crate) fn unsaved_bytes(&self) -> u64 {
        let unsaved = |state: &super::slot::State| match state.is_saved() {
            true => 0,
            false => state.bytes,
        };
        self.all().iter().map(|s| unsaved(&s.state.lock())).sum()
    }

    /// Backs up (SQLite's backup API) what changed since the last save, and answers the manifest:
    /// pairs that name every register and every backup with its sum. Applying goes on
    /// meanwhile: each copy says itself how far it is, at least to where the group was at the call.
    /// Not while a database is fenced: nobody could vouch for its copy.
    pub(crate) fn save(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, SaveFault> {
        let _saving = self.saving.lock();
        let mut contents = Contents::default();
        {
            let registers = self.registers.read();
            contents.registers_applied = registers.applied;
            let pairs = registers.values.iter();
            contents.registers = pairs.map(|(k, v)| (k.clone(), v.clone())).collect();
        }
        for slot in self.all() {
            let state = slot.state.lock().clone();
            if let Some(why) = state.fenced {
                let what = format!("the database {} is fenced: {why}", slot.id);
                return Err(io::Error::other(what).into());
            }
            let there = state.saved.filter(|copy| copy.mark == state.mark);
            let there = there.filter(|copy| copy.path(&self.backups).exists());
            if let Some(copy) = there {
                contents.copies.push((slot.id.clone(), copy));
                continue;
            }
            if state.mark.applied == 0 {
                continue;
            }
            let copy = match self.copy(&path_of(&self.live, state.generation)) {
                Ok(copy) => copy,
                // It was removed or replaced meanwhile; the entry that did it is replayed.
                Err(_) if self.slot(&slot.id).is_none() => continue,
                Err(fault) => return Err(fault),
            };
            slot.state.lock().saved = Some(copy.clone());
            contents.copies.push((slot.id.clone(), copy));
        }
        sync_dir(&self.backups)?;
        Ok(contents.write()?)
    }

    /// One copy among the backups.
    fn copy(&self, live: &Path) -> Result<Copy, SaveFault> {
        let temporary = self.backups.join("copy.tmp");
        let _ = fs::remove_file(&temporary);
        let copied = copy_live(live, &temporary).and_then(|copy| {
            fs::rename(&temporary, copy.path(&self.backups))?;
            Ok(copy)
        });
        match &copied {
            Ok(copy) => {
                self.metrics.copies.inc();
                self.metrics.copied_bytes.inc_by(copy.bytes);
            }
            // Room is what may be missing.
            Err(_) => drop(fs::remove_file(&temporary)),
        }
        copied
    }

    /// Deletes backups that none of these manifests names.
    pub(crate) fn keep(&self, manifests: &[Vec<(Vec<u8>, Vec<u8>)>]) -> io::Result<()> {
        let _saving = self.saving.lock();
        let mut named = HashSet::new();
        for (at, manifest) in manifests.iter().enumerate() {
            for (id, copy) in Contents::read(manifest)?.copies {
                named.insert(copy.path(&self.backups));
                let slot = self.slot(&id).filter(|_| at == 0);
                if let Some(slot) = slot {
                    slot.state.lock().saved.get_or_insert(copy);
                }
            }
        }
        for slot in self.all() {
            let saved = slot.state.lock().saved.clone();
            named.extend(saved.map(|copy| copy.path(&self.backups)));
        }
        for entry in fs::read_dir(&self.backups)? {
            let path = entry?.path();
            if !named.contains(&path) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Streams manifest and backups as one body (for another replica): verifies the sums.
    pub(crate) fn write_body(&self, manifest: &Pairs, out: &mut dyn io::Write) -> io::Result<()> {
        body::write(&self.backups, manifest, out)
    }

    /// How many bytes [`Self::write_body`] will write.
    pub(crate) fn body_bytes(&self, manifest: &Pairs) -> u64 {
        body::bytes(manifest).unwrap_or(u64::MAX)
    }

    /// Unpacks such a body into backups and answers its manifest; the live files stay as they are.
    pub(crate) fn unpack(&self, body: &mut dyn io::Read) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        // The live file is made of it afterwards.
        let room = |bytes: u64| disk::has_room(&self.backups, bytes.saturating_mul(2));
        body::read(&self.backups, body, &room)
    }

    /// A fresh copy of a database in a file of its own in the directory `to`.
    pub(crate) fn backup(&self, id: &DatabaseId, to: &Path) -> Result<Option<Backup>, SaveFault> {
        let Some(slot) = self.slot(id) else {
            return Ok(None);
        };
        let state = slot.state.lock().clone();
        if let Some(why) = state.fenced {
            return Err(io::Error::other(format!("the database {id} is fenced: {why}")).into());
        }
        if state.mark.applied == 0 {
            return Ok(None);
        }
        let copy = copy_live(&path_of(&self.live, state.generation), to)?;
        Ok(Some(Backup {
            path: to.to_owned(),
            mark: copy.mark,
            bytes: copy.bytes,
            sum: copy.sum,
        }))
    }

    /// The copy of a database that a manifest names, verified.
    pub(crate) fn saved(&self, manifest: &Pairs, id: &DatabaseId) -> io::Result<Option<Backup>> {
        let copies = Contents::read(manifest)?.copies;
        let Some((_, copy)) = copies.into_iter().find(|(other, _)| other == id) else {
            return Ok(None);
        };
        let path = copy.path(&self.backups);
        verify(&path, &copy)?;
        Ok(Some(Backup {
            path,
            mark: copy.mark,
            bytes: copy.bytes,
            sum: copy.sum,
        }))
    }
}

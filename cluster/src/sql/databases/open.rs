//! From a directory to databases and back: opening, sweeping, closing, erasing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orama_proto::GroupId;
use parking_lot::{Mutex, RwLock};

use super::directory::{Directory, Unusable};
use super::read::Readers;
use super::slot::{Slot, hash_of, hash_of_register, path_of};
use super::{Databases, DatabasesOptions, Floor, Metrics, Registers, SaveFault};
use crate::sql::EngineFault;

type Pairs = [(Vec<u8>, Vec<u8>)];

pub(super) fn to_io(fault: EngineFault) -> io::Error {
    match fault {
        EngineFault::Full => io::Error::new(io::ErrorKind::StorageFull, fault),
        EngineFault::Damaged(_) => io::Error::new(io::ErrorKind::InvalidData, fault),
        EngineFault::Io(_) => io::Error::other(fault),
    }
}

fn live(dir: &Path) -> PathBuf {
    dir.join("live")
}
fn backups(dir: &Path) -> PathBuf {
    dir.join("backups")
}

impl Databases {
    /// Opens what is there; sweeps files that nothing names. The inner error: the directory cannot
    /// be trusted and is to be rebuilt ([`Self::reset_dir`]).
    pub(crate) fn open(
        dir: &Path,
        group: GroupId,
        options: DatabasesOptions,
        metrics: &Metrics,
    ) -> io::Result<Result<Self, String>> {
        let (live, backups) = (live(dir), backups(dir));
        fs::create_dir_all(&live)?;
        fs::create_dir_all(&backups)?;
        crate::data_dir::sync_dir(dir)?;
        let opened = Directory::open(dir).and_then(|mut directory| {
            let fault = |fault| match fault {
                EngineFault::Damaged(what) => Unusable::Distrusted(what),
                other => Unusable::Fault(other),
            };
            let rows = directory.rows().map_err(fault)?;
            let floor = directory.floor().map_err(fault)?;
            let registers = directory.registers().map_err(fault)?;
            let clean = directory.take_clean().map_err(fault)?;
            Ok((directory, rows, floor, registers, clean))
        });
        let (directory, rows, floor, (registers, applied), clean) = match opened {
            Ok(opened) => opened,
            Err(Unusable::Distrusted(why)) => return Ok(Err(why)),
            Err(Unusable::Fault(fault)) => return Err(to_io(fault)),
        };
        let named: HashSet<OsString> = rows
            .iter()
            .filter_map(|row| {
                path_of(&live, row.generation)
                    .file_name()
                    .map(OsString::from)
            })
            .collect();
        let swept = sweep(&live, &|file| named.contains(file))?
            + sweep(&backups, &|file| !file.to_string_lossy().ends_with(".tmp"))?;
        if swept > 0 {
            tracing::info!(%group, files = swept, "files that nothing names were deleted");
        }
        metrics.swept.inc_by(swept);
        metrics
            .databases
            .add(i64::try_from(rows.len()).unwrap_or(0));
        let mut hash = 0u128;
        let mut slots = HashMap::with_capacity(rows.len());
        for row in rows {
            hash = hash.wrapping_add(hash_of(&row.id, row.mark));
            slots.insert(row.id.clone(), Arc::new(Slot::new(row)));
        }
        for (name, value) in &registers {
            hash = hash.wrapping_add(hash_of_register(name, value));
        }
        Ok(Ok(Self {
            live,
            backups,
            readers: Readers::new(options.readers_max, metrics.readers.clone()),
            options,
            metrics: metrics.clone(),
            clean,
            directory: Mutex::new(directory),
            slots: RwLock::new(slots),
            registers: RwLock::new(Registers {
                values: registers.into_iter().collect(),
                applied,
            }),
            hash: Mutex::new(hash),
            writers: Mutex::new(VecDeque::new()),
            floor: Mutex::new(floor),
            saving: Mutex::new(()),
        }))
    }

    /// Deletes everything of the group on this node.
    pub(crate) fn erase(dir: &Path) -> io::Result<()> {
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => done?,
        }
        dir.parent().map_or(Ok(()), crate::data_dir::sync_dir)
    }

    /// Replaces everything by what a manifest names, in a directory that cannot be opened:
    /// [`Self::open`] succeeds afterwards.
    pub(crate) fn reset_dir(dir: &Path, manifest: &Pairs, floor: Option<&Floor>) -> io::Result<()> {
        let live = live(dir);
        for name in [
            "group.db",
            "group.db-wal",
            "group.db-shm",
            "group.db-journal",
        ] {
            match fs::remove_file(dir.join(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        match fs::remove_dir_all(&live) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let registry = prometheus::Registry::new();
        let metrics = Metrics::register(&registry).map_err(io::Error::other)?;
        let group = GroupId::META;
        let databases = Self::open(dir, group, DatabasesOptions::default(), &metrics)?
            .map_err(io::Error::other)?;
        databases
            .reset(manifest, floor)
            .map_err(|fault| match fault {
                SaveFault::Io(error) => error,
                SaveFault::Engine(fault) => to_io(fault),
            })?;
        databases.close();
        Ok(())
    }

    /// Writes everything back and closes it. What was not hardened before is not vouched for.
    pub(crate) fn close(&self) {
        self.readers.close();
        let mut all = true;
        for slot in self.all() {
            if slot.writer.lock().take().is_some() {
                self.metrics.open.dec();
            }
            let state = slot.state.lock();
            all &= state.mark.applied == state.hardened || state.fenced.is_some();
        }
        self.writers.lock().clear();
        self.metrics
            .databases
            .sub(i64::try_from(self.slots.write().drain().count()).unwrap_or(0));
        let mut directory = self.directory.lock();
        let done = match all {
            true => directory.set_clean(),
            false => directory.checkpoint(),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the databases were not closed in order; they are checked at the next start");
        }
    }
}

/// Deletes the files that are not to stay; answers how many. SQLite's files beside a database
/// stay with it.
fn sweep(dir: &Path, stays: &dyn Fn(&std::ffi::OsStr) -> bool) -> io::Result<u64> {
    let mut swept = 0;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        let base = ["-wal", "-shm", "-journal"]
            .iter()
            .find_map(|suffix| text.strip_suffix(suffix));
        let base = base.map_or_else(|| name.clone(), OsString::from);
        if !stays(&base) {
            fs::remove_file(dir.join(&name))?;
            swept += 1;
        }
    }
    Ok(swept)
}

//! The databases of one data group on this node: which there are, their files,
//! the connections that are open, and how far all of them are safely on disk.
//!
//! ```text
//! DIR/group.db              registers, the floor, which databases there are and in which file
//! DIR/live/NAME.GEN.db      a database; GEN changes when the file is replaced as a whole
//! DIR/backups/NAME-INDEX.N.db  a copy that a local snapshot names; never written again
//! DIR/damaged/              files that were set aside, the last few
//! DIR/staged/               files that are to replace others; none of them outlives the process
//! ```

mod apply;
mod backups;
mod body;
mod directory;
mod files;
#[cfg(test)]
mod golden_tests;
mod handles;
mod harden;
mod layout;
mod manifest;
mod metrics;
mod points;
mod read;
mod readers;
mod replace;
mod slot;
mod table;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use orama_proto::GroupId;
use orama_proto::sql::DatabaseId;
use parking_lot::Mutex;

use self::backups::Backups;
use self::directory::{Directory, Durable, State};
pub(crate) use self::handles::DatabasesOptions;
use self::handles::Handles;
pub(crate) use self::metrics::Metrics;
use self::readers::Readers;
pub(crate) use self::replace::Staged;
use self::slot::{Info, Slot};
use self::table::{Registers, Table};
use self::template::Template;
use super::{EngineFault, Mark};
use crate::data_dir::{make_dir, sync_dir};

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
    /// What its hash was at a boundary of the group's log that other replicas have passed too,
    /// most likely; of one that was written since.
    pub(crate) passed: Option<Mark>,
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
    dir: PathBuf,
    table: Table,
    handles: Handles,
    readers: Readers,
    template: Template,
    backups: Mutex<Backups>,
    /// Held while the floor is raised and while files are exchanged. After `backups`.
    floor: Mutex<()>,
    /// The last generation that was given to a file.
    generation: Mutex<u64>,
    /// The process before was killed, or power failed: files are looked at before they are used.
    unclean: bool,
    closed: AtomicBool,
    metrics: Metrics,
    quarantined: metrics::Share,
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
        make_dir(dir)?;
        remove_erased(dir)?;
        layout::make(dir)?;
        let directory = layout::directory(dir);
        if !directory.try_exists()? {
            if layout::directory_damaged(dir).try_exists()? {
                return Ok(Err("a rebuild of it did not end".into()));
            }
            if !layout::names(&layout::live(dir))?.is_empty() {
                return Ok(Err(format!("{} is missing", directory.display())));
            }
            Directory::create(dir, &State::new(), &[])?;
        }
        files::remove_one(&layout::directory_damaged(dir))?;
        match fs::remove_dir_all(layout::staged(dir)) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let (mut directory, loaded) = match Directory::open(dir)? {
            Ok(opened) => opened,
            Err(why) => return Ok(Err(why)),
        };
        let mut state = directory.state().clone();
        if let Some(other) = state.group.replace(group).filter(|other| *other != group) {
            return Ok(Err(format!("it belongs to group {other}")));
        }
        let unclean = !state.clean;
        state.clean = false;
        directory
            .commit(Durable::Now, state.clone(), &[])
            .map_err(io_error)?;

        let rows = loaded.rows.iter();
        let live = rows.map(|(id, row)| layout::live_name(&id.namespace, row.generation));
        let swept = layout::sweep(dir, &live.collect::<BTreeSet<_>>())?;
        let highest = loaded.rows.iter().map(|(_, row)| row.generation).max();
        let there: BTreeSet<String> = layout::names(&layout::backups(dir))?.into_iter().collect();
        let saved = loaded
            .rows
            .iter()
            .filter_map(|(_, row)| Some(row.saved.as_ref()?.serial));
        let registers = Registers {
            values: loaded.registers,
            applied: state.registers_applied,
        };
        let handles = Handles::new(options.node, metrics);
        let databases = Self {
            table: Table::new(directory, registers, metrics),
            readers: Readers::new(&handles, metrics),
            handles,
            template: Template::default(),
            backups: Mutex::new(Backups::new(&there, saved.max().unwrap_or(0))),
            floor: Mutex::new(()),
            generation: Mutex::new(state.generation.max(highest.unwrap_or(0))),
            unclean,
            closed: AtomicBool::new(false),
            metrics: metrics.clone(),
            quarantined: metrics::Share::new(&metrics.quarantined),
            dir: dir.to_owned(),
        };
        databases.quarantined.set(layout::aside(dir));
        for (id, row) in loaded.rows {
            let mut info = Info::of(&row);
            // Old copies are deleted without a word to the rows.
            info.saved = info.saved.filter(|s| {
                there.contains(&layout::backup_name(&id.namespace, s.applied, s.serial))
            });
            databases
                .table
                .put(&databases.slot(id, row.generation, info));
        }
        let count = databases.table.all().len();
        tracing::info!(%group, databases = count, unclean, swept, "databases are open");
        Ok(Ok(databases))
    }

    /// Deletes everything of the group on this node.
    pub(crate) fn erase(dir: &Path) -> io::Result<()> {
        remove_erased(dir)?;
        // Renamed first, so that a crash leaves no half of it under its name.
        match fs::rename(dir, layout::erased(dir)) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        dir.parent().map_or(Ok(()), sync_dir)?;
        remove_erased(dir)
    }

    /// Where a restart goes on; `None` when nothing was ever made safe.
    pub(crate) fn floor(&self) -> Option<Floor> {
        self.table.state().ok()?.floor()
    }

    /// Sum over all databases and registers: equal on replicas with the same applied index.
    pub(crate) fn hash(&self) -> u128 {
        self.table.hash()
    }

    /// All databases, by id.
    pub(crate) fn list(&self) -> Vec<DatabaseInfo> {
        let slots = self.table.all().into_iter();
        let listed = slots.filter_map(|slot| {
            let info = slot.info.lock();
            (info.named && !info.gone).then(|| DatabaseInfo {
                id: slot.id.clone(),
                mark: info.mark,
                passed: info.passed(),
                bytes: info.bytes,
                fenced: info.fenced.as_deref().map(str::to_owned),
            })
        });
        listed.collect()
    }

    /// The effect hash after the entry `index` (its last one, or a recent one).
    pub(crate) fn hash_at(&self, id: &DatabaseId, index: u64) -> Option<u128> {
        self.table.get(id)?.info.lock().hash_at(index)
    }

    /// Whether a database waits to be rebuilt.
    pub(crate) fn is_fenced(&self, id: &DatabaseId) -> bool {
        self.table
            .get(id)
            .is_some_and(|slot| slot.fence().is_some())
    }

    fn slot(&self, id: DatabaseId, generation: u64, info: Info) -> std::sync::Arc<Slot> {
        let path = layout::live_file(&self.dir, &id.namespace, generation);
        Slot::new(id, generation, path, info)
    }

    fn next_generation(&self) -> u64 {
        let mut generation = self.generation.lock();
        *generation += 1;
        *generation
    }

    fn check_open(&self) -> Result<(), EngineFault> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(table::closed()),
            false => Ok(()),
        }
    }
}

/// A fault as the file system's error that it is.
fn io_error(fault: EngineFault) -> io::Error {
    match fault {
        EngineFault::Full => ErrorKind::StorageFull.into(),
        EngineFault::Damaged(why) => io::Error::new(ErrorKind::InvalidData, why),
        other => io::Error::other(other),
    }
}

fn remove_erased(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(layout::erased(dir)) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

//! The databases of one data group on this node: which there are, their files,
//! the connections that are open, and how far all of them are safely on disk.
//!
//! ```text
//! DIR/group.db              registers, the floor, which databases there are and in which file
//! DIR/live/NAME.GEN.db      a database; GEN changes when the file is replaced as a whole
//! DIR/backups/NAME-INDEX.db a copy that a local snapshot names; never written again
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use orama_proto::GroupId;
use orama_proto::sql::{DatabaseId, Rows, SqlError};

use super::{Applied, EngineFault, Item, Mark, Query};

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

/// Counters and gauges of all groups; registered once a node.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {}

impl Metrics {
    pub(crate) fn register(_registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        todo!()
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
pub(crate) struct Databases {}

impl Databases {
    /// Opens what is there; sweeps files that nothing names. The inner error: the directory cannot
    /// be trusted and is to be rebuilt ([`Self::reset`]).
    pub(crate) fn open(
        _dir: &Path,
        _group: GroupId,
        _options: DatabasesOptions,
        _metrics: &Metrics,
    ) -> io::Result<Result<Self, String>> {
        todo!()
    }
    /// Deletes everything of the group on this node.
    pub(crate) fn erase(_dir: &Path) -> io::Result<()> {
        todo!()
    }
    /// Where a restart goes on; `None` when nothing was ever made safe.
    pub(crate) fn floor(&self) -> Option<Floor> {
        todo!()
    }

    // ---- applying -------------------------------------------------------------

    /// Applies entries to one database, in order; makes it when it is missing. A fenced
    /// database skips them (`Err` in the inner result); a file that proves damaged when it is
    /// opened or used is fenced. `Err`: the group must stop.
    pub(crate) fn apply(
        &self,
        _id: &DatabaseId,
        _items: &[Item<'_>],
    ) -> Result<Result<Vec<Applied>, Fenced>, EngineFault> {
        todo!()
    }
    /// Deletes a database. Idempotent.
    pub(crate) fn remove(&self, _id: &DatabaseId, _index: u64) -> Result<(), EngineFault> {
        todo!()
    }
    /// A register (small values by which tests check a cluster), as of the entry `index`.
    pub(crate) fn register(&self, _key: &str) -> Option<String> {
        todo!()
    }
    /// How many registers there are.
    pub(crate) fn registers(&self) -> usize {
        todo!()
    }
    /// Sets registers: entries at or before the registers' own mark are skipped by the caller,
    /// who asks [`Self::registers_applied`].
    pub(crate) fn set_registers(
        &self,
        _index: u64,
        _changes: &[(String, String)],
    ) -> Result<(), EngineFault> {
        todo!()
    }
    pub(crate) fn registers_applied(&self) -> u64 {
        todo!()
    }
    /// Sum over all databases and registers: equal on replicas with the same applied index.
    pub(crate) fn hash(&self) -> u128 {
        todo!()
    }

    // ---- reading --------------------------------------------------------------

    /// Runs queries on one moment of the database. One that was never written to is empty.
    pub(crate) fn read(
        &self,
        _id: &DatabaseId,
        _queries: &[Query],
        _rows: usize,
        _bytes: usize,
        _deadline: Instant,
        _cancelled: &Arc<AtomicBool>,
    ) -> Result<Result<Vec<Result<Rows, SqlError>>, Fenced>, EngineFault> {
        todo!()
    }
    /// All databases, by id.
    pub(crate) fn list(&self) -> Vec<DatabaseInfo> {
        todo!()
    }
    /// The effect hash after the entry `index` (its last one, or a recent one).
    pub(crate) fn hash_at(&self, _id: &DatabaseId, _index: u64) -> Option<u128> {
        todo!()
    }

    // ---- safety ---------------------------------------------------------------

    /// Checkpoints everything written since the last floor, then makes this the floor. Applying
    /// goes on meanwhile; everything up to `floor.index` was applied before the call.
    pub(crate) fn harden(&self, _floor: &Floor) -> Result<(), SaveFault> {
        todo!()
    }
    /// Keeps write-ahead logs short: checkpoints those that are long. Called often.
    pub(crate) fn checkpoint(&self) -> Result<(), SaveFault> {
        todo!()
    }
    /// Bytes of the databases that changed since the last [`Self::save`]: what the next one writes.
    pub(crate) fn unsaved_bytes(&self) -> u64 {
        todo!()
    }
    /// Backs up (SQLite's backup API) what changed since the last save, and answers the manifest:
    /// pairs that name every register and every backup with its sum. Applying goes on
    /// meanwhile: each copy says itself how far it is, at least to where the group was at the call.
    pub(crate) fn save(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, SaveFault> {
        todo!()
    }
    /// Deletes backups that none of these manifests names.
    pub(crate) fn keep(&self, _manifests: &[Vec<(Vec<u8>, Vec<u8>)>]) -> io::Result<()> {
        todo!()
    }
    /// Streams manifest and backups as one body (for another replica): verifies the sums.
    pub(crate) fn write_body(
        &self,
        _manifest: &[(Vec<u8>, Vec<u8>)],
        _out: &mut dyn io::Write,
    ) -> io::Result<()> {
        todo!()
    }
    /// How many bytes [`Self::write_body`] will write.
    pub(crate) fn body_bytes(&self, _manifest: &[(Vec<u8>, Vec<u8>)]) -> u64 {
        todo!()
    }
    /// Unpacks such a body into backups and answers its manifest; the live files stay as they are.
    pub(crate) fn unpack(&self, _body: &mut dyn io::Read) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        todo!()
    }
    /// Replaces everything live by what a manifest names (or by nothing), and sets the floor.
    /// Atomic: after a crash it is all old or all new.
    pub(crate) fn reset(
        &self,
        _manifest: &[(Vec<u8>, Vec<u8>)],
        _floor: Option<&Floor>,
    ) -> Result<(), SaveFault> {
        todo!()
    }
    /// The same for a directory that cannot be opened: [`Self::open`] succeeds afterwards.
    pub(crate) fn reset_dir(
        _dir: &Path,
        _manifest: &[(Vec<u8>, Vec<u8>)],
        _floor: Option<&Floor>,
    ) -> io::Result<()> {
        todo!()
    }

    // ---- one database that is wrong ---------------------------------------------

    /// Fences a database, durably, until [`Self::replace`].
    pub(crate) fn fence(&self, _id: &DatabaseId, _why: &str) -> Result<(), EngineFault> {
        todo!()
    }
    /// A fresh copy of a database in a file of its own under `to`.
    pub(crate) fn backup(&self, _id: &DatabaseId, _to: &Path) -> Result<Option<Backup>, SaveFault> {
        todo!()
    }
    /// The copy of a database that a manifest names, verified.
    pub(crate) fn saved(
        &self,
        _manifest: &[(Vec<u8>, Vec<u8>)],
        _id: &DatabaseId,
    ) -> io::Result<Option<Backup>> {
        todo!()
    }
    /// Puts a verified copy (or nothing: `None`) in the place of a fenced database and lifts the
    /// fence. The caller, who holds up applying, then applies what the copy lacks.
    pub(crate) fn replace(
        &self,
        _id: &DatabaseId,
        _copy: Option<&Path>,
    ) -> Result<Mark, SaveFault> {
        todo!()
    }

    /// Checkpoints and closes everything.
    pub(crate) fn close(&self) {
        todo!()
    }
}

/// Silences the compiler until the fields exist.
#[allow(dead_code)]
fn unused(_: BTreeMap<(), ()>) {}

//! From what a node left on its disk to a group that can go on: which of log,
//! snapshots and state can be trusted, and how the rest is made again.
//!
//! The log is the truth. The state is checked against it and thrown away when
//! it does not fit; the log itself is never repaired by guessing.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orama_proto::{GroupId, NodeId};
use parking_lot::Mutex;

use super::fault::StorageFault;
use super::files::Keeping;
use super::keeper::{Backend, Keeper};
use super::log::{self, GroupLog, PurgeLimit, RaftLog};
use super::machine::{Machine, Store};
use super::metrics::Metrics;
use super::resume::Found;
use super::snapshot::{SnapshotFile, SnapshotStore};
use super::state::{GroupState, StateDb, Unusable};
use super::types::{MembershipRecord, Position};
use crate::data_dir::sync_dir;

/// Where a node keeps its groups.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// The log's directory.
    pub(crate) log: PathBuf,
    /// sled's directory.
    pub(crate) state: PathBuf,
    /// The snapshots' directory.
    pub(crate) snapshots: PathBuf,
    /// The directory of the groups whose state is files of its own.
    pub(crate) databases: PathBuf,
}

impl Paths {
    /// The directory of one group's files.
    pub(crate) fn files_of(&self, group: GroupId) -> PathBuf {
        self.databases.join(format!("{:08x}", group.0))
    }
}

/// A group's storage, checked, and its machine loaded.
pub(crate) struct Recovered {
    pub(crate) log: GroupLog,
    pub(crate) store: Store,
    pub(crate) snapshots: Arc<SnapshotStore>,
    /// Whether the state was made anew.
    pub(crate) rebuilt: bool,
}

/// Log and state of all groups, open.
pub(crate) struct Storage {
    pub(crate) paths: Paths,
    pub(crate) node: NodeId,
    pub(crate) log: RaftLog,
    pub(crate) db: StateDb,
    /// What the state holds, until the groups start.
    found: Mutex<HashMap<GroupId, GroupState>>,
    /// Why the state had to be made anew, if it had.
    anew: Option<String>,
    /// The node that the state says it belongs to.
    owner: Option<NodeId>,
}

impl Storage {
    /// Opens the log and the state. A state that is damaged anywhere is set
    /// aside as a whole: nothing is known about the rest of its file. Blocks.
    pub(crate) fn open(
        paths: &Paths,
        node: NodeId,
        metrics: &Metrics,
    ) -> Result<Self, StorageFault> {
        refuse_lost_log(paths)?;
        let log = RaftLog::open(&paths.log, metrics)?;
        mark_begun(paths)?;
        let missing = !paths.state.exists();
        let opened = StateDb::open(&paths.state)?.and_then(|db| {
            let found = db.all()?;
            Ok((db, found))
        });
        let (db, found, anew) = match opened {
            Ok((db, found)) => {
                let anew = missing.then(|| "its directory is missing".to_owned());
                (db, found, anew)
            }
            Err(Unusable(why)) => {
                tracing::warn!(why, "the state is damaged and set aside");
                set_aside(&paths.state)?;
                let db = StateDb::open(&paths.state)?.map_err(|Unusable(what)| {
                    StorageFault::io(&paths.state, io::Error::other(what))
                })?;
                (db, HashMap::new(), Some(why))
            }
        };
        let owner = db
            .owner(node)
            .map_err(|e| StorageFault::io(&paths.state, e))?;
        Ok(Self {
            paths: paths.clone(),
            node,
            log,
            db,
            found: Mutex::new(found),
            anew,
            owner,
        })
    }
}

pub(super) struct Recovery<'a> {
    pub(super) group: GroupId,
    storage: &'a Storage,
    pub(super) log: GroupLog,
}

/// Refuses to begin a new log beside what an older one left. The log's first segment
/// is made before anything else, so whatever else is there proves that there was one.
fn refuse_lost_log(paths: &Paths) -> Result<(), StorageFault> {
    log::refuse_old_layout(&paths.log)?;
    let segments = log::segments(&paths.log).map_err(|e| StorageFault::io(&paths.log, e))?;
    if !segments.is_empty() {
        return Ok(());
    }
    let mark = begun(paths);
    if mark.try_exists().map_err(|e| StorageFault::io(&mark, e))? {
        return Err(StorageFault::LogMissing {
            path: paths.log.clone(),
            witness: mark,
        });
    }
    for dir in [&paths.state, &paths.snapshots, &paths.databases] {
        let mut entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(StorageFault::io(dir, e)),
        };
        if let Some(entry) = entries.next() {
            return Err(StorageFault::LogMissing {
                path: paths.log.clone(),
                witness: entry.map_err(|e| StorageFault::io(dir, e))?.path(),
            });
        }
    }
    Ok(())
}

/// The file that says, outside the directories of log, state and snapshots, that this
/// node has a log. A node that lost all three and kept its key would otherwise come back
/// as itself and vote without knowing what it has acknowledged.
fn begun(paths: &Paths) -> PathBuf {
    paths.state.with_file_name("log-begun")
}

fn mark_begun(paths: &Paths) -> Result<(), StorageFault> {
    let mark = begun(paths);
    let fault = |e| StorageFault::io(&mark, e);
    if mark.try_exists().map_err(fault)? {
        return Ok(());
    }
    fs::File::create(&mark)
        .and_then(|file| file.sync_all())
        .map_err(fault)?;
    mark.parent().map_or(Ok(()), sync_dir).map_err(fault)
}

/// Deletes a keeper's files, or what is in their place.
pub(super) fn erase_files(
    paths: &Paths,
    group: GroupId,
    keeper: Option<&dyn Keeper>,
) -> Result<(), StorageFault> {
    let dir = paths.files_of(group);
    let fault = |e| StorageFault::io(&dir, e);
    if let Some(keeper) = keeper {
        keeper.erase().map_err(fault)?;
    }
    match fs::remove_dir_all(&dir) {
        Ok(()) => sync_dir(&paths.databases).map_err(fault),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(fault(e)),
    }
}

/// A copy's log is erased before its state and snapshots. What is left of them beside
/// an empty log belongs to a copy whose erasing was interrupted.
fn sweep_erased(storage: &Storage, group: GroupId, backend: &Backend) -> Result<(), StorageFault> {
    if group == GroupId::META || !storage.log.is_pristine(group)? {
        return Ok(());
    }
    let keeper = match backend {
        Backend::Pairs(_) => None,
        Backend::Files(keeper) => Some(keeper.as_ref()),
    };
    erase_files(&storage.paths, group, keeper)?;
    let dir = &storage.paths.snapshots;
    SnapshotStore::erase(dir, group).map_err(|e| StorageFault::io(dir, e))?;
    if storage.found.lock().remove(&group).is_some() {
        let state = &storage.paths.state;
        storage
            .db
            .erase(group)
            .map_err(|e| StorageFault::io(state, e))?;
    }
    Ok(())
}

/// Opens a group's storage. Blocks.
pub(crate) fn recover(
    storage: &Storage,
    group: GroupId,
    backend: &Backend,
) -> Result<Recovered, StorageFault> {
    let recovered = open(storage, group, backend);
    if let (Err(_), Backend::Files(keeper)) = (&recovered, backend) {
        keeper.close();
    }
    recovered
}

fn open(storage: &Storage, group: GroupId, backend: &Backend) -> Result<Recovered, StorageFault> {
    let node = storage.node;
    sweep_erased(storage, group, backend)?;
    let recovery = Recovery {
        group,
        storage,
        log: storage.log.group(group)?,
    };
    if storage.owner.is_some_and(|owner| owner != node) {
        return Err(StorageFault::Foreign { group, node });
    }
    let dir = &storage.paths.snapshots;
    let (snapshots, refused) = SnapshotStore::open(dir, group)?;
    let snapshots = Arc::new(snapshots);
    let newest = snapshots.newest();
    if let Some(newest) = &newest {
        let header = &newest.header;
        recovery.check_reach("a snapshot", header.at, &header.membership)?;
    }
    let installed = newest.as_ref().and_then(|s| s.header.at);
    let (store, rebuilt) = match backend {
        Backend::Pairs(machine) => {
            let (state, rebuilt) = match recovery.open_state(machine.as_ref(), installed)? {
                Ok(state) => (state, false),
                Err(Unusable(why)) => {
                    let machine = machine.as_ref();
                    (recovery.rebuild(machine, &why, newest, refused)?, true)
                }
            };
            let machine = Arc::clone(machine);
            (Store::Pairs { state, machine }, rebuilt)
        }
        Backend::Files(keeper) => {
            let found = Found {
                snapshots: Arc::clone(&snapshots),
                damaged: refused,
            };
            let (resumed, rebuilt) = recovery.open_files(keeper, found)?;
            let keeping = Keeping::new(group, dir, Arc::clone(keeper), Arc::clone(&snapshots));
            // What an interrupted snapshot left.
            keeping.forget();
            let keeping = Arc::new(keeping);
            (Store::Files { keeping, resumed }, rebuilt)
        }
    };
    // A directory that never said whose it is. Later the members say nothing
    // about that: a replica that was removed is still this node's.
    if storage.owner.is_none() && !store.membership().admits(node) {
        return Err(StorageFault::Foreign { group, node });
    }
    let log = recovery.log;
    let (_, last) = log.ends();
    log.limit_purge(match installed {
        // Installed, and the node died before the log behind it was purged:
        // openraft does it now, and the log goes on after the snapshot.
        Some(at) if last.is_none_or(|last| last.index < at.index) => PurgeLimit::Snapshot(Some(at)),
        _ => snapshots.purge_limit(),
    });
    Ok(Recovered {
        log,
        store,
        snapshots,
        rebuilt,
    })
}

impl Recovery<'_> {
    /// In a group of one, nothing is applied before it is durable in the log.
    /// A state or snapshot that knows more proves that the log lost something.
    pub(super) fn check_reach(
        &self,
        witness: &'static str,
        at: Option<Position>,
        membership: &MembershipRecord,
    ) -> Result<(), StorageFault> {
        let (_, last) = self.log.ends();
        let Some(at) = at else { return Ok(()) };
        if !membership.is_sole_voter(self.storage.node) || last.is_some_and(|l| l.index >= at.index)
        {
            return Ok(());
        }
        Err(StorageFault::LogShort {
            group: self.group,
            log: last.map_or("none".into(), |l| l.index.to_string()),
            witness,
            reached: at.index,
        })
    }

    /// The state as it is on disk, if it is sound and the log goes on from it.
    fn open_state(
        &self,
        machine: &dyn Machine,
        installed: Option<Position>,
    ) -> Result<Result<GroupState, Unusable>, StorageFault> {
        let (purged, last) = self.log.ends();
        if let (Some(why), Some(_)) = (&self.storage.anew, last) {
            return Ok(Err(Unusable(why.clone())));
        }
        let found = self.storage.found.lock().remove(&self.group);
        let state = match found.map_or_else(|| self.storage.db.group(self.group), Ok) {
            Ok(state) => state,
            Err(why) => return Ok(Err(why)),
        };
        self.check_reach("the state", state.at, &state.membership)?;
        if let Err(why) = self.fits(state.at, purged, last, installed)? {
            return Ok(Err(why));
        }
        let pairs = match state.pairs() {
            Ok(pairs) => pairs,
            Err(e) => return Ok(Err(Unusable(format!("it cannot be read: {e}")))),
        };
        // The checksum holds, so data that is not understood is of another
        // version: rebuilding would not help, and must not hide it.
        machine
            .load(&mut pairs.iter().map(|(k, v)| (&k[..], &v[..])))
            .map_err(|what| StorageFault::State {
                group: self.group,
                what,
            })?;
        Ok(Ok(state))
    }

    /// Whether the log continues a state that was applied up to `at`.
    pub(super) fn fits(
        &self,
        at: Option<Position>,
        purged: Option<Position>,
        last: Option<Position>,
        installed: Option<Position>,
    ) -> Result<Result<(), Unusable>, StorageFault> {
        let Some(at) = at else {
            return Ok(match purged {
                Some(p) => Err(Unusable(format!(
                    "it is empty and the log starts after {p}"
                ))),
                None => Ok(()),
            });
        };
        if purged.is_some_and(|p| at.index < p.index) {
            return Ok(Err(Unusable(format!(
                "it ends at {at}, before the log starts"
            ))));
        }
        if last.is_none_or(|l| at.index > l.index) {
            // A leader's snapshot reaches beyond what this node ever had.
            if installed == Some(at) {
                return Ok(Ok(()));
            }
            return Ok(Err(Unusable(format!("it ends at {at}, beyond the log"))));
        }
        Ok(match self.log.position(at.index)? {
            Some(found) if found == at => Ok(()),
            Some(found) => Err(Unusable(format!(
                "it ends at {at}, where the log has {found}"
            ))),
            None => Err(Unusable(format!("the log has no entry {at}"))),
        })
    }

    fn rebuild(
        &self,
        machine: &dyn Machine,
        why: &str,
        snapshot: Option<SnapshotFile>,
        damaged: Vec<String>,
    ) -> Result<GroupState, StorageFault> {
        let group = self.group;
        let (purged, _) = self.log.ends();
        // The newest valid one reaches farthest; if it does not suffice, none does.
        let bridge = snapshot
            .filter(|s| purged.is_none_or(|p| s.header.at.is_some_and(|at| at.index >= p.index)));
        if let (None, Some(purged)) = (&bridge, purged) {
            return Err(StorageFault::NoBridge {
                group,
                why: why.to_owned(),
                purged: purged.index,
                damaged,
            });
        }
        let from = bridge.as_ref().and_then(|s| s.header.at);
        tracing::warn!(
            group = %group,
            why,
            snapshot = %from.map_or("none".into(), |at| at.to_string()),
            "the state is rebuilt from snapshot and log"
        );
        let fault = |what: String| StorageFault::State { group, what };
        let db = &self.storage.db;
        db.erase(group).map_err(|e| fault(e.to_string()))?;
        let mut state = db.group(group).map_err(|Unusable(what)| fault(what))?;
        let pairs = match &bridge {
            Some(file) => file.pairs().map_err(|e| StorageFault::io(&file.path, e))?,
            None => Vec::new(),
        };
        let membership =
            bridge.map_or_else(MembershipRecord::default, |s| s.header.membership.clone());
        state
            .replace(&pairs, from, membership)
            .map_err(|e| StorageFault::io(&self.storage.paths.state, e))?;
        machine
            .load(&mut pairs.iter().map(|(k, v)| (&k[..], &v[..])))
            .map_err(fault)?;
        Ok(state)
    }
}

/// Keeps a damaged state for whoever wants to know why, one at most.
fn set_aside(state: &Path) -> Result<(), StorageFault> {
    if !state.exists() {
        return Ok(());
    }
    let aside = state.with_extension("damaged");
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(|e| StorageFault::io(&aside, e))?;
    }
    fs::rename(state, &aside).map_err(|e| StorageFault::io(state, e))
}

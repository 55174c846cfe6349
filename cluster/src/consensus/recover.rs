//! From what a node left on its disk to a group that can go on: which of log,
//! snapshots and state can be trusted, and how the rest is made again.
//!
//! The log is the truth. The state is checked against it and thrown away when
//! it does not fit; the log itself is never repaired by guessing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orama_proto::{GroupId, NodeId};

use super::fault::StorageFault;
use super::log::{self, GroupLog, RaftLog};
use super::machine::Machine;
use super::snapshot::{SnapshotFile, SnapshotStore};
use super::state::{GroupState, StateDb, Unusable};
use super::types::{MembershipRecord, Position};

/// Where a node keeps its groups.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// The log's directory.
    pub(crate) log: PathBuf,
    /// sled's directory.
    pub(crate) state: PathBuf,
    /// The snapshots' directory.
    pub(crate) snapshots: PathBuf,
}

/// A group's storage, checked, and its machine loaded.
pub(crate) struct Recovered {
    pub(crate) log: GroupLog,
    pub(crate) state: GroupState,
    pub(crate) snapshots: Arc<SnapshotStore>,
    /// Whether the state was made anew.
    pub(crate) rebuilt: bool,
}

struct Recovery<'a> {
    group: GroupId,
    node: NodeId,
    paths: &'a Paths,
    log: GroupLog,
    machine: &'a dyn Machine,
}

/// Refuses to begin a new log beside what an older one left. The log's first segment
/// is made before anything else, so whatever else is there proves that there was one.
pub(crate) fn refuse_lost_log(paths: &Paths) -> Result<(), StorageFault> {
    log::refuse_old_layout(&paths.log)?;
    let segments = log::segments(&paths.log).map_err(|e| StorageFault::io(&paths.log, e))?;
    if !segments.is_empty() {
        return Ok(());
    }
    for dir in [&paths.state, &paths.snapshots] {
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

/// Opens a group's storage. Blocks.
pub(crate) fn recover(
    paths: &Paths,
    group: GroupId,
    node: NodeId,
    log: &RaftLog,
    machine: &dyn Machine,
) -> Result<Recovered, StorageFault> {
    let recovery = Recovery {
        group,
        node,
        paths,
        log: log.group(group)?,
        machine,
    };
    let (snapshots, refused) = SnapshotStore::open(&paths.snapshots, group)?;
    let snapshots = Arc::new(snapshots);
    if let Some(newest) = snapshots.newest() {
        let header = &newest.header;
        recovery.check_reach("a snapshot", header.at, &header.membership)?;
    }
    let (state, rebuilt) = match recovery.open_state()? {
        Ok(state) => (state, false),
        Err(Unusable(why)) => {
            let state = recovery.rebuild(&why, snapshots.newest(), refused)?;
            (state, true)
        }
    };
    if !state.membership.admits(node) {
        return Err(StorageFault::Foreign { group, node });
    }
    let log = recovery.log;
    log.limit_purge(snapshots.purge_limit());
    Ok(Recovered {
        log,
        state,
        snapshots,
        rebuilt,
    })
}

impl Recovery<'_> {
    /// In a group of one, nothing is applied before it is durable in the log.
    /// A state or snapshot that knows more proves that the log lost something.
    fn check_reach(
        &self,
        witness: &'static str,
        at: Option<Position>,
        membership: &MembershipRecord,
    ) -> Result<(), StorageFault> {
        let (_, last) = self.log.ends();
        let Some(at) = at else { return Ok(()) };
        if !membership.is_sole_voter(self.node) || last.is_some_and(|l| l.index >= at.index) {
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
    fn open_state(&self) -> Result<Result<GroupState, Unusable>, StorageFault> {
        let (purged, last) = self.log.ends();
        let known = last.is_some();
        if known && !self.paths.state.exists() {
            return Ok(Err(Unusable("its directory is missing".into())));
        }
        let state = match StateDb::open(&self.paths.state)? {
            Ok(db) => db.group(self.group),
            Err(why) => Err(why),
        };
        let state = match state {
            Ok(state) => state,
            Err(why) => return Ok(Err(why)),
        };
        self.check_reach("the state", state.at, &state.membership)?;
        if let Err(why) = self.fits(state.at, purged, last)? {
            return Ok(Err(why));
        }
        let pairs = match state.pairs() {
            Ok(pairs) => pairs,
            Err(e) => return Ok(Err(Unusable(format!("it cannot be read: {e}")))),
        };
        // The checksum holds, so data that is not understood is of another
        // version: rebuilding would not help, and must not hide it.
        self.machine
            .load(&mut pairs.iter().map(|(k, v)| (&k[..], &v[..])))
            .map_err(|what| StorageFault::State {
                group: self.group,
                what,
            })?;
        Ok(Ok(state))
    }

    /// Whether the log continues a state that was applied up to `at`.
    fn fits(
        &self,
        at: Option<Position>,
        purged: Option<Position>,
        last: Option<Position>,
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
        set_aside(&self.paths.state)?;
        let fault = |what: String| StorageFault::State { group, what };
        let fresh = StateDb::open(&self.paths.state)?.and_then(|db| db.group(group));
        let mut state = fresh.map_err(|Unusable(what)| fault(what))?;
        let pairs = match &bridge {
            Some(file) => file.pairs().map_err(|e| StorageFault::io(&file.path, e))?,
            None => Vec::new(),
        };
        let membership =
            bridge.map_or_else(MembershipRecord::default, |s| s.header.membership.clone());
        state
            .replace(&pairs, from, membership)
            .map_err(|e| StorageFault::io(&self.paths.state, e))?;
        self.machine
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

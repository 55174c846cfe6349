//! A group's state in sled: a view of snapshot and log, never the only copy.
//!
//! One tree per group. The applied record (position, membership, hash) lies in
//! the same tree and moves in the same batch as the data, and sled's batches do
//! not tear, so tree and record always belong together. sled's flush is no
//! barrier against a power cut, so at open the hash is recomputed over the
//! whole tree: a view that lost or garbled anything is noticed and rebuilt.

#[cfg(test)]
mod golden_tests;

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use orama_proto::{GroupId, NodeId};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::cell;
use super::fault::StorageFault;
use super::types::{MembershipRecord, Position};

/// Key of the applied record; data keys never begin with this byte.
const APPLIED: &[u8] = &[0];
const APPLIED_VERSION: u8 = 1;
/// Key of the node's id, in the tree that belongs to no group.
const OWNER: &[u8] = b"owner";
const OWNER_VERSION: u8 = 1;
/// A page over a quarter of this goes to a file of its own that sled never
/// syncs; sixteen values of the largest size we store stay below.
const SEGMENT_BYTES: usize = 16 << 20;
const CACHE_BYTES: u64 = 32 << 20;

/// A key with its new value, or without one when it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

/// A stored pair; cheap to clone.
pub(crate) type Pair = (sled::IVec, sled::IVec);

/// What one pair adds to the state hash. The hash of a state is the sum of
/// these, mod 2^128: it depends on the set of pairs alone, and a change updates
/// it without looking at the rest.
pub(crate) fn pair_hash(key: &[u8], value: &[u8]) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&(key.len() as u64).to_be_bytes());
    hash.update(key);
    hash.update(value);
    hash.digest128()
}

/// The hash of a whole state.
pub(crate) fn state_hash<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> u128 {
    pairs.fold(0, |sum, (k, v)| sum.wrapping_add(pair_hash(k, v)))
}

#[derive(Debug, Serialize, Deserialize)]
struct AppliedRecord {
    at: Position,
    membership: MembershipRecord,
    hash: [u8; 16],
}

/// The open database of all groups of the node.
#[derive(Clone)]
pub(crate) struct StateDb {
    db: sled::Db,
}

/// Why the view cannot be used; not an error: it is rebuilt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unusable(pub(crate) String);

/// The state of one group. A clone is the same state: only one of them is applied to.
#[derive(Clone)]
pub(crate) struct GroupState {
    db: sled::Db,
    tree: sled::Tree,
    pub(crate) at: Option<Position>,
    pub(crate) membership: MembershipRecord,
    pub(crate) hash: u128,
}

fn guarded<T>(what: &str, work: impl FnOnce() -> sled::Result<T>) -> sled::Result<T> {
    // sled asserts on some kinds of damage; a panic here is a damage report.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(sled::Error::Unsupported(format!(
            "its structure is inconsistent ({what})"
        )))
    })
}

fn to_io(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(e) => e,
        other => io::Error::other(other),
    }
}

impl StateDb {
    /// Opens or creates the database. Blocks.
    pub(crate) fn open(path: &Path) -> Result<Result<Self, Unusable>, StorageFault> {
        let config = sled::Config::new()
            .path(path)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            // Flushed when a snapshot is made and at shutdown; nothing relies on it.
            .flush_every_ms(None);
        match guarded("while opening", || config.open()) {
            Ok(db) => Ok(Ok(Self { db })),
            Err(sled::Error::Io(e)) if e.to_string().contains("acquire lock") => {
                Err(StorageFault::Busy {
                    path: path.to_owned(),
                })
            }
            Err(sled::Error::Io(e))
                if matches!(
                    e.kind(),
                    io::ErrorKind::PermissionDenied
                        | io::ErrorKind::StorageFull
                        | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                Err(StorageFault::io(path, e))
            }
            Err(other) => Ok(Err(Unusable(format!("it does not open: {other}")))),
        }
    }

    /// A group's state with its hash verified. Blocks.
    pub(crate) fn group(&self, group: GroupId) -> Result<GroupState, Unusable> {
        let work = || -> Result<GroupState, Unusable> {
            let unusable = |e: sled::Error| Unusable(format!("it cannot be read: {e}"));
            let tree = self.db.open_tree(tree_name(group)).map_err(unusable)?;
            let mut hash = 0u128;
            let mut empty = true;
            let mut applied: Option<AppliedRecord> = None;
            for item in &tree {
                let (key, value) = item.map_err(unusable)?;
                if key == APPLIED {
                    applied = Some(
                        cell::open(APPLIED, APPLIED_VERSION, &value)
                            .map_err(|e| Unusable(format!("its applied record: {e}")))?,
                    );
                } else {
                    empty = false;
                    hash = hash.wrapping_add(pair_hash(&key, &value));
                }
            }
            let mut state = GroupState {
                db: self.db.clone(),
                tree,
                at: None,
                membership: MembershipRecord::default(),
                hash,
            };
            match applied {
                None if empty => Ok(state),
                None => Err(Unusable("it has data and no applied record".into())),
                Some(record) if u128::from_be_bytes(record.hash) != hash => {
                    Err(Unusable("its contents do not match its checksum".into()))
                }
                Some(record) => {
                    state.at = Some(record.at);
                    state.membership = record.membership;
                    Ok(state)
                }
            }
        };
        catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|_| Err(Unusable("its structure is inconsistent".into())))
    }
}

const TREE_PREFIX: &str = "group-";

fn tree_name(group: GroupId) -> String {
    format!("{TREE_PREFIX}{:08x}", group.0)
}

impl StateDb {
    /// The state of every group there is, each verified. Blocks.
    pub(crate) fn all(&self) -> Result<HashMap<GroupId, GroupState>, Unusable> {
        let names = catch_unwind(AssertUnwindSafe(|| self.db.tree_names()))
            .map_err(|_| Unusable("its structure is inconsistent".into()))?;
        names
            .iter()
            .filter_map(|name| std::str::from_utf8(name).ok())
            .filter_map(|name| u32::from_str_radix(name.strip_prefix(TREE_PREFIX)?, 16).ok())
            .map(|id| Ok((GroupId(id), self.group(GroupId(id))?)))
            .collect()
    }
}

impl StateDb {
    /// Forgets everything of a group. Blocks.
    pub(crate) fn erase(&self, group: GroupId) -> io::Result<()> {
        let work = || self.db.drop_tree(tree_name(group)).map(|_| ());
        guarded("while erasing", work).map_err(to_io)
    }

    /// Whose directory this is; the given node's from now on when nobody's yet.
    pub(crate) fn owner(&self, node: NodeId) -> io::Result<Option<NodeId>> {
        let found = self.db.get(OWNER).map_err(to_io)?;
        match found.map(|cell| cell::open::<u64>(OWNER, OWNER_VERSION, &cell)) {
            Some(Ok(owner)) => Ok(Some(NodeId(owner))),
            // A guard against a mix-up, nothing more: an unreadable one is replaced.
            Some(Err(_)) | None => {
                let cell = cell::seal(OWNER, OWNER_VERSION, &node.0).map_err(io::Error::other)?;
                self.db.insert(OWNER, cell).map_err(to_io)?;
                Ok(None)
            }
        }
    }
}

impl GroupState {
    fn applied_cell(
        at: Position,
        membership: &MembershipRecord,
        hash: u128,
    ) -> io::Result<Vec<u8>> {
        let record = AppliedRecord {
            at,
            membership: membership.clone(),
            hash: hash.to_be_bytes(),
        };
        cell::seal(APPLIED, APPLIED_VERSION, &record).map_err(io::Error::other)
    }

    /// Makes changes and the applied record visible as one.
    pub(crate) fn apply(
        &mut self,
        changes: Vec<Change>,
        at: Position,
        membership: MembershipRecord,
    ) -> io::Result<()> {
        let mut hash = self.hash;
        let mut last: HashMap<Vec<u8>, Option<Vec<u8>>> = HashMap::new();
        for Change { key, value } in changes {
            let old = match last.get(&key) {
                Some(earlier) => earlier.as_deref().map(|v| pair_hash(&key, v)),
                None => self
                    .tree
                    .get(&key)
                    .map_err(to_io)?
                    .map(|v| pair_hash(&key, &v)),
            };
            hash = hash.wrapping_sub(old.unwrap_or(0));
            if let Some(value) = &value {
                hash = hash.wrapping_add(pair_hash(&key, value));
            }
            last.insert(key, value);
        }
        let mut batch = sled::Batch::default();
        for (key, value) in last {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        batch.insert(APPLIED, Self::applied_cell(at, &membership, hash)?);
        self.tree.apply_batch(batch).map_err(to_io)?;
        self.hash = hash;
        self.at = Some(at);
        self.membership = membership;
        Ok(())
    }

    /// Replaces everything. A crash halfway leaves data without an applied
    /// record, which is noticed at the next open. Blocks.
    pub(crate) fn replace(
        &mut self,
        pairs: &[(Vec<u8>, Vec<u8>)],
        at: Option<Position>,
        membership: MembershipRecord,
    ) -> io::Result<()> {
        self.tree.remove(APPLIED).map_err(to_io)?;
        self.tree.clear().map_err(to_io)?;
        let mut hash = 0u128;
        for chunk in pairs.chunks(256) {
            let mut batch = sled::Batch::default();
            for (key, value) in chunk {
                hash = hash.wrapping_add(pair_hash(key, value));
                batch.insert(key.as_slice(), value.as_slice());
            }
            self.tree.apply_batch(batch).map_err(to_io)?;
        }
        if let Some(at) = at {
            let cell = Self::applied_cell(at, &membership, hash)?;
            self.tree.insert(APPLIED, cell).map_err(to_io)?;
        }
        self.hash = hash;
        self.at = at;
        self.membership = membership;
        Ok(())
    }

    /// Every pair, in order. The copy shares memory with sled's cache; it is
    /// taken between two applies, so it is one moment's state.
    pub(crate) fn pairs(&self) -> io::Result<Vec<Pair>> {
        self.tree
            .iter()
            .filter(|item| !matches!(item, Ok((key, _)) if key == APPLIED))
            .map(|item| item.map_err(to_io))
            .collect()
    }

    /// A handle for flushing from another thread.
    pub(crate) fn db(&self) -> StateDb {
        StateDb {
            db: self.db.clone(),
        }
    }
}

impl StateDb {
    /// Writes what sled still holds back. Blocks.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.db.flush().map(|_| ()).map_err(to_io)
    }
}

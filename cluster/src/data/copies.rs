//! Copies of whole databases: for clients that export one, for replicas that rebuild one.
//!
//! A copy is a file of its own, made by SQLite's backup while applying goes on. It is
//! deleted when nobody needs it, and at the next start after a crash.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use orama_proto::sql::DatabaseId;
use orama_proto::{GroupId, NodeId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::parcels::Source;
use super::wire::{Ask, Copied, CopyFor, Told};
use super::{DataError, DataGroups, Replica, share_of};
use crate::disk;
use crate::sql::Backup;

/// Copies on a node at once, those that are being fetched included.
pub(super) const COPIES_AT_ONCE: usize = 4;
/// A piece has so long to arrive.
const PIECE_WITHIN: Duration = Duration::from_secs(10);

/// Makes copies.
pub(super) struct Copies {
    dir: PathBuf,
    room: Arc<Semaphore>,
    next: AtomicU64,
}

/// A file that goes when it is dropped.
pub(super) struct TempCopy {
    path: PathBuf,
    _room: Option<OwnedSemaphorePermit>,
}

impl TempCopy {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempCopy {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "a copy was not deleted");
        }
    }
}

/// A database's copy.
pub(super) struct Made {
    pub(super) copy: TempCopy,
    pub(super) backup: Backup,
    /// Everything up to this entry is in it.
    pub(super) at: u64,
}

impl Copies {
    pub(super) fn new(groups: &Path) -> Self {
        Self {
            dir: groups.join("copies"),
            room: Arc::new(Semaphore::new(COPIES_AT_ONCE)),
            next: AtomicU64::new(0),
        }
    }

    /// Deletes what an earlier process left behind. Blocks.
    pub(super) fn sweep(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// A place for a file. Blocks.
    pub(super) fn place(&self, room: Option<OwnedSemaphorePermit>) -> io::Result<TempCopy> {
        crate::data_dir::make_dir(&self.dir)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(TempCopy {
            path: self.dir.join(format!("{number}.db")),
            _room: room,
        })
    }

    pub(super) fn has_room(&self, bytes: u64) -> bool {
        let dir = self.dir.parent().unwrap_or(&self.dir);
        disk::leaves(dir, bytes, disk::BULK_RESERVED_BYTES)
    }
}

/// A copy of a database, to be read piece by piece.
pub struct Export {
    /// Its length in bytes.
    pub bytes: u64,
    group: GroupId,
    offset: u64,
    from: From,
}

enum From {
    /// There is nothing in it.
    Nothing,
    Here(Arc<Source>),
    There(There),
}

struct There {
    groups: DataGroups,
    node: NodeId,
    token: u128,
}

impl Drop for There {
    fn drop(&mut self) {
        // It would be thrown away after a while; this frees the place at once.
        let (groups, node, token) = (self.groups.clone(), self.node, self.token);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { groups.release(node, token).await });
        }
    }
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Export({} of {} bytes)", self.offset, self.bytes)
    }
}

impl Export {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the replica that has the copy is lost: begin again.
    pub async fn next(&mut self) -> Result<Option<Bytes>, DataError> {
        if self.offset >= self.bytes {
            self.from = From::Nothing;
            return Ok(None);
        }
        let lost = |why: String| {
            tracing::info!(group = %self.group, why, "a copy of a database was lost");
            DataError::Unavailable(self.group)
        };
        let offset = self.offset;
        let piece = match &self.from {
            From::Nothing => Bytes::new(),
            From::Here(source) => {
                let source = Arc::clone(source);
                tokio::task::spawn_blocking(move || source.piece(offset))
                    .await
                    .unwrap_or_else(|e| Err(io::Error::other(e)))
                    .map_err(|e| lost(e.to_string()))?
            }
            From::There(there) => {
                let deadline = Instant::now() + PIECE_WITHIN;
                let piece = there
                    .groups
                    .piece(there.node, there.token, offset, deadline);
                piece.await.map_err(|e| lost(e.to_string()))?
            }
        };
        if piece.is_empty() {
            return Err(lost("it is shorter than it was".into()));
        }
        self.offset += piece.len() as u64;
        Ok(Some(piece))
    }
}

impl DataGroups {
    /// A consistent copy of a whole database, as an SQLite file; linearizable. Of a database
    /// that was never written to it has no bytes, which to SQLite is an empty database.
    ///
    /// # Errors
    /// See [`DataError`].
    pub async fn export(
        &self,
        database: &DatabaseId,
        deadline: Instant,
    ) -> Result<Export, DataError> {
        let group = self.group_of(&database.namespace);
        let fallback = match self.replica(group) {
            None => DataError::Unavailable(group),
            Some(replica) => {
                let try_until = share_of(deadline, self.tries());
                let made = self.copy_here(group, &replica, database, CopyFor::Client, try_until);
                match made.await {
                    Ok(made) => return Ok(local(group, made)),
                    Err(error) => error,
                }
            }
        };
        let ask = Ask::Copy {
            group,
            database: database.clone(),
            copy_for: CopyFor::Client,
        };
        match self.ask_read(group, &ask, deadline, fallback).await? {
            (Told::Copied(copied), node) => Ok(Export {
                bytes: copied.bytes,
                group,
                offset: 0,
                from: From::There(There {
                    groups: self.clone(),
                    node,
                    token: copied.token,
                }),
            }),
            (Told::NoDatabase { .. }, _) => Ok(local(group, None)),
            _ => Err(DataError::Unavailable(group)),
        }
    }

    /// Copies a database of this node's replica; `None` when it does not exist.
    pub(super) async fn copy_here(
        &self,
        group: GroupId,
        replica: &Replica,
        id: &DatabaseId,
        copy_for: CopyFor,
        deadline: Instant,
    ) -> Result<Option<Made>, DataError> {
        let unavailable = || DataError::Unavailable(group);
        match copy_for {
            CopyFor::Client => {
                let confirmed = replica.group.confirm(deadline).await;
                confirmed.map_err(|fault| DataError::of_read(group, fault))?;
            }
            CopyFor::Replica(index) => {
                if !replica.group.wait_applied(index, deadline).await {
                    return Err(unavailable());
                }
            }
        }
        let room = Arc::clone(&self.0.copies.room).acquire_owned();
        let room = tokio::time::timeout_at(deadline.into(), room).await;
        let Ok(Ok(room)) = room else {
            return Err(unavailable());
        };
        let databases = replica.keeper.databases().ok_or_else(unavailable)?;
        // Before the copy is begun: it has at least this much.
        let at = replica.group.applied_index();
        let (groups, id) = (self.clone(), id.clone());
        let made = tokio::task::spawn_blocking(move || {
            let known = databases.list().into_iter().find(|d| d.id == id);
            let Some(known) = known else { return Ok(None) };
            if let Some(why) = known.fenced {
                return Err(DataError::Fenced(why));
            }
            if !groups.0.copies.has_room(known.bytes) {
                return Err(DataError::Full(group));
            }
            let failed = |error: &dyn std::fmt::Display| {
                tracing::warn!(%group, database = %id, %error, "a database cannot be copied");
                DataError::Unavailable(group)
            };
            let copy = groups.0.copies.place(Some(room)).map_err(|e| failed(&e))?;
            let backup = databases.backup(&id, copy.path()).map_err(|e| failed(&e))?;
            let Some(mut backup) = backup else {
                return Ok(None);
            };
            if copy_for == CopyFor::Client {
                backup.bytes = for_client(copy.path()).map_err(|e| failed(&e))?;
            }
            Ok(Some(Made { copy, backup, at }))
        });
        let made = made.await.unwrap_or_else(|_| Err(unavailable()))?;
        if made.is_some() {
            self.0.metrics.exports.inc();
        }
        Ok(made)
    }

    /// The same for another node, which fetches it.
    pub(super) async fn copy_for(
        &self,
        group: GroupId,
        id: &DatabaseId,
        copy_for: CopyFor,
        to: NodeId,
        deadline: Instant,
    ) -> Result<Told, DataError> {
        let unavailable = || DataError::Unavailable(group);
        let replica = self.replica(group).ok_or_else(unavailable)?;
        let at = replica.group.applied_index();
        let made = self.copy_here(group, &replica, id, copy_for, deadline);
        let Some(made) = made.await? else {
            return Ok(Told::NoDatabase { at });
        };
        let Backup { bytes, sum, .. } = made.backup;
        let token = self.0.parcels.put(Source::File(made.copy), to);
        Ok(Told::Copied(Copied {
            token: token.ok_or_else(unavailable)?,
            bytes,
            sum,
            at: made.at,
        }))
    }
}

/// Makes a copy a plain SQLite file without anything of ours; answers its length.
fn for_client(path: &Path) -> io::Result<u64> {
    let strip = || {
        let conn = rusqlite::Connection::open(path)?;
        conn.pragma_update(None, "journal_mode", "DELETE")?;
        conn.execute_batch("DROP TABLE IF EXISTS _orama_state")
    };
    strip().map_err(io::Error::other)?;
    Ok(std::fs::metadata(path)?.len())
}

fn local(group: GroupId, made: Option<Made>) -> Export {
    let (bytes, from) = match made {
        Some(made) => {
            let source = Arc::new(Source::File(made.copy));
            (made.backup.bytes, From::Here(source))
        }
        None => (0, From::Nothing),
    };
    Export {
        bytes,
        group,
        offset: 0,
        from,
    }
}

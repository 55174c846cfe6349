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

/// Copies for clients on a node at once, those that are being read included.
pub(super) const CLIENT_COPIES: usize = 4;
/// Copies for other replicas on a node at once, those that are being fetched included: of their
/// own, so that no client keeps a replica from being rebuilt.
pub(super) const REPLICA_COPIES: usize = 4;
/// A copy is handed out in pieces of at most so many bytes, so that a slow receiver asks often
/// enough: one that takes none for [`super::parcels::KEPT_FOR`] is given up.
const HANDED_BYTES: usize = 64 << 10;
/// A piece has so long to arrive.
const PIECE_WITHIN: Duration = Duration::from_secs(10);

/// Makes copies.
pub(super) struct Copies {
    dir: PathBuf,
    for_clients: Arc<Semaphore>,
    for_replicas: Arc<Semaphore>,
    next: AtomicU64,
}

/// A file that goes when it is dropped.
pub(super) struct TempCopy {
    path: PathBuf,
    room: Option<OwnedSemaphorePermit>,
}

impl TempCopy {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempCopy {
    fn drop(&mut self) {
        let (path, room) = (std::mem::take(&mut self.path), self.room.take());
        let delete = move || {
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "a copy was not deleted");
            }
            // Its place is free when its bytes are.
            drop(room);
        };
        // A large file takes a while to delete: not on a thread that others wait for. Should the
        // runtime end before, the next start deletes it.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(delete)),
            Err(_) => delete(),
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
            for_clients: Arc::new(Semaphore::new(CLIENT_COPIES)),
            for_replicas: Arc::new(Semaphore::new(REPLICA_COPIES)),
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
            room,
        })
    }

    fn room(&self, copy_for: CopyFor) -> Arc<Semaphore> {
        Arc::clone(match copy_for {
            CopyFor::Client => &self.for_clients,
            CopyFor::Replica(_) => &self.for_replicas,
        })
    }

    /// How many copies clients may have made at present.
    #[cfg(test)]
    pub(super) fn free_for_clients(&self) -> usize {
        self.for_clients.available_permits()
    }

    pub(super) fn has_room(&self, bytes: u64) -> bool {
        let dir = self.dir.parent().unwrap_or(&self.dir);
        disk::leaves(dir, bytes, disk::BULK_RESERVED_BYTES)
    }
}

/// A copy of a database, to be read piece by piece. One of which nothing is taken for half a
/// minute is lost.
pub struct Export {
    /// Its length in bytes.
    pub bytes: u64,
    group: GroupId,
    offset: u64,
    /// What came and was not handed out yet.
    piece: Bytes,
    from: From,
}

enum From {
    /// There is nothing in it.
    Nothing,
    /// A parcel, on this node or another one.
    Parcel(Parcel),
}

struct Parcel {
    groups: DataGroups,
    node: NodeId,
    token: u128,
}

impl Parcel {
    /// Here, where its file is; it counts as asked for.
    fn here(&self) -> io::Result<Option<Arc<Source>>> {
        let here = self.groups.0.node;
        if self.node != here {
            return Ok(None);
        }
        let gone = || io::Error::other("nothing was taken of it for too long");
        let source = self.groups.0.parcels.get(self.token, here);
        source.ok_or_else(gone).map(Some)
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        // It would be thrown away after a while; this frees the place at once.
        let (groups, node, token) = (self.groups.clone(), self.node, self.token);
        if node == groups.0.node {
            groups.0.parcels.release(token, node);
            return;
        }
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
        if let From::Parcel(parcel) = &self.from {
            let here = parcel.here().map_err(|e| lost(e.to_string()))?;
            if self.piece.is_empty() {
                self.piece = match here {
                    Some(source) => {
                        let offset = self.offset;
                        tokio::task::spawn_blocking(move || source.piece(offset))
                            .await
                            .unwrap_or_else(|e| Err(io::Error::other(e)))
                            .map_err(|e| lost(e.to_string()))?
                    }
                    None => {
                        let deadline = Instant::now() + PIECE_WITHIN;
                        let (node, token) = (parcel.node, parcel.token);
                        let piece = parcel.groups.piece(node, token, self.offset, deadline);
                        piece.await.map_err(|e| lost(e.to_string()))?
                    }
                };
            }
        }
        let piece = self.piece.split_to(self.piece.len().min(HANDED_BYTES));
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
                match made.await.and_then(|made| self.local(group, made)) {
                    Ok(export) => return Ok(export),
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
            (Told::Copied(copied), node) => {
                Ok(self.parcel(group, node, copied.token, copied.bytes))
            }
            (Told::NoDatabase { .. }, _) => self.local(group, None),
            _ => Err(DataError::Unavailable(group)),
        }
    }

    fn parcel(&self, group: GroupId, node: NodeId, token: u128, bytes: u64) -> Export {
        let groups = self.clone();
        Export {
            bytes,
            group,
            offset: 0,
            piece: Bytes::new(),
            from: From::Parcel(Parcel {
                groups,
                node,
                token,
            }),
        }
    }

    /// Of a copy that was made here, which waits like one for another node.
    fn local(&self, group: GroupId, made: Option<Made>) -> Result<Export, DataError> {
        let Some(made) = made else {
            return Ok(Export {
                bytes: 0,
                group,
                offset: 0,
                piece: Bytes::new(),
                from: From::Nothing,
            });
        };
        let node = self.0.node;
        let token = self.0.parcels.put(Source::File(made.copy), node);
        let token = token.ok_or(DataError::Unavailable(group))?;
        Ok(self.parcel(group, node, token, made.backup.bytes))
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
        let room = self.0.copies.room(copy_for).acquire_owned();
        let room = tokio::time::timeout_at(deadline.into(), room).await;
        let Ok(Ok(room)) = room else {
            return Err(unavailable());
        };
        let databases = replica.keeper.databases().ok_or_else(unavailable)?;
        // Before the copy is begun: it has at least this much.
        let at = replica.group.applied_index();
        let (groups, id) = (self.clone(), id.clone());
        let keeper = Arc::clone(&replica.keeper);
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
            let backup = databases.backup(&id, copy.path()).map_err(|e| {
                keeper.noticed(&id);
                failed(&e)
            })?;
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

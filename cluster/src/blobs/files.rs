//! The blob store's work on files. Everything here blocks.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use orama_proto::ContentId;
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::metrics::Metrics;
use super::{BLOB_MAX_BYTES, BlobError, CORRUPT_KEPT};
use crate::data_dir::{make_dir, sync_dir};
use crate::disk::leaves;

/// Enough that two blobs in use at once seldom share a lock.
const STRIPES: usize = 64;

/// Directories and locks of the store.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    /// Whoever writes, sets aside or removes a blob's file holds its lock, so
    /// that each sees the file as the one before left it.
    stripes: Vec<Mutex<()>>,
    /// What stays free on the disk.
    reserve: u64,
    /// Held while room is looked for and taken, so that writers that come
    /// together do not all count on the same room.
    room: Mutex<()>,
    /// Counts temporary files, so that no two writers share one.
    next_temp: AtomicU64,
    metrics: Metrics,
}

impl Files {
    pub(super) fn open(dir: &Path, reserve: u64, metrics: Metrics) -> io::Result<Self> {
        let files = Self {
            dir: dir.to_owned(),
            reserve,
            room: Mutex::new(()),
            stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(),
            next_temp: AtomicU64::new(0),
            metrics,
        };
        make_dir(&files.temp_dir())?;
        make_dir(&files.corrupt_dir())?;
        // The data directory's lock says that nobody is writing these now.
        for entry in fs::read_dir(files.temp_dir())? {
            fs::remove_file(entry?.path())?;
        }
        sync_dir(dir)?;
        Ok(files)
    }

    fn temp_dir(&self) -> PathBuf {
        self.dir.join("tmp")
    }
    fn corrupt_dir(&self) -> PathBuf {
        self.dir.join("corrupt")
    }
    pub(super) fn path(&self, cid: ContentId) -> PathBuf {
        let name = cid.to_string();
        // The end of the text is hash, its start is the same for all.
        let shard = name.get(name.len().saturating_sub(2)..).unwrap_or_default();
        self.dir.join(shard).join(&name)
    }
    fn lock(&self, cid: ContentId) -> MutexGuard<'_, ()> {
        self.stripes[usize::from(cid.digest()[0]) % STRIPES].lock()
    }

    /// Stores the bytes durably. Answers whether they had to be written.
    pub(super) fn put(&self, cid: ContentId, bytes: &[u8]) -> Result<bool, BlobError> {
        let failed = |source| failure(cid, source);
        if bytes.len() > BLOB_MAX_BYTES {
            return Err(failed(io::Error::new(
                ErrorKind::FileTooLarge,
                format!("{} bytes, a blob has at most {BLOB_MAX_BYTES}", bytes.len()),
            )));
        }
        let path = self.path(cid);
        let shard = path.parent().unwrap_or(&self.dir);
        let _held = self.lock(cid);
        match read_file(&path) {
            // Compared in full: a deploy must not be answered on the word of a rotten file.
            Ok(there) if there == bytes => {
                refresh(&path).map_err(failed)?;
                sync_dir(shard).map_err(failed)?;
                return Ok(false);
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Ok(there) => self
                .set_aside(cid, &path, &format!("hashes to {}", ContentId::of(&there)))
                .map_err(failed)?,
            Err(e) if is_damage(&e) => self
                .set_aside(cid, &path, &format!("cannot be read: {e}"))
                .map_err(failed)?,
            // Out of descriptors or memory, not permitted: the blob may be whole.
            Err(e) => return Err(failed(e)),
        }
        let number = self.next_temp.fetch_add(1, Ordering::Relaxed);
        let temp = self.temp_dir().join(number.to_string());
        let written = self
            .begin(&temp, bytes.len() as u64)
            .and_then(|file| write_synced(file, bytes))
            .and_then(|()| self.publish(&temp, &path, shard));
        if let Err(e) = written {
            // Fails when the rename was done already; then the blob is whole and merely unwanted.
            let _ = fs::remove_file(&temp);
            return Err(failed(e));
        }
        Ok(true)
    }

    /// Makes a temporary file with room for `bytes`, if the reserve stays.
    fn begin(&self, temp: &Path, bytes: u64) -> io::Result<File> {
        let _held = self.room.lock();
        if !leaves(&self.dir, bytes, self.reserve) {
            return Err(ErrorKind::StorageFull.into());
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temp)?;
        if bytes > 0 {
            match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
                // Not every file system can; then others may count on this room too.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(file)
    }

    fn publish(&self, temp: &Path, path: &Path, shard: &Path) -> io::Result<()> {
        if !shard.is_dir() {
            make_dir(shard)?;
            sync_dir(&self.dir)?;
        }
        fs::rename(temp, path)?;
        sync_dir(shard)
    }

    /// Reads and verifies.
    pub(super) fn get(&self, cid: ContentId) -> Result<Bytes, BlobError> {
        let path = self.path(cid);
        let failed = |e: io::Error| match e.kind() {
            ErrorKind::NotFound => BlobError::Missing(cid),
            _ => failure(cid, e),
        };
        let bytes = read_file(&path).map_err(failed)?;
        if ContentId::of(&bytes) == cid {
            return Ok(bytes.into());
        }
        // A put may be replacing the file at this moment: judge it again under the lock.
        let _held = self.lock(cid);
        let bytes = read_file(&path).map_err(failed)?;
        let found = ContentId::of(&bytes);
        if found == cid {
            return Ok(bytes.into());
        }
        self.set_aside(cid, &path, &format!("hashes to {found}"))
            .map_err(failed)?;
        Err(BlobError::Corrupt { cid, found })
    }

    /// Size of the file.
    pub(super) fn size(&self, cid: ContentId) -> Result<Option<u64>, BlobError> {
        match fs::metadata(self.path(cid)) {
            Ok(facts) if facts.is_file() => Ok(Some(facts.len())),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failure(cid, e)),
        }
    }

    /// A piece of the file, unverified, and the file's size.
    pub(super) fn read_at(
        &self,
        cid: ContentId,
        offset: u64,
        len: usize,
    ) -> Result<(Vec<u8>, u64), BlobError> {
        let failed = |e: io::Error| match e.kind() {
            ErrorKind::NotFound => BlobError::Missing(cid),
            _ => failure(cid, e),
        };
        let mut file = File::open(self.path(cid)).map_err(failed)?;
        let total = file.metadata().map_err(failed)?.len();
        let left = usize::try_from(total.saturating_sub(offset)).unwrap_or(len);
        let mut bytes = Vec::with_capacity(left.min(len));
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        file.take(len as u64)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        Ok((bytes, total))
    }

    /// Verifies the file, makes it durable and young.
    pub(super) fn hold(&self, cid: ContentId) -> Result<(), BlobError> {
        let path = self.path(cid);
        let shard = path.parent().unwrap_or(&self.dir);
        let failed = |e: io::Error| match e.kind() {
            ErrorKind::NotFound => BlobError::Missing(cid),
            _ => failure(cid, e),
        };
        let _held = self.lock(cid);
        let found = ContentId::of(&read_file(&path).map_err(failed)?);
        if found == cid {
            return refresh(&path)
                .and_then(|()| sync_dir(shard))
                .map_err(failed);
        }
        self.set_aside(cid, &path, &format!("hashes to {found}"))
            .map_err(failed)?;
        Err(BlobError::Corrupt { cid, found })
    }

    pub(super) fn has_room(&self, bytes: u64) -> bool {
        leaves(&self.dir, bytes, self.reserve)
    }

    /// Moves a damaged file where nobody reads it as a blob; a person may want to look at it.
    fn set_aside(&self, cid: ContentId, path: &Path, what: &str) -> io::Result<()> {
        let kept = self
            .corrupt_dir()
            .join(format!("{cid}.{}", unix_seconds(SystemTime::now())));
        fs::rename(path, &kept)?;
        self.metrics.corrupt.inc();
        tracing::warn!(blob = %cid, kept = %kept.display(), "a blob's file {what}; it was set aside");
        if let Err(error) = self.trim_corrupt() {
            tracing::warn!(%error, "damaged blobs that were set aside cannot be trimmed");
        }
        Ok(())
    }

    fn trim_corrupt(&self) -> io::Result<()> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(self.corrupt_dir())? {
            let path = entry?.path();
            let at = path.extension().and_then(|e| e.to_str());
            kept.push((at.and_then(|t| t.parse::<u64>().ok()), path));
        }
        kept.sort();
        let surplus = kept.len().saturating_sub(CORRUPT_KEPT);
        for (_, path) in kept.drain(..surplus) {
            // Another blob's set-aside may have removed it first.
            match fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn sweep(&self, keep: &HashSet<ContentId>, min_age: Duration) -> io::Result<u64> {
        let mut removed = 0;
        for shard in fs::read_dir(&self.dir)? {
            let shard = shard?;
            // Shards have two letters; `tmp` and `corrupt` have more.
            if shard.file_name().len() != 2 || !shard.file_type()?.is_dir() {
                continue;
            }
            for entry in fs::read_dir(shard.path())? {
                let entry = entry?;
                let name = entry.file_name();
                let Some(cid) = name.to_str().and_then(|t| ContentId::parse(t).ok()) else {
                    continue;
                };
                if !keep.contains(&cid) && self.remove_if_old(cid, &entry.path(), min_age)? {
                    removed += 1;
                }
            }
        }
        self.metrics.swept.inc_by(removed);
        Ok(removed)
    }

    /// The age is read under the lock under which a put refreshes it.
    fn remove_if_old(&self, cid: ContentId, path: &Path, min_age: Duration) -> io::Result<bool> {
        let _held = self.lock(cid);
        let gone = |e: io::Error| match e.kind() {
            ErrorKind::NotFound => Ok(false),
            _ => Err(e),
        };
        let modified = match fs::metadata(path).and_then(|m| m.modified()) {
            Ok(at) => at,
            Err(e) => return gone(e),
        };
        // A time in the future (the clock was set back) counts as young.
        let age = modified.elapsed().unwrap_or_default();
        if age < min_age {
            return Ok(false);
        }
        fs::remove_file(path).map_or_else(gone, |()| Ok(true))
    }
}

fn failure(cid: ContentId, source: io::Error) -> BlobError {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => BlobError::Full(cid),
        _ => BlobError::Io { cid, source },
    }
}

/// At most one byte more than a blob may have: such a file is corrupt whatever follows.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let limit = BLOB_MAX_BYTES as u64 + 1;
    let len = file.metadata()?.len().min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether a failed read says something about the file: a sector that cannot
/// be read, or something else under its name.
pub(super) fn is_damage(error: &io::Error) -> bool {
    let disk = Some(Errno::IO.raw_os_error());
    error.raw_os_error() == disk || error.kind() == ErrorKind::IsADirectory
}

fn write_synced(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the file young, so that no sweep takes it before it is referred to,
/// and durable, in case the put that made it was cut off before its fsync.
fn refresh(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_modified(SystemTime::now())?;
    file.sync_all()
}

fn unix_seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

//! The files under the log: a directory of segments, and what tests put in its place.
//!
//! A segment is filled with zeros and synced before it gets its name, so that
//! writing into it later changes no metadata and its length says whether it was cut.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::consensus::fault::StorageFault;
use crate::data_dir::{make_dir, sync_dir};

/// Zeros are written and synced in such steps, so that the log's own syncs are not held up.
const FILL: usize = 1 << 20;
const SUFFIX: &str = ".log";
const UNFINISHED: &str = ".new";

/// An open segment. Reads and writes are positional.
pub(super) trait SegmentFile: Send + Sync {
    fn size(&self) -> io::Result<u64>;
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<()>;
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Afterwards everything written is on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// The place where segments are.
pub(super) trait Files: Send + Sync {
    /// How a segment is called in messages.
    fn path(&self, number: u32) -> PathBuf;
    /// The segments there are, in order.
    fn list(&self) -> io::Result<Vec<u32>>;
    /// Makes a durable segment of `size` bytes: `head`, then zeros. Whole or not at all.
    fn create(&self, number: u32, size: u64, head: &[u8]) -> io::Result<Arc<dyn SegmentFile>>;
    fn open(&self, number: u32) -> io::Result<Arc<dyn SegmentFile>>;
    /// Need not be durable: whoever opens the log removes what is left.
    fn remove(&self, number: u32) -> io::Result<()>;
}

impl SegmentFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(out, at)
    }
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A directory, locked as long as this lives.
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Opens or makes it. What an interrupted creation left is removed.
    pub(super) fn open(path: &Path) -> Result<Self, StorageFault> {
        refuse_old_layout(path)?;
        make_dir(path).map_err(|e| StorageFault::io(path, e))?;
        if let Some(parent) = path.parent() {
            sync_dir(parent).map_err(|e| StorageFault::io(parent, e))?;
        }
        let lock = take_lock(path)?;
        let unfinished = || -> io::Result<()> {
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        unfinished().map_err(|e| StorageFault::io(path, e))?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }
}

fn take_lock(dir: &Path) -> Result<File, StorageFault> {
    let path = dir.join("LOCK");
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| StorageFault::io(&path, e))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StorageFault::Busy {
            path: dir.to_owned(),
        }),
        Err(TryLockError::Error(e)) => Err(StorageFault::io(&path, e)),
    }
}

/// Whether somebody has the log open.
#[cfg(test)]
pub(super) fn is_locked(dir: &Path) -> bool {
    matches!(take_lock(dir), Err(StorageFault::Busy { .. }))
}

/// A log of the layout before this one, which was never released, is not read over.
pub(in crate::consensus) fn refuse_old_layout(path: &Path) -> Result<(), StorageFault> {
    let old = path.with_extension("redb");
    match old.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(StorageFault::LogLayout { path: old }),
        Err(e) => Err(StorageFault::io(old, e)),
    }
}

fn number(name: &str) -> Option<u32> {
    let number = u32::from_str_radix(name.strip_suffix(SUFFIX)?, 16).ok()?;
    (name == file_name(number)).then_some(number)
}

fn file_name(number: u32) -> String {
    format!("{number:08x}{SUFFIX}")
}

/// The segments in a directory, in order; none when there is no directory.
pub(in crate::consensus) fn segments(dir: &Path) -> io::Result<Vec<u32>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for entry in entries {
        found.extend(number(&entry?.file_name().to_string_lossy()));
    }
    found.sort_unstable();
    Ok(found)
}

impl Files for Directory {
    fn path(&self, number: u32) -> PathBuf {
        self.path.join(file_name(number))
    }

    fn list(&self) -> io::Result<Vec<u32>> {
        segments(&self.path)
    }

    fn create(&self, number: u32, size: u64, head: &[u8]) -> io::Result<Arc<dyn SegmentFile>> {
        let name = self.path(number);
        let new = name.with_extension(&UNFINISHED[1..]);
        let make = || -> io::Result<File> {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(head)?;
            let zeros = vec![0; FILL];
            let mut left = size.saturating_sub(head.len() as u64);
            while left > 0 {
                let step = usize::try_from(left).unwrap_or(FILL).min(FILL);
                file.write_all(&zeros[..step])?;
                file.sync_data()?;
                left -= step as u64;
            }
            file.sync_all()?;
            fs::rename(&new, &name)?;
            sync_dir(&self.path)?;
            Ok(file)
        };
        let made = make();
        if made.is_err() {
            // What it took of a full disk; the error is what counts.
            let _ = fs::remove_file(&new);
        }
        Ok(Arc::new(made?))
    }

    fn open(&self, number: u32) -> io::Result<Arc<dyn SegmentFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path(number))?;
        Ok(Arc::new(file))
    }

    fn remove(&self, number: u32) -> io::Result<()> {
        fs::remove_file(self.path(number))
    }
}

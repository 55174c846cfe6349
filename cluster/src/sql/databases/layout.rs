//! Names of files. All of them are made here, from numbers and validated namespaces.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use orama_proto::Namespace;

use super::files;
use crate::data_dir::{make_dir, sync_dir};

/// Files that were set aside and are kept, at most; the oldest go first.
const QUARANTINED_MAX: usize = 4;

pub(super) fn directory(dir: &Path) -> PathBuf {
    dir.join("group.db")
}
/// A directory file that is not whole yet.
pub(super) fn directory_new(dir: &Path) -> PathBuf {
    dir.join("group.db.new")
}
/// Its presence beside a missing `group.db` says that a rebuild did not end.
pub(super) fn directory_damaged(dir: &Path) -> PathBuf {
    dir.join("group.db.damaged")
}
pub(super) fn live(dir: &Path) -> PathBuf {
    dir.join("live")
}
pub(super) fn backups(dir: &Path) -> PathBuf {
    dir.join("backups")
}
/// Files that are to replace others, until they do.
pub(super) fn staged(dir: &Path) -> PathBuf {
    dir.join("staged")
}
/// Another one each time, whichever group of this process asks.
pub(super) fn staged_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}.db", NEXT.fetch_add(1, Ordering::Relaxed))
}
fn quarantine(dir: &Path) -> PathBuf {
    dir.join("damaged")
}
/// What a group that is erased is called while its files are deleted.
pub(super) fn erased(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".erased");
    PathBuf::from(name)
}

pub(super) fn live_name(namespace: &Namespace, generation: u64) -> String {
    format!("{namespace}.{generation}.db")
}
pub(super) fn live_file(dir: &Path, namespace: &Namespace, generation: u64) -> PathBuf {
    live(dir).join(live_name(namespace, generation))
}
/// An empty database while its image is taken. No live name is like it, so what a kill leaves is swept.
pub(super) fn template(dir: &Path) -> PathBuf {
    live(dir).join("empty.db")
}
pub(super) fn backup_name(namespace: &Namespace, applied: u64, serial: u64) -> String {
    format!("{namespace}-{applied}.{serial}.db")
}
pub(super) fn backup_file(dir: &Path, namespace: &Namespace, applied: u64, serial: u64) -> PathBuf {
    backups(dir).join(backup_name(namespace, applied, serial))
}
/// The serial number in a backup's name.
pub(super) fn serial(name: &str) -> Option<u64> {
    name.strip_suffix(".db")?.rsplit('.').next()?.parse().ok()
}

/// Makes the directories, durably.
pub(super) fn make(dir: &Path) -> io::Result<()> {
    for sub in [live(dir), backups(dir)] {
        make_dir(&sub)?;
    }
    sync_dir(dir)?;
    dir.parent().map_or(Ok(()), sync_dir)
}

/// Names of the files in a directory; none when it is missing.
pub(super) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// Deletes every file in `live` that belongs to none of these; before anything of it is open.
pub(super) fn sweep(dir: &Path, named: &BTreeSet<String>) -> io::Result<usize> {
    let (live, mut swept) = (live(dir), 0);
    for name in names(&live)? {
        if !named.contains(files::owner(&name)) {
            files::remove_one(&live.join(&name))?;
            swept += 1;
        }
    }
    if swept > 0 {
        sync_dir(&live)?;
    }
    Ok(swept)
}

/// Puts a database's files aside for a person to look at; the oldest of them go. Answers how many there are.
pub(super) fn set_aside(dir: &Path, file: &Path) -> io::Result<usize> {
    let aside = quarantine(dir);
    make_dir(&aside)?;
    for suffix in ["", "-wal"] {
        let from = files::beside(file, suffix);
        let Some(name) = from.file_name() else {
            continue;
        };
        match fs::rename(&from, aside.join(name)) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    files::remove(file)?;
    let mut there = Vec::new();
    for name in names(&aside)? {
        if name == files::owner(&name) {
            let made = fs::metadata(aside.join(&name)).and_then(|m| m.modified());
            there.push((made.ok(), name));
        }
    }
    there.sort();
    let extra = there.len().saturating_sub(QUARANTINED_MAX);
    for (_, name) in there.drain(..extra) {
        files::remove(&aside.join(name))?;
    }
    Ok(there.len())
}

/// How many files are set aside.
pub(super) fn aside(dir: &Path) -> usize {
    let names = names(&quarantine(dir)).unwrap_or_default();
    names
        .iter()
        .filter(|n| n.as_str() == files::owner(n))
        .count()
}

//! A keeper at work: entries are applied to it, snapshots of it are built, made whole
//! for others, and installed, each in an order in which a crash leaves either the old or
//! the new. Everything here blocks.
//!
//! A snapshot here is a manifest, which names files of the keeper; [`SnapshotStore`] holds
//! it as its pairs. The keeper deletes files that no manifest names ([`Keeping::forget`]),
//! so a manifest is on disk before anything counts on it, and one under way is pinned.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use orama_proto::GroupId;
use parking_lot::Mutex;

use super::bodies::{Bodies, Body};
use super::container::{self, Header, is_spoiled};
use super::keeper::{Keeper, KeptEntry, Manifest, Resumed};
use super::snapshot::{SnapshotFile, SnapshotStore};
use crate::disk;

/// Closing waits so long for a snapshot that is being built.
const CLOSE_WAIT: Duration = Duration::from_secs(20);

/// Where a snapshot was begun last.
#[derive(Debug, Clone, Copy)]
struct Since {
    index: u64,
    at: Instant,
}

/// Places where tests cut the power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Saved, and no manifest says so.
    Saved,
    /// Its manifest is written, files of older ones are still there.
    Written,
    /// A leader's snapshot is unpacked, nothing names it.
    Unpacked,
    /// Its manifest is written, the state is the old one.
    Named,
    /// The state is the new one, older manifests are there.
    Adopted,
    /// Older manifests are gone, their files are not.
    Forgotten,
}

/// A keeper, and what its group's parts do with it.
pub(super) struct Keeping {
    group: GroupId,
    dir: PathBuf,
    pub(super) keeper: Arc<dyn Keeper>,
    snapshots: Arc<SnapshotStore>,
    bodies: Bodies,
    /// Held while the state changes; false when it is closed.
    open: Mutex<bool>,
    /// Held while a snapshot is built or installed: one at a time.
    saving: Mutex<()>,
    /// Manifests that are in use and not, or not for long, in the store. Held while files
    /// appear that no manifest names yet, and while such files are deleted.
    pins: Mutex<Vec<Weak<Manifest>>>,
    since: Mutex<Since>,
    /// The newest snapshot proved damaged: another one is due.
    spoiled: AtomicBool,
    #[cfg(test)]
    pub(super) crash: Mutex<Option<Step>>,
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the state is closed")
}

impl Keeping {
    pub(super) fn new(
        group: GroupId,
        dir: &Path,
        keeper: Arc<dyn Keeper>,
        snapshots: Arc<SnapshotStore>,
    ) -> Self {
        let index = snapshots.newest().and_then(|s| s.header.at);
        Self {
            group,
            dir: dir.to_owned(),
            keeper,
            snapshots,
            bodies: Bodies::new(dir, group),
            open: Mutex::new(true),
            saving: Mutex::default(),
            pins: Mutex::default(),
            since: Mutex::new(Since {
                index: index.map_or(0, |at| at.index),
                at: Instant::now(),
            }),
            spoiled: AtomicBool::new(false),
            #[cfg(test)]
            crash: Mutex::default(),
        }
    }

    #[cfg(test)]
    fn passes(&self, step: Step) -> io::Result<()> {
        match *self.crash.lock() == Some(step) {
            true => Err(io::Error::other(format!("killed at {step:?}"))),
            false => Ok(()),
        }
    }

    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "tests crash here"
    )]
    fn passes(&self, _: Step) -> io::Result<()> {
        Ok(())
    }

    /// Applies entries; answers a reply for each.
    pub(super) fn apply(&self, entries: Vec<KeptEntry>) -> io::Result<Vec<Vec<u8>>> {
        let open = self.open.lock();
        if !*open {
            return Err(closed());
        }
        let count = entries.len();
        let replies = self.keeper.apply(entries)?;
        match replies.len() == count {
            true => Ok(replies),
            false => Err(io::Error::other(format!(
                "{count} entries were applied and {} answered",
                replies.len()
            ))),
        }
    }

    /// Whether a snapshot is due.
    pub(super) fn is_due(&self, applied: u64, bytes: u64) -> bool {
        if self.spoiled.load(Ordering::Acquire) {
            return true;
        }
        let since = *self.since.lock();
        let entries = applied.saturating_sub(since.index);
        entries > 0
            && self
                .keeper
                .due(entries, bytes, since.at.elapsed().as_secs())
    }

    /// A snapshot of this index was begun, or put off: the next one is due after as much again.
    pub(super) fn begun(&self, index: u64) {
        self.spoiled.store(false, Ordering::Release);
        *self.since.lock() = Since {
            index,
            at: Instant::now(),
        };
    }

    /// Whether there is room for the next snapshot; else how many bytes it needs.
    pub(super) fn has_room(&self) -> Result<(), u64> {
        let bytes = self.keeper.save_bytes();
        match disk::has_room(&self.dir, bytes) {
            true => Ok(()),
            false => Err(bytes),
        }
    }

    /// Builds a snapshot; applying goes on meanwhile. `None` when a leader's newer one was
    /// installed before it was its turn.
    ///
    /// The keeper's files come first, then the manifest, then the files of older manifests go.
    /// A crash before the manifest leaves files that nothing names; they go at the next start.
    pub(super) fn build(&self, at: &Resumed) -> io::Result<Option<SnapshotFile>> {
        let _saving = self.saving.lock();
        if !*self.open.lock() {
            return Err(closed());
        }
        let newest = self.snapshots.newest().and_then(|s| s.header.at);
        if newest >= at.at {
            return Ok(None);
        }
        let manifest = self.keeper.save(at)?;
        self.passes(Step::Saved)?;
        let file = self
            .snapshots
            .write(at.at, at.membership.clone(), &manifest)?;
        self.passes(Step::Written)?;
        self.forget();
        self.tidy();
        Ok(Some(file))
    }

    /// Deletes the keeper's files that no manifest names.
    pub(super) fn forget(&self) {
        let mut pins = self.pins.lock();
        pins.retain(|pin| pin.strong_count() > 0);
        let kept = || -> io::Result<()> {
            let mut manifests = Vec::new();
            for file in self.snapshots.kept() {
                // A manifest that cannot be read may name anything: nothing is deleted then.
                manifests.push(file.pairs()?);
            }
            let pinned = pins.iter().filter_map(Weak::upgrade);
            manifests.extend(pinned.map(|manifest| (*manifest).clone()));
            self.keeper.keep(&manifests)
        };
        if let Err(error) = kept() {
            tracing::warn!(group = %self.group, %error, "files of older snapshots are not deleted; it is tried again after the next");
        }
    }

    /// Deletes the body that nobody wants any more.
    pub(super) fn tidy(&self) {
        self.bodies
            .tidy(self.snapshots.newest().and_then(|s| s.header.at));
    }

    /// The whole of a snapshot as one file, for another replica.
    pub(super) fn body(&self, of: &SnapshotFile) -> io::Result<Body> {
        self.bodies.open(of, |path| {
            let manifest = self.pin(of)?;
            // Somebody needs it now: the older one goes out, and a new one is built.
            let spoiled = |error: io::Error| {
                if is_spoiled(&error) {
                    self.snapshots.set_aside(of, &error);
                    self.spoiled.store(true, Ordering::Release);
                }
                error
            };
            let body = self.keeper.body_bytes(&manifest).map_err(spoiled)?;
            if !disk::room_for_bulk(&self.dir, body) {
                return Err(io::Error::new(
                    io::ErrorKind::StorageFull,
                    format!("there is no room for a snapshot of {body} bytes"),
                ));
            }
            let header = Header {
                body,
                ..(*of.header).clone()
            };
            container::write_around(path, &header, |out| {
                self.keeper.write_body(&manifest, out).map_err(spoiled)
            })
        })
    }

    /// A manifest of the store whose files stay as long as this is held.
    fn pin(&self, of: &SnapshotFile) -> io::Result<Arc<Manifest>> {
        let mut pins = self.pins.lock();
        if !self.snapshots.holds(of) {
            let what = "a newer snapshot has replaced it";
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        let manifest = Arc::new(of.pairs()?);
        pins.push(Arc::downgrade(&manifest));
        Ok(manifest)
    }

    /// Takes a leader's whole snapshot apart, into files beside the present ones. Whatever is
    /// wrong with it, or with the disk, is found here, where it can still be declined.
    pub(super) fn unpack(&self, mut whole: SnapshotFile) -> io::Result<SnapshotFile> {
        let mut pins = self.pins.lock();
        if !*self.open.lock() {
            return Err(closed());
        }
        let unpack = || self.keeper.unpack(&mut whole.body()?);
        // A panic must not keep the place of incoming snapshots for ever.
        let manifest = catch_unwind(AssertUnwindSafe(unpack))
            .unwrap_or_else(|_| Err(io::Error::other("unpacking it panicked")))?;
        let manifest = Arc::new(manifest);
        pins.push(Arc::downgrade(&manifest));
        whole.unpacked = Some(manifest);
        Ok(whole)
    }

    /// Makes a leader's snapshot the state.
    ///
    /// 1. [`Self::unpack`] wrote its files. A crash: nothing names them, the state is the old one.
    /// 2. Its manifest is written, and so a snapshot of this node. A crash: the next start finds
    ///    a snapshot ahead of the state, and does 3 before anything else.
    /// 3. The keeper adopts it, at once or not at all. A crash: the state is that of the newest
    ///    snapshot, beyond the log, and the log is purged up to it.
    /// 4. Older manifests go, then the files that only they named. A crash: the next snapshot,
    ///    or the next start, deletes what is left.
    pub(super) fn install(&self, snapshot: &SnapshotFile) -> io::Result<Resumed> {
        let _saving = self.saving.lock();
        let resumed = snapshot.resumed();
        let manifest = match &snapshot.unpacked {
            Some(manifest) => {
                self.passes(Step::Unpacked)?;
                self.snapshots
                    .write(resumed.at, resumed.membership.clone(), manifest)?;
                Arc::clone(manifest)
            }
            None => self.pin(snapshot)?,
        };
        self.passes(Step::Named)?;
        let open = self.open.lock();
        if !*open {
            return Err(closed());
        }
        self.keeper.adopt(&manifest, &resumed)?;
        drop(open);
        self.passes(Step::Adopted)?;
        self.snapshots.keep_newest_only()?;
        self.passes(Step::Forgotten)?;
        self.forget();
        self.tidy();
        self.begun(resumed.at.map_or(0, |at| at.index));
        Ok(resumed)
    }

    /// Closes the files, once; nothing is applied afterwards.
    pub(super) fn close(&self) {
        let _saving = self.saving.try_lock_for(CLOSE_WAIT);
        let mut open = self.open.lock();
        if std::mem::replace(&mut *open, false) {
            self.keeper.close();
        }
    }
}

//! Whole snapshots of a keeper's group as files to send: made when a replica asks for
//! one, shared by all who get it, deleted when nobody wants them any more.
//!
//! Beside the snapshots, under a suffix that every start removes. One at a time.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_proto::GroupId;
use parking_lot::Mutex;

use super::container::Header;
use super::snapshot::SnapshotFile;
use super::types::Position;

/// A file that nobody asked for so long is deleted.
const IDLE: Duration = Duration::from_secs(600);
/// Between two warnings that none can be made.
const QUIET: Duration = Duration::from_secs(60);

/// An open body. The file stays what it is while this is held, and can be asked for again.
pub(super) struct Body {
    pub(super) file: File,
    _wanted: Arc<()>,
}

struct Made {
    of: Arc<Header>,
    path: PathBuf,
    used: Instant,
    wanted: Arc<()>,
}

/// The place for one group's body.
pub(super) struct Bodies {
    group: GroupId,
    dir: PathBuf,
    /// Held while one is written: whoever wants it meanwhile waits for it.
    made: Mutex<Option<Made>>,
    warned: Mutex<Option<Instant>>,
}

impl Bodies {
    pub(super) fn new(dir: &Path, group: GroupId) -> Self {
        Self {
            group,
            dir: dir.to_owned(),
            made: Mutex::default(),
            warned: Mutex::default(),
        }
    }

    /// The body of a snapshot, as it was made before or by `make`, who writes the file. Blocks.
    pub(super) fn open(
        &self,
        snapshot: &SnapshotFile,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<Body> {
        let mut made = self.made.lock();
        if let Some(made) = made.as_mut().filter(|made| made.of == snapshot.header) {
            made.used = Instant::now();
            return Ok(Body {
                file: File::open(&made.path)?,
                _wanted: Arc::clone(&made.wanted),
            });
        }
        if let Some(old) = made.take() {
            remove(&old.path);
        }
        let index = snapshot.header.at.map_or(0, |at| at.index);
        let name = format!("{:08x}-outgoing-{index:020}.tmp", self.group.0);
        let path = self.dir.join(name);
        // A file of that name may still be read by somebody: never written over.
        remove(&path);
        if let Err(error) = make(&path) {
            remove(&path);
            self.warn(&error);
            return Err(error);
        }
        let body = Body {
            file: File::open(&path)?,
            _wanted: Arc::default(),
        };
        *made = Some(Made {
            of: Arc::clone(&snapshot.header),
            path,
            used: Instant::now(),
            wanted: Arc::clone(&body._wanted),
        });
        Ok(body)
    }

    fn warn(&self, error: &io::Error) {
        let mut warned = self.warned.lock();
        if warned.is_none_or(|at| at.elapsed() >= QUIET) {
            *warned = Some(Instant::now());
            tracing::warn!(group = %self.group, %error, "a replica needs a snapshot, and it cannot be made; it is tried again");
        }
    }

    /// Deletes a body that is not of the newest snapshot, or that nobody wanted for long.
    /// Blocks, but not for one that is being made.
    pub(super) fn tidy(&self, newest: Option<Position>) {
        let Some(mut place) = self.made.try_lock() else {
            return;
        };
        let Some(made) = place.as_mut() else { return };
        if Arc::strong_count(&made.wanted) > 1 {
            made.used = Instant::now();
        }
        if made.of.at != newest || made.used.elapsed() >= IDLE {
            remove(&made.path);
            *place = None;
        }
    }
}

/// What cannot be removed is removed at the next start.
fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(path = %path.display(), %error, "a body stays for now");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::snapshot::SnapshotStore;
    use crate::consensus::types::MembershipRecord;
    use std::io::Read;

    #[test]
    fn one_is_made_shared_and_replaced_while_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = SnapshotStore::open(dir.path(), GroupId(4)).unwrap();
        let snapshot = |index| {
            let at = Some(Position {
                term: 1,
                leader: 1,
                index,
            });
            let none: [(Vec<u8>, Vec<u8>); 0] = [];
            store.write(at, MembershipRecord::default(), &none).unwrap()
        };
        let outgoing = || {
            let names = fs::read_dir(dir.path()).unwrap().flatten();
            names
                .filter(|e| e.file_name().to_string_lossy().contains("outgoing"))
                .count()
        };
        let (first, second) = (snapshot(1), snapshot(2));
        let bodies = Bodies::new(dir.path(), GroupId(4));
        let failed = bodies.open(&first, |_| Err(io::ErrorKind::StorageFull.into()));
        assert!(failed.is_err() && outgoing() == 0);
        let mut one = bodies.open(&first, |path| fs::write(path, "one")).unwrap();
        let again = bodies.open(&first, |_| unreachable!("it is there"));
        drop(again.unwrap());
        bodies.tidy(first.header.at);
        assert_eq!(outgoing(), 1);
        let mut two = bodies.open(&second, |path| fs::write(path, "two")).unwrap();
        for (body, expected) in [(&mut one, "one"), (&mut two, "two")] {
            let mut text = String::new();
            body.file.read_to_string(&mut text).unwrap();
            assert_eq!(text, expected);
        }
        assert_eq!(outgoing(), 1);
        // A newer snapshot was built: nobody begins with this one any more.
        bodies.tidy(None);
        assert_eq!(outgoing(), 0);
        // What a dead process leaves is removed at the next start.
        drop(bodies.open(&first, |path| fs::write(path, "one")).unwrap());
        SnapshotStore::open(dir.path(), GroupId(4)).unwrap();
        assert_eq!(outgoing(), 0);
    }

    #[test]
    fn one_that_nobody_wants_for_long_goes_and_one_that_is_read_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = SnapshotStore::open(dir.path(), GroupId(4)).unwrap();
        let none: [(Vec<u8>, Vec<u8>); 0] = [];
        let at = Some(Position {
            term: 1,
            leader: 1,
            index: 9,
        });
        let snapshot = store.write(at, MembershipRecord::default(), &none).unwrap();
        let bodies = Bodies::new(dir.path(), GroupId(4));
        let path = || bodies.made.lock().as_ref().map(|made| made.path.clone());
        let age = |by: Duration| {
            if let Some(made) = bodies.made.lock().as_mut() {
                made.used = made.used.checked_sub(by).unwrap();
            }
        };
        let body = bodies
            .open(&snapshot, |path| fs::write(path, "one"))
            .unwrap();
        let made = path().unwrap();
        age(IDLE);
        bodies.tidy(at);
        assert!(made.exists(), "somebody reads it");
        drop(body);
        // The time begins when the last one was seen to read it.
        age(IDLE - Duration::from_secs(60));
        bodies.tidy(at);
        assert!(made.exists());
        age(Duration::from_secs(60));
        bodies.tidy(at);
        assert!(!made.exists() && path().is_none());
    }
}

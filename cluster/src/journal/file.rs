//! The journal's file: opened, watched, opened again, set aside.
//!
//! redb latches the first failed read or write and refuses everything after
//! it; only opening the file again helps. And it trusts the pages it wrote: a
//! page that was altered since may make it panic. So every use goes through
//! [`JournalFile::with`], which opens again after an I/O error and begins a
//! new file after damage.

use std::fs;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use redb::{Database, WriteTransaction};

use super::{JournalError, tables};
use crate::data_dir::sync_dir;

/// Pages kept in memory, bytes. The newest records are what people ask for.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Damaged files kept; the oldest go first.
const DAMAGED_KEPT: usize = 4;

/// Why a use of the file failed, by what to do about it.
#[derive(Debug)]
pub(super) enum Fault {
    /// No space.
    Full,
    /// The engine will not go on with this handle.
    Broken(String),
    /// The file's contents are wrong.
    Damaged(String),
}

impl From<Fault> for JournalError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full => Self::Full,
            Fault::Broken(what) | Fault::Damaged(what) => Self::Storage(what),
        }
    }
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        use redb::Error as E;
        match error {
            E::Io(e) => match e.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full,
                // Not a redb file, and one that was cut short.
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof => Self::Damaged(e.to_string()),
                _ => Self::Broken(e.to_string()),
            },
            e @ (E::Corrupted(_)
            | E::UpgradeRequired(_)
            | E::RepairAborted
            | E::TableTypeMismatch { .. }
            | E::TypeDefinitionChanged { .. }
            | E::TableIsMultimap(_)) => Self::Damaged(e.to_string()),
            e => Self::Broken(e.to_string()),
        }
    }
}

macro_rules! fault_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}
fault_from!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError
);

/// A write transaction after whose commit an opening is quick: the engine
/// otherwise reads the whole file after a crash.
pub(super) fn begin_write(db: &Database) -> Result<WriteTransaction, Fault> {
    let mut txn = db.begin_write()?;
    txn.set_quick_repair(true);
    Ok(txn)
}

#[derive(Debug)]
struct Slot {
    /// None while it could not be opened again.
    db: Option<Database>,
    /// Counts openings, so that of many that met one fault only the first acts.
    opening: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    /// Users hold it shared for one transaction, an opening holds it alone. All of them block.
    slot: RwLock<Slot>,
    set_aside: AtomicU64,
}

impl JournalFile {
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let file = Self {
            path: path.to_owned(),
            slot: RwLock::new(Slot {
                db: None,
                opening: 0,
            }),
            set_aside: AtomicU64::new(0),
        };
        let db = file.open_or_begin()?;
        file.slot.write().db = Some(db);
        Ok(file)
    }

    pub(super) fn set_aside_count(&self) -> u64 {
        self.set_aside.load(Ordering::Relaxed)
    }

    /// Runs `work` on the open file; after a fault once more, on the file
    /// opened again or begun anew. `work` must do no harm when repeated.
    pub(super) fn with<T>(
        &self,
        work: impl Fn(&Database) -> Result<T, Fault>,
    ) -> Result<T, JournalError> {
        let mut last = None;
        // Opening again takes a turn itself: it may find the handle closed by another's fault.
        for _ in 0..3 {
            let slot = self.slot.read();
            let opening = slot.opening;
            let fault = match &slot.db {
                Some(db) => match guarded(|| work(db)) {
                    Ok(value) => return Ok(value),
                    Err(fault) => Some(fault),
                },
                None => None,
            };
            drop(slot);
            self.recover(opening, fault.as_ref())?;
            match fault {
                // No use in trying at once; the handle is fresh for when there is space.
                Some(Fault::Full) => return Err(JournalError::Full),
                Some(fault) => last = Some(fault),
                None => {}
            }
        }
        Err(last.map_or_else(
            || JournalError::Storage("the file was closed again and again".into()),
            JournalError::from,
        ))
    }

    /// Replaces the handle that failed, unless another thread did already.
    fn recover(&self, opening: u64, fault: Option<&Fault>) -> Result<(), JournalError> {
        let mut slot = self.slot.write();
        if slot.opening != opening {
            return Ok(());
        }
        slot.opening += 1;
        let old = slot.db.take();
        // Closing writes, and may find the damage again.
        let _ = guarded(|| {
            drop(old);
            Ok(())
        });
        if let Some(Fault::Damaged(what)) = fault {
            self.move_aside(what)?;
        } else if let Some(Fault::Broken(what)) = fault {
            tracing::warn!(file = %self.path.display(), error = %what, "the journal failed and is opened again");
        }
        slot.db = Some(self.open_or_begin()?);
        Ok(())
    }

    fn open_or_begin(&self) -> Result<Database, JournalError> {
        match self.open_once() {
            Err(Fault::Damaged(what)) => {
                self.move_aside(&what)?;
                self.open_once()
            }
            other => other,
        }
        .map_err(|fault| match fault {
            Fault::Full => JournalError::Full,
            Fault::Broken(what) | Fault::Damaged(what) => {
                JournalError::Storage(format!("{}: {what}", self.path.display()))
            }
        })
    }

    fn open_once(&self) -> Result<Database, Fault> {
        guarded(|| {
            let db = Database::builder()
                .set_cache_size(CACHE_BYTES)
                .create(&self.path)?;
            tables::check(&db)?;
            Ok(db)
        })
    }

    /// Renames the file so that a person can look at it, and forgets it otherwise.
    fn move_aside(&self, what: &str) -> Result<(), JournalError> {
        let failed = |e: std::io::Error| match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => JournalError::Full,
            _ => JournalError::Storage(format!("{}: {e}", self.path.display())),
        };
        let stem = self.damaged_stem();
        let mut at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let mut aside = self.path.with_file_name(format!("{stem}{at}"));
        while aside.exists() {
            at += 1;
            aside = self.path.with_file_name(format!("{stem}{at}"));
        }
        fs::rename(&self.path, &aside).map_err(failed)?;
        self.set_aside.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            kept = %aside.display(), error = %what,
            "the journal is damaged; it was set aside and a new one begun: earlier invocation records are not shown"
        );
        let dir = self.path.parent().unwrap_or(Path::new("."));
        self.trim_aside(dir, &stem).map_err(failed)?;
        sync_dir(dir).map_err(failed)
    }

    fn damaged_stem(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        format!("{name}.damaged-")
    }

    fn trim_aside(&self, dir: &Path, stem: &str) -> std::io::Result<()> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let at = name.to_str().and_then(|n| n.strip_prefix(stem));
            if let Some(at) = at.and_then(|t| t.parse::<u64>().ok()) {
                kept.push((at, entry.path()));
            }
        }
        kept.sort();
        let surplus = kept.len().saturating_sub(DAMAGED_KEPT);
        for (_, path) in kept.drain(..surplus) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// A panic of the engine is damage: it has no other reason to panic, and the
/// handle is not used again.
fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("the storage engine panicked");
        Err(Fault::Damaged(what.to_owned()))
    })
}

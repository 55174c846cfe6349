//! Where invocation records are kept: one redb file of this node, not replicated.
//!
//! See `OVERVIEW.md` beside this file.

mod append;
mod chunk;
mod file;
#[cfg(test)]
mod golden_tests;
mod prune;
mod query;
mod tables;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use orama_proto::invocation::InvocationRecord;
use orama_proto::limits::{JOURNAL_PER_FUNCTION, LOGS_MAX};
use orama_proto::{FunctionName, Namespace, RequestId, Timestamp};

use self::file::JournalFile;
use crate::disk::{BULK_RESERVED_BYTES, leaves};

/// Stored bytes of one function's records; an append removes the oldest beyond it.
pub const FUNCTION_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Records of one function; an append that finds more removes the oldest down to
/// `JOURNAL_PER_FUNCTION`, by whole chunks. Twice that, so that it is seldom done.
pub const FUNCTION_MAX_RECORDS: u64 = 2 * JOURNAL_PER_FUNCTION as u64;
/// Stored bytes a query answers; the records beyond it, the oldest ones, are left out.
pub const QUERY_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Records removed in one transaction, up to a chunk more, so that appends wait for milliseconds only.
pub const PRUNE_BATCH: usize = 10_000;

/// The journal's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The engine refused.
    #[error("journal: {0}")]
    Storage(String),
    /// The disk is full, or so full that the rest is kept for the metadata.
    #[error("journal: no space left")]
    Full,
}

/// Which records.
#[derive(Debug, Clone)]
pub struct JournalQuery {
    /// The tenant.
    pub namespace: Namespace,
    /// The function.
    pub function: FunctionName,
    /// At most so many, the newest; never more than `LOGS_MAX`.
    pub limit: usize,
    /// Only records newer than this record id (`InvocationRecord::id`).
    pub after: Option<String>,
    /// Only this request.
    pub request_id: Option<RequestId>,
}

/// What the journal holds and what happened to it, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Functions with at least one record.
    pub functions: u64,
    /// Records.
    pub records: u64,
    /// Their stored bytes, without the engine's overhead.
    pub bytes: u64,
    /// Records skipped by queries because they did not decode, since the start.
    pub unreadable: u64,
    /// Damaged files set aside, since the start.
    pub set_aside: u64,
}

/// The records of this node. Cheap to clone. All calls block; use them from a blocking thread.
#[derive(Debug, Clone)]
pub struct JournalStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: JournalFile,
    /// Where it lies, and what stays free there.
    dir: PathBuf,
    reserve: u64,
    unreadable: Unreadable,
}

impl JournalStore {
    /// Opens or creates the file. A file that fails its check is set aside
    /// under a dated name, and a new one begun: records are history, not state.
    /// The same is done when damage shows later.
    ///
    /// # Errors
    /// When neither works, or another process has the file open.
    pub fn open(file: &Path) -> Result<Self, JournalError> {
        Self::open_with(file, BULK_RESERVED_BYTES)
    }

    fn open_with(file: &Path, reserve: u64) -> Result<Self, JournalError> {
        Ok(Self {
            inner: Arc::new(Inner {
                file: JournalFile::open(file)?,
                dir: file.parent().unwrap_or(Path::new(".")).to_owned(),
                reserve,
                unreadable: Unreadable::default(),
            }),
        })
    }

    /// Appends records in one commit. A record that is there already (same
    /// function and id) is replaced, so a batch may be tried again. A function
    /// that has too much then loses its oldest records, in whole chunks: see
    /// [`FUNCTION_MAX_BYTES`] and [`FUNCTION_MAX_RECORDS`].
    ///
    /// # Errors
    /// See [`JournalError`]; then none of them was kept.
    pub fn append(&self, records: &[InvocationRecord]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let parts = append::parts(records)?;
        let bytes = parts.iter().map(append::Part::bytes).sum();
        if !leaves(&self.inner.dir, bytes, self.inner.reserve) {
            return Err(JournalError::Full);
        }
        self.inner.file.with(|db| append::append(db, &parts))
    }

    /// The newest matching records, newest first.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn query(&self, query: &JournalQuery) -> Result<Vec<InvocationRecord>, JournalError> {
        let limit = query.limit.min(LOGS_MAX);
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.inner
            .file
            .with(|db| query::query(db, query, limit, &self.inner.unreadable))
    }

    /// Removes records older than `before` and all but the newest
    /// `per_function` of each function. Answers how many.
    ///
    /// A record's age is the time in its id (UUID v7, whole milliseconds).
    /// Exact to the record, except that a damaged chunk goes as a whole, with
    /// its newest record.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn prune(&self, before: Timestamp, per_function: usize) -> Result<u64, JournalError> {
        prune::prune(&self.inner.file, before, per_function)
    }

    /// Removes everything of a namespace.
    ///
    /// # Errors
    /// See [`JournalError`]; then a part may have been removed.
    pub fn delete_namespace(&self, namespace: &Namespace) -> Result<u64, JournalError> {
        prune::delete_namespace(&self.inner.file, namespace)
    }

    /// What is kept. Reads one small row per function.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn stats(&self) -> Result<JournalStats, JournalError> {
        let mut stats = self.inner.file.with(tables::sum)?;
        stats.unreadable = self.inner.unreadable.0.load(Ordering::Relaxed);
        stats.set_aside = self.inner.file.set_aside_count();
        Ok(stats)
    }
}

/// Records that queries met and could not read.
#[derive(Debug, Default)]
struct Unreadable(AtomicU64);

impl Unreadable {
    fn note(&self, count: u64, key: &[u8], error: &dyn std::fmt::Display) {
        // Once: a damaged page holds many records, and each query meets them again.
        if self.0.fetch_add(count, Ordering::Relaxed) == 0 {
            let key = String::from_utf8_lossy(key).replace('\0', "/");
            tracing::warn!(record = %key, %error, "journal records cannot be read and are skipped; further ones are only counted");
        }
    }
}

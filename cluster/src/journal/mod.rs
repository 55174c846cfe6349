//! Where invocation records are kept: one redb file of this node, not replicated.
//!
//! See `OVERVIEW.md` beside this file.

mod file;
mod prune;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use orama_proto::invocation::InvocationRecord;
use orama_proto::limits::LOGS_MAX;
use orama_proto::{FunctionName, Namespace, RequestId, Timestamp};
use redb::{Database, ReadableDatabase};

use self::file::{Fault, JournalFile};
use self::tables::{Head, Totals, Write};
use crate::disk::{BULK_RESERVED_BYTES, leaves};

/// Stored bytes of one function's records; an append removes the oldest beyond it.
pub const FUNCTION_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Stored bytes a query answers; the records beyond it, the oldest ones, are left out.
pub const QUERY_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Records removed in one transaction, so that appends wait for milliseconds only.
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
    unreadable: AtomicU64,
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
                unreadable: AtomicU64::new(0),
            }),
        })
    }

    /// Appends records in one commit. A record that is there already (same
    /// function and id) is replaced, so a batch may be tried again.
    ///
    /// # Errors
    /// See [`JournalError`]; then none of them was kept.
    pub fn append(&self, records: &[InvocationRecord]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let rows = records
            .iter()
            .map(Row::of)
            .collect::<Result<Vec<_>, JournalError>>()?;
        let bytes = rows.iter().map(|row| row.value.len() as u64).sum();
        if !leaves(&self.inner.dir, bytes, self.inner.reserve) {
            return Err(JournalError::Full);
        }
        self.inner.file.with(|db| append(db, &rows))
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
            .with(|db| self.inner.query(db, query, limit))
    }

    /// Removes records older than `before` and all but the newest
    /// `per_function` of each function. Answers how many.
    ///
    /// A record's age is the time in its id (UUID v7, whole milliseconds),
    /// so that damaged records age like others.
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
        stats.unreadable = self.inner.unreadable.load(Ordering::Relaxed);
        stats.set_aside = self.inner.file.set_aside_count();
        Ok(stats)
    }
}

/// A record as it will be stored, encoded before the writer is taken.
struct Row {
    prefix: Vec<u8>,
    key: Vec<u8>,
    head: Vec<u8>,
    value: Vec<u8>,
}

impl Row {
    fn of(record: &InvocationRecord) -> Result<Self, JournalError> {
        let prefix = tables::prefix(&record.namespace, &record.function);
        let key = tables::key(&prefix, &record.id);
        let value = tables::encode(&key, record)
            .map_err(|e| JournalError::Storage(format!("record {}: {e}", record.id)))?;
        let head = Head::encode(value.len(), record.request_id.as_str());
        Ok(Self {
            prefix,
            key,
            head,
            value,
        })
    }
}

fn append(db: &Database, rows: &[Row]) -> Result<(), Fault> {
    let txn = file::begin_write(db)?;
    {
        let mut write = Write::open(&txn)?;
        let mut grown: BTreeMap<&[u8], Totals> = BTreeMap::new();
        for row in rows {
            let total = match grown.entry(&row.prefix) {
                std::collections::btree_map::Entry::Occupied(e) => e.into_mut(),
                std::collections::btree_map::Entry::Vacant(e) => {
                    e.insert(write.totals(&row.prefix)?)
                }
            };
            write
                .records
                .insert(row.key.as_slice(), row.value.as_slice())?;
            let old = write
                .heads
                .insert(row.key.as_slice(), row.head.as_slice())?;
            match old.map(|old| Head::decode(old.value()).bytes) {
                Some(old) => total.bytes = total.bytes.saturating_sub(old),
                None => total.records = total.records.saturating_add(1),
            }
            total.bytes = total.bytes.saturating_add(row.value.len() as u64);
        }
        for (prefix, total) in grown {
            write.set_totals(prefix, total)?;
            if total.bytes > FUNCTION_MAX_BYTES {
                write.remove_oldest(prefix, usize::MAX, |left, _| {
                    left.bytes <= FUNCTION_MAX_BYTES
                })?;
            }
        }
    }
    Ok(txn.commit()?)
}

impl Inner {
    fn query(
        &self,
        db: &Database,
        query: &JournalQuery,
        limit: usize,
    ) -> Result<Vec<InvocationRecord>, Fault> {
        let txn = db.begin_read()?;
        let records = txn.open_table(tables::RECORDS)?;
        let prefix = tables::prefix(&query.namespace, &query.function);
        let range = tables::newer_than(&prefix, query.after.as_deref());
        let mut answer = Answer {
            limit,
            bytes: 0,
            records: Vec::new(),
        };
        if let Some(request_id) = &query.request_id {
            // The heads are small: a scan of them reads no record of another request.
            let heads = txn.open_table(tables::HEADS)?;
            for row in heads.range::<&[u8]>(tables::borrowed(&range))?.rev() {
                let (key, head) = row?;
                if Head::decode(head.value()).request_id != request_id.as_str().as_bytes() {
                    continue;
                }
                if let Some(value) = records.get(key.value())?
                    && !answer.take(self, key.value(), value.value())
                {
                    break;
                }
            }
        } else {
            for row in records.range::<&[u8]>(tables::borrowed(&range))?.rev() {
                let (key, value) = row?;
                if !answer.take(self, key.value(), value.value()) {
                    break;
                }
            }
        }
        Ok(answer.records)
    }

    fn unreadable(&self, key: &[u8], error: &dyn std::fmt::Display) {
        // Once: a damaged page holds many records, and each query meets them again.
        if self.unreadable.fetch_add(1, Ordering::Relaxed) == 0 {
            let key = String::from_utf8_lossy(key).replace('\0', "/");
            tracing::warn!(record = %key, %error, "a journal record cannot be read and is skipped; further ones are only counted");
        }
    }
}

struct Answer {
    limit: usize,
    bytes: usize,
    records: Vec<InvocationRecord>,
}

impl Answer {
    /// Answers whether there is room for more.
    fn take(&mut self, inner: &Inner, key: &[u8], value: &[u8]) -> bool {
        match tables::decode(key, value) {
            Ok(record) => {
                // The first is answered whatever its size.
                if self.bytes + value.len() > QUERY_MAX_BYTES && !self.records.is_empty() {
                    return false;
                }
                self.bytes += value.len();
                self.records.push(record);
            }
            Err(error) => inner.unreadable(key, &error),
        }
        self.records.len() < self.limit
    }
}

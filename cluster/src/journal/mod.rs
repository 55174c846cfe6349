//! Where invocation records are kept: one redb file of this node, not replicated.

use std::path::Path;

use orama_proto::invocation::InvocationRecord;
use orama_proto::{FunctionName, Namespace, RequestId, Timestamp};

/// The journal's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The engine refused.
    #[error("journal: {0}")]
    Storage(String),
    /// The disk is full.
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
    /// At most so many, the newest.
    pub limit: usize,
    /// Only records newer than this record id (`InvocationRecord::id`).
    pub after: Option<String>,
    /// Only this request.
    pub request_id: Option<RequestId>,
}

/// The records of this node. Cheap to clone. All calls block; use them from a blocking thread.
#[derive(Debug, Clone)]
pub struct JournalStore {}

impl JournalStore {
    /// Opens or creates the file. A file that fails its check is set aside
    /// under a dated name, and a new one begun: records are history, not state.
    ///
    /// # Errors
    /// When neither works.
    pub fn open(file: &Path) -> Result<Self, JournalError> {
        todo!()
    }
    /// Appends records in one commit.
    ///
    /// # Errors
    /// See [`JournalError`]; then none of them was kept.
    pub fn append(&self, records: &[InvocationRecord]) -> Result<(), JournalError> {
        todo!()
    }
    /// The newest matching records, newest first.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn query(&self, query: &JournalQuery) -> Result<Vec<InvocationRecord>, JournalError> {
        todo!()
    }
    /// Removes records older than `before` and all but the newest
    /// `per_function` of each function. Answers how many.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn prune(&self, before: Timestamp, per_function: usize) -> Result<u64, JournalError> {
        todo!()
    }
    /// Removes everything of a namespace.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn delete_namespace(&self, namespace: &Namespace) -> Result<u64, JournalError> {
        todo!()
    }
}

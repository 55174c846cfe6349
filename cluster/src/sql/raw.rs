//! The one place that talks to SQLite's C interface directly: the clock that
//! statements see, values of changed rows, and which write failed for lack of room.
//!
//! # Safety
//! To be written with the code: why each `unsafe` block is sound.

use super::EngineFault;

/// Name of the VFS to open every connection with.
pub(super) const VFS: &std::ffi::CStr = c"orama";

/// Registers the VFS, once for the process; connections must not be opened before.
pub(super) fn register() -> Result<(), EngineFault> {
    todo!()
}

/// Sets what `now` is to statements that run on this thread; `None` is the machine's clock.
/// Milliseconds since the epoch.
pub(super) fn set_clock(_millis: Option<i64>) {
    todo!()
}

/// Whether a write failed on this thread for lack of room since this was last asked.
/// Tells a full disk (the replica stops) from a full database (the statement failed).
pub(super) fn take_no_room() -> bool {
    todo!()
}

/// What `last_insert_rowid()` answers next.
pub(super) fn set_last_insert_rowid(_conn: &rusqlite::Connection, _rowid: i64) {
    todo!()
}

/// A change of one row as it happens, values included; called while a statement runs.
pub(super) trait RowObserver: Send + 'static {
    /// A row is inserted, changed or deleted. `old` and `new` answer the values.
    fn row(&mut self, change: &RowChange<'_>);
}

/// One row's change. Values are borrowed from SQLite for the call.
pub(super) struct RowChange<'a> {
    /// `I`, `U` or `D`.
    pub(super) kind: u8,
    pub(super) table: &'a [u8],
    pub(super) old_rowid: i64,
    pub(super) new_rowid: i64,
    /// Values before (`U`, `D`) and after (`I`, `U`).
    pub(super) old: &'a [rusqlite::types::ValueRef<'a>],
    pub(super) new: &'a [rusqlite::types::ValueRef<'a>],
}

/// Has `observer` see every row that changes through this connection, as long as the
/// answered registration lives; it must be dropped before the connection.
pub(super) fn observe_rows(
    _conn: &rusqlite::Connection,
    _observer: std::sync::Arc<parking_lot::Mutex<dyn RowObserver>>,
) -> Observation {
    todo!()
}

/// Keeps an observer registered.
pub(super) struct Observation(());

/// Test hook: the next `after`-th write of this process's SQLite to a file whose path
/// contains `path` fails with this errno, and all later ones, until it is cleared.
#[cfg(test)]
pub(super) fn fail_writes(_path: &str, _after: u32, _errno: i32) {
    todo!()
}
#[cfg(test)]
pub(super) fn stop_failing() {
    todo!()
}

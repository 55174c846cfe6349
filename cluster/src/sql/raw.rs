//! The one place that talks to SQLite's C interface directly: the clock that
//! statements see, values of changed rows, scratch files in memory, large allocations,
//! LIKE and GLOB, and which write failed for lack of room.
//!
//! # Safety
//!
//! Six kinds of things happen below, each in a file of its own:
//!
//! - [`vfs`]: a `sqlite3_vfs` is registered. It is a field-by-field copy of the default one (so
//!   every method that is not replaced gets what it expects: `pAppData`, `szOsFile`), lives for
//!   the rest of the process (leaked) and is written to only by SQLite under its own mutex.
//! - [`writes`]: the default VFS's `pwrite` is replaced by a function of the same C type that calls
//!   the one it replaces with the same arguments, and looks at `errno`.
//! - [`scratch`]: temporary files. SQLite hands us `szOsFile` bytes for a `sqlite3_file`; ours is
//!   smaller, is written before `xOpen` answers, and is the first field of nothing else. SQLite
//!   calls its methods one at a time with this pointer, and `xClose` last.
//! - [`rows`]: the preupdate hook. Its state is owned by the connection (`sqlite3_set_clientdata`
//!   with a destructor), so it lives as long as the hook can be called. Values are read inside the
//!   call and borrowed for it only.
//! - [`alloc`]: SQLite's allocator is replaced by one that calls it with the same arguments, or answers
//!   null without calling it, which SQLite has to expect of any allocator. Pointers are handed through
//!   untouched; sizes are asked of the one that made them.
//! - [`patterns`]: LIKE and GLOB. SQLite gives them their arguments for the time of the call, and texts
//!   that end with NUL.
//!
//! No callback lets a panic out (`extern "C"` functions abort instead of unwinding into C; what
//! callers give us runs in `catch_unwind`), and none calls back into the connection that calls
//! it, but for the `sqlite3_preupdate_*` functions that are made for that.
//!
//! Registration writes process-wide settings of SQLite that are not guarded by a mutex (the
//! allocator, the system call and the replacement of `localtime`). It runs once and before any connection is
//! opened, because every way to open one goes through [`register`] first.
#![allow(unsafe_code)]

mod alloc;
mod patterns;
mod rows;
mod scratch;
mod vfs;
mod writes;

use std::sync::OnceLock;

use rusqlite::{Connection, ffi};

pub(super) use alloc::{Bound, LARGE, Refused, count, reads, stop_counting, uncounted};
pub(super) use patterns::install as install_patterns;
pub(super) use rows::{RowChange, RowObserver, observe_rows};
pub(super) use scratch::{Scratch, limit_scratch, limit_scratch_of_read};
pub(super) use vfs::set_clock;
pub(super) use writes::take_no_room;
#[cfg(test)]
pub(super) use writes::{fail_writes, stop_failing};

use super::EngineFault;

/// Name of the VFS to open every connection with.
pub(super) const VFS: &std::ffi::CStr = c"orama";

/// Registers the VFS, once for the process; connections must not be opened before.
pub(super) fn register() -> Result<(), EngineFault> {
    static DONE: OnceLock<Result<(), EngineFault>> = OnceLock::new();
    DONE.get_or_init(|| {
        // SAFETY: the first use of SQLite in the process; see the head.
        unsafe {
            if !alloc::install() {
                return Err(EngineFault::Io("SQLite's allocator cannot be set".into()));
            }
            vfs::utc_is_local_time();
            let default = ffi::sqlite3_vfs_find(std::ptr::null());
            if default.is_null() {
                return Err(EngineFault::Io("SQLite has no file system".into()));
            }
            writes::replace(default)?;
            vfs::register(default)
        }
    })
    .clone()
}

/// What `last_insert_rowid()` answers next.
pub(super) fn set_last_insert_rowid(conn: &Connection, rowid: i64) {
    // SAFETY: the handle is open for as long as `conn` is borrowed; the call only stores a number.
    unsafe { ffi::sqlite3_set_last_insert_rowid(conn.handle(), rowid) }
}

/// Whether foreign keys are violated that would be checked at the end of the transaction.
pub(super) fn foreign_keys_violated(conn: &Connection) -> bool {
    let (mut now, mut high) = (0, 0);
    // SAFETY: the handle is open for as long as `conn` is borrowed; both integers outlive the call.
    let answer = unsafe {
        ffi::sqlite3_db_status(
            conn.handle(),
            ffi::SQLITE_DBSTATUS_DEFERRED_FKS,
            &raw mut now,
            &raw mut high,
            0,
        )
    };
    answer != ffi::SQLITE_OK || now != 0
}

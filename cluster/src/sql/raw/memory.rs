//! Whether the machine refused memory to SQLite.
//!
//! SQLite answers `SQLITE_NOMEM` for two things: an allocation failed, which is the machine's trouble, and something
//! grew beyond a fixed bound (a program's instructions, two gigabytes for one buffer), which is the statement's and
//! the same on every replica. Only the first is told to its log as what it is.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rusqlite::ffi;

thread_local! {
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

static LISTENING: AtomicBool = AtomicBool::new(false);

/// Begins to look at SQLite's log.
///
/// # Safety
///
/// No other thread may be opening its first connection (SQLite does not guard the setting).
pub(super) unsafe fn listen() {
    // SAFETY: the two arguments are of the types that this setting takes; it may be made at any time.
    let answer = unsafe {
        ffi::sqlite3_config(
            ffi::SQLITE_CONFIG_LOG,
            log as unsafe extern "C" fn(*mut c_void, c_int, *const c_char),
            std::ptr::null_mut::<c_void>(),
        )
    };
    LISTENING.store(answer == ffi::SQLITE_OK, Relaxed);
}

/// # Safety
///
/// `message` is null or a text that ends with NUL.
unsafe extern "C" fn log(_: *mut c_void, code: c_int, message: *const c_char) {
    if code & 0xff != ffi::SQLITE_NOMEM || message.is_null() {
        return;
    }
    // SAFETY: SQLite's promise, see above.
    let message = unsafe { CStr::from_ptr(message) }.to_bytes();
    // "failed to allocate 123 bytes of memory", "failed memory resize 1 to 2 bytes"
    if message.starts_with(b"failed ") {
        FAILED.set(true);
    }
}

/// Whether an allocation failed on this thread since this was last asked. Always, if that cannot be known.
pub(in super::super) fn take_failed_allocation() -> bool {
    FAILED.take() || !LISTENING.load(Relaxed)
}

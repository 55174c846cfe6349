//! SQLite's default file system with another clock, and scratch files in memory.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use rusqlite::ffi;

use super::{EngineFault, VFS, scratch};

/// Milliseconds from the beginning of SQLite's calendar (noon, 24 November 4714 BC) to 1970.
const EPOCH_MILLIS: i64 = 210_866_760_000_000;
const DAY_MILLIS: f64 = 86_400_000.0;

thread_local! {
    static CLOCK: Cell<Option<i64>> = const { Cell::new(None) };
}

/// The methods that were replaced.
struct Original {
    now: unsafe extern "C" fn(*mut ffi::sqlite3_vfs, *mut ffi::sqlite3_int64) -> c_int,
    open: unsafe extern "C" fn(
        *mut ffi::sqlite3_vfs,
        ffi::sqlite3_filename,
        *mut ffi::sqlite3_file,
        c_int,
        *mut c_int,
    ) -> c_int,
}

static ORIGINAL: OnceLock<Original> = OnceLock::new();

/// Sets what `now` is to statements that run on this thread; `None` is the machine's clock.
/// Milliseconds since the epoch.
pub(in crate::sql) fn set_clock(millis: Option<i64>) {
    CLOCK.set(millis);
}

/// Registers the copy of `default` under our name.
///
/// # Safety
/// `default` is a registered VFS that is never freed, of version 2 or later when its
/// `iVersion` says so.
pub(super) unsafe fn register(default: *mut ffi::sqlite3_vfs) -> Result<(), EngineFault> {
    // SAFETY: by the caller's promise; a VFS is plain data and meant to be copied like this.
    let mut copy = unsafe { default.read() };
    let (Some(now), Some(open)) = (copy.xCurrentTimeInt64, copy.xOpen) else {
        return Err(EngineFault::Io("SQLite's file system has no clock".into()));
    };
    if copy.iVersion < 2 || usize::try_from(copy.szOsFile).unwrap_or(0) < scratch::FILE_BYTES {
        return Err(EngineFault::Io("SQLite's file system is too old".into()));
    }
    let _ = ORIGINAL.set(Original { now, open });
    copy.pNext = std::ptr::null_mut();
    copy.zName = VFS.as_ptr();
    copy.xCurrentTime = Some(current_time);
    copy.xCurrentTimeInt64 = Some(current_time_int64);
    copy.xOpen = Some(open_file);
    let copy = Box::leak(Box::new(copy));
    // SAFETY: the copy lives for the rest of the process and is complete.
    match unsafe { ffi::sqlite3_vfs_register(copy, 0) } {
        ffi::SQLITE_OK => Ok(()),
        code => Err(EngineFault::Io(format!(
            "SQLite refuses the file system: {code}"
        ))),
    }
}

unsafe extern "C" fn current_time_int64(
    vfs: *mut ffi::sqlite3_vfs,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    if let Some(millis) = CLOCK.get() {
        // SAFETY: SQLite gives a place for the answer.
        unsafe { *out = millis.saturating_add(EPOCH_MILLIS) };
        return ffi::SQLITE_OK;
    }
    match ORIGINAL.get() {
        // SAFETY: the original of this method, called as SQLite called us.
        Some(original) => unsafe { (original.now)(vfs, out) },
        None => ffi::SQLITE_ERROR,
    }
}

unsafe extern "C" fn current_time(vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    let mut millis = 0;
    // SAFETY: the variable outlives the call.
    let code = unsafe { current_time_int64(vfs, &raw mut millis) };
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *out = millis as f64 / DAY_MILLIS };
    code
}

unsafe extern "C" fn open_file(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    if name.is_null() {
        // SAFETY: `file` points to `szOsFile` bytes, at least `scratch::FILE_BYTES` (checked when
        // the VFS was registered).
        return unsafe { scratch::open(file, flags, flags_out) };
    }
    match ORIGINAL.get() {
        // SAFETY: the original of this method, called as SQLite called us.
        Some(original) => unsafe { (original.open)(vfs, name, file, flags, flags_out) },
        None => ffi::SQLITE_CANTOPEN,
    }
}

unsafe extern "C" {
    // libc's; takes and answers C structures that we only pass on.
    fn gmtime_r(time: *const c_void, out: *mut c_void) -> *mut c_void;
}

unsafe extern "C" fn utc(time: *const c_void, out: *mut c_void) -> c_int {
    // SAFETY: SQLite passes a `time_t` and a `struct tm`, for which this function is made.
    c_int::from(unsafe { gmtime_r(time, out) }.is_null())
}

/// Makes the modifiers `localtime` and `utc` do nothing, whatever the machine's time zone is.
///
/// # Safety
/// No connection may be open.
pub(super) unsafe fn utc_is_local_time() {
    let replacement: unsafe extern "C" fn(*const c_void, *mut c_void) -> c_int = utc;
    // SAFETY: the arguments of this operation are an int and a function of this type
    // (sqlite3.c, SQLITE_TESTCTRL_LOCALTIME_FAULT; 2 means "use the function").
    unsafe {
        ffi::sqlite3_test_control(
            ffi::SQLITE_TESTCTRL_LOCALTIME_FAULT,
            2 as c_int,
            replacement,
        );
    }
}

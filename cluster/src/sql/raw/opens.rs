//! Tells a file that cannot be opened from a process that may not open any more: SQLite
//! answers the same code for both.

use std::cell::Cell;
use std::ffi::{c_char, c_int};
use std::sync::OnceLock;

use rusqlite::ffi;
use rustix::io::Errno;

use super::EngineFault;

/// What SQLite calls to open a file (`posixOpen` in sqlite3.c).
type Open = unsafe extern "C" fn(*const c_char, c_int, c_int) -> c_int;

static ORIGINAL: OnceLock<Open> = OnceLock::new();

thread_local! {
    static NO_HANDLES: Cell<bool> = const { Cell::new(false) };
}

/// Whether opening a file failed on this thread, since this was last asked, because the process
/// or the machine has as many open as it may.
pub(in crate::sql) fn take_no_handles() -> bool {
    NO_HANDLES.replace(false)
}

/// Whether this is the error of a process or a machine that has as many files open as it may.
pub(in crate::sql) fn is_no_handles(errno: Option<i32>) -> bool {
    [Errno::MFILE, Errno::NFILE]
        .map(|known| Some(known.raw_os_error()))
        .contains(&errno)
}

/// Has the VFS open files through [`open`].
///
/// # Safety
/// `vfs` is SQLite's own for Unix, and no connection is open.
pub(super) unsafe fn replace(vfs: *mut ffi::sqlite3_vfs) -> Result<(), EngineFault> {
    let missing = || EngineFault::Io("SQLite was built without open".into());
    // SAFETY: by the caller's promise.
    let (get, set) = unsafe { ((*vfs).xGetSystemCall, (*vfs).xSetSystemCall) };
    let (Some(get), Some(set)) = (get, set) else {
        return Err(missing());
    };
    // SAFETY: the name is a C string.
    let original = unsafe { get(vfs, c"open".as_ptr()) }.ok_or_else(missing)?;
    // SAFETY: the system call of this name has this type (sqlite3.c, `osOpen`).
    let original = unsafe { std::mem::transmute::<unsafe extern "C" fn(), Open>(original) };
    let _ = ORIGINAL.set(original);
    let ours: Open = open;
    // SAFETY: SQLite casts it back to the type it has here before it calls it.
    let ours = unsafe { std::mem::transmute::<Open, unsafe extern "C" fn()>(ours) };
    // SAFETY: as above; the name is a C string.
    match unsafe { set(vfs, c"open".as_ptr(), Some(ours)) } {
        ffi::SQLITE_OK => Ok(()),
        _ => Err(missing()),
    }
}

unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    #[cfg(test)]
    if failing::fail(path) {
        NO_HANDLES.set(true);
        return -1;
    }
    let Some(original) = ORIGINAL.get() else {
        return -1;
    };
    // SAFETY: the function this one stands in for, with the same arguments.
    let answer = unsafe { original(path, flags, mode) };
    // Reads `errno` and leaves it as it is: SQLite reads it too.
    if answer < 0 && is_no_handles(std::io::Error::last_os_error().raw_os_error()) {
        NO_HANDLES.set(true);
    }
    answer
}

#[cfg(test)]
pub(in crate::sql) use failing::fail_opens;

#[cfg(test)]
mod failing {
    use std::ffi::{CStr, c_char, c_int};

    use parking_lot::Mutex;
    use rustix::io::Errno;

    static PLANS: Mutex<Vec<(String, u32)>> = Mutex::new(Vec::new());

    /// Test hook: the next so many times that this process's SQLite opens a file whose path contains
    /// `path`, it has no handles left.
    pub(in crate::sql) fn fail_opens(path: &str, times: u32) {
        let mut plans = PLANS.lock();
        plans.retain(|(of, _)| of != path);
        plans.push((path.to_owned(), times));
    }

    unsafe extern "C" {
        fn __errno_location() -> *mut c_int;
    }

    pub(super) fn fail(path: *const c_char) -> bool {
        let mut plans = PLANS.lock();
        if plans.is_empty() {
            return false;
        }
        // SAFETY: SQLite opens files by C strings.
        let path = unsafe { CStr::from_ptr(path) }.to_string_lossy();
        let planned = plans.iter_mut();
        let Some((_, times)) = { planned }.find(|(of, times)| *times > 0 && path.contains(of))
        else {
            return false;
        };
        *times -= 1;
        // SAFETY: the calling thread's errno.
        unsafe { *__errno_location() = Errno::MFILE.raw_os_error() };
        true
    }
}

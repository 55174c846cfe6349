//! Tells a full disk from a full database: SQLite answers the same code for both.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use rusqlite::ffi;
use rustix::io::Errno;

use super::EngineFault;

/// POSIX `pwrite`. SQLite is compiled with 64-bit offsets everywhere.
type Pwrite = unsafe extern "C" fn(c_int, *const c_void, usize, i64) -> isize;

static ORIGINAL: OnceLock<Pwrite> = OnceLock::new();

thread_local! {
    static NO_ROOM: Cell<bool> = const { Cell::new(false) };
}

/// Whether a write failed on this thread for lack of room since this was last asked.
/// Tells a full disk (the replica stops) from a full database (the statement failed).
pub(in crate::sql) fn take_no_room() -> bool {
    NO_ROOM.replace(false)
}

/// Has the VFS write through [`pwrite`].
///
/// # Safety
/// `vfs` is SQLite's own for Unix, and no connection is open.
pub(super) unsafe fn replace(vfs: *mut ffi::sqlite3_vfs) -> Result<(), EngineFault> {
    let missing = || EngineFault::Io("SQLite was built without pwrite".into());
    // SAFETY: by the caller's promise.
    let (get, set) = unsafe { ((*vfs).xGetSystemCall, (*vfs).xSetSystemCall) };
    let (Some(get), Some(set)) = (get, set) else {
        return Err(missing());
    };
    // SAFETY: the name is a C string.
    let original = unsafe { get(vfs, c"pwrite".as_ptr()) }.ok_or_else(missing)?;
    // SAFETY: the system call of this name has this type (sqlite3.c, `osPwrite`).
    let original = unsafe { std::mem::transmute::<unsafe extern "C" fn(), Pwrite>(original) };
    let _ = ORIGINAL.set(original);
    let ours: Pwrite = pwrite;
    // SAFETY: SQLite casts it back to the type it has here before it calls it.
    let ours = unsafe { std::mem::transmute::<Pwrite, unsafe extern "C" fn()>(ours) };
    // SAFETY: as above; the name is a C string.
    match unsafe { set(vfs, c"pwrite".as_ptr(), Some(ours)) } {
        ffi::SQLITE_OK => Ok(()),
        _ => Err(missing()),
    }
}

unsafe extern "C" fn pwrite(fd: c_int, from: *const c_void, bytes: usize, at: i64) -> isize {
    #[cfg(test)]
    if let Some(answer) = failing::fail(fd) {
        note(answer);
        return answer;
    }
    let Some(original) = ORIGINAL.get() else {
        return -1;
    };
    // SAFETY: the function this one stands in for, with the same arguments.
    let answer = unsafe { original(fd, from, bytes, at) };
    note(answer);
    answer
}

/// Reads `errno` and leaves it as it is: SQLite reads it too.
fn note(answer: isize) {
    if answer < 0 {
        let no_room = [Errno::NOSPC, Errno::DQUOT]
            .map(|errno| Some(errno.raw_os_error()))
            .contains(&std::io::Error::last_os_error().raw_os_error());
        if no_room {
            NO_ROOM.set(true);
        }
    } else if answer == 0 {
        // Neither an error nor progress: SQLite takes it for a full disk, and so do we.
        NO_ROOM.set(true);
    }
}

#[cfg(test)]
pub(in crate::sql) use failing::{fail_writes, stop_failing};

#[cfg(test)]
mod failing {
    use std::ffi::c_int;
    use std::thread::ThreadId;

    use parking_lot::Mutex;

    struct Plan {
        by: ThreadId,
        path: String,
        after: u32,
        errno: c_int,
    }

    static PLANS: Mutex<Vec<Plan>> = Mutex::new(Vec::new());

    /// Test hook: the next `after`-th write (0: the very next) of this process's SQLite to a file
    /// whose path contains `path` fails with this errno, and all later ones, until it is cleared
    /// by the thread that asked for it.
    pub(in crate::sql) fn fail_writes(path: &str, after: u32, errno: i32) {
        PLANS.lock().push(Plan {
            by: std::thread::current().id(),
            path: path.to_owned(),
            after,
            errno,
        });
    }

    /// Takes back what this thread asked for.
    pub(in crate::sql) fn stop_failing() {
        let by = std::thread::current().id();
        PLANS.lock().retain(|plan| plan.by != by);
    }

    unsafe extern "C" {
        fn __errno_location() -> *mut c_int;
    }

    pub(super) fn fail(fd: c_int) -> Option<isize> {
        let mut plans = PLANS.lock();
        if plans.is_empty() {
            return None;
        }
        let path = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        let path = path.to_string_lossy();
        let plan = plans.iter_mut().find(|plan| path.contains(&plan.path))?;
        if plan.after > 0 {
            plan.after -= 1;
            return None;
        }
        // SAFETY: the calling thread's errno.
        unsafe { *__errno_location() = plan.errno };
        Some(-1)
    }
}

//! Temporary files (of sorts, of results in between, of savepoints), in memory and bounded.
//!
//! On disk they would need a directory that may not exist in a container and fill it
//! unboundedly; SQLite's own way of keeping them in memory has no bound either. A bound
//! on these bytes is the same on every replica: when SQLite spills depends on the
//! statement and on the connection's fixed cache size only.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusqlite::ffi;

use super::alloc;

/// What the scratch files opened by one thread may hold from now on.
#[derive(Debug, Default)]
pub(in crate::sql) struct Scratch {
    used: AtomicU64,
    max: u64,
    max_journal: u64,
    /// A query's: counts against what all queries together may hold, too.
    of_a_read: bool,
    exhausted: AtomicBool,
}

impl Scratch {
    /// Whether a statement failed because there was no more of it.
    pub(in crate::sql) fn exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed)
    }
}

thread_local! {
    static CURRENT: RefCell<Arc<Scratch>> = RefCell::new(Arc::new(Scratch {
        max: u64::MAX,
        max_journal: u64::MAX,
        ..Scratch::default()
    }));
}

/// Bounds the scratch files that this thread opens from here on: all of them together hold at
/// most `bytes`, and the journal of each savepoint, which may outlive this call, at most
/// `journal`.
pub(in crate::sql) fn limit_scratch(bytes: u64, journal: u64) -> Arc<Scratch> {
    set(Scratch {
        max: bytes,
        max_journal: journal,
        ..Scratch::default()
    })
}

/// The same for queries that change nothing. All of the process together hold at most
/// [`alloc::READS_MAX`] bytes, large values included.
pub(in crate::sql) fn limit_scratch_of_read(bytes: u64) -> Arc<Scratch> {
    set(Scratch {
        max: bytes,
        max_journal: bytes,
        of_a_read: true,
        ..Scratch::default()
    })
}

fn set(scratch: Scratch) -> Arc<Scratch> {
    let scratch = Arc::new(scratch);
    CURRENT.set(Arc::clone(&scratch));
    scratch
}

impl Scratch {
    /// Takes bytes for a file, if they are within the bounds.
    fn take(&self, bytes: u64) -> bool {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = used.saturating_add(bytes) <= self.max
            && (!self.of_a_read || alloc::take_from_reads(bytes));
        if !fits {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            self.exhausted.store(true, Ordering::Relaxed);
        }
        fits
    }
    fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if self.of_a_read {
            alloc::give_to_reads(bytes);
        }
    }
}

/// What SQLite has of a file of ours.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    content: *mut Content,
}

/// SQLite must give at least this much room.
pub(super) const FILE_BYTES: usize = size_of::<File>();

struct Content {
    bytes: Vec<u8>,
    journal: bool,
    scratch: Arc<Scratch>,
}

impl Content {
    /// Makes the file at least this long, if that is within the bounds.
    fn grow(&mut self, end: usize) -> bool {
        let old = self.bytes.len();
        let Some(more) = end.checked_sub(old) else {
            return true;
        };
        let bytes = more as u64;
        // A journal's bound is its own: the file may have grown in an entry before this one, which
        // must not change what this one may do. It uses the file from its beginning again.
        let fits = if self.journal {
            let current = CURRENT.with_borrow(Arc::clone);
            let fits = end as u64 <= current.max_journal;
            if !fits {
                current.exhausted.store(true, Ordering::Relaxed);
            }
            fits
        } else {
            self.scratch.take(bytes)
        };
        if fits {
            self.bytes.resize(end, 0);
        }
        fits
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        if !self.journal {
            self.scratch.give(self.bytes.len() as u64);
        }
    }
}

/// Opens a scratch file in the room SQLite gives.
///
/// # Safety
/// `file` points to [`FILE_BYTES`] writable bytes, `flags_out` to an int or nowhere.
pub(super) unsafe fn open(file: *mut ffi::sqlite3_file, flags: c_int, out: *mut c_int) -> c_int {
    let content = Box::new(Content {
        bytes: Vec::new(),
        journal: flags & ffi::SQLITE_OPEN_SUBJOURNAL != 0,
        scratch: CURRENT.with_borrow(Arc::clone),
    });
    // SAFETY: by the caller's promise; SQLite aligns it for a structure that begins with a pointer.
    unsafe {
        file.cast::<File>().write(File {
            base: ffi::sqlite3_file { pMethods: &METHODS },
            content: Box::into_raw(content),
        });
        if !out.is_null() {
            *out = flags;
        }
    }
    ffi::SQLITE_OK
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// # Safety
/// `file` was opened by [`open`] and not closed since; nobody else looks at it (SQLite calls
/// the methods of a file one at a time).
unsafe fn content<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Content {
    // SAFETY: by the caller's promise it is a `File`, whose content is a live box.
    unsafe { &mut *(*file.cast::<File>()).content }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let file = file.cast::<File>();
    // SAFETY: SQLite closes a file once and does not use it afterwards; the box was made in `open`.
    unsafe {
        drop(Box::from_raw((*file).content));
        (*file).base.pMethods = std::ptr::null();
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    to: *mut c_void,
    amount: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    let (Ok(amount), Ok(at)) = (usize::try_from(amount), usize::try_from(at)) else {
        return ffi::SQLITE_IOERR_READ;
    };
    // SAFETY: an open file of ours; SQLite gives `amount` writable bytes that are not the file's.
    let (bytes, to) = unsafe {
        to.cast::<u8>().write_bytes(0, amount);
        (
            &content(file).bytes,
            std::slice::from_raw_parts_mut(to.cast::<u8>(), amount),
        )
    };
    let there = bytes.get(at..).unwrap_or_default();
    let there = &there[..there.len().min(amount)];
    to[..there.len()].copy_from_slice(there);
    if there.len() == amount {
        ffi::SQLITE_OK
    } else {
        ffi::SQLITE_IOERR_SHORT_READ
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    amount: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    let (Ok(amount), Ok(at)) = (usize::try_from(amount), usize::try_from(at)) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    let Some(end) = at.checked_add(amount) else {
        return ffi::SQLITE_FULL;
    };
    // SAFETY: an open file of ours; SQLite gives `amount` readable bytes that are not the file's.
    let (content, from) = unsafe {
        (
            content(file),
            std::slice::from_raw_parts(from.cast::<u8>(), amount),
        )
    };
    if !content.grow(end) {
        return ffi::SQLITE_FULL;
    }
    content.bytes[at..end].copy_from_slice(from);
    ffi::SQLITE_OK
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, to: ffi::sqlite3_int64) -> c_int {
    // SAFETY: an open file of ours.
    let content = unsafe { content(file) };
    let Ok(to) = usize::try_from(to) else {
        return ffi::SQLITE_IOERR_TRUNCATE;
    };
    if let Some(less) = content.bytes.len().checked_sub(to) {
        content.bytes.truncate(to);
        content.bytes.shrink_to_fit();
        if !content.journal {
            content.scratch.give(less as u64);
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn sync(_file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn size(file: *mut ffi::sqlite3_file, out: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: an open file of ours, and a place for the answer.
    unsafe { *out = i64::try_from(content(file).bytes.len()).unwrap_or(i64::MAX) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn lock(_file: *mut ffi::sqlite3_file, _level: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn reserved(_file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: a place for the answer.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn control(
    _file: *mut ffi::sqlite3_file,
    _op: c_int,
    _arg: *mut c_void,
) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    0
}

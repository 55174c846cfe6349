//! SQLite's large allocations, counted while a tenant's statement runs.
//!
//! A value is bounded (`SQLITE_LIMIT_LENGTH`), the number of values that a statement holds at a time
//! is not: two thousand columns of a megabyte each are two gigabytes. What is smaller than
//! [`LARGE`] is bounded only by other limits: registers by the text's length (some 20,000 values of just
//! under [`LARGE`] fit into a statement, 2.8 GB), page caches and sorts by `cache_size`, temporary files
//! by [`super::scratch`].
//!
//! For writes the bound has to be the same on every replica. So only large allocations inside of
//! `sqlite3_step` count: none of them depends on what a connection has in its caches. A page cache's
//! hash table would get there with 16,384 pages (`cache_size` spills from 512 on), a cache's first
//! bulk of pages has 90 KiB (that of the temporary database is taken when a connection first needs it),
//! and the schema is loaded by statements of ours before any of the tenant's.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rusqlite::ffi;

use super::super::meter;

/// Bytes from which an allocation counts.
pub(in crate::sql) const LARGE: u64 = 128 << 10;
/// Bytes that all queries of the process that run at a time may hold in large values and scratch files.
pub(in crate::sql) const READS_MAX: u64 = 1 << 30;

static READS: AtomicU64 = AtomicU64::new(0);

/// Bytes that the queries that run now hold.
pub(in crate::sql) fn reads() -> u64 {
    READS.load(Relaxed)
}

/// Takes bytes from what reads share; false when so many are not there.
pub(super) fn take_from_reads(bytes: u64) -> bool {
    let taken = READS.fetch_add(bytes, Relaxed).saturating_add(bytes) <= READS_MAX;
    if !taken {
        give_to_reads(bytes);
    }
    taken
}

pub(super) fn give_to_reads(bytes: u64) {
    READS.fetch_sub(bytes, Relaxed);
}

/// Why an allocation was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sql) enum Refused {
    /// The statement holds as much as it may.
    Held,
    /// It would touch more bytes than its entry has steps for.
    Work,
}

/// What a statement may hold and touch.
#[derive(Debug, Clone, Copy)]
pub(in crate::sql) enum Bound {
    /// Of an entry: the same everywhere.
    Write {
        /// Bytes at a time.
        held: u64,
        /// Bytes in all.
        touched: u64,
    },
    /// Of a query: bytes at a time, of which all queries together have [`READS_MAX`].
    Read {
        /// Bytes at a time.
        held: u64,
    },
}

#[derive(Clone, Copy)]
struct Account {
    bound: Bound,
    held: u64,
    touched: u64,
    refused: Option<Refused>,
}

thread_local! {
    static ACCOUNT: Cell<Option<Account>> = const { Cell::new(None) };
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Begins to count for the statement that this thread runs, until [`stop_counting`].
pub(in crate::sql) fn count(bound: Bound) {
    stop_counting();
    ACCOUNT.set(Some(Account {
        bound,
        held: 0,
        touched: 0,
        refused: None,
    }));
}

/// Does something that must not fail for want of memory: what it allocates is not counted.
pub(in crate::sql) fn uncounted<T>(run: impl FnOnce() -> T) -> T {
    struct Again(Option<Account>);
    impl Drop for Again {
        fn drop(&mut self) {
            ACCOUNT.set(self.0);
        }
    }
    let _again = Again(ACCOUNT.take());
    run()
}

/// Says why an allocation was refused since [`count`], if one was.
pub(in crate::sql) fn stop_counting() -> Option<Refused> {
    let account = ACCOUNT.take()?;
    if let Bound::Read { .. } = account.bound {
        give_to_reads(account.held);
    }
    account.refused
}

/// Whether an allocation that grows from `old` to `new` bytes is within the bounds; counted if it is.
fn admit(old: u64, new: u64) -> bool {
    let (old, new) = (counted(old), counted(new));
    if old == new {
        return true;
    }
    let Some(mut account) = ACCOUNT.get() else {
        return true;
    };
    let admitted = if new < old {
        release(&mut account, old - new);
        true
    } else {
        take(&mut account, new - old, new)
    };
    ACCOUNT.set(Some(account));
    admitted
}

/// Whether the machine refused memory to SQLite on this thread since this was last asked. SQLite says
/// `SQLITE_NOMEM` also of what grew beyond a fixed bound of its own (a program's instructions, two
/// gigabytes for one buffer), which is the statement's doing and the same on every replica.
pub(in crate::sql) fn take_failed_allocation() -> bool {
    FAILED.take()
}

fn failed() {
    FAILED.set(true);
}

/// Counts `more` bytes of an allocation that is `size` long now, if they are within the bounds.
fn take(account: &mut Account, more: u64, size: u64) -> bool {
    let refused = match account.bound {
        Bound::Write { held, .. } | Bound::Read { held } if account.held + more > held => {
            Some(Refused::Held)
        }
        Bound::Write { touched, .. } if account.touched + size > touched => Some(Refused::Work),
        Bound::Read { .. } if !take_from_reads(more) => Some(Refused::Held),
        Bound::Write { .. } => {
            meter::work(usize::try_from(size).unwrap_or(usize::MAX));
            None
        }
        Bound::Read { .. } => None,
    };
    if refused.is_some() {
        account.refused = refused;
        return false;
    }
    account.held += more;
    account.touched += size;
    true
}

/// Bytes that are free again. Some may have been taken before the account was opened.
fn release(account: &mut Account, bytes: u64) {
    let bytes = bytes.min(account.held);
    account.held -= bytes;
    if let Bound::Read { .. } = account.bound {
        give_to_reads(bytes);
    }
}

fn counted(bytes: u64) -> u64 {
    if bytes < LARGE { 0 } else { bytes }
}

type Malloc = unsafe extern "C" fn(c_int) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void);
type Realloc = unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void;
type Size = unsafe extern "C" fn(*mut c_void) -> c_int;

/// SQLite's own allocator.
struct Own {
    malloc: Malloc,
    free: Free,
    realloc: Realloc,
    size: Size,
}

static OWN: OnceLock<Own> = OnceLock::new();

/// Puts the counting before SQLite's own allocator; false when SQLite does not let us.
///
/// # Safety
/// SQLite is not initialised yet and no other thread uses it.
pub(super) unsafe fn install() -> bool {
    let mut methods = std::mem::MaybeUninit::<ffi::sqlite3_mem_methods>::zeroed();
    // SAFETY: by the caller's promise; the option takes a pointer to the structure it fills, whose
    // fields may all be zero.
    let methods = unsafe {
        // Its statistics cost a process-wide mutex for each allocation, and nobody reads them.
        if ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, 0 as c_int) != ffi::SQLITE_OK
            || ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, methods.as_mut_ptr())
                != ffi::SQLITE_OK
        {
            return false;
        }
        methods.assume_init()
    };
    let (Some(own_malloc), Some(own_free), Some(own_realloc), Some(own_size)) = (
        methods.xMalloc,
        methods.xFree,
        methods.xRealloc,
        methods.xSize,
    ) else {
        return false;
    };
    OWN.get_or_init(|| Own {
        malloc: own_malloc,
        free: own_free,
        realloc: own_realloc,
        size: own_size,
    });
    let counting = ffi::sqlite3_mem_methods {
        xMalloc: Some(malloc),
        xFree: Some(free),
        xRealloc: Some(realloc),
        ..methods
    };
    // SAFETY: by the caller's promise; SQLite copies the structure.
    let answer = unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw const counting) };
    answer == ffi::SQLITE_OK
}

/// Bytes of an allocation as `xSize` tells them afterwards.
fn rounded(bytes: c_int) -> u64 {
    u64::try_from(bytes).unwrap_or(0).next_multiple_of(8)
}

unsafe extern "C" fn malloc(bytes: c_int) -> *mut c_void {
    let Some(own) = OWN.get() else {
        return std::ptr::null_mut();
    };
    let new = rounded(bytes);
    if !admit(0, new) {
        return std::ptr::null_mut();
    }
    // SAFETY: what SQLite asks of us is asked of its own allocator.
    let at = unsafe { (own.malloc)(bytes) };
    if at.is_null() {
        admit(new, 0);
        failed();
    }
    at
}

unsafe extern "C" fn free(at: *mut c_void) {
    let Some(own) = OWN.get() else {
        return;
    };
    if at.is_null() {
        return;
    }
    // SAFETY: SQLite frees, once, what it got from `malloc` or `realloc`.
    unsafe {
        if ACCOUNT.get().is_some() {
            admit(u64::try_from((own.size)(at)).unwrap_or(0), 0);
        }
        (own.free)(at);
    }
}

unsafe extern "C" fn realloc(at: *mut c_void, bytes: c_int) -> *mut c_void {
    let Some(own) = OWN.get() else {
        return std::ptr::null_mut();
    };
    // SAFETY: SQLite gives what it got from `malloc` or `realloc`.
    let old = u64::try_from(unsafe { (own.size)(at) }).unwrap_or(0);
    let new = rounded(bytes);
    if !admit(old, new) {
        return std::ptr::null_mut();
    }
    // SAFETY: as above; when it fails the old allocation stays.
    let grown = unsafe { (own.realloc)(at, bytes) };
    if grown.is_null() {
        admit(new, old);
        failed();
    }
    grown
}

#[cfg(test)]
mod tests;

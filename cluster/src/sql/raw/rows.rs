//! Every changed row with its values, as it changes.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ffi};

/// A change of one row as it happens, values included; called while a statement runs.
pub(in crate::sql) trait RowObserver: Send + 'static {
    /// A row is inserted, changed or deleted. `old` and `new` answer the values.
    fn row(&mut self, change: &RowChange<'_>);
    /// A change could not be read (no memory, a damaged page): what was seen is not all.
    fn lost(&mut self);
}

/// One row's change. Values are borrowed from SQLite for the call.
#[derive(Debug)]
pub(in crate::sql) struct RowChange<'a> {
    /// `I`, `U` or `D`.
    pub(in crate::sql) kind: u8,
    pub(in crate::sql) table: &'a [u8],
    /// Of tables WITHOUT ROWID both are 0.
    pub(in crate::sql) old_rowid: i64,
    pub(in crate::sql) new_rowid: i64,
    /// Values before (`U`, `D`) and after (`I`, `U`); virtual generated columns are NULL.
    pub(in crate::sql) old: &'a [ValueRef<'a>],
    pub(in crate::sql) new: &'a [ValueRef<'a>],
}

struct Hook {
    observer: Arc<Mutex<dyn RowObserver>>,
}

/// Has `observer` see every row that changes through this connection for as long as it is open.
/// A second observer replaces the first.
pub(in crate::sql) fn observe_rows(
    conn: &Connection,
    observer: Arc<Mutex<dyn RowObserver>>,
) -> bool {
    let hook = Box::into_raw(Box::new(Hook { observer }));
    // SAFETY: the handle is open. The hook is called only by this connection, which owns the box
    // from here on: it drops it when it is closed, when another takes the name (the hook points to
    // the new one by then), or right away when there is no memory for it (no hook points to it then).
    unsafe {
        let db = conn.handle();
        ffi::sqlite3_preupdate_hook(db, Some(changed), hook.cast());
        let code = ffi::sqlite3_set_clientdata(db, c"orama_rows".as_ptr(), hook.cast(), Some(free));
        if code != ffi::SQLITE_OK {
            ffi::sqlite3_preupdate_hook(db, None, std::ptr::null_mut());
        }
        code == ffi::SQLITE_OK
    }
}

unsafe extern "C" fn free(hook: *mut c_void) {
    // SAFETY: made by `Box::into_raw` above, and SQLite calls this once.
    drop(unsafe { Box::from_raw(hook.cast::<Hook>()) });
}

type Getter = unsafe extern "C" fn(*mut ffi::sqlite3, c_int, *mut *mut ffi::sqlite3_value) -> c_int;

unsafe extern "C" fn changed(
    hook: *mut c_void,
    db: *mut ffi::sqlite3,
    op: c_int,
    _database: *const c_char,
    table: *const c_char,
    old_rowid: ffi::sqlite3_int64,
    new_rowid: ffi::sqlite3_int64,
) {
    // SAFETY: the box that was registered with this function; it is alive (see `observe_rows`).
    let hook = unsafe { &*hook.cast::<Hook>() };
    // A panic must not unwind into C; there is nobody to tell but the observer.
    let seen = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: we are inside the callback, the only place where these may be called.
        let columns = unsafe { ffi::sqlite3_preupdate_count(db) };
        let kind = match op {
            ffi::SQLITE_INSERT => b'I',
            ffi::SQLITE_DELETE => b'D',
            _ => b'U',
        };
        let before = if kind == b'I' { 0 } else { columns };
        let after = if kind == b'D' { 0 } else { columns };
        // SAFETY: as above; the values are used before this callback returns.
        let (old, new) = unsafe {
            (
                values(db, before, ffi::sqlite3_preupdate_old),
                values(db, after, ffi::sqlite3_preupdate_new),
            )
        };
        let mut observer = hook.observer.lock();
        let (Some(old), Some(new)) = (old, new) else {
            observer.lost();
            return;
        };
        observer.row(&RowChange {
            kind,
            // SAFETY: the name of a table, valid during the callback.
            table: unsafe { CStr::from_ptr(table) }.to_bytes(),
            old_rowid,
            new_rowid,
            old: &old,
            new: &new,
        });
    }));
    if seen.is_err() {
        hook.observer.lock().lost();
    }
}

/// # Safety
/// Called inside the preupdate callback of `db`; the answer is used inside it only.
unsafe fn values<'a>(
    db: *mut ffi::sqlite3,
    columns: c_int,
    get: Getter,
) -> Option<Vec<ValueRef<'a>>> {
    let mut values = Vec::with_capacity(usize::try_from(columns).unwrap_or(0));
    for column in 0..columns {
        let mut value = std::ptr::null_mut();
        // SAFETY: by the caller's promise; `value` outlives the call.
        match unsafe { get(db, column, &raw mut value) } {
            // SAFETY: a protected value that lives until the callback ends.
            ffi::SQLITE_OK if !value.is_null() => values.push(unsafe { read(value) }?),
            // Columns that are not stored have no value; they follow from the others.
            ffi::SQLITE_RANGE => values.push(ValueRef::Null),
            _ => return None,
        }
    }
    Some(values)
}

/// `None` without memory.
///
/// # Safety
/// `value` is a live protected value, and nobody changes it as long as the answer is used.
unsafe fn read<'a>(value: *mut ffi::sqlite3_value) -> Option<ValueRef<'a>> {
    // SAFETY: by the caller's promise. Text and blob pointers are asked for before their lengths,
    // as the interface wants it, and are valid until the value is asked for something else.
    unsafe {
        Some(match ffi::sqlite3_value_type(value) {
            ffi::SQLITE_INTEGER => ValueRef::Integer(ffi::sqlite3_value_int64(value)),
            ffi::SQLITE_FLOAT => ValueRef::Real(ffi::sqlite3_value_double(value)),
            ffi::SQLITE_TEXT => {
                let text = ffi::sqlite3_value_text(value);
                let bytes = usize::try_from(ffi::sqlite3_value_bytes(value)).ok()?;
                if text.is_null() {
                    return None;
                }
                ValueRef::Text(std::slice::from_raw_parts(text, bytes))
            }
            ffi::SQLITE_BLOB => {
                let blob = ffi::sqlite3_value_blob(value);
                let bytes = usize::try_from(ffi::sqlite3_value_bytes(value)).ok()?;
                match (blob.is_null(), bytes) {
                    (_, 0) => ValueRef::Blob(&[]),
                    (true, _) => return None,
                    (false, _) => ValueRef::Blob(std::slice::from_raw_parts(blob.cast(), bytes)),
                }
            }
            _ => ValueRef::Null,
        })
    }
}

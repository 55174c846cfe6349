//! LIKE and GLOB that count what they do: a pattern of 256 bytes may be compared with a megabyte 256
//! times over, in one step, and a budget of steps is not asked within a step.
//!
//! The matchers are SQLite's own, so the answers are (`tests` compares them), but for an ESCAPE that
//! is not UTF-8 or is `%` or `_`: an error. They are put in place for writes only: SQLite does not use
//! an index for a LIKE that is not its own, and a query has a deadline.

use std::ffi::{CStr, c_char, c_int};

use rusqlite::ffi;
use rusqlite::ffi::{sqlite3_context as Context, sqlite3_value as Value};

use super::super::meter;

type Function = unsafe extern "C" fn(*mut Context, c_int, *mut *mut Value);

const FUNCTIONS: [(&CStr, c_int, Function); 3] =
    [(c"like", 2, like), (c"like", 3, like), (c"glob", 2, glob)];

/// Puts the functions in place; false without memory for it.
pub(in crate::sql) fn install(conn: &rusqlite::Connection) -> bool {
    let flags = ffi::SQLITE_UTF8 | ffi::SQLITE_DETERMINISTIC | ffi::SQLITE_INNOCUOUS;
    FUNCTIONS.iter().all(|(name, arguments, function)| {
        // SAFETY: the handle is open for as long as `conn` is borrowed; the name lives for ever, and the
        // function asks for no more arguments than it is registered with.
        let answer = unsafe {
            ffi::sqlite3_create_function_v2(
                conn.handle(),
                name.as_ptr(),
                *arguments,
                flags,
                std::ptr::null_mut(),
                Some(*function),
                None,
                None,
                None,
            )
        };
        answer == ffi::SQLITE_OK
    })
}

/// The arguments of a call.
///
/// # Safety
/// They are those that SQLite gave to the function that runs.
unsafe fn arguments<'a>(count: c_int, values: *mut *mut Value) -> &'a [*mut Value] {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: by the caller's promise; no function here is registered without arguments.
    unsafe { std::slice::from_raw_parts(values, count) }
}

/// # Safety
/// `context` is that of the function that runs.
unsafe fn refuse(context: *mut Context, why: &CStr) {
    // SAFETY: by the caller's promise; SQLite copies the text.
    unsafe { ffi::sqlite3_result_error(context, why.as_ptr(), -1) }
}

/// What SQLite's matchers do for each byte of the text and of the pattern, in bytes of work.
const MATCHING: usize = 16;

fn matching(pattern: &CStr, text: &CStr) {
    let (pattern, text) = (pattern.count_bytes(), text.count_bytes());
    meter::work(pattern + text + (pattern / MATCHING).saturating_mul(text));
}

/// An argument as a text that ends with a NUL.
///
/// # Safety
/// `value` is an argument of the function that runs, and is not converted while the answer is used.
unsafe fn ended<'a>(value: *mut Value) -> Option<&'a CStr> {
    // SAFETY: by the caller's promise; SQLite ends texts with a NUL.
    unsafe {
        let text = ffi::sqlite3_value_text(value);
        (!text.is_null()).then(|| CStr::from_ptr(text.cast::<c_char>()))
    }
}

/// Pattern and text of a LIKE or GLOB, counted.
///
/// # Safety
/// As for [`arguments`].
unsafe fn operands<'a>(
    context: *mut Context,
    pattern: *mut Value,
    string: *mut Value,
) -> Option<(&'a CStr, &'a CStr)> {
    // SAFETY: by the caller's promise.
    unsafe {
        let most = ffi::sqlite3_limit(
            ffi::sqlite3_context_db_handle(context),
            ffi::SQLITE_LIMIT_LIKE_PATTERN_LENGTH,
            -1,
        );
        if ffi::sqlite3_value_bytes(pattern) > most {
            refuse(context, c"LIKE or GLOB pattern too complex");
            return None;
        }
        let (pattern, string) = (ended(pattern)?, ended(string)?);
        matching(pattern, string);
        Some((pattern, string))
    }
}

unsafe extern "C" fn like(context: *mut Context, count: c_int, values: *mut *mut Value) {
    // SAFETY: called by SQLite with its context and arguments; `sqlite3_strlike` only looks at texts.
    unsafe {
        let (pattern, string, escape) = match *arguments(count, values) {
            [pattern, string] => (pattern, string, 0),
            [pattern, string, escape] => {
                let Some(escape) = ended(escape) else {
                    return;
                };
                match escape_of(escape.to_bytes()) {
                    Ok(escape) => (pattern, string, escape),
                    Err(why) => return refuse(context, why),
                }
            }
            _ => return,
        };
        if let Some((pattern, string)) = operands(context, pattern, string) {
            let differs = ffi::sqlite3_strlike(pattern.as_ptr(), string.as_ptr(), escape);
            ffi::sqlite3_result_int(context, c_int::from(differs == 0));
        }
    }
}

fn continues(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// The one character of an ESCAPE, as SQLite reads it.
fn escape_of(text: &[u8]) -> Result<u32, &'static CStr> {
    match *text {
        [b'%' | b'_'] => return Err(c"ESCAPE must not be % or _"),
        [byte] if byte < 0xc0 => return Ok(u32::from(byte)),
        [0xc0..=0xff, ref rest @ ..] if rest.iter().all(|byte| continues(*byte)) => {}
        _ => return Err(c"ESCAPE expression must be a single character"),
    }
    let character = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.chars().next());
    character
        .map(u32::from)
        .ok_or(c"ESCAPE: the character is not valid UTF-8")
}

unsafe extern "C" fn glob(context: *mut Context, count: c_int, values: *mut *mut Value) {
    // SAFETY: called by SQLite with its context and arguments; `sqlite3_strglob` only looks at texts.
    unsafe {
        let &[pattern, string] = arguments(count, values) else {
            return;
        };
        if let Some((pattern, string)) = operands(context, pattern, string) {
            let differs = ffi::sqlite3_strglob(pattern.as_ptr(), string.as_ptr());
            ffi::sqlite3_result_int(context, c_int::from(differs == 0));
        }
    }
}

#[cfg(test)]
mod tests;

//! `json_patch`, `jsonb_patch`, `json_pretty`: SQLite's answers, but bounded.

use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags, SubType};
use rusqlite::types::ValueRef;

use super::super::meter;
use super::originals::Originals;
use super::{Answer, LENGTH_MAX, PURE, refused, too_big};

/// Members of the patch times bytes of both documents: SQLite looks for each member among all. About a tenth
/// of a second.
const PATCH_WORK_MAX: usize = 256 << 20;
/// Arrays and objects in each other, as in SQLite.
const DEPTH_MAX: usize = 1000;
/// How SQLite marks a text that is JSON.
const JSON_SUBTYPE: u32 = 74;

pub(super) fn install(sqlite: &Connection, originals: &Arc<Originals>) -> rusqlite::Result<()> {
    let own = Arc::clone(originals);
    let flags = PURE | FunctionFlags::SQLITE_RESULT_SUBTYPE;
    sqlite.create_scalar_function("json_patch", 2, flags, move |context| {
        patch(&own, context, "json_patch", "SELECT json_patch(?1, ?2)")
    })?;
    let own = Arc::clone(originals);
    sqlite.create_scalar_function("jsonb_patch", 2, PURE, move |context| {
        patch(&own, context, "jsonb_patch", "SELECT jsonb_patch(?1, ?2)").map(|(answer, _)| answer)
    })?;
    for arguments in [1, 2] {
        let own = Arc::clone(originals);
        sqlite.create_scalar_function("json_pretty", arguments, PURE, move |context| {
            let document = context.get_raw(0);
            meter::work(bytes(document));
            let Answer::Text(json) = own.call("SELECT json(?1)", &[document])? else {
                return Ok(Answer::Null);
            };
            let indent = match arguments {
                2 => own.text(context.get_raw(1))?,
                _ => None,
            };
            // SQLite reads it up to a NUL.
            let indent = indent.as_deref().map_or(b"    ".as_slice(), |indent| {
                indent.split(|byte| *byte == 0).next().unwrap_or_default()
            });
            pretty(&json, indent).map(Answer::Text)
        })?;
    }
    Ok(())
}

fn bytes(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        _ => 0,
    }
}

fn patch(
    originals: &Originals,
    context: &Context<'_>,
    name: &str,
    sql: &'static str,
) -> rusqlite::Result<(Answer, SubType)> {
    let (target, patch) = (context.get_raw(0), context.get_raw(1));
    let members = match patch {
        ValueRef::Text(text) => memchr::memchr_iter(b':', text).count(),
        // A member is a label and a value, at least a byte each.
        ValueRef::Blob(blob) => blob.len() / 2,
        _ => 0,
    };
    let work = (members + 1).saturating_mul(bytes(target) + bytes(patch));
    if work > PATCH_WORK_MAX {
        return Err(refused(format!(
            "{name}: a patch of {members} members is too long for documents of this size: members times bytes of both documents may be {PATCH_WORK_MAX}"
        )));
    }
    meter::work(work);
    let answer = originals.call(sql, &[target, patch])?;
    let mark = matches!(answer, Answer::Text(_)).then_some(JSON_SUBTYPE);
    Ok((answer, mark))
}

/// Puts each member and element of a text without space on a line of its own.
fn pretty(json: &[u8], indent: &[u8]) -> rusqlite::Result<Vec<u8>> {
    let mut answer = Vec::with_capacity(json.len());
    let mut depth = 0;
    let mut rest = json.iter().copied().peekable();
    let line = |answer: &mut Vec<u8>, depth: usize| {
        // Before the line is written: indents may be as long as a value.
        if answer.len() + 1 + depth * indent.len() > LENGTH_MAX {
            return Err(too_big());
        }
        answer.push(b'\n');
        for _ in 0..depth {
            answer.extend_from_slice(indent);
        }
        Ok(())
    };
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => {
                answer.push(byte);
                while let Some(byte) = rest.next() {
                    answer.push(byte);
                    match byte {
                        b'\\' => answer.extend(rest.next()),
                        b'"' => break,
                        _ => (),
                    }
                }
            }
            b'[' | b'{' => {
                answer.push(byte);
                if let Some(end @ (b']' | b'}')) = rest.peek().copied() {
                    rest.next();
                    answer.push(end);
                    continue;
                }
                depth += 1;
                if depth >= DEPTH_MAX {
                    return Err(refused("JSON nested too deep"));
                }
                line(&mut answer, depth)?;
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                line(&mut answer, depth)?;
                answer.push(byte);
            }
            b',' => {
                answer.push(byte);
                line(&mut answer, depth)?;
            }
            b':' => answer.extend_from_slice(b": "),
            _ => answer.push(byte),
        }
    }
    if answer.len() > LENGTH_MAX {
        return Err(too_big());
    }
    meter::work(answer.len());
    Ok(answer)
}

//! `instr`, `replace`, `unhex(x, y)` and the three of `trim`: SQLite's answers in linear time.

use std::collections::HashSet;
use std::sync::Arc;

use memchr::memmem;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::super::meter;
use super::originals::Originals;
use super::trim::{self, Side};
use super::{Answer, LENGTH_MAX, PURE, too_big};

pub(super) fn install(sqlite: &Connection, originals: &Arc<Originals>) -> rusqlite::Result<()> {
    let own = Arc::clone(originals);
    sqlite.create_scalar_function("instr", 2, PURE, move |context| {
        let (hay, needle) = (context.get_raw(0), context.get_raw(1));
        let blobs = matches!((hay, needle), (ValueRef::Blob(_), ValueRef::Blob(_)));
        let (Some(hay), Some(needle)) = (own.text(hay)?, own.text(needle)?) else {
            return Ok(Answer::Null);
        };
        meter::work(hay.len() + needle.len());
        Ok(Answer::Integer(instr(&hay, &needle, !blobs)))
    })?;
    let own = Arc::clone(originals);
    sqlite.create_scalar_function("replace", 3, PURE, move |context| {
        let (Some(text), Some(pattern)) =
            (own.text(context.get_raw(0))?, own.text(context.get_raw(1))?)
        else {
            return Ok(Answer::Null);
        };
        meter::work(text.len() + pattern.len());
        // A pattern that begins with NUL is an empty one for SQLite. It asks for the third only then.
        if pattern.first().is_none_or(|first| *first == 0) {
            return Ok(Answer::Text(text.into_owned()));
        }
        let Some(with) = own.text(context.get_raw(2))? else {
            return Ok(Answer::Null);
        };
        let answer = replace(&text, &pattern, &with).ok_or_else(too_big)?;
        meter::work(answer.len());
        Ok(Answer::Text(answer))
    })?;
    let own = Arc::clone(originals);
    sqlite.create_scalar_function("unhex", 2, PURE, move |context| {
        let (Some(hex), Some(pass)) =
            (own.text(context.get_raw(0))?, own.text(context.get_raw(1))?)
        else {
            return Ok(Answer::Null);
        };
        meter::work(hex.len() + pass.len());
        Ok(unhex(&hex, &pass).map_or(Answer::Null, Answer::Blob))
    })?;
    for (name, side) in [
        ("ltrim", Side::Left),
        ("rtrim", Side::Right),
        ("trim", Side::Both),
    ] {
        for arguments in [1, 2] {
            let own = Arc::clone(originals);
            sqlite.create_scalar_function(name, arguments, PURE, move |context| {
                let Some(text) = own.text(context.get_raw(0))? else {
                    return Ok(Answer::Null);
                };
                let set = match arguments {
                    1 => Some(b" ".as_slice().into()),
                    _ => own.text(context.get_raw(1))?,
                };
                let Some(set) = set else {
                    return Ok(Answer::Null);
                };
                meter::work(text.len() + set.len());
                Ok(Answer::Text(trim::trim(&text, &set, side).to_vec()))
            })?;
        }
    }
    Ok(())
}

/// Whether a byte goes on with a character of UTF-8.
pub(super) fn continues(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// The place of `needle`, from 1, in characters or bytes; 0: it is not there.
fn instr(hay: &[u8], needle: &[u8], characters: bool) -> i64 {
    let at = match needle.first() {
        None => Some(0),
        // A match begins at the start or where a character does.
        Some(first) if characters && continues(*first) => hay.starts_with(needle).then_some(0),
        Some(_) => memmem::find(hay, needle),
    };
    let Some(at) = at else {
        return 0;
    };
    let before = match at {
        0 => 0,
        _ if characters => hay[1..=at].iter().filter(|byte| !continues(**byte)).count(),
        _ => at,
    };
    i64::try_from(before).map_or(i64::MAX, |before| before + 1)
}

/// `None`: the answer is longer than a value may be.
fn replace(text: &[u8], pattern: &[u8], with: &[u8]) -> Option<Vec<u8>> {
    let mut answer = Vec::with_capacity(text.len());
    let mut done = 0;
    for at in memmem::find_iter(text, pattern) {
        answer.extend_from_slice(&text[done..at]);
        answer.extend_from_slice(with);
        done = at + pattern.len();
        if answer.len() > LENGTH_MAX {
            return None;
        }
    }
    answer.extend_from_slice(&text[done..]);
    (answer.len() <= LENGTH_MAX).then_some(answer)
}

/// The bytes that pairs of digits stand for; characters of `pass` may lie between pairs. SQLite reads `hex` up to
/// a NUL, `pass` to its end.
fn unhex(hex: &[u8], pass: &[u8]) -> Option<Vec<u8>> {
    let hex = hex.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut allowed = HashSet::new();
    let mut rest = pass;
    while let Some(character) = character(&mut rest) {
        allowed.insert(character);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut answer = Vec::with_capacity(hex.len() / 2);
    let mut rest = hex;
    while let Some((first, after)) = rest.split_first() {
        match digit(*first) {
            Some(high) => {
                let (second, after) = after.split_first()?;
                answer.push(high << 4 | digit(*second)?);
                rest = after;
            }
            None => {
                if !allowed.contains(&character(&mut rest)?) {
                    return None;
                }
            }
        }
    }
    Some(answer)
}

/// Takes a character as SQLite's `sqlite3Utf8Read` does, whatever the bytes are.
fn character(rest: &mut &[u8]) -> Option<u32> {
    let (first, mut after) = rest.split_first()?;
    let mut character = u32::from(*first);
    if *first >= 0xc0 {
        character = match first {
            0xc0..=0xdf => character & 0x1f,
            0xe0..=0xef => character & 0x0f,
            0xf0..=0xf7 => character & 0x07,
            0xf8..=0xfb => character & 0x03,
            0xfc..=0xfd => character & 0x01,
            _ => 0,
        };
        while let Some((byte, more)) = after.split_first()
            && continues(*byte)
        {
            character = (character << 6).wrapping_add(u32::from(byte & 0x3f));
            after = more;
        }
        if character < 0x80
            || character & 0xffff_f800 == 0xd800
            || character & 0xffff_fffe == 0xfffe
        {
            character = 0xfffd;
        }
    }
    *rest = after;
    Some(character)
}

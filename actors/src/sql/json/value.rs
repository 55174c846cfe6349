//! SQL arguments out of JSON: exact, bounded, refused by name.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use orama_proto::limits::{SQL_PARAMETERS_MAX, SQL_REQUEST_MAX_BYTES};
use orama_proto::sql::{SqlCode, SqlError, SqlValue};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Base64 as programs write it, with its padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads a JSON array of arguments; empty text and `null` are none. Integers stay exact to 64
/// bits; booleans are 1 and 0; `{"blob":"<base64>"}` is a BLOB.
///
/// # Errors
/// `INVALID_ARGUMENT` that names the argument; `PAYLOAD_TOO_LARGE`.
pub fn parse_args(json: &[u8]) -> Result<Vec<SqlValue>, SqlError> {
    let text = text(json, "the arguments")?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let raw: &RawValue = serde_json::from_str(text).map_err(|e| not_json("the arguments", &e))?;
    args(Some(raw), "args")
}

/// JSON must be UTF-8.
pub(super) fn text<'a>(json: &'a [u8], what: &str) -> Result<&'a str, SqlError> {
    std::str::from_utf8(json).map_err(|e| {
        let at = e.valid_up_to();
        SqlError::invalid(format!("{what}: not UTF-8 at byte {at}"))
    })
}

/// The parser says where, and of what it is not sure only that: its words for
/// a wrong type would show the value.
pub(super) fn not_json(what: &str, error: &serde_json::Error) -> SqlError {
    let why = if error.is_syntax() || error.is_eof() {
        error.to_string()
    } else {
        format!(
            "not what is expected at line {} column {}",
            error.line(),
            error.column()
        )
    };
    SqlError::invalid(format!("{what}: not valid JSON: {why}"))
}

/// What kind of JSON value this is, in words.
pub(super) fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "a string",
        Some(b'[') => "an array",
        Some(b'{') => "an object",
        _ => "a number",
    }
}

/// `None` for `null` too, which stands for a field that is not there.
pub(super) fn present(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
}

/// The text of a JSON string.
pub(super) fn string<'a>(raw: &'a RawValue, path: &str) -> Result<Cow<'a, str>, SqlError> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    if kind(raw) != "a string" {
        let kind = kind(raw);
        return Err(SqlError::invalid(format!(
            "{path}: {kind} where a string is expected"
        )));
    }
    match serde_json::from_str::<Text<'a>>(raw.get()) {
        Ok(Text(text)) => Ok(text),
        // Escapes that are no characters, such as half a surrogate pair.
        Err(_) => Err(SqlError::invalid(format!(
            "{path}: the string has an escape that is no character"
        ))),
    }
}

/// The elements of an array, `max` of them at most: how many there are beyond is
/// counted, not kept.
pub(super) fn elements<'a>(
    raw: &'a RawValue,
    max: usize,
    path: &str,
) -> Result<(Vec<&'a RawValue>, usize), SqlError> {
    if kind(raw) != "an array" {
        let kind = kind(raw);
        return Err(SqlError::invalid(format!(
            "{path}: {kind} where an array is expected"
        )));
    }
    let mut parser = serde_json::Deserializer::from_str(raw.get());
    parser
        .deserialize_seq(Bounded { max })
        .map_err(|e| not_json(path, &e))
}

struct Bounded {
    max: usize,
}

impl<'a> Visitor<'a> for Bounded {
    type Value = (Vec<&'a RawValue>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut kept = Vec::new();
        while kept.len() < self.max {
            match seq.next_element::<&RawValue>()? {
                Some(element) => kept.push(element),
                None => {
                    let count = kept.len();
                    return Ok((kept, count));
                }
            }
        }
        let mut count = kept.len();
        while seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((kept, count))
    }
}

/// An array of arguments.
pub(super) fn args(raw: Option<&RawValue>, path: &str) -> Result<Vec<SqlValue>, SqlError> {
    let Some(raw) = present(raw) else {
        return Ok(Vec::new());
    };
    let (elements, count) = elements(raw, SQL_PARAMETERS_MAX, path)?;
    if count > SQL_PARAMETERS_MAX {
        return Err(SqlError::invalid(format!(
            "{path}: {count} arguments, the limit is {SQL_PARAMETERS_MAX}"
        )));
    }
    elements
        .into_iter()
        .enumerate()
        .map(|(index, element)| argument(element, || format!("{path}[{index}]")))
        .collect()
}

fn argument(raw: &RawValue, path: impl Fn() -> String) -> Result<SqlValue, SqlError> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'n') => Ok(SqlValue::Null),
        Some(b't') => Ok(SqlValue::Integer(1)),
        Some(b'f') => Ok(SqlValue::Integer(0)),
        Some(b'"') => {
            let path = path();
            // Before it is decoded: nothing shorter than a sixth of its JSON comes out.
            if text.len() / 6 > SQL_REQUEST_MAX_BYTES {
                return Err(too_large(&path));
            }
            Ok(SqlValue::Text(string(raw, &path)?.into_owned()))
        }
        Some(b'{') => blob(raw, &path()),
        Some(b'[') => Err(SqlError::invalid(format!(
            "{}: an array cannot be an argument",
            path()
        ))),
        _ => number(text, path),
    }
}

fn too_large(path: &str) -> SqlError {
    SqlError::new(
        SqlCode::PayloadTooLarge,
        format!("{path}: longer than {SQL_REQUEST_MAX_BYTES} bytes, the limit of a request"),
    )
}

fn number(text: &str, path: impl Fn() -> String) -> Result<SqlValue, SqlError> {
    if text.bytes().any(|b| matches!(b, b'.' | b'e' | b'E')) {
        return match text.parse::<f64>() {
            Ok(real) if real.is_finite() => Ok(SqlValue::Real(real)),
            _ => Err(SqlError::invalid(format!(
                "{}: the number is out of the range of a 64-bit float",
                path()
            ))),
        };
    }
    text.parse().map(SqlValue::Integer).map_err(|_| {
        SqlError::invalid(format!(
            "{}: the integer is out of range, which is {} to {}",
            path(),
            i64::MIN,
            i64::MAX
        ))
    })
}

fn blob(raw: &RawValue, path: &str) -> Result<SqlValue, SqlError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Blob<'a> {
        #[serde(borrow)]
        blob: &'a RawValue,
    }
    let Ok(Blob { blob }) = serde_json::from_str(raw.get()) else {
        return Err(SqlError::invalid(format!(
            "{path}: an object cannot be an argument; a BLOB is {{\"blob\":\"<base64>\"}}"
        )));
    };
    let path = format!("{path}.blob");
    let text = string(blob, &path)?;
    BASE64
        .decode(text.as_bytes())
        .map(SqlValue::Blob)
        .map_err(|_| SqlError::invalid(format!("{path}: not base64")))
}

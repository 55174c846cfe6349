//! Rows of SQLite as JSON text, written once and without a tree in between.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Row;
use rusqlite::types::ValueRef;

/// The columns' names, ready to be written before each value.
pub(super) struct Keys(Vec<Vec<u8>>);

impl Keys {
    pub(super) fn new(columns: &[String]) -> Self {
        let key = |(at, name): (usize, &String)| {
            let mut key = Vec::with_capacity(name.len() + 4);
            key.push(if at == 0 { b'{' } else { b',' });
            string(&mut key, name.as_bytes());
            key.push(b':');
            key
        };
        Self(columns.iter().enumerate().map(key).collect())
    }

    /// Appends a row as an object. Answers false as soon as `out` is longer than `max`,
    /// whatever has been appended until then.
    pub(super) fn row(
        &self,
        row: &Row<'_>,
        out: &mut Vec<u8>,
        max: usize,
    ) -> rusqlite::Result<bool> {
        for (at, key) in self.0.iter().enumerate() {
            out.extend_from_slice(key);
            value(out, row.get_ref(at)?);
            if out.len() > max {
                return Ok(false);
            }
        }
        out.push(b'}');
        // The bracket that ends the array counts too.
        Ok(out.len() < max)
    }
}

/// Appends one value.
pub(super) fn value(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => out.extend_from_slice(b"null"),
        ValueRef::Integer(i) => text(out, format_args!("{i}")),
        // Debug is the shortest form that reads back the same, and never looks like an integer.
        ValueRef::Real(r) if r.is_finite() => text(out, format_args!("{r:?}")),
        ValueRef::Real(r) if r.is_nan() => out.extend_from_slice(b"null"),
        ValueRef::Real(r) if r > 0.0 => out.extend_from_slice(b"\"Infinity\""),
        ValueRef::Real(_) => out.extend_from_slice(b"\"-Infinity\""),
        ValueRef::Text(bytes) => string(out, bytes),
        ValueRef::Blob(bytes) => {
            out.push(b'"');
            let start = out.len();
            out.resize(start + base64_len(bytes.len()), 0);
            let written = out
                .get_mut(start..)
                .and_then(|room| STANDARD.encode_slice(bytes, room).ok())
                .unwrap_or(0);
            out.truncate(start + written);
            out.push(b'"');
        }
    }
}

fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

fn text(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing into a Vec does not fail.
    let _ = out.write_fmt(text);
}

/// Appends text as a JSON string; what is not UTF-8 becomes U+FFFD.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    if std::str::from_utf8(bytes).is_ok() {
        escaped(out, bytes);
    } else {
        for chunk in bytes.utf8_chunks() {
            escaped(out, chunk.valid().as_bytes());
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
    }
    out.push(b'"');
}

fn escaped(out: &mut Vec<u8>, mut rest: &[u8]) {
    while let Some(at) = rest
        .iter()
        .position(|b| *b < 0x20 || *b == b'"' || *b == b'\\')
    {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, after)) = special.split_first() else {
            return;
        };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => text(out, format_args!("\\u{byte:04x}")),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(v: ValueRef<'_>) -> String {
        let mut out = Vec::new();
        value(&mut out, v);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_every_kind_of_value() {
        assert_eq!(json(ValueRef::Null), "null");
        assert_eq!(json(ValueRef::Integer(i64::MIN)), "-9223372036854775808");
        assert_eq!(json(ValueRef::Integer(i64::MAX)), "9223372036854775807");
        assert_eq!(json(ValueRef::Integer((1 << 53) + 1)), "9007199254740993");
        for (real, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e300, "1e300"),
            (5e-324, "5e-324"),
            (9007199254740993.0, "9007199254740992.0"),
            (f64::MAX, "1.7976931348623157e308"),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
            (f64::NAN, "null"),
        ] {
            assert_eq!(json(ValueRef::Real(real)), text);
        }
        assert_eq!(json(ValueRef::Text(b"")), "\"\"");
        assert_eq!(
            json(ValueRef::Text(
                "a\"\\\n\r\t\0\u{1f}é\u{7f}\u{2028}".as_bytes()
            )),
            "\"a\\\"\\\\\\n\\r\\t\\u0000\\u001fé\u{7f}\u{2028}\""
        );
        assert_eq!(
            json(ValueRef::Text(b"a\xff\xc3(\xe2\x82")),
            "\"a\u{fffd}\u{fffd}(\u{fffd}\""
        );
        assert_eq!(json(ValueRef::Blob(b"")), "\"\"");
        for (blob, text) in [
            (&b"f"[..], "\"Zg==\""),
            (b"fo", "\"Zm8=\""),
            (b"foo", "\"Zm9v\""),
            (b"\xff\xfe\xfd\xfc", "\"//79/A==\""),
        ] {
            assert_eq!(json(ValueRef::Blob(blob)), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn reals_read_back_the_same(bits: u64) {
            let real = f64::from_bits(bits);
            proptest::prop_assume!(real.is_finite());
            let text = json(ValueRef::Real(real));
            proptest::prop_assert!(text.contains(['.', 'e']));
            proptest::prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits);
        }
    }
}

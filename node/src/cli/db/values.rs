//! Arguments of a statement as they stand on a command line.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use crate::cli::error::CliError;

/// What `--args` says: a JSON array, sent as it is.
pub(super) fn array(text: &str) -> Result<Box<RawValue>, CliError> {
    let raw: Box<RawValue> = serde_json::from_str(text)
        .map_err(|e| CliError::Usage(format!("--args is not JSON: {e}")))?;
    if !raw.get().starts_with('[') {
        return Err(CliError::Usage(
            "--args must be a JSON array, such as '[1, \"text\", null]'".into(),
        ));
    }
    Ok(raw)
}

/// The words after the statement as a JSON array.
pub(super) fn of_words(words: &[String]) -> Result<Box<RawValue>, CliError> {
    let mut values = Vec::with_capacity(words.len());
    for (index, word) in words.iter().enumerate() {
        values.push(value(word).map_err(|why| {
            CliError::Usage(format!("argument {} is {why}: {word:?}", index + 1))
        })?);
    }
    RawValue::from_string(format!("[{}]", values.join(",")))
        .map_err(|e| CliError::Usage(format!("the arguments cannot be sent: {e}")))
}

/// A word as a JSON value. It is a number only if the number, printed, is the word again:
/// `007`, `+49` or thirty digits are names of something, and stay as they are.
fn value(word: &str) -> Result<String, &'static str> {
    if matches!(word, "null" | "NULL") {
        return Ok("null".into());
    }
    if let Some(text) = word.strip_prefix('\'').and_then(|w| w.strip_suffix('\'')) {
        return Ok(json(&text.replace("''", "'")));
    }
    let digits = word
        .strip_prefix(['x', 'X'])
        .and_then(|w| w.strip_prefix('\''))
        .and_then(|w| w.strip_suffix('\''));
    if let Some(digits) = digits {
        let bytes = hex(digits).ok_or("no BLOB, which has two hexadecimal digits for a byte")?;
        return Ok(format!("{{\"blob\":\"{}\"}}", STANDARD.encode(bytes)));
    }
    if word.parse::<i64>().is_ok_and(|n| n.to_string() == word) {
        return Ok(word.to_owned());
    }
    // `inf` and `NaN` print as themselves too, and are no JSON.
    let real = word
        .parse::<f64>()
        .is_ok_and(|n| n.is_finite() && format!("{n:?}") == word);
    Ok(if real { word.to_owned() } else { json(word) })
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_their_types() {
        for (word, json) in [
            ("7", "7"),
            ("-7", "-7"),
            ("0", "0"),
            ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("1.5", "1.5"),
            ("-0.25", "-0.25"),
            ("1.0", "1.0"),
            ("1e300", "1e300"),
            ("null", "null"),
            ("NULL", "null"),
            ("'7'", "\"7\""),
            ("'null'", "\"null\""),
            ("'it''s'", "\"it's\""),
            ("x'00fF'", "{\"blob\":\"AP8=\"}"),
            ("X''", "{\"blob\":\"\"}"),
        ] {
            assert_eq!(value(word).unwrap(), json, "{word}");
        }
    }

    #[test]
    fn what_would_not_print_back_is_text() {
        for word in [
            "01234",
            "+4912345",
            "1e5x",
            "0x10",
            "-0",
            "1.50",
            "1.",
            ".5",
            "1e3",
            "1E300",
            "1_000",
            // More than 64 bits, and more digits than a real number has.
            "9223372036854775808",
            "-9223372036854775809",
            "123456789012345678901234567890",
            "3.14159265358979323846",
            "1e999",
            "true",
            "Null",
            "inf",
            "-inf",
            "NaN",
            "",
            " 7",
            "-",
            "1-2",
            "'",
            "x'00",
            "２",
            "a\"b\n",
        ] {
            assert_eq!(value(word).unwrap(), json(word), "{word}");
        }
    }

    #[test]
    fn what_is_no_blob_is_named() {
        let all = of_words(&["1".into(), "a".into()]).unwrap();
        assert_eq!(all.get(), "[1,\"a\"]");
        for wrong in ["x'0'", "X'0g'", "x'é'"] {
            let error = of_words(&["1".into(), wrong.into()]).unwrap_err();
            assert!(matches!(error, CliError::Usage(_)));
            assert!(
                error.to_string().starts_with("argument 2 is no BLOB"),
                "{error}"
            );
        }
    }

    #[test]
    fn json_goes_as_it_is() {
        let exact = "[18446744073709551616, 1.0]";
        assert_eq!(array(exact).unwrap().get(), exact);
        for wrong in ["", "{}", "7", "[NaN]", "[1] 2"] {
            assert!(array(wrong).is_err(), "{wrong}");
        }
    }
}

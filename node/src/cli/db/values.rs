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
    let values: Vec<String> = words.iter().map(|word| value(word)).collect();
    RawValue::from_string(format!("[{}]", values.join(",")))
        .map_err(|e| CliError::Usage(format!("the arguments cannot be sent: {e}")))
}

/// A word as a JSON value. Whole numbers stay exact to 64 bits.
fn value(word: &str) -> String {
    if word.eq_ignore_ascii_case("null") {
        return "null".into();
    }
    if let Some(text) = word.strip_prefix('\'').and_then(|w| w.strip_suffix('\'')) {
        return json(&text.replace("''", "'"));
    }
    let digits = word
        .strip_prefix(['x', 'X'])
        .and_then(|w| w.strip_prefix('\''));
    if let Some(bytes) = digits.and_then(|w| w.strip_suffix('\'')).and_then(hex) {
        return format!("{{\"blob\":\"{}\"}}", STANDARD.encode(bytes));
    }
    if let Ok(whole) = word.parse::<i64>() {
        return whole.to_string();
    }
    // Rust reads `inf`, `nan` and `1.` too, which people mean as text.
    let number = word.bytes().any(|b| b.is_ascii_digit())
        && word
            .bytes()
            .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    match word.parse::<f64>() {
        Ok(real) if number && real.is_finite() => format!("{real:?}"),
        _ => json(word),
    }
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
            ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808"),
            // Larger than 64 bits: the nearest real number.
            ("9223372036854775808", "9.223372036854776e18"),
            ("1.5", "1.5"),
            ("1e3", "1000.0"),
            ("1e999", "\"1e999\""),
            ("null", "null"),
            ("NULL", "null"),
            ("'7'", "\"7\""),
            ("'it''s'", "\"it's\""),
            ("x'00fF'", "{\"blob\":\"AP8=\"}"),
            ("x'0'", "\"x'0'\""),
            ("true", "\"true\""),
            ("inf", "\"inf\""),
            ("NaN", "\"NaN\""),
            ("", "\"\""),
            ("-", "\"-\""),
            ("1-2", "\"1-2\""),
            ("a\"b\n", "\"a\\\"b\\n\""),
        ] {
            assert_eq!(value(word), json, "{word}");
        }
        let all = of_words(&["1".into(), "a".into()]).unwrap();
        assert_eq!(all.get(), "[1,\"a\"]");
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

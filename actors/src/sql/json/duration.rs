//! Durations as Go writes them: `2s`, `500ms`, `1m30s`, `1.5h`.

use std::time::Duration;

/// Units, the longer name first where one begins another.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// Longest duration: what Go's fits into, 292 years in nanoseconds.
const MAX_NANOS: f64 = i64::MAX as f64;

/// Reads a duration; `None` when it is none or negative. `0` needs no unit.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanos = 0.0f64;
    let mut any = false;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        if !number.bytes().any(|b| b.is_ascii_digit()) {
            return None;
        }
        let number: f64 = number.parse().ok()?;
        let (unit, scale) = UNITS.into_iter().find(|(unit, _)| tail.starts_with(unit))?;
        nanos += number * scale;
        any = true;
        rest = &tail[unit.len()..];
    }
    if !any || nanos >= MAX_NANOS {
        return None;
    }
    Some(Duration::from_nanos(nanos.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::parse;
    use std::time::Duration;

    #[test]
    fn gos_durations_are_read() {
        for (text, millis) in [
            ("2s", 2_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("+.5s", 500),
            ("1h2m3s4ms", 3_723_004),
            ("0", 0),
            ("0s", 0),
            ("2000us", 2),
            ("2000µs", 2),
            ("3000000ns", 3),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn others_are_not() {
        for text in [
            "",
            "2",
            "s",
            "-1s",
            ".s",
            "1.2.3s",
            "2 s",
            "2s ",
            "1d",
            "1e3s",
            "99999999h",
            "+",
            "2S",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}

//! The one place that writes to stdout and stderr: answers to stdout, in words
//! or as JSON; progress and complaints to stderr.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::time::Duration;

use super::error::CliError;
use super::table::Table;

/// Where a command writes.
pub struct Output {
    json: bool,
    out: Box<dyn Write>,
    err: Box<dyn Write>,
}

impl Output {
    /// The process's own stdout and stderr.
    pub fn standard(json: bool) -> Self {
        Self::to(json, std::io::stdout(), std::io::stderr())
    }

    /// Any two writers.
    pub fn to(json: bool, out: impl Write + 'static, err: impl Write + 'static) -> Self {
        Self {
            json,
            out: Box::new(out),
            err: Box::new(err),
        }
    }

    /// Whether the answer is read by a program.
    pub fn json(&self) -> bool {
        self.json
    }

    /// A line of the answer.
    ///
    /// # Errors
    /// [`CliError::StdoutClosed`] when nobody reads any more.
    pub fn line(&mut self, line: impl Display) -> Result<(), CliError> {
        let result = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
        stdout_result(result)
    }

    /// Bytes of the answer as they came, and a line end if they have none.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        let end: &[u8] = if bytes.ends_with(b"\n") { b"" } else { b"\n" };
        let result = self
            .out
            .write_all(bytes)
            .and_then(|()| self.out.write_all(end))
            .and_then(|()| self.out.flush());
        stdout_result(result)
    }

    /// A value of our own as JSON.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn value(&mut self, value: &serde_json::Value) -> Result<(), CliError> {
        self.line(value)
    }

    /// A table, or `empty` when it has no rows.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn table(&mut self, table: &Table, empty: &str) -> Result<(), CliError> {
        if table.is_empty() {
            return self.line(empty);
        }
        for line in table.render() {
            self.line(line)?;
        }
        Ok(())
    }

    /// Progress of long work. A stderr that cannot be written to stops nothing.
    pub fn progress(&mut self, line: impl Display) {
        let _ = writeln!(self.err, "{line}");
    }

    /// Something the reader should know although the command goes on.
    pub fn warn(&mut self, line: impl Display) {
        let _ = writeln!(self.err, "warning: {}", printable(&line.to_string()));
    }

    /// The reason of a failure, and what may be done about it.
    pub fn failure(&mut self, error: &CliError) {
        let _ = writeln!(self.err, "error: {}", printable(&error.to_string()));
        if let Some(hint) = error.hint() {
            let _ = writeln!(self.err, "hint: {}", printable(&hint));
        }
    }

    /// A question; the answer is read elsewhere.
    pub fn ask(&mut self, question: impl Display) {
        let _ = write!(self.err, "{question}");
        let _ = self.err.flush();
    }
}

fn stdout_result(result: std::io::Result<()>) -> Result<(), CliError> {
    result.map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => CliError::StdoutClosed,
        _ => CliError::File {
            action: "cannot write to",
            path: "stdout".into(),
            source: e,
        },
    })
}

/// `text` without anything a terminal would obey or that would make it look like other
/// text: what functions log and people name must not move the reader's cursor, and must not
/// turn around what stands beside it. Line ends and tabs stay.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if deceives(c) && c != '\n' && c != '\t' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Controls; marks of direction; what has no width but joiners, which scripts and emoji need;
/// other line ends.
pub fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{180e}' | '\u{ad}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A duration as people read it.
pub fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// RFC 3339 text cut to whole seconds, for tables.
pub fn short_time(at: orama_proto::Timestamp) -> String {
    orama_proto::Timestamp(at.secs().saturating_mul(1_000_000)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_controls_are_shown_and_not_obeyed() {
        assert_eq!(printable("a\x1b[2Jb\tc\nd\r"), "a\\u{1b}[2Jb\tc\nd\\r");
        assert_eq!(printable("\u{9b}31m\x7f"), "\\u{9b}31m\\u{7f}");
        // What turns text around, or cannot be seen.
        for c in "\u{202a}\u{202e}\u{2066}\u{2069}\u{200f}\u{61c}\u{200b}\u{feff}\u{2028}".chars() {
            let text = format!("admin{c}");
            assert_eq!(printable(&text), format!("admin{}", c.escape_unicode()));
        }
        let family = "é e\u{301} 👩\u{200d}👧 می\u{200c}خواهم עברית";
        assert_eq!(printable(family), family);
    }

    #[test]
    fn times_and_durations_are_short() {
        let at = orama_proto::Timestamp(1_708_972_800_123_456);
        assert_eq!(short_time(at), "2024-02-26T18:40:00Z");
        assert_eq!(seconds(Duration::from_millis(12)), "12 ms");
        assert_eq!(seconds(Duration::from_millis(2345)), "2.3 s");
    }
}

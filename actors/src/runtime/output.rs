//! What a guest writes: its result, its error stream and its log, each bounded.

use orama_proto::Timestamp;
use orama_proto::invocation::{LogLevel, LogLine};
use orama_proto::limits::{
    LOG_LINE_MAX_BYTES, LOG_LINES_MAX, LOG_TOTAL_MAX_BYTES, OUTPUT_MAX_BYTES,
};

use super::failure::Stop;

/// Bytes of stderr or stdout that an error carries.
pub(crate) const DETAIL_MAX_BYTES: usize = 2048;

/// stdout of a command: its result.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) bytes: Vec<u8>,
    /// Bytes the guest wrote, what was refused included.
    pub(crate) written: u64,
}

impl Output {
    /// Takes a write of `len` bytes in all, which the caller then appends.
    pub(crate) fn reserve(&mut self, len: usize) -> Result<(), Stop> {
        self.written = self.written.saturating_add(len as u64);
        if len > OUTPUT_MAX_BYTES - self.bytes.len() {
            return Err(Stop::OutputTooLarge);
        }
        Ok(())
    }
}

/// The log of an invocation.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) lines: Vec<LogLine>,
    pub(crate) dropped: u64,
    bytes: usize,
}

impl Log {
    /// Adds a line that may hold any bytes, cut at its limit; drops and counts it when the log is full.
    pub(crate) fn push_bytes(&mut self, level: LogLevel, message: &[u8]) {
        // Cut before converting: a guest may hand over its whole memory.
        let cut = &message[..message.len().min(LOG_LINE_MAX_BYTES)];
        let kept = if cut.len() < message.len() {
            whole_chars(cut)
        } else {
            cut
        };
        if self.full(kept.len()) {
            self.dropped += 1;
            return;
        }
        let mut text = String::from_utf8_lossy(kept).into_owned();
        if text.len() > LOG_LINE_MAX_BYTES {
            // Replacement characters are longer than what they replace.
            text.truncate(text.floor_char_boundary(LOG_LINE_MAX_BYTES));
        }
        if self.full(text.len()) {
            self.dropped += 1;
            return;
        }
        self.bytes += text.len();
        self.lines.push(LogLine {
            level,
            message: text,
            timestamp: Timestamp::now(),
        });
    }

    /// Tells the author what the host noticed.
    pub(crate) fn warn(&mut self, message: &str) {
        self.push_bytes(LogLevel::Warn, message.as_bytes());
    }

    fn full(&self, more: usize) -> bool {
        self.lines.len() >= LOG_LINES_MAX || self.bytes + more > LOG_TOTAL_MAX_BYTES
    }
}

/// Drops a character that a cut has split.
fn whole_chars(cut: &[u8]) -> &[u8] {
    match std::str::from_utf8(cut) {
        Err(e) if e.error_len().is_none() => &cut[..e.valid_up_to()],
        _ => cut,
    }
}

/// A stream of text that goes to the log line by line.
pub(crate) struct LineStream {
    level: LogLevel,
    /// The line that has no end yet, up to its limit.
    partial: Vec<u8>,
    /// The last bytes, for error details.
    tail: Vec<u8>,
}

impl LineStream {
    pub(crate) fn new(level: LogLevel) -> Self {
        Self {
            level,
            partial: Vec::new(),
            tail: Vec::new(),
        }
    }

    /// Takes a piece of the stream.
    pub(crate) fn write(&mut self, bytes: &[u8], log: &mut Log) {
        self.remember(bytes);
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if self.partial.is_empty() {
                push_line(self.level, &rest[..end], log);
            } else {
                self.extend(&rest[..end]);
                self.flush(log);
            }
            rest = &rest[end + 1..];
        }
        self.extend(rest);
    }

    /// Takes the last line, which may lack its end.
    pub(crate) fn flush(&mut self, log: &mut Log) {
        if !self.partial.is_empty() {
            push_line(self.level, &self.partial, log);
            self.partial.clear();
        }
    }

    /// The end of the stream, as text without surrounding blanks.
    pub(crate) fn tail(&self) -> String {
        tail_text(&self.tail)
    }

    fn extend(&mut self, bytes: &[u8]) {
        // One byte over the limit is kept, so that the log knows the line was cut.
        let room = (LOG_LINE_MAX_BYTES + 1).saturating_sub(self.partial.len());
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn remember(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(DETAIL_MAX_BYTES)..];
        let excess = (self.tail.len() + last.len()).saturating_sub(DETAIL_MAX_BYTES);
        self.tail.drain(..excess);
        self.tail.extend_from_slice(last);
    }
}

fn push_line(level: LogLevel, line: &[u8], log: &mut Log) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // Blank lines tell nothing and use up the limit.
    if !line.is_empty() {
        log.push_bytes(level, line);
    }
}

/// The last [`DETAIL_MAX_BYTES`] of some output as text.
pub(crate) fn tail_text(bytes: &[u8]) -> String {
    let mut tail = &bytes[bytes.len().saturating_sub(DETAIL_MAX_BYTES)..];
    // Do not begin inside a character.
    while tail.len() < bytes.len() && tail.first().is_some_and(|byte| byte & 0xC0 == 0x80) {
        tail = &tail[1..];
    }
    String::from_utf8_lossy(tail).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(log: &Log) -> Vec<&str> {
        log.lines.iter().map(|line| line.message.as_str()).collect()
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        let mut log = Log::default();
        let mut stream = LineStream::new(LogLevel::Error);
        for piece in ["one\ntw", "o\r\n\n", "thr", "ee"] {
            stream.write(piece.as_bytes(), &mut log);
        }
        stream.flush(&mut log);
        assert_eq!(texts(&log), ["one", "two", "three"]);
        assert_eq!(stream.tail(), "one\ntwo\r\n\nthree");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut log = Log::default();
        let mut stream = LineStream::new(LogLevel::Error);
        stream.write("é".repeat(LOG_LINE_MAX_BYTES).as_bytes(), &mut log);
        stream.flush(&mut log);
        log.push_bytes(LogLevel::Info, "x".repeat(LOG_LINE_MAX_BYTES).as_bytes());
        assert_eq!(log.lines[0].message, "é".repeat(LOG_LINE_MAX_BYTES / 2));
        assert_eq!(log.lines[1].message.len(), LOG_LINE_MAX_BYTES);
        let mut odd = vec![b'x'];
        odd.extend("é".repeat(LOG_LINE_MAX_BYTES).as_bytes());
        log.push_bytes(LogLevel::Info, &odd);
        assert!(log.lines[2].message.ends_with('é'));
    }

    #[test]
    fn lines_and_bytes_are_bounded_and_counted() {
        let mut log = Log::default();
        for _ in 0..LOG_LINES_MAX + 5 {
            log.push_bytes(LogLevel::Info, b"x");
        }
        assert_eq!((log.lines.len(), log.dropped), (LOG_LINES_MAX, 5));
        let mut log = Log::default();
        for _ in 0..100 {
            log.push_bytes(LogLevel::Info, &[b'x'; LOG_LINE_MAX_BYTES]);
        }
        assert_eq!(log.lines.len(), LOG_TOTAL_MAX_BYTES / LOG_LINE_MAX_BYTES);
        assert_eq!(log.dropped as usize, 100 - log.lines.len());
    }

    #[test]
    fn bytes_that_are_no_text_stay_within_the_limit() {
        let mut log = Log::default();
        log.push_bytes(LogLevel::Info, &[0xff; LOG_LINE_MAX_BYTES * 2]);
        assert!(log.lines[0].message.len() <= LOG_LINE_MAX_BYTES);
    }

    #[test]
    fn the_tail_is_bounded() {
        let mut log = Log::default();
        let mut stream = LineStream::new(LogLevel::Error);
        stream.write(&[b'a'; 3000], &mut log);
        stream.write(b"end", &mut log);
        assert_eq!(stream.tail().len(), DETAIL_MAX_BYTES);
        assert!(stream.tail().ends_with("aend"));
        assert_eq!(tail_text("é".repeat(2000).as_bytes()), "é".repeat(1024));
        assert_eq!(
            tail_text(&[b"x", "é".repeat(1024).as_bytes()].concat()),
            "é".repeat(1024)
        );
    }

    #[test]
    fn output_over_the_limit_is_counted() {
        let mut output = Output::default();
        assert!(output.reserve(OUTPUT_MAX_BYTES).is_ok());
        output.bytes.resize(OUTPUT_MAX_BYTES, 0);
        assert!(output.reserve(1).is_err());
        assert_eq!(output.written, OUTPUT_MAX_BYTES as u64 + 1);
    }
}

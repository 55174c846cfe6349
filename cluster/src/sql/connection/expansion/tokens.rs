//! A statement's text in pieces, as far as it matters for what it names.

use std::borrow::Cow;

#[derive(Debug)]
pub(super) enum Token<'a> {
    /// A name, a keyword, a text in quotes of any kind (a table may be named by each), in lower case.
    Name(Cow<'a, [u8]>),
    Other(u8),
}

impl Token<'_> {
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Name(name) => name.len(),
            Self::Other(_) => 1,
        }
    }
    pub(super) fn is(&self, word: &[u8]) -> bool {
        matches!(self, Self::Name(name) if name.as_ref() == word)
    }
}

/// Splits a text as SQLite does, as far as it matters.
pub(super) struct Tokens<'a>(pub(super) &'a [u8]);

impl<'a> Tokens<'a> {
    /// Takes `length` bytes, or what is left.
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
    fn take_while(&mut self, is: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.0.iter().position(|byte| !is(*byte));
        self.take(length.unwrap_or(self.0.len()))
    }
    /// A name or a text in quotes; the end quote twice is one of its characters.
    fn quoted(&mut self, end: u8) -> Cow<'a, [u8]> {
        self.take(1);
        let mut name = Cow::Borrowed(self.take_while(|byte| byte != end));
        self.take(1);
        while end != b']' && self.0.first() == Some(&end) {
            self.take(1);
            let name = name.to_mut();
            name.push(end);
            name.extend_from_slice(self.take_while(|byte| byte != end));
            self.take(1);
        }
        name
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let in_name =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..);
        loop {
            self.take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c));
            if self.0.starts_with(b"--") {
                self.take_while(|byte| byte != b'\n');
            } else if self.0.starts_with(b"/*") {
                let end = memchr::memmem::find(self.0.get(2..)?, b"*/");
                self.take(end.map_or(self.0.len(), |end| end + 4));
            } else {
                break;
            }
        }
        let first = *self.0.first()?;
        let name = match first {
            b'\'' | b'"' | b'`' => self.quoted(first),
            b'[' => self.quoted(b']'),
            b'0'..=b'9' => {
                self.take_while(|byte| in_name(byte) || byte == b'.');
                return Some(Token::Other(b'0'));
            }
            _ if in_name(first) => Cow::Borrowed(self.take_while(in_name)),
            _ => {
                self.take(1);
                return Some(Token::Other(first));
            }
        };
        Some(Token::Name(match name.iter().any(u8::is_ascii_uppercase) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => name,
        }))
    }
}

//! Cuts a file of SQL into statements, without understanding them.

use std::ops::Range;

/// One statement of a longer text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlPiece<'a> {
    /// The line it begins in, from 1.
    pub line: usize,
    /// The statement without what stands around it: no semicolon, no comments before it.
    pub sql: &'a str,
    /// Whether a semicolon ended it. Only the last piece of a text may be incomplete; a shell
    /// goes on reading then, a file may just end so.
    pub complete: bool,
}

impl SqlPiece<'_> {
    /// Whether it is of the frame that `sqlite3 FILE .dump` puts around its statements:
    /// transaction brackets, `PRAGMA foreign_keys` or `writable_schema`, and what ANALYZE found,
    /// which a database takes from nowhere but its own ANALYZE.
    pub fn is_dump_frame(&self) -> bool {
        let mut words = words(self.sql);
        let mut word = || words.next().unwrap_or_default().to_ascii_lowercase();
        match word().as_str() {
            "begin" | "commit" | "end" => true,
            "pragma" => matches!(word().as_str(), "foreign_keys" | "writable_schema"),
            "analyze" => matches!(word().as_str(), "sqlite_schema" | "sqlite_master"),
            "insert" => word() == "into" && word().starts_with("sqlite_stat"),
            _ => false,
        }
    }

    /// Its first words, as they are written: at most `count`, until something else comes.
    pub fn words(&self, count: usize) -> impl Iterator<Item = &str> {
        words(self.sql).take(count)
    }
}

/// Whether a statement is `PRAGMA foreign_keys = OFF`, however it is written. As the first op of a
/// transaction it says that foreign keys are not enforced in it.
pub fn turns_foreign_keys_off(sql: &str) -> bool {
    let mut tokens = Tokens::of(sql);
    let mut all = std::iter::from_fn(|| tokens.next())
        .filter(|(token, _)| !matches!(token, Token::Space | Token::Semicolon))
        .map(|(_, text)| text.to_ascii_lowercase());
    let mut next = || all.next().unwrap_or_default();
    if next() != "pragma" || next() != "foreign_keys" {
        return false;
    }
    let closed = match next().as_str() {
        "=" => "",
        "(" => ")",
        _ => return false,
    };
    matches!(next().as_str(), "off" | "0" | "false" | "no") && next() == closed && next().is_empty()
}

/// The statements of a text as [`sql_pieces`] cuts it, without the frame that
/// `sqlite3 FILE .dump` writes: an import has its own transactions.
pub fn split_sql(text: &str) -> impl Iterator<Item = SqlPiece<'_>> {
    sql_pieces(text).filter(|piece| !piece.is_dump_frame())
}

/// Cuts a text into its statements, in order. Knows strings, quoted names, comments and the
/// bodies of triggers; empty statements are left out. Never fails: what is not SQL becomes
/// a piece that SQLite refuses.
pub fn sql_pieces(text: &str) -> impl Iterator<Item = SqlPiece<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Pieces {
        text,
        scan: Scan::default(),
        counted: 0,
        line: 1,
    }
}

/// The first word of a statement, without what stands before it.
pub(crate) fn first_word(sql: &str) -> &str {
    words(sql).next().unwrap_or_default()
}

/// The words of a statement until something else comes.
pub(super) fn words(sql: &str) -> impl Iterator<Item = &str> {
    let mut tokens = Tokens::of(sql);
    std::iter::from_fn(move || {
        loop {
            match tokens.next()? {
                (Token::Space, _) => {}
                (Token::Word, word) => return Some(word),
                _ => return None,
            }
        }
    })
}

/// Whether a keyword is in a statement, outside of strings, quoted names and comments.
pub(super) fn has_word(sql: &str, word: &str) -> bool {
    let mut tokens = Tokens::of(sql);
    std::iter::from_fn(|| tokens.next())
        .any(|(token, text)| token == Token::Word && text.eq_ignore_ascii_case(word))
}

/// What has to follow a statement so that a semicolon after it is none of its last comment.
pub(super) fn end_of_comment(sql: &str) -> &'static str {
    let mut tokens = Tokens::of(sql);
    match std::iter::from_fn(|| tokens.next()).last() {
        Some((Token::Space, text)) if text.starts_with("--") && !text.ends_with('\n') => "\n",
        Some((Token::Space, text))
            if text.starts_with("/*") && (text.len() < 4 || !text.ends_with("*/")) =>
        {
            "*/"
        }
        _ => "",
    }
}

struct Pieces<'a> {
    text: &'a str,
    scan: Scan,
    /// Up to here lines were counted.
    counted: usize,
    /// The line that is in.
    line: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = SqlPiece<'a>;

    fn next(&mut self) -> Option<SqlPiece<'a>> {
        let whole = self.scan.next(self.text);
        let complete = whole.is_some();
        let range = match whole {
            Some(range) => range,
            None => self.scan.start.take()?..self.text.len(),
        };
        self.line += lines(self.text.get(self.counted..range.start)?);
        self.counted = range.start;
        Some(SqlPiece {
            line: self.line,
            sql: self.text.get(range)?.trim_end(),
            complete,
        })
    }
}

/// How far a text was read, so that reading can go on when there is more of it.
#[derive(Default)]
pub(super) struct Scan {
    /// Bytes that were read.
    pub(super) at: usize,
    /// Where the statement begins that is open.
    pub(super) start: Option<usize>,
    shape: Shape,
    /// What ends the string or comment that is open.
    open: Option<&'static str>,
    /// Whether that began in what was read last.
    pub(super) opened: bool,
}

impl Scan {
    /// The next statement, without its semicolon; none when the text ends before one.
    pub(super) fn next(&mut self, text: &str) -> Option<Range<usize>> {
        let mut tokens = Tokens {
            text,
            at: self.at,
            open: self.open.take(),
        };
        let mut found = None;
        loop {
            let before = tokens.at;
            let goes_on = tokens.open.is_some();
            let token = tokens.next();
            self.opened |= !goes_on && tokens.open.is_some();
            match token {
                None => break,
                Some((Token::Space, _)) => {}
                Some((Token::Semicolon, _)) => match self.start {
                    None => {}
                    Some(_) if !self.shape.ends_here() => self.shape.semicolon(),
                    Some(start) => {
                        found = Some(start..before);
                        self.start = None;
                        self.shape = Shape::default();
                        break;
                    }
                },
                Some((kind, word)) => {
                    self.start.get_or_insert(before);
                    self.shape.word(if kind == Token::Word { word } else { "" });
                }
            }
        }
        self.at = tokens.at;
        self.open = tokens.open;
        found
    }

    /// Whether a string or comment has no end yet.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some_and(|end| end != LINE_END)
    }

    /// Whether the open statement may end where the text ends.
    pub(super) fn may_end(&self) -> bool {
        !self.is_open() && self.shape.ends_here()
    }
}

pub(super) fn lines(text: &str) -> usize {
    text.bytes().filter(|b| *b == b'\n').count()
}

/// What kind of statement it is so far: the body of a trigger has semicolons inside.
#[derive(Default)]
enum Shape {
    /// Nothing but EXPLAIN, QUERY, PLAN.
    #[default]
    Start,
    /// CREATE, TEMP, TEMPORARY.
    Create,
    Plain,
    /// Inside of CREATE TRIGGER.
    Trigger,
    /// There, right after a semicolon.
    AfterSemicolon,
    /// There, after a semicolon and END.
    AfterEnd,
}

impl Shape {
    fn word(&mut self, word: &str) {
        let is = |other: &str| word.eq_ignore_ascii_case(other);
        *self = match self {
            Self::Start if is("explain") || is("query") || is("plan") => return,
            Self::Start if is("create") => Self::Create,
            Self::Create if is("temp") || is("temporary") => return,
            Self::Create if is("trigger") => Self::Trigger,
            Self::AfterSemicolon if is("end") => Self::AfterEnd,
            Self::Trigger | Self::AfterSemicolon | Self::AfterEnd => Self::Trigger,
            Self::Start | Self::Create | Self::Plain => Self::Plain,
        };
    }

    /// Whether a semicolon here ends the statement.
    fn ends_here(&self) -> bool {
        !matches!(self, Self::Trigger | Self::AfterSemicolon)
    }

    fn semicolon(&mut self) {
        *self = Self::AfterSemicolon;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// White space or a comment; also the rest of a string that began earlier.
    Space,
    Semicolon,
    /// A keyword or a name.
    Word,
    /// Anything else: a string, a quoted name, an operator.
    Other,
}

/// Ends a comment that begins with `--`.
const LINE_END: &str = "\n";

pub(super) struct Tokens<'a> {
    text: &'a str,
    pub(super) at: usize,
    /// What ends the string or comment in which the text before `at` ends.
    open: Option<&'static str>,
}

impl<'a> Tokens<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            open: None,
        }
    }

    pub(super) fn next(&mut self) -> Option<(Token, &'a str)> {
        let rest = self.text.get(self.at..)?;
        let bytes = rest.as_bytes();
        let first = *bytes.first()?;
        let (token, len) = match (self.open.take(), first, bytes.get(1)) {
            (Some(end), _, _) => (Token::Space, self.until(rest, 0, end)),
            (_, b';', _) => (Token::Semicolon, 1),
            (_, b' ' | b'\t' | b'\n' | b'\r' | 0x0c, _) => (Token::Space, 1),
            (_, b'-', Some(b'-')) => (Token::Space, self.until(rest, 2, LINE_END)),
            (_, b'/', Some(b'*')) => (Token::Space, self.until(rest, 2, "*/")),
            (_, b'\'', _) => (Token::Other, self.until(rest, 1, "'")),
            (_, b'"', _) => (Token::Other, self.until(rest, 1, "\"")),
            (_, b'`', _) => (Token::Other, self.until(rest, 1, "`")),
            (_, b'[', _) => (Token::Other, self.until(rest, 1, "]")),
            _ if word_byte(first) => {
                let len = bytes.iter().position(|b| !word_byte(*b));
                (Token::Word, len.unwrap_or(bytes.len()))
            }
            _ => (Token::Other, 1),
        };
        self.at += len;
        Some((token, rest.get(..len)?))
    }

    /// Length up to and with the next `end` at or after `from`, or of everything: then it is
    /// open. A doubled quote inside a string makes two strings side by side, which comes to
    /// the same.
    fn until(&mut self, text: &str, from: usize, end: &'static str) -> usize {
        match text.get(from..).and_then(|rest| rest.find(end)) {
            Some(at) => from + at + end.len(),
            None => {
                self.open = Some(end);
                text.len()
            }
        }
    }
}

fn word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<(usize, &str)> {
        split_sql(text).map(|p| (p.line, p.sql)).collect()
    }

    #[test]
    fn cuts_at_semicolons_that_end_a_statement() {
        assert_eq!(cut(""), []);
        assert_eq!(cut(" ;; -- nothing;\n /* ; */ ;"), []);
        assert_eq!(
            cut("SELECT 1;\n\nSELECT 2\n;SELECT 3 -- end"),
            [(1, "SELECT 1"), (3, "SELECT 2"), (4, "SELECT 3 -- end")]
        );
        assert_eq!(
            cut("-- first\nINSERT INTO \"a;b\" VALUES(';''\n;', `;`, [;], /* ; */ 2);\nSELECT 1;"),
            [
                (
                    2,
                    "INSERT INTO \"a;b\" VALUES(';''\n;', `;`, [;], /* ; */ 2)"
                ),
                (4, "SELECT 1")
            ]
        );
        assert_eq!(cut("SELECT 'é;ü'; SELECT ü;").len(), 2);
        assert_eq!(cut("\u{feff}SELECT 1;"), [(1, "SELECT 1")]);
        assert_eq!(cut("SELECT 1\r\n;\r\nSELECT 2;")[1], (3, "SELECT 2"));
    }

    #[test]
    fn a_trigger_is_one_statement() {
        let trigger = "CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN\n \
             SELECT CASE WHEN 1 THEN 2 END; UPDATE a SET end = 1; /* ; */ \n END";
        assert_eq!(
            cut(&format!("{trigger} ;\nSELECT 1;")),
            [(1, trigger), (4, "SELECT 1")]
        );
        let explained = format!("EXPLAIN QUERY PLAN {trigger}");
        assert_eq!(cut(&format!("{explained};SELECT 1"))[0].1, explained);
        // A table of that name is none.
        assert_eq!(cut("CREATE TABLE trigger(a); SELECT 1;").len(), 2);
        assert_eq!(cut("INSERT INTO a SELECT create trigger; END;").len(), 1);
    }

    #[test]
    fn says_what_is_unfinished() {
        for text in [
            "SELECT 1",
            "SELECT ';",
            "SELECT \";",
            "SELECT 1 /* ;",
            "SELECT 1 -- ;",
            "CREATE TRIGGER a AFTER INSERT ON b BEGIN SELECT 1;",
            "CREATE TRIGGER a AFTER INSERT ON b BEGIN SELECT 1; END",
        ] {
            let pieces: Vec<_> = sql_pieces(text).collect();
            assert_eq!(pieces.len(), 1, "{text}");
            assert!(!pieces[0].complete, "{text}");
            assert_eq!(pieces[0].sql, text);
        }
        assert!(sql_pieces("SELECT 1;").all(|p| p.complete));
    }

    #[test]
    fn leaves_out_the_frame_of_a_dump() {
        let text = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE a(b);\n\
             ANALYZE sqlite_schema;\nINSERT INTO sqlite_stat1 VALUES('a',NULL,'7');\n\
             /* x */ commit;\nPRAGMA user_version=3;\nROLLBACK; -- due to errors\n";
        assert_eq!(
            cut(text),
            [
                (3, "CREATE TABLE a(b)"),
                (7, "PRAGMA user_version=3"),
                (8, "ROLLBACK")
            ]
        );
        assert_eq!(sql_pieces(text).count(), 8);
    }

    #[test]
    fn foreign_keys_are_turned_off_in_many_words() {
        for sql in [
            "PRAGMA foreign_keys=OFF",
            " /* a */ pragma FOREIGN_KEYS = off ; -- b",
            "PRAGMA foreign_keys(0)",
            "PRAGMA foreign_keys = no",
            "PRAGMA foreign_keys = false",
        ] {
            assert!(turns_foreign_keys_off(sql), "{sql}");
        }
        for sql in [
            "",
            "PRAGMA foreign_keys",
            "PRAGMA foreign_keys = ON",
            "PRAGMA foreign_keys = 1",
            "PRAGMA foreign_keys(0",
            "PRAGMA foreign_keys = (0)",
            "PRAGMA foreign_keys = 0; DELETE FROM t",
            "PRAGMA main.foreign_keys = OFF",
            "PRAGMA defer_foreign_keys = OFF",
            "EXPLAIN PRAGMA foreign_keys = OFF",
        ] {
            assert!(!turns_foreign_keys_off(sql), "{sql}");
        }
    }

    #[test]
    fn a_last_comment_is_ended() {
        for (sql, end) in [
            ("SELECT 1", ""),
            ("SELECT '--'", ""),
            ("SELECT 1 -- a", "\n"),
            ("SELECT 1 -- a\n", ""),
            ("SELECT 1 /* a */", ""),
            ("SELECT 1 /* a", "*/"),
            ("SELECT 1 /*/", "*/"),
            ("SELECT 1 /* a */ ", ""),
        ] {
            assert_eq!(end_of_comment(sql), end, "{sql}");
        }
        assert!(has_word(
            "a INTEGER PRIMARY KEY AutoIncrement)",
            "autoincrement"
        ));
        assert!(!has_word(
            "a 'autoincrement' /* autoincrement */",
            "autoincrement"
        ));
    }

    #[test]
    fn finds_the_first_word() {
        assert_eq!(first_word(" /* a */ -- b\n\tcreate/**/table"), "create");
        assert_eq!(first_word("(SELECT 1)"), "");
        assert_eq!(first_word(""), "");
    }

    proptest::proptest! {
        #[test]
        fn pieces_are_the_text_in_order(
            text in "([a-z;'\"`\\[\\] \n/*é-]|create |trigger |end|;){0,60}"
        ) {
            let mut rest = text.as_str();
            let mut line = 1;
            for piece in sql_pieces(&text) {
                let at = rest.find(piece.sql).unwrap();
                proptest::prop_assert!(!piece.sql.trim().is_empty());
                // What lies between is space, comments and semicolons.
                proptest::prop_assert!(sql_pieces(&rest[..at]).count() == 0);
                line += lines(&rest[..at]);
                proptest::prop_assert_eq!(piece.line, line);
                line += lines(piece.sql);
                rest = &rest[at + piece.sql.len()..];
            }
            proptest::prop_assert!(sql_pieces(rest).count() == 0);
        }
    }
}

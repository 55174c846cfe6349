//! Statements out of text that comes line by line: every byte is read once, however long a
//! statement stays open.

use super::split::{Scan, lines};

/// A statement of [`SqlLines`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlStatement {
    /// The line it begins in, from 1.
    pub line: usize,
    /// Without semicolon, and without comments before it.
    pub sql: String,
}

/// A statement over the limit; what is left of it, up to its semicolon, is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlTooLong {
    /// The line it begins in, from 1.
    pub line: usize,
}

/// Lines until they are statements.
pub struct SqlLines {
    /// The statement that is open; nothing of what was before it.
    text: String,
    scan: Scan,
    /// Bytes of a statement.
    limit: usize,
    /// Whether the open statement is over the limit.
    passing_over: bool,
    /// The line `text` begins in.
    line: usize,
    /// The line in which the string or comment begins that is open.
    open_line: usize,
    /// Lines that were taken in.
    taken: usize,
}

impl SqlLines {
    /// Takes statements of at most so many bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            text: String::new(),
            scan: Scan::default(),
            limit,
            passing_over: false,
            line: 1,
            open_line: 1,
            taken: 0,
        }
    }

    /// Lines that were taken in.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Whether nothing is open: neither a statement nor a comment.
    pub fn is_blank(&self) -> bool {
        self.scan.start.is_none() && !self.scan.is_open()
    }

    /// Adds a line, without its end, and takes out what is complete with it.
    pub fn push(&mut self, line: &str) -> Vec<Result<SqlStatement, SqlTooLong>> {
        let line = match self.taken {
            0 => line.strip_prefix('\u{feff}').unwrap_or(line),
            _ => line,
        };
        self.taken += 1;
        self.text.push_str(line);
        self.text.push('\n');
        let mut found = Vec::new();
        let mut counted = 0;
        while let Some(range) = self.scan.next(&self.text) {
            self.line += lines(self.text.get(counted..range.start).unwrap_or_default());
            counted = range.start;
            let sql = self.text.get(range).unwrap_or_default().trim_end();
            if std::mem::take(&mut self.passing_over) {
                continue;
            }
            found.push(if sql.len() > self.limit {
                Err(SqlTooLong { line: self.line })
            } else {
                Ok(SqlStatement {
                    line: self.line,
                    sql: sql.to_owned(),
                })
            });
        }
        if std::mem::take(&mut self.scan.opened) {
            self.open_line = self.taken;
        }
        let keep = self.scan.start.unwrap_or(self.text.len());
        self.line += lines(self.text.get(counted..keep).unwrap_or_default());
        self.forget(keep);
        if self.scan.start.is_some() && self.text.len() > self.limit {
            if !std::mem::replace(&mut self.passing_over, true) {
                found.push(Err(SqlTooLong { line: self.line }));
            }
            self.line += lines(&self.text);
            self.forget(self.text.len());
        }
        found
    }

    /// Drops the first bytes of the text, which were read.
    fn forget(&mut self, bytes: usize) {
        self.text.drain(..bytes);
        self.scan.at = self.scan.at.saturating_sub(bytes);
        if let Some(start) = &mut self.scan.start {
            *start = start.saturating_sub(bytes);
        }
    }

    /// Gives up what is open. Answers whether something was.
    pub fn clear(&mut self) -> bool {
        let open = !self.is_blank();
        self.text.clear();
        self.scan = Scan::default();
        self.passing_over = false;
        self.line = self.taken + 1;
        open
    }

    /// What is open when there are no more lines: a statement that only lacks its semicolon, or,
    /// as an error, the line in which begins what cannot end here.
    ///
    /// # Errors
    /// A string, a comment or the body of a trigger has no end.
    pub fn rest(&mut self) -> Result<Option<SqlStatement>, usize> {
        let passing_over = self.passing_over;
        let line = match self.scan.start {
            Some(_) => self.line,
            // A comment between statements, of which nothing is kept.
            None => self.open_line,
        };
        let may_end = self.scan.may_end();
        let sql = match self.scan.start {
            Some(_) if !passing_over => Some(self.text.trim_end().to_owned()),
            _ => None,
        };
        if !self.clear() || (passing_over && may_end) {
            return Ok(None);
        }
        match sql {
            Some(sql) if may_end => Ok(Some(SqlStatement { line, sql })),
            _ => Err(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::dump::sql_pieces;

    type Rest = Result<Option<SqlStatement>, usize>;

    fn pushed(text: &str) -> (Vec<(usize, String)>, Rest) {
        let mut all = SqlLines::new(1000);
        let mut found = Vec::new();
        for line in text.lines() {
            found.extend(all.push(line).into_iter().map(Result::unwrap));
        }
        let found = found.into_iter().map(|s| (s.line, s.sql)).collect();
        (found, all.rest())
    }

    #[test]
    fn statements_end_with_a_semicolon() {
        let (all, rest) = pushed("SELECT 1; SELECT\n2\n; -- three\nSELECT ';\nx");
        let expected = [(1, "SELECT 1".to_owned()), (1, "SELECT\n2".to_owned())];
        assert_eq!(all, expected);
        assert_eq!(rest, Err(4));
        let trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN\nUPDATE a SET b = 1;\nEND";
        assert_eq!(pushed(&format!("{trigger};")).0, [(1, trigger.to_owned())]);
        assert_eq!(
            pushed(trigger).1.unwrap().map(|s| s.sql).as_deref(),
            Some(trigger)
        );
        assert_eq!(pushed(trigger.trim_end_matches("END")).1, Err(1));
        assert_eq!(pushed("\n-- a\n/* b\n").1, Err(3));
        assert_eq!(pushed("/* a */ /*\n*/ /* b\nc\n").1, Err(2));
        assert_eq!(pushed("\n-- a\n;; /* b */").1, Ok(None));
    }

    #[test]
    fn comments_alone_open_nothing() {
        let mut all = SqlLines::new(1000);
        assert!(all.push("-- only; words").is_empty() && all.is_blank());
        assert!(all.push("/* a;").is_empty() && !all.is_blank());
        let found = all.push("b */ SELECT 3;");
        assert_eq!(found[0].as_ref().unwrap().sql, "SELECT 3");
        assert!(all.is_blank() && !all.clear());
        assert!(all.push("SELECT '").is_empty() && all.clear());
        assert_eq!(all.push("SELECT 1;")[0].as_ref().unwrap().line, 5);
    }

    #[test]
    fn what_is_too_long_is_passed_over_as_a_whole() {
        let mut all = SqlLines::new(110);
        assert!(all.push("").is_empty());
        assert!(all.push("INSERT INTO t VALUES('").is_empty());
        let line = "; DROP TABLE t; ".repeat(5);
        assert!(all.push(&line).is_empty());
        assert_eq!(all.push(&line), [Err(SqlTooLong { line: 2 })]);
        for _ in 0..100 {
            assert!(all.push(&line).is_empty());
            assert!(all.text.len() <= 110, "{}", all.text.len());
        }
        let found = all.push("'); SELECT 1;");
        assert_eq!(found[0].as_ref().unwrap().sql, "SELECT 1");
        assert_eq!(found[0].as_ref().unwrap().line, 105);
        // In one line too, and what is after it is taken.
        let found = all.push(&format!("SELECT '{line}{line}'; SELECT 2"));
        assert_eq!(found, [Err(SqlTooLong { line: 106 })]);
        assert_eq!(all.rest().unwrap().unwrap().sql, "SELECT 2");
        // A comment takes no room.
        all.push("/*");
        for _ in 0..100 {
            assert!(all.push(&line).is_empty() && all.text.is_empty());
        }
    }

    #[test]
    fn a_long_statement_costs_its_length() {
        // 64 MiB of work in all; read anew for every line it would be 16 GiB.
        let mut all = SqlLines::new(usize::MAX);
        all.push("SELECT '");
        let line = ";".repeat(63);
        let began = std::time::Instant::now();
        for _ in 0..16_384 {
            assert!(all.push(&line).is_empty());
        }
        assert_eq!(all.push("';").len(), 1);
        assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    }

    proptest::proptest! {
        #[test]
        fn lines_make_the_statements_of_the_whole(
            text in "([a-z;'\"`\\[\\] \n/*é-]|create |trigger |end|;){0,60}"
        ) {
            let (found, rest) = pushed(&text);
            let whole: Vec<_> = sql_pieces(&text).collect();
            let complete: Vec<_> = whole.iter().filter(|p| p.complete).collect();
            proptest::prop_assert_eq!(found.len(), complete.len());
            for ((line, sql), piece) in found.iter().zip(complete) {
                proptest::prop_assert_eq!((*line, sql.as_str()), (piece.line, piece.sql));
            }
            let open = whole.iter().find(|p| !p.complete).map(|p| (p.line, p.sql.trim_end()));
            match rest {
                Ok(rest) => proptest::prop_assert_eq!(
                    rest.as_ref().map(|s| (s.line, s.sql.as_str())), open),
                // Also a comment that never ends, which is no piece.
                Err(line) => if let Some((at, _)) = open {
                    proptest::prop_assert_eq!(line, at);
                }
            }
        }
    }
}

//! Long literals of an INSERT as arguments: a statement has a limit that its values have not.

use orama_proto::sql::SqlValue;

use super::split::{Token, Tokens, first_word};

/// Shorter literals stay where they are.
const LONG: usize = 64;

/// An INSERT or REPLACE with its longest literals of text and BLOB taken out as arguments, as
/// many as it needs to have at most `limit` bytes of text. A value means the same as literal and
/// as argument. `None` for other statements, for ones that have parameters, and when it
/// would take more than `most` arguments.
pub fn with_arguments(sql: &str, limit: usize, most: usize) -> Option<(String, Vec<SqlValue>)> {
    let verb = first_word(sql);
    if !verb.eq_ignore_ascii_case("insert") && !verb.eq_ignore_ascii_case("replace") {
        return None;
    }
    let mut found = literals(sql)?;
    found.sort_by_key(|literal| std::cmp::Reverse(literal.len));
    let (mut left, mut taken) = (sql.len(), 0);
    while left > limit {
        left -= found.get(taken)?.len - 1;
        taken += 1;
    }
    if taken > most {
        return None;
    }
    found.truncate(taken);
    found.sort_by_key(|literal| literal.at);
    let (mut text, mut args, mut at) = (String::with_capacity(left), Vec::new(), 0);
    for literal in found {
        text.push_str(sql.get(at..literal.at)?);
        text.push('?');
        at = literal.at + literal.len;
        args.push(literal.value(sql)?);
    }
    text.push_str(sql.get(at..)?);
    Some((text, args))
}

struct Literal {
    at: usize,
    len: usize,
    blob: bool,
}

impl Literal {
    fn value(&self, sql: &str) -> Option<SqlValue> {
        let text = sql.get(self.at..self.at + self.len)?;
        let inner = text.trim_start_matches(['x', 'X']);
        let inner = inner.strip_prefix('\'')?.strip_suffix('\'')?;
        if !self.blob {
            return Some(SqlValue::Text(inner.replace("''", "'")));
        }
        let digit = |b: &u8| {
            char::from(*b)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        let bytes: Option<Vec<u8>> = inner
            .as_bytes()
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => Some(digit(high)? << 4 | digit(low)?),
                _ => None,
            })
            .collect();
        bytes.map(SqlValue::Blob)
    }
}

/// The long literals of a statement; none when it has parameters.
fn literals(sql: &str) -> Option<Vec<Literal>> {
    let mut tokens = Tokens::of(sql);
    let mut found: Vec<Literal> = Vec::new();
    // The literal that the token before this one was the end of, and its kind.
    let mut last: Option<Literal> = None;
    let mut before = "";
    loop {
        let at = tokens.at;
        let token = tokens.next();
        let string = matches!(token, Some((Token::Other, text)) if text.starts_with('\''));
        if let (true, Some((_, text))) = (string, token) {
            match &mut last {
                // A doubled quote.
                Some(open) if open.at + open.len == at => open.len += text.len(),
                _ => {
                    found.extend(last.take());
                    let blob = before.eq_ignore_ascii_case("x");
                    let from = if blob { at - 1 } else { at };
                    last = Some(Literal {
                        at: from,
                        len: at + text.len() - from,
                        blob,
                    });
                }
            }
            before = "";
            continue;
        }
        found.extend(last.take());
        let Some((kind, text)) = token else { break };
        if kind == Token::Other && text.starts_with(['?', ':', '@', '#']) {
            return None;
        }
        if kind == Token::Word && text.starts_with('$') {
            return None;
        }
        before = text;
    }
    found.retain(|literal| {
        // SQLite reads text up to a NUL; an odd BLOB is its error to tell.
        let text = sql.get(literal.at..literal.at + literal.len);
        literal.len >= LONG
            && text.is_some_and(|text| text.ends_with('\'') && !text.contains('\0'))
            && (!literal.blob || literal.value(sql).is_some())
    });
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(sql: &str, limit: usize) -> Option<(String, Vec<SqlValue>)> {
        with_arguments(sql, limit, 3)
    }

    #[test]
    fn only_the_longest_literals_become_arguments() {
        let (long, longer) = ("it''s; ?".repeat(20), "00Ff".repeat(60));
        let sql =
            format!("/* x */ INSERT INTO \"t\"(\"a?\") VALUES('short', '{long}',\n x'{longer}')");
        let (text, args) = taken(&sql, 250).unwrap();
        assert_eq!(
            text,
            format!("/* x */ INSERT INTO \"t\"(\"a?\") VALUES('short', '{long}',\n ?)")
        );
        assert_eq!(args, [SqlValue::Blob([0, 255].repeat(60))]);
        let (text, args) = taken(&sql, 100).unwrap();
        assert_eq!(
            text,
            "/* x */ INSERT INTO \"t\"(\"a?\") VALUES('short', ?,\n ?)"
        );
        assert_eq!(args[0], SqlValue::Text("it's; ?".repeat(20)));
        let whole = taken(&sql, 100_000).unwrap();
        assert_eq!(whole, (sql, Vec::new()));
    }

    #[test]
    fn what_cannot_be_taken_out_stays() {
        let long = "a".repeat(200);
        for sql in [
            format!("UPDATE t SET a = '{long}'"),
            format!("INSERT INTO t VALUES('{long}', ?)"),
            format!("INSERT INTO t VALUES('{long}', :a)"),
            format!("INSERT INTO t VALUES('{long}', $a)"),
            format!("INSERT INTO t VALUES('{long}"),
            format!("INSERT INTO t VALUES('{long}\0')"),
            format!("INSERT INTO t VALUES(x'{long}a')"),
            format!("INSERT INTO t VALUES(x'{long}g0')"),
            format!("INSERT INTO {long} VALUES(1)"),
            format!("INSERT INTO t VALUES({})", format!("'{long}',").repeat(4)),
            format!("CREATE TABLE t(a DEFAULT '{long}')"),
        ] {
            assert_eq!(taken(&sql, 100), None, "{sql}");
        }
    }

    #[test]
    fn the_row_is_the_same() {
        let conn = rusqlite::Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE t(a TEXT, b INTEGER, c, d BLOB, e REAL)")
            .unwrap();
        let digits = "1".repeat(LONG);
        let sql = format!(
            "insert into t values('{0}''é{0}', '{0}', replace('{0}1\\n', '\\n', char(10)), X'{1}', '{0}')",
            digits,
            "0aF0".repeat(40)
        );
        conn.execute(&sql, []).unwrap();
        let (text, args) = with_arguments(&sql, 80, 9).unwrap();
        assert_eq!(args.len(), 5);
        let args = args.into_iter().map(|arg| match arg {
            SqlValue::Text(text) => rusqlite::types::Value::from(text),
            SqlValue::Blob(blob) => blob.into(),
            other => panic!("{other:?}"),
        });
        conn.execute(&text, rusqlite::params_from_iter(args))
            .unwrap();
        let (all, kinds): (i64, i64) = conn
            .query_row(
                "SELECT count(DISTINCT a || b || c || hex(d) || e), \
                 count(DISTINCT typeof(a) || typeof(b) || typeof(c) || typeof(d) || typeof(e)) FROM t",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        assert_eq!((all, kinds), (1, 1));
    }
}

//! How long a statement is once every view and every WITH is written out where it is named.
//!
//! SQLite copies them before it does anything else, those that they name too: twenty views, each of which
//! names the one before twice, are a million copies, and nothing that counts runs meanwhile. So it is
//! estimated from the texts first: never too low, and the same on every replica, because nothing but the
//! statement and the schema decides. A column that has the name of a view counts as that view.

mod tokens;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use orama_proto::sql::{SqlCode, SqlError};

use self::tokens::{Token, Tokens};
use super::{Connection, Failure, Mode};

/// Bytes of text that a statement may have when all is written out: SQLite needs some hundred times this in memory
/// to compile it, and up to two seconds.
pub(super) const EXPANDED_MAX: u64 = 1 << 20;

/// The same of all views, triggers and tables of a database together: some statements compile them all (ALTER, a
/// check of the file), and one change may set off many triggers.
const EXPANDED_SCHEMA_MAX: u64 = 16 << 20;
/// The same of a table whose generated columns are written out: reading them all has to fit into a program.
const EXPANDED_TABLE_MAX: u64 = 512 << 10;
/// Bytes of the texts of a schema: every connection parses and keeps them.
const SCHEMA_TEXT_MAX: u64 = 8 << 20;
/// SQLite itself ends WITH after a thousand copies, so a text of this length, without views, needs no look.
const SHORT: usize = EXPANDED_MAX as usize / 1024;
/// Texts of up to this are remembered, this many.
const REMEMBERED_BYTES: usize = 4096;
const REMEMBERED_MAX: usize = 64;

/// What a connection remembers.
#[derive(Debug, Default)]
pub(super) struct Weighed {
    views: Option<Arc<Views>>,
    /// Of a reader: the schema that `views` is of.
    schema: i64,
    /// Statements that are short enough.
    fine: HashSet<Box<str>>,
}

impl Connection {
    /// Refuses a statement that is too long when all is written out. Answers the bytes of its longest literal, 0
    /// where that does not matter.
    pub(super) fn weigh(&self, sql: &str) -> Result<usize, Failure> {
        if self.shared.schema_changed() {
            self.weighed.take();
        }
        if self.weighed.borrow().fine.contains(sql) {
            return Ok(0);
        }
        let views = self.views()?;
        let mut literal = 0;
        if sql.len() > SHORT || !views.is_empty() {
            let body = Body::new(sql.as_bytes());
            if body.expanded(&views.0) > EXPANDED_MAX {
                return Err(too_long(format!(
                    "sql: it has more than {EXPANDED_MAX} bytes when the views and WITHs that it names are written out"
                )));
            }
            if sql.len() > REMEMBERED_BYTES {
                literal = body.longest;
            }
        }
        if sql.len() <= REMEMBERED_BYTES {
            let mut weighed = self.weighed.borrow_mut();
            if weighed.fine.len() >= REMEMBERED_MAX {
                weighed.fine.clear();
            }
            weighed.fine.insert(sql.into());
        }
        Ok(literal)
    }
    /// Refuses a schema that statements could not be compiled with in time.
    pub(super) fn weigh_schema(&self) -> Result<(), Failure> {
        let views = self.schema_texts(VIEWS)?;
        let others = self.schema_texts(
            "SELECT type, sql FROM main.sqlite_schema WHERE type <> 'view' AND sql NOT NULL",
        )?;
        let texts = views.iter().chain(&others);
        let bytes: usize = texts.map(|(_, sql)| sql.len()).sum();
        if bytes as u64 > SCHEMA_TEXT_MAX {
            return Err(too_long(format!(
                "the schema has {bytes} bytes, it may have {SCHEMA_TEXT_MAX}"
            )));
        }
        let views = Views::new(&views);
        let mut sum = views.sum();
        for (kind, sql) in &others {
            let one = views.expanded(sql);
            if kind == "table" && one > EXPANDED_TABLE_MAX {
                return Err(too_long(format!(
                    "a table has more than {EXPANDED_TABLE_MAX} bytes when the generated columns that it names are written out"
                )));
            }
            sum = sum.saturating_add(one);
        }
        if sum > EXPANDED_SCHEMA_MAX {
            return Err(too_long(format!(
                "the schema has more than {EXPANDED_SCHEMA_MAX} bytes when all that it names is written out"
            )));
        }
        Ok(())
    }
    fn views(&self) -> Result<Arc<Views>, Failure> {
        let _open = self.shared.mode(Mode::Open);
        // A writer knows when it changes the schema, a reader has to ask.
        let schema = match self.tenant {
            Mode::Read => self
                .conn
                .prepare_cached(&self.text("PRAGMA schema_version"))
                .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
                .map_err(|error| self.failure(error))?,
            _ => 0,
        };
        if self.weighed.borrow().schema != schema {
            self.weighed.take();
        }
        if let Some(views) = &self.weighed.borrow().views {
            return Ok(Arc::clone(views));
        }
        let views = Arc::new(Views::new(&self.schema_texts(VIEWS)?));
        let mut weighed = self.weighed.borrow_mut();
        weighed.schema = schema;
        weighed.views = Some(Arc::clone(&views));
        Ok(views)
    }
    fn schema_texts(&self, sql: &'static str) -> Result<Vec<(String, String)>, Failure> {
        let _open = self.shared.mode(Mode::Open);
        let read = || {
            let mut statement = self.conn.prepare_cached(&self.text(sql))?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| self.failure(error))
    }
}

const VIEWS: &str = "SELECT name, sql FROM main.sqlite_schema WHERE type = 'view'";

fn too_long(message: String) -> Failure {
    Failure::Statement(SqlError::new(SqlCode::PayloadTooLarge, message))
}

/// Of a view: its text's length when all is written out. Names in lower case.
#[derive(Debug, Default, Clone)]
pub(super) struct Views(HashMap<Vec<u8>, u64>);

impl Views {
    /// Of names and texts (`CREATE VIEW …`).
    pub(super) fn new(texts: &[(String, String)]) -> Self {
        let mut bodies = HashMap::new();
        for (name, text) in texts {
            bodies.insert(
                name.to_ascii_lowercase().into_bytes(),
                Body::new(text.as_bytes()),
            );
        }
        let mut weights = Weights {
            bodies: &bodies,
            outer: &HashMap::new(),
            known: HashMap::new(),
        };
        let known = bodies
            .keys()
            .map(|name| (name.clone(), weights.of(name).unwrap_or(0)))
            .collect();
        Self(known)
    }
    /// A statement's length when all is written out.
    pub(super) fn expanded(&self, sql: &str) -> u64 {
        Body::new(sql.as_bytes()).expanded(&self.0)
    }
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Of all views together.
    pub(super) fn sum(&self) -> u64 {
        self.0.values().fold(0, |sum, one| sum.saturating_add(*one))
    }
}

/// A text: its length, the names in it, and what WITH defines in it, wherever.
#[derive(Debug, Default)]
struct Body {
    length: u64,
    /// Bytes of the longest name or literal.
    longest: usize,
    names: HashMap<Vec<u8>, u64>,
    defined: HashMap<Vec<u8>, Body>,
}

/// Definitions in each other; SQLite's parser gives up earlier.
const NESTED_MAX: usize = 16;

impl Body {
    fn new(sql: &[u8]) -> Self {
        let tokens: Vec<Token<'_>> = Tokens(sql).collect();
        let mut body = Self {
            length: sql.len() as u64,
            ..Self::default()
        };
        // Of each bracket that is open: where it is, and of which definition.
        let mut brackets: Vec<(usize, Option<usize>)> = Vec::new();
        let mut open: Vec<(&[u8], Self)> = Vec::new();
        // A table's column begins after a bracket or a comma; a type may stand between its name and AS.
        let is_table = tokens.len() > 2 && tokens[0].is(b"create") && tokens[1].is(b"table");
        let mut column: &[u8] = b"";
        // Where the bracket was opened that was closed here.
        let mut opened: HashMap<usize, usize> = HashMap::new();
        for (at, token) in tokens.iter().enumerate() {
            body.longest = body.longest.max(token.length());
            for (_, one) in &mut open {
                one.length = one.length.saturating_add(token.length() as u64 + 1);
            }
            if is_table
                && brackets.len() == 1
                && let Token::Name(name) = token
                && matches!(tokens[at - 1], Token::Other(b'(' | b','))
            {
                column = name;
            }
            match token {
                Token::Other(b'(') => {
                    let name = match is_table && brackets.len() == 1 {
                        true => tokens[..at]
                            .last()
                            .is_some_and(|last| last.is(b"as"))
                            .then_some(column),
                        false => defines(&tokens[..at], &opened),
                    };
                    if let Some(name) = name {
                        if open.len() == NESTED_MAX {
                            body.length = u64::MAX;
                            return body;
                        }
                        open.push((name, Self::default()));
                    }
                    brackets.push((at, name.map(|_| open.len())));
                }
                Token::Other(b')') => {
                    let Some((from, definition)) = brackets.pop() else {
                        continue;
                    };
                    opened.insert(at, from);
                    if definition.is_some()
                        && let Some((name, one)) = open.pop()
                    {
                        body.define(name, one);
                    }
                }
                // Before a point stands the name of a schema, or of a table whose column is meant.
                Token::Name(name) if !matches!(tokens.get(at + 1), Some(Token::Other(b'.'))) => {
                    let parts = open.iter_mut().map(|(_, one)| one);
                    for one in parts.chain([&mut body]) {
                        match one.names.get_mut(name.as_ref()) {
                            Some(times) => *times += 1,
                            None => {
                                one.names.insert(name.to_vec(), 1);
                            }
                        }
                    }
                }
                _ => (),
            }
        }
        body
    }
    /// Of equal names (in other parts of the statement) any may be meant.
    fn define(&mut self, name: &[u8], one: Self) {
        let known = self.defined.entry(name.to_vec()).or_default();
        known.length = known.length.max(one.length);
        for (name, times) in one.names {
            let known = known.names.entry(name).or_default();
            *known = times.max(*known);
        }
    }
    fn expanded(&self, outer: &HashMap<Vec<u8>, u64>) -> u64 {
        let mut weights = Weights {
            bodies: &self.defined,
            outer,
            known: HashMap::new(),
        };
        self.names.iter().fold(self.length, |sum, (name, times)| {
            sum.saturating_add(weights.of(name).unwrap_or(0).saturating_mul(*times))
        })
    }
}

struct Weights<'a> {
    bodies: &'a HashMap<Vec<u8>, Body>,
    outer: &'a HashMap<Vec<u8>, u64>,
    /// `None`: it is being looked at, so it names itself, which copies nothing.
    known: HashMap<&'a [u8], Option<u64>>,
}

impl<'a> Weights<'a> {
    /// Without recursion: chains are as long as there are views.
    fn of(&mut self, name: &[u8]) -> Option<u64> {
        let (name, _) = match self.bodies.get_key_value(name) {
            Some((name, body)) => (name.as_slice(), body),
            None => return self.outer.get(name).copied(),
        };
        let mut open = vec![name];
        while let Some(top) = open.last().copied() {
            if matches!(self.known.get(top), Some(Some(_))) {
                open.pop();
                continue;
            }
            let bodies = self.bodies;
            let Some(body) = bodies.get(top) else {
                open.pop();
                continue;
            };
            let first = self.known.insert(top, None).is_none();
            let mut inside: HashMap<Vec<u8>, u64> = HashMap::new();
            let mut wait = false;
            for name in body
                .names
                .keys()
                .chain(body.defined.values().flat_map(|one| one.names.keys()))
            {
                match bodies.get_key_value(name.as_slice()) {
                    Some((name, _)) => match self.known.get(name.as_slice()) {
                        Some(Some(weight)) => {
                            inside.insert(name.clone(), *weight);
                        }
                        // It names itself, or (after `main.`) the view that it hides.
                        Some(None) => {
                            if let Some(weight) = self.outer.get(name.as_slice()) {
                                inside.insert(name.clone(), *weight);
                            }
                        }
                        None if first => {
                            open.push(name);
                            wait = true;
                        }
                        None => (),
                    },
                    None => {
                        if let Some(weight) = self.outer.get(name) {
                            inside.insert(name.clone(), *weight);
                        }
                    }
                }
            }
            if !wait {
                // Whoever names it may mean the view that it hides.
                let hidden = self.outer.get(top).copied().unwrap_or(0);
                let weight = body.expanded(&inside).saturating_add(hidden);
                self.known.insert(top, Some(weight));
                open.pop();
            }
        }
        self.known.get(name).copied().flatten()
    }
}

/// What a bracket after these tokens defines: `name [(columns)] AS [[NOT] MATERIALIZED] (…`.
fn defines<'a>(before: &'a [Token<'_>], opened: &HashMap<usize, usize>) -> Option<&'a [u8]> {
    let mut before = before;
    for (word, needed) in [
        (b"materialized".as_slice(), false),
        (b"not", false),
        (b"as", true),
    ] {
        match before.split_last() {
            Some((last, rest)) if last.is(word) => before = rest,
            _ if needed => return None,
            _ => (),
        }
    }
    if let Some(from) = opened.get(&before.len().checked_sub(1)?) {
        before = &before[..*from];
    }
    match before.last()? {
        Token::Name(name) => Some(name),
        Token::Other(_) => None,
    }
}

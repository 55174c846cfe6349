//! What there is to dump in a file, in which order.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;

use super::{DumpError, first_word, sql_pieces};
use crate::sql::connection::STATE_TABLE;

/// Names that begin like this are ours.
const OURS: &str = "_orama_";
/// Names that begin like this are SQLite's.
const SQLITES: &str = "sqlite_";

pub(super) struct Table {
    pub(super) name: String,
    pub(super) sql: String,
    /// Columns that have values of their own; generated ones do not.
    pub(super) columns: Vec<String>,
}

pub(super) struct Schema {
    pub(super) tables: Vec<Table>,
    /// Where AUTOINCREMENT goes on.
    pub(super) counters: Vec<(String, i64)>,
    /// Indexes, then triggers, then views.
    pub(super) rest: Vec<String>,
}

impl Schema {
    pub(super) fn read(conn: &Connection) -> Result<Self, DumpError> {
        debug_assert!(STATE_TABLE.starts_with(OURS));
        // As bytes: a file from elsewhere may have names that are not text.
        let mut statement = conn.prepare(
            "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(tbl_name AS BLOB), \
             CAST(sql AS BLOB) FROM sqlite_schema \
             ORDER BY type = 'view', type = 'trigger', type = 'index', rowid",
        )?;
        let mut rows = statement.raw_query();
        let (mut tables, mut rest) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next()? {
            let text = |column: usize| -> Result<Option<String>, DumpError> {
                let bytes: Option<Vec<u8>> = row.get(column)?;
                bytes.map(utf8).transpose()
            };
            let name = text(1)?.unwrap_or_default();
            let table = text(2)?.unwrap_or_default();
            let left_out = |name: &str| starts(name, OURS) || starts(name, SQLITES);
            if left_out(&name) || left_out(&table) {
                continue;
            }
            // An index that a constraint made has no text.
            let Some(sql) = text(3)? else { continue };
            one_statement(&name, &sql)?;
            if text(0)?.as_deref() != Some("table") {
                rest.push(sql);
                continue;
            }
            if is_virtual(&sql) {
                return Err(DumpError::Unsupported(format!(
                    "{name} is a virtual table: namespaces' databases have none"
                )));
            }
            tables.push(Table {
                columns: columns(conn, &name)?,
                name,
                sql,
            });
        }
        let tables = parents_first(conn, tables)?;
        let counters = counters(conn, &tables)?;
        Ok(Self {
            tables,
            counters,
            rest,
        })
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, DumpError> {
    String::from_utf8(bytes).map_err(|e| {
        DumpError::Unsupported(format!(
            "{:?} in the schema is not UTF-8",
            String::from_utf8_lossy(e.as_bytes())
        ))
    })
}

fn starts(name: &str, with: &str) -> bool {
    name.get(..with.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(with))
}

/// SQLite reads the first statement of the text and ignores what follows; whoever runs our dump
/// would run that too.
fn one_statement(name: &str, sql: &str) -> Result<(), DumpError> {
    let mut pieces = sql_pieces(sql);
    let first = pieces.next().map(|piece| first_word(piece.sql));
    let create = first.is_some_and(|word| word.eq_ignore_ascii_case("create"));
    if !create || pieces.next().is_some() {
        return Err(DumpError::Unsupported(format!(
            "the schema's text of {name} is not one statement"
        )));
    }
    Ok(())
}

fn is_virtual(sql: &str) -> bool {
    super::split::words(sql)
        .nth(1)
        .is_some_and(|word| word.eq_ignore_ascii_case("virtual"))
}

fn columns(conn: &Connection, table: &str) -> Result<Vec<String>, DumpError> {
    // hidden: 2 and 3 are generated columns.
    let mut statement = conn.prepare(
        "SELECT CAST(name AS BLOB) FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid",
    )?;
    let names = statement.query_map([table], |row| row.get::<_, Vec<u8>>(0))?;
    names.map(|name| utf8(name?)).collect()
}

/// Tables that others refer to go before those.
fn parents_first(conn: &Connection, tables: Vec<Table>) -> Result<Vec<Table>, DumpError> {
    let mut parents: HashMap<String, Vec<String>> = HashMap::new();
    let mut statement = conn.prepare(
        "SELECT DISTINCT CAST(\"table\" AS BLOB) FROM pragma_foreign_key_list(?1) ORDER BY id",
    )?;
    for table in &tables {
        let names = statement.query_map([&table.name], |row| row.get::<_, Vec<u8>>(0))?;
        let names: Result<Vec<String>, DumpError> = names
            .map(|name| Ok(utf8(name?)?.to_ascii_lowercase()))
            .collect();
        parents.insert(table.name.to_ascii_lowercase(), names?);
    }
    let mut places = HashMap::new();
    let mut seen = HashSet::new();
    for table in &tables {
        let name = table.name.to_ascii_lowercase();
        if !seen.insert(name.clone()) {
            continue;
        }
        // Not by recursion: a file may have a chain as long as it likes.
        let mut path = vec![(name, 0)];
        while let Some((name, next)) = path.last_mut() {
            let parent = parents.get(name).and_then(|parents| parents.get(*next));
            *next += 1;
            match parent {
                Some(parent) if parents.contains_key(parent) && seen.insert(parent.clone()) => {
                    path.push((parent.clone(), 0));
                }
                Some(_) => {}
                None => {
                    if let Some((name, _)) = path.pop() {
                        places.insert(name, places.len());
                    }
                }
            }
        }
    }
    let mut tables = tables;
    tables.sort_by_key(|table| places.get(&table.name.to_ascii_lowercase()).copied());
    Ok(tables)
}

fn counters(conn: &Connection, tables: &[Table]) -> Result<Vec<(String, i64)>, DumpError> {
    let there: bool = conn.query_row(
        "SELECT EXISTS(SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence')",
        [],
        |row| row.get(0),
    )?;
    if !there {
        return Ok(Vec::new());
    }
    let mut statement = conn
        .prepare("SELECT seq FROM sqlite_sequence WHERE name = ?1 AND typeof(seq) = 'integer'")?;
    let mut counters = Vec::new();
    for table in tables {
        let mut rows = statement.query([&table.name])?;
        if let Some(row) = rows.next()? {
            counters.push((table.name.clone(), row.get(0)?));
        }
    }
    Ok(counters)
}

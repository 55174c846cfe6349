//! What there is to dump in a file, in which order.

use std::collections::{HashMap, HashSet};

use orama_proto::sql::SqlValue;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

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
    /// What the rowid is called, where no column is another name of it.
    pub(super) rowid: Option<&'static str>,
    pub(super) autoincrement: bool,
    /// Where AUTOINCREMENT goes on.
    pub(super) counter: Option<SqlValue>,
}

pub(super) struct Schema {
    pub(super) tables: Vec<Table>,
    pub(super) indexes: Vec<String>,
    pub(super) views: Vec<String>,
    /// After the views: they may be of one.
    pub(super) triggers: Vec<String>,
    /// Of everything there is, in lower case.
    pub(super) names: HashSet<String>,
    /// PRAGMAs of the header that are the tenant's own.
    pub(super) numbers: Vec<(&'static str, i64)>,
}

impl Schema {
    pub(super) fn read(conn: &Connection) -> Result<Self, DumpError> {
        debug_assert!(STATE_TABLE.starts_with(OURS));
        // As bytes: a file from elsewhere may have names that are not text.
        let mut statement = conn.prepare(
            "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(tbl_name AS BLOB), \
             CAST(sql AS BLOB) FROM sqlite_schema ORDER BY rowid",
        )?;
        let mut rows = statement.raw_query();
        let mut tables = Vec::new();
        let (mut indexes, mut views, mut triggers) = (Vec::new(), Vec::new(), Vec::new());
        let mut names = HashSet::new();
        while let Some(row) = rows.next()? {
            let text = |column: usize| -> Result<Option<String>, DumpError> {
                let bytes: Option<Vec<u8>> = row.get(column)?;
                bytes.map(utf8).transpose()
            };
            let name = text(1)?.unwrap_or_default();
            let table = text(2)?.unwrap_or_default();
            names.insert(name.to_ascii_lowercase());
            let left_out = |name: &str| starts(name, OURS) || starts(name, SQLITES);
            if left_out(&name) || left_out(&table) {
                continue;
            }
            // An index that a constraint made has no text.
            let Some(sql) = text(3)? else { continue };
            one_statement(&name, &sql)?;
            match text(0)?.as_deref() {
                Some("table") => {}
                Some("index") => {
                    indexes.push(sql);
                    continue;
                }
                Some("view") => {
                    views.push(sql);
                    continue;
                }
                _ => {
                    triggers.push(sql);
                    continue;
                }
            }
            if is_virtual(&sql) {
                return Err(DumpError::Unsupported(format!(
                    "{name} is a virtual table: namespaces' databases have none"
                )));
            }
            tables.push(Table {
                columns: columns(conn, &name)?,
                rowid: rowid(conn, &name)?,
                autoincrement: super::split::has_word(&sql, "autoincrement"),
                counter: None,
                name,
                sql,
            });
        }
        let mut tables = parents_first(conn, tables)?;
        counters(conn, &mut tables)?;
        let number = |pragma| -> Result<(&'static str, i64), DumpError> {
            Ok((
                pragma,
                conn.pragma_query_value(None, pragma, |row| row.get(0))?,
            ))
        };
        Ok(Self {
            tables,
            indexes,
            views,
            triggers,
            names,
            numbers: vec![number("user_version")?, number("application_id")?],
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

/// Reads where AUTOINCREMENT goes on. SQLite keeps numbers there; a tenant may write others.
fn counters(conn: &Connection, tables: &mut [Table]) -> Result<(), DumpError> {
    let tables = tables.iter_mut().filter(|table| table.autoincrement);
    for table in tables {
        let mut statement = conn.prepare_cached(
            "SELECT seq FROM sqlite_sequence WHERE name = ?1 AND typeof(seq) IN ('integer', 'real')",
        )?;
        let mut rows = statement.query([&table.name])?;
        if let Some(row) = rows.next()? {
            table.counter = match row.get_ref(0)? {
                ValueRef::Integer(seq) => Some(SqlValue::Integer(seq)),
                ValueRef::Real(seq) if seq.is_finite() => Some(SqlValue::Real(seq)),
                _ => None,
            };
        }
    }
    Ok(())
}

/// What the rowid can be called, where rows have one that no column shows: statements may keep such
/// numbers, so that the rows get them again.
fn rowid(conn: &Connection, table: &str) -> Result<Option<&'static str>, DumpError> {
    let shown: bool = conn
        .prepare_cached(
            "SELECT EXISTS(SELECT 1 FROM pragma_table_list(?1) WHERE schema = 'main' AND wr)
                OR ((SELECT count(*) FROM pragma_table_xinfo(?1) WHERE pk) = 1
                    AND EXISTS(SELECT 1 FROM pragma_table_xinfo(?1)
                        WHERE pk AND type = 'INTEGER' COLLATE NOCASE)
                    AND NOT EXISTS(SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk'))",
        )?
        .query_row([table], |row| row.get(0))?;
    if shown {
        return Ok(None);
    }
    let mut taken = conn.prepare_cached(
        "SELECT EXISTS(SELECT 1 FROM pragma_table_xinfo(?1) WHERE name = ?2 COLLATE NOCASE)",
    )?;
    for name in ["rowid", "_rowid_", "oid"] {
        if !taken.query_row([table, name], |row| row.get::<_, bool>(0))? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

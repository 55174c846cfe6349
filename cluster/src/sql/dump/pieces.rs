//! Rows that are too long for one statement: their long values go before, in pieces, into a table of
//! their own, and the INSERT puts them together. So the row appears whole, as its constraints want it.

use orama_proto::limits::{SQL_STATEMENT_MAX_BYTES, SQL_VALUE_MAX_BYTES};
use orama_proto::sql::SqlValue;

use super::row::Cell;
use super::{DumpError, DumpStatement, plain};

/// What the table is called, unless the database has something of that name.
const NAME: &str = "orama_import_pieces";
/// Bytes of a piece; as text it takes twice that.
const PIECE_BYTES: usize = 112 << 10;
/// Bytes of an INSERT as text.
const INSERT_MAX_BYTES: usize = SQL_STATEMENT_MAX_BYTES - (8 << 10);
/// Values whose text is shorter stay in the INSERT: naming a piece takes about as much.
const LONG_BYTES: usize = 256;

/// The table of pieces, if one was needed.
pub(super) struct Pieces {
    table: String,
    made: bool,
}

impl Pieces {
    /// `taken`: names that the database has, in lower case.
    pub(super) fn beside(taken: &std::collections::HashSet<String>) -> Self {
        let names = std::iter::once(NAME.to_owned());
        let mut names = names.chain((2..).map(|number: u64| format!("{NAME}_{number}")));
        Self {
            table: names
                .find(|name| !taken.contains(name))
                .unwrap_or_else(|| NAME.to_owned()),
            made: false,
        }
    }

    /// Hands over pieces of a row's longest values until the rest fits into a statement. Answers
    /// whether there are any.
    pub(super) fn take_long<E: From<DumpError>>(
        &mut self,
        table: &str,
        insert: &str,
        cells: &mut [Cell],
        take: &mut impl FnMut(DumpStatement) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut number = 0;
        loop {
            let sizes: Vec<usize> = cells.iter().map(|cell| cell.written_bytes() + 1).collect();
            if insert.len() + sizes.iter().sum::<usize>() <= INSERT_MAX_BYTES {
                return Ok(number > 0);
            }
            let longest = cells.iter_mut().zip(sizes).max_by_key(|(_, size)| *size);
            let long = longest.filter(|(cell, size)| *size > LONG_BYTES && cell.bytes().is_some());
            let Some((cell, _)) = long else {
                return Err(refused(table, "has too many columns for one statement").into());
            };
            let Some((bytes, kind)) = cell.bytes() else {
                continue;
            };
            if bytes.len() > SQL_VALUE_MAX_BYTES {
                let why = format!("has a value of more than {SQL_VALUE_MAX_BYTES} bytes");
                return Err(refused(table, &why).into());
            }
            if !self.made {
                let name = &self.table;
                let sql = format!("CREATE TABLE {name}(id INTEGER PRIMARY KEY, piece BLOB)");
                take(plain(sql))?;
                self.made = true;
            }
            let mut whole = Vec::new();
            for piece in bytes.chunks(PIECE_BYTES) {
                number += 1;
                take(DumpStatement {
                    sql: format!("INSERT INTO {}(id, piece) VALUES(?, ?)", self.table),
                    args: vec![SqlValue::Integer(number), SqlValue::Blob(piece.to_vec())],
                })?;
                whole.push(format!(
                    "(SELECT piece FROM {} WHERE id = {number})",
                    self.table
                ));
            }
            *cell = Cell::Written(format!("CAST({} AS {kind})", whole.join(" || ")));
        }
    }

    /// The row is in.
    pub(super) fn clear<E>(
        &self,
        take: &mut impl FnMut(DumpStatement) -> Result<(), E>,
    ) -> Result<(), E> {
        take(plain(format!("DELETE FROM {}", self.table)))
    }

    /// All rows are in.
    pub(super) fn end<E>(
        &self,
        take: &mut impl FnMut(DumpStatement) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.made {
            take(plain(format!("DROP TABLE {}", self.table)))?;
        }
        Ok(())
    }
}

fn refused(table: &str, why: &str) -> DumpError {
    DumpError::Unsupported(format!("a row of {table} {why}"))
}

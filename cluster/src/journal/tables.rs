//! Keys and tables of the journal.
//!
//! | table | key | value |
//! |---|---|---|
//! | chunks | `namespace 0 function 0 id` of the newest record in it | records, see `chunk.rs` |
//! | totals | `namespace 0 function 0` | records (u64), stored bytes (u64) |
//! | about | `format` | [`FORMAT`] |
//!
//! Names hold no zero byte, so a prefix names one function. Ids are UUID v7
//! text: their order is the order of time.

use std::ops::Bound;

use orama_proto::{FunctionName, Namespace};
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::JournalStats;
use super::chunk::{self, CHUNK_SPAN_MS};
use super::file::Fault;

pub(super) const CHUNKS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("chunks");
pub(super) const TOTALS: TableDefinition<'_, &[u8], (u64, u64)> = TableDefinition::new("totals");
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");

/// The layout of the tables above. 1 had one row per record.
pub(super) const FORMAT: u64 = 2;

/// A range of keys.
pub(super) type Keys = (Bound<Vec<u8>>, Bound<Vec<u8>>);

pub(super) fn prefix(namespace: &Namespace, function: &FunctionName) -> Vec<u8> {
    [namespace.as_str(), "\0", function.as_str(), "\0"]
        .concat()
        .into_bytes()
}

/// The first key behind all that begin with `prefix`, which ends in a zero byte.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = 1;
    }
    end
}

/// The chunks of a function, those with a record behind `after` when that is given.
pub(super) fn newer_than(prefix: &[u8], after: Option<&str>) -> Keys {
    let start = match after {
        Some(id) => Bound::Excluded([prefix, id.as_bytes()].concat()),
        None => Bound::Included(prefix.to_vec()),
    };
    (start, Bound::Excluded(end_of(prefix)))
}

/// The chunks of a function that may hold an id from `first` to `last`, the
/// ends of one chunk.
pub(super) fn reaching(prefix: &[u8], first: &[u8], last: &[u8]) -> Keys {
    let end = match millis_of(last) {
        Some(at) => {
            let end = text_of(at.saturating_add(CHUNK_SPAN_MS + 1));
            Bound::Excluded([prefix, end.as_bytes()].concat())
        }
        // It is alone in a chunk, wherever it is.
        None => Bound::Included([prefix, last].concat()),
    };
    (Bound::Included([prefix, first].concat()), end)
}

/// The same range, borrowed as the engine wants it.
pub(super) fn borrowed(range: &Keys) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (
        range.0.as_ref().map(Vec::as_slice),
        range.1.as_ref().map(Vec::as_slice),
    )
}

/// The time in a record's id, milliseconds since the epoch. None when it is
/// not a UUID v7 in the usual spelling, whose order would not be that of time.
pub(super) fn millis_of(id: &[u8]) -> Option<u64> {
    // By hand: it is asked for every record, and a whole UUID is not needed.
    let id: &[u8; 36] = id.try_into().ok()?;
    let mut millis = 0;
    for (at, &byte) in id.iter().enumerate() {
        let digit = match (at, byte) {
            (8 | 13 | 18 | 23, b'-') => continue,
            (8 | 13 | 18 | 23, _) => return None,
            (14, _) if byte != b'7' => return None,
            (_, b'0'..=b'9') => byte - b'0',
            (_, b'a'..=b'f') => byte - b'a' + 10,
            _ => return None,
        };
        if at < 13 {
            millis = millis << 4 | u64::from(digit);
        }
    }
    Some(millis)
}

/// How ids of this time begin: all ids of an earlier time are before it, the others are not.
pub(super) fn text_of(millis: u64) -> String {
    let text = format!("{:012x}", millis.min((1 << 48) - 1));
    let (high, low) = text.split_at(8);
    format!("{high}-{low}")
}

/// What a function has in the journal.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Totals {
    /// Without this chunk.
    pub(super) fn minus(self, value: &[u8]) -> Self {
        Self {
            records: self.records.saturating_sub(chunk::count(value)),
            bytes: self.bytes.saturating_sub(value.len() as u64),
        }
    }
}

/// The tables, open for writing.
pub(super) struct Write<'t> {
    pub(super) chunks: Table<'t, &'static [u8], &'static [u8]>,
    totals: Table<'t, &'static [u8], (u64, u64)>,
}

impl<'t> Write<'t> {
    pub(super) fn open(txn: &'t WriteTransaction) -> Result<Self, Fault> {
        Ok(Self {
            chunks: txn.open_table(CHUNKS)?,
            totals: txn.open_table(TOTALS)?,
        })
    }

    pub(super) fn totals(&self, prefix: &[u8]) -> Result<Totals, Fault> {
        let (records, bytes) = self
            .totals
            .get(prefix)?
            .map(|t| t.value())
            .unwrap_or_default();
        Ok(Totals { records, bytes })
    }

    pub(super) fn set_totals(&mut self, prefix: &[u8], totals: Totals) -> Result<(), Fault> {
        if totals.records == 0 && self.is_empty(prefix)? {
            self.totals.remove(prefix)?;
        } else {
            // A damaged chunk may have said a wrong number; what has no row is not pruned.
            let records = totals.records.max(1);
            self.totals.insert(prefix, (records, totals.bytes))?;
        }
        Ok(())
    }

    /// Writes a chunk, instead of the one under its key if there is one.
    pub(super) fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        total: &mut Totals,
    ) -> Result<(), Fault> {
        if let Some(old) = self.chunks.insert(key, value)? {
            *total = total.minus(old.value());
        }
        total.records = total.records.saturating_add(chunk::count(value));
        total.bytes = total.bytes.saturating_add(value.len() as u64);
        Ok(())
    }

    /// Removes a chunk.
    pub(super) fn take(&mut self, key: &[u8], total: &mut Totals) -> Result<(), Fault> {
        if let Some(old) = self.chunks.remove(key)? {
            *total = total.minus(old.value());
        }
        Ok(())
    }

    pub(super) fn is_empty(&self, prefix: &[u8]) -> Result<bool, Fault> {
        let range = newer_than(prefix, None);
        let mut chunks = self.chunks.range::<&[u8]>(borrowed(&range))?;
        Ok(chunks.next().transpose()?.is_none())
    }
}

/// Makes the tables of a new file and looks at those of an old one. Reads all
/// totals. Writes to a new file only: an old one must open on a full disk too.
pub(super) fn check(db: &Database) -> Result<(), Fault> {
    if !is_known(db)? {
        make(db)?;
    }
    sum(db).map(drop)
}

/// Whether the file says that its layout is ours; then all tables are there.
fn is_known(db: &Database) -> Result<bool, Fault> {
    let look = || -> Result<bool, redb::Error> {
        let txn = db.begin_read()?;
        let format = txn.open_table(ABOUT)?.get("format")?.map(|f| f.value());
        txn.open_table(CHUNKS)?;
        txn.open_table(TOTALS)?;
        Ok(format == Some(FORMAT))
    };
    match look() {
        Err(redb::Error::TableDoesNotExist(_)) => Ok(false),
        other => Ok(other?),
    }
}

fn make(db: &Database) -> Result<(), Fault> {
    let txn = super::file::begin_write(db)?;
    {
        let mut about = txn.open_table(ABOUT)?;
        let format = about.get("format")?.map(|f| f.value());
        match format {
            Some(FORMAT) => {}
            None => {
                about.insert("format", FORMAT)?;
            }
            Some(other) => {
                return Err(Fault::Damaged(format!(
                    "it has format {other}, this program reads format {FORMAT}"
                )));
            }
        }
        Write::open(&txn)?;
    }
    Ok(txn.commit()?)
}

pub(super) fn sum(db: &Database) -> Result<JournalStats, Fault> {
    let mut stats = JournalStats::default();
    for row in db.begin_read()?.open_table(TOTALS)?.iter()? {
        let (records, bytes) = row?.1.value();
        stats.functions += 1;
        stats.records = stats.records.saturating_add(records);
        stats.bytes = stats.bytes.saturating_add(bytes);
    }
    Ok(stats)
}

//! Keys, values and tables of the journal.
//!
//! | table | key | value |
//! |---|---|---|
//! | records | `namespace 0 function 0 id` | xxh3 of key and record, then the record |
//! | heads | the same | stored bytes of the record (u32 LE), then its request id |
//! | totals | `namespace 0 function 0` | records (u64), stored bytes (u64) |
//! | about | `format` | [`FORMAT`] |
//!
//! Names hold no zero byte, so a prefix names one function. Ids are UUID v7
//! text: their order is the order of time.

use std::ops::Bound;

use orama_proto::invocation::{InvocationRecord, RECORD_VERSION};
use orama_proto::record::{self, RecordError};
use orama_proto::{FunctionName, Namespace};
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use super::JournalStats;
use super::file::Fault;

pub(super) const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
pub(super) const HEADS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("heads");
pub(super) const TOTALS: TableDefinition<'_, &[u8], (u64, u64)> = TableDefinition::new("totals");
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");

/// The layout of the tables above.
const FORMAT: u64 = 1;
const CHECKSUM_BYTES: usize = 8;

/// A record that is there and cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnreadableRecord {
    #[error("its checksum does not fit")]
    Checksum,
    #[error(transparent)]
    Record(#[from] RecordError),
}

pub(super) fn prefix(namespace: &Namespace, function: &FunctionName) -> Vec<u8> {
    [namespace.as_str(), "\0", function.as_str(), "\0"]
        .concat()
        .into_bytes()
}

pub(super) fn key(prefix: &[u8], id: &str) -> Vec<u8> {
    [prefix, id.as_bytes()].concat()
}

/// The first key behind all that begin with `prefix`, which ends in a zero byte.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = 1;
    }
    end
}

/// The keys of a function, behind the record `after` when there is one.
pub(super) fn newer_than(prefix: &[u8], after: Option<&str>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let start = match after {
        Some(id) => Bound::Excluded(key(prefix, id)),
        None => Bound::Included(prefix.to_vec()),
    };
    (start, Bound::Excluded(end_of(prefix)))
}

/// The same range, borrowed as the engine wants it.
pub(super) fn borrowed(range: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (
        range.0.as_ref().map(Vec::as_slice),
        range.1.as_ref().map(Vec::as_slice),
    )
}

/// The time in a record's id, milliseconds since the epoch; nothing when it is no UUID v7.
pub(super) fn millis_of(id: &[u8]) -> Option<u64> {
    let (secs, nanos) = Uuid::try_parse_ascii(id).ok()?.get_timestamp()?.to_unix();
    secs.checked_mul(1_000)?
        .checked_add(u64::from(nanos) / 1_000_000)
}

fn checksum(key: &[u8], record: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hash = Xxh3::new();
    hash.update(key);
    hash.update(record);
    hash.digest().to_le_bytes()
}

pub(super) fn encode(key: &[u8], value: &InvocationRecord) -> Result<Vec<u8>, RecordError> {
    let record = record::encode(RECORD_VERSION, value)?;
    Ok([&checksum(key, &record)[..], &record].concat())
}

pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<InvocationRecord, UnreadableRecord> {
    match value.split_first_chunk::<CHECKSUM_BYTES>() {
        Some((sum, record)) if *sum == checksum(key, record) => {
            Ok(record::decode(RECORD_VERSION, record)?)
        }
        _ => Err(UnreadableRecord::Checksum),
    }
}

/// What is known of a record without reading it.
pub(super) struct Head<'a> {
    /// Stored bytes of the record.
    pub(super) bytes: u64,
    pub(super) request_id: &'a [u8],
}

impl<'a> Head<'a> {
    pub(super) fn encode(bytes: usize, request_id: &str) -> Vec<u8> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
        [&bytes[..], request_id.as_bytes()].concat()
    }
    /// A damaged one counts for nothing and matches no request.
    pub(super) fn decode(head: &'a [u8]) -> Self {
        let (bytes, request_id) = head.split_first_chunk().unwrap_or((&[0; 4], &[]));
        Self {
            bytes: u64::from(u32::from_le_bytes(*bytes)),
            request_id,
        }
    }
}

/// What a function has in the journal.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

/// The tables, open for writing.
pub(super) struct Write<'t> {
    pub(super) records: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) heads: Table<'t, &'static [u8], &'static [u8]>,
    totals: Table<'t, &'static [u8], (u64, u64)>,
}

impl<'t> Write<'t> {
    pub(super) fn open(txn: &'t WriteTransaction) -> Result<Self, Fault> {
        Ok(Self {
            records: txn.open_table(RECORDS)?,
            heads: txn.open_table(HEADS)?,
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
        if totals.records == 0 {
            self.totals.remove(prefix)?;
        } else {
            self.totals.insert(prefix, (totals.records, totals.bytes))?;
        }
        Ok(())
    }

    /// Removes a function's records from the oldest on, until `enough` says
    /// so of what is left and of the next one's key, or `budget` are gone.
    /// Answers how many.
    pub(super) fn remove_oldest(
        &mut self,
        prefix: &[u8],
        budget: usize,
        enough: impl Fn(Totals, &[u8]) -> bool,
    ) -> Result<usize, Fault> {
        let mut left = self.totals(prefix)?;
        let mut victims = Vec::new();
        let mut exhausted = true;
        let range = newer_than(prefix, None);
        for row in self.heads.range::<&[u8]>(borrowed(&range))? {
            let (key, head) = row?;
            if victims.len() >= budget || enough(left, key.value()) {
                exhausted = false;
                break;
            }
            left.records = left.records.saturating_sub(1);
            left.bytes = left.bytes.saturating_sub(Head::decode(head.value()).bytes);
            victims.push(key.value().to_vec());
        }
        for key in &victims {
            self.heads.remove(key.as_slice())?;
            self.records.remove(key.as_slice())?;
        }
        if exhausted {
            // Nothing is left, whatever was counted.
            left = Totals::default();
        }
        self.set_totals(prefix, left)?;
        Ok(victims.len())
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
        txn.open_table(RECORDS)?;
        txn.open_table(HEADS)?;
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

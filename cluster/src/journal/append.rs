//! Appending: sorted, cut into chunks, written in one transaction.

use orama_proto::invocation::{InvocationRecord, RECORD_VERSION};
use orama_proto::limits::JOURNAL_PER_FUNCTION;
use orama_proto::record;
use redb::{Database, ReadableTable};

use super::chunk::{self, Entry};
use super::file::{self, Fault};
use super::tables::{self, Totals, Write};
use super::{FUNCTION_MAX_BYTES, FUNCTION_MAX_RECORDS, JournalError};

/// A function's part of a batch, encoded before the writer is taken.
pub(super) struct Part {
    prefix: Vec<u8>,
    /// Keys and values, in order.
    chunks: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Part {
    /// Bytes of its values.
    pub(super) fn bytes(&self) -> u64 {
        self.chunks
            .iter()
            .map(|(_, value)| value.len() as u64)
            .sum()
    }
}

/// Sorts the records by function and id and cuts them into chunks. Of those
/// with the same function and id the last one counts.
pub(super) fn parts(records: &[InvocationRecord]) -> Result<Vec<Part>, JournalError> {
    let mut sorted: Vec<&InvocationRecord> = records.iter().collect();
    sorted.sort_by(|a, b| {
        a.function
            .as_str()
            .cmp(b.function.as_str())
            .then_with(|| a.namespace.as_str().cmp(b.namespace.as_str()))
            .then_with(|| a.id.cmp(&b.id))
    });
    sorted
        .chunk_by(|a, b| a.function == b.function && a.namespace == b.namespace)
        .map(part)
        .collect()
}

fn part(records: &[&InvocationRecord]) -> Result<Part, JournalError> {
    let mut records = records.to_vec();
    records.dedup_by(|later, kept| {
        let same = later.id == kept.id;
        if same {
            *kept = later;
        }
        same
    });
    let mut encoded = Vec::with_capacity(records.len());
    for record in &records {
        let bytes = record::encode(RECORD_VERSION, *record)
            .map_err(|e| JournalError::Storage(format!("record {}: {e}", record.id)))?;
        encoded.push(bytes);
    }
    let entry = |(record, bytes)| {
        let record: &&InvocationRecord = record;
        let bytes: &Vec<u8> = bytes;
        Entry {
            id: record.id.as_bytes(),
            request_id: record.request_id.as_str().as_bytes(),
            record: bytes,
        }
    };
    let entries: Vec<_> = records.iter().zip(&encoded).map(entry).collect();
    let prefix = records
        .first()
        .map(|r| tables::prefix(&r.namespace, &r.function))
        .unwrap_or_default();
    let mut chunks = Vec::new();
    let mut rest = entries.as_slice();
    while let Some((head, tail)) = rest.split_at_checked(chunk::first_chunk(rest))
        && !head.is_empty()
    {
        chunks.push(chunk::write(&prefix, head));
        rest = tail;
    }
    Ok(Part { prefix, chunks })
}

pub(super) fn append(db: &Database, parts: &[Part]) -> Result<(), Fault> {
    let txn = file::begin_write(db)?;
    {
        let mut write = Write::open(&txn)?;
        for part in parts {
            let mut total = write.totals(&part.prefix)?;
            for (key, value) in &part.chunks {
                forget(&mut write, &part.prefix, value, &mut total)?;
                write.put(key, value, &mut total)?;
            }
            trim(&mut write, &part.prefix, &mut total)?;
            write.set_totals(&part.prefix, total)?;
        }
    }
    Ok(txn.commit()?)
}

/// Takes the records of a new chunk out of the chunks that have them already.
fn forget(
    write: &mut Write<'_>,
    prefix: &[u8],
    value: &[u8],
    total: &mut Totals,
) -> Result<(), Fault> {
    let ids: Vec<_> = chunk::glance(value).map(|e| e.id).collect();
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
        return Ok(());
    };
    let mut changed = Vec::new();
    let range = tables::reaching(prefix, first, last);
    for row in write.chunks.range::<&[u8]>(tables::borrowed(&range))? {
        let (old_key, old) = row?;
        // Reaching into each other is usual, sharing a record is not.
        if share(&ids, old.value())
            && let Some(mut entries) = chunk::read(old_key.value(), old.value())
        {
            entries.retain(|e| ids.binary_search(&e.id).is_err());
            let left = (!entries.is_empty()).then(|| chunk::write(prefix, &entries));
            changed.push((old_key.value().to_vec(), left));
        }
    }
    for (old_key, left) in changed {
        write.take(&old_key, total)?;
        if let Some((key, value)) = left {
            write.put(&key, &value, total)?;
        }
    }
    Ok(())
}

/// Whether a chunk has one of these ids; both are in order.
fn share(ids: &[&[u8]], old: &[u8]) -> bool {
    let mut ids = ids.iter().peekable();
    for entry in chunk::glance(old) {
        while ids.next_if(|id| **id < entry.id).is_some() {}
        match ids.peek() {
            Some(id) if **id == entry.id => return true,
            Some(_) => {}
            None => return false,
        }
    }
    false
}

/// Removes a function's oldest chunks when it has too many bytes or far too
/// many records, so that a burst does not wait for the next pruning.
fn trim(write: &mut Write<'_>, prefix: &[u8], total: &mut Totals) -> Result<(), Fault> {
    let keep = if total.records > FUNCTION_MAX_RECORDS {
        JOURNAL_PER_FUNCTION as u64
    } else {
        u64::MAX
    };
    if total.bytes <= FUNCTION_MAX_BYTES && keep == u64::MAX {
        return Ok(());
    }
    let mut left = *total;
    let mut victims = Vec::new();
    let range = tables::newer_than(prefix, None);
    for row in write.chunks.range::<&[u8]>(tables::borrowed(&range))? {
        let (key, value) = row?;
        let without = left.minus(value.value());
        if left.bytes <= FUNCTION_MAX_BYTES && without.records < keep {
            break;
        }
        left = without;
        victims.push(key.value().to_vec());
    }
    for key in victims {
        write.take(&key, total)?;
    }
    Ok(())
}

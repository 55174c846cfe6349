//! A chunk: some records of one function, neighbours in time, in one row.
//!
//! A row costs the engine about the same whatever is in it, so many records
//! share one. The value, all numbers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | [`VERSION`] |
//! | 2 | number of records |
//! | 8 | xxh3 of the key and everything behind this field |
//! | … | the records, oldest first: three u32 lengths, then id, request id and the encoded record |
//!
//! Id and request id stand beside the record so that looking for one decodes nothing.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::tables;

/// Records in one chunk, at most.
pub(super) const CHUNK_RECORDS: usize = 64;
/// Bytes of a chunk's records, at most, unless it is a single one. With key
/// and headers that is a little less than 64 KiB: the engine's pages are
/// powers of two, and one byte more would take twice the space.
pub(super) const CHUNK_BYTES: usize = 63 * 1024;
/// Milliseconds between the first and the last record of a chunk, at most. It
/// bounds how far chunks reach into each other, thus how many are looked at
/// beyond the one that was asked for.
pub(super) const CHUNK_SPAN_MS: u64 = 100;

const VERSION: u8 = 1;
/// Version, number of records, checksum.
const HEADER: usize = 1 + 2 + 8;
const LENGTHS: usize = 3 * 4;

/// A record in a chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) id: &'a [u8],
    pub(super) request_id: &'a [u8],
    /// As `orama_proto::record` encodes it.
    pub(super) record: &'a [u8],
}

impl Entry<'_> {
    fn size(&self) -> usize {
        LENGTHS + self.id.len() + self.request_id.len() + self.record.len()
    }
}

/// How many of `entries`, which are in order, make the first chunk.
pub(super) fn first_chunk(entries: &[Entry<'_>]) -> usize {
    let begin = entries.first().and_then(|e| tables::millis_of(e.id));
    let mut bytes = 0;
    let fits = |(n, entry): &(usize, &Entry<'_>)| {
        bytes += entry.size();
        // The span of an id without a time is not known: it stays alone.
        let near = || match (begin, tables::millis_of(entry.id)) {
            (Some(begin), Some(at)) => at.saturating_sub(begin) <= CHUNK_SPAN_MS,
            _ => false,
        };
        *n == 0 || (*n < CHUNK_RECORDS && bytes <= CHUNK_BYTES && near())
    };
    entries.iter().enumerate().take_while(fits).count()
}

/// Key and value of a chunk of these records, oldest first.
pub(super) fn write(prefix: &[u8], entries: &[Entry<'_>]) -> (Vec<u8>, Vec<u8>) {
    let last = entries.last().map_or(&[][..], |e| e.id);
    let key = [prefix, last].concat();
    let size = HEADER + entries.iter().map(Entry::size).sum::<usize>();
    let mut value = Vec::with_capacity(size);
    value.push(VERSION);
    let count = u16::try_from(entries.len()).unwrap_or(u16::MAX);
    value.extend_from_slice(&count.to_le_bytes());
    value.extend_from_slice(&[0; 8]);
    for entry in entries {
        let parts = [entry.id, entry.request_id, entry.record];
        for part in parts {
            // Records are far smaller, by their own limit.
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            value.extend_from_slice(&length.to_le_bytes());
        }
        for part in parts {
            value.extend_from_slice(part);
        }
    }
    let sum = checksum(&key, &value);
    if let Some(field) = value.get_mut(HEADER - 8..HEADER) {
        field.copy_from_slice(&sum);
    }
    (key, value)
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; 8] {
    let body = value.get(HEADER..).unwrap_or_default();
    xxh3_64_with_seed(body, xxh3_64(key)).to_le_bytes()
}

/// The number of records as the chunk says it, not checked; 1 when that cannot be.
pub(super) fn count(value: &[u8]) -> u64 {
    match *value {
        [VERSION, low, high, ..] => match u16::from_le_bytes([low, high]) {
            count if (1..=CHUNK_RECORDS).contains(&usize::from(count)) => u64::from(count),
            _ => 1,
        },
        _ => 1,
    }
}

/// The records of a chunk, oldest first, not checked: nothing but a comparison
/// may be done with them. Ends where the bytes make no sense.
pub(super) fn glance(value: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = value.get(HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let id_len = length(&mut rest)?;
        let request_len = length(&mut rest)?;
        let record_len = length(&mut rest)?;
        Some(Entry {
            id: rest.split_off(..id_len)?,
            request_id: rest.split_off(..request_len)?,
            record: rest.split_off(..record_len)?,
        })
    })
}

fn length(rest: &mut &[u8]) -> Option<usize> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}

/// The records of a chunk, oldest first; nothing when it is not as it was written.
pub(super) fn read<'a>(key: &[u8], value: &'a [u8]) -> Option<Vec<Entry<'a>>> {
    let sum = value.get(HEADER - 8..HEADER)?;
    if value.first() != Some(&VERSION) || *sum != checksum(key, value) {
        return None;
    }
    let entries: Vec<_> = glance(value).collect();
    (entries.len() as u64 == count(value)).then_some(entries)
}

//! Answering queries: chunks from the newest on, their records in order.

use std::collections::BinaryHeap;

use orama_proto::invocation::{InvocationRecord, RECORD_VERSION};
use orama_proto::record;
use redb::{Database, ReadableDatabase};

use super::chunk;
use super::file::Fault;
use super::tables;
use super::{JournalQuery, QUERY_MAX_BYTES, Unreadable};

/// The newest `limit` matching records, newest first.
///
/// Chunks may reach into each other, but a chunk's key is its newest record:
/// what is newer than the key of the next chunk is newer than all that is
/// still unread. The rest waits, at most one chunk for each record answered.
pub(super) fn query(
    db: &Database,
    query: &JournalQuery,
    limit: usize,
    unreadable: &Unreadable,
) -> Result<Vec<InvocationRecord>, Fault> {
    let txn = db.begin_read()?;
    let table = txn.open_table(tables::CHUNKS)?;
    let prefix = tables::prefix(&query.namespace, &query.function);
    let range = tables::newer_than(&prefix, query.after.as_deref());
    let mut chunks = table.range::<&[u8]>(tables::borrowed(&range))?.rev();
    let mut waiting = BinaryHeap::new();
    let mut answer = Answer {
        limit,
        bytes: 0,
        records: Vec::new(),
    };
    loop {
        let next = chunks.next().transpose()?;
        let newest_unread = next
            .as_ref()
            .and_then(|(key, _)| key.value().get(prefix.len()..));
        let newer = |found: &Found| newest_unread.is_none_or(|unread| *found.id > *unread);
        while waiting.peek().is_some_and(newer)
            && let Some(found) = waiting.pop()
        {
            if !answer.take(&found, unreadable) {
                return Ok(answer.records);
            }
        }
        let Some((key, value)) = next else {
            return Ok(answer.records);
        };
        open(query, key.value(), value.value(), unreadable, &mut waiting);
    }
}

/// A record that matches. Ordered by id, which is unique.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    id: Vec<u8>,
    record: Vec<u8>,
}

fn open(
    query: &JournalQuery,
    key: &[u8],
    value: &[u8],
    unreadable: &Unreadable,
    waiting: &mut BinaryHeap<Found>,
) {
    let wanted = query.request_id.as_ref().map(|id| id.as_str().as_bytes());
    if let Some(wanted) = wanted
        && !chunk::glance(value).any(|e| e.request_id == wanted)
    {
        return;
    }
    let Some(entries) = chunk::read(key, value) else {
        unreadable.note(
            chunk::count(value),
            key,
            &"the chunk's checksum does not fit",
        );
        return;
    };
    let after = query.after.as_deref().unwrap_or_default().as_bytes();
    let matches = entries
        .into_iter()
        .filter(|e| e.id > after && wanted.is_none_or(|wanted| e.request_id == wanted));
    waiting.extend(matches.map(|e| Found {
        id: e.id.to_vec(),
        record: e.record.to_vec(),
    }));
}

struct Answer {
    limit: usize,
    bytes: usize,
    records: Vec<InvocationRecord>,
}

impl Answer {
    /// Answers whether there is room for more.
    fn take(&mut self, found: &Found, unreadable: &Unreadable) -> bool {
        match record::decode(RECORD_VERSION, &found.record) {
            Ok(record) => {
                // The first is answered whatever its size.
                if self.bytes + found.record.len() > QUERY_MAX_BYTES && !self.records.is_empty() {
                    return false;
                }
                self.bytes += found.record.len();
                self.records.push(record);
            }
            Err(error) => unreadable.note(1, &found.id, &error),
        }
        self.records.len() < self.limit
    }
}

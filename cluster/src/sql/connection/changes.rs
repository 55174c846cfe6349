//! A sum over the rows that an entry changed, equal where the same rows changed in the same way.

use rusqlite::types::ValueRef;
use xxhash_rust::xxh3::xxh3_128;

use super::super::raw::{RowChange, RowObserver};

/// Sees every changed row.
#[derive(Debug, Default)]
pub(super) struct Changes {
    sum: u128,
    buffer: Vec<u8>,
    /// A row got the largest rowid: SQLite would draw the table's next one from its own generator.
    pub(super) largest_rowid: bool,
    /// A row could not be read.
    pub(super) lost: bool,
}

/// Kept of the buffer between two entries.
const BUFFER_KEPT: usize = 64 << 10;

impl Changes {
    pub(super) fn clear(&mut self) {
        self.sum = 0;
        self.largest_rowid = false;
        self.lost = false;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT);
    }
    pub(super) fn take(&mut self) -> u128 {
        std::mem::take(&mut self.sum)
    }
}

impl RowObserver for Changes {
    fn row(&mut self, change: &RowChange<'_>) {
        if change.table == super::STATE_TABLE.as_bytes() {
            return;
        }
        if change.kind != b'D' && change.new_rowid == i64::MAX {
            self.largest_rowid = true;
        }
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.push(change.kind);
        put(buffer, b'n', change.table);
        buffer.extend_from_slice(&change.old_rowid.to_le_bytes());
        buffer.extend_from_slice(&change.new_rowid.to_le_bytes());
        for values in [change.old, change.new] {
            buffer.extend_from_slice(&(values.len() as u64).to_le_bytes());
            for value in values {
                match value {
                    ValueRef::Null => buffer.push(b'0'),
                    ValueRef::Integer(value) => put(buffer, b'i', &value.to_le_bytes()),
                    ValueRef::Real(value) => put(buffer, b'r', &value.to_bits().to_le_bytes()),
                    ValueRef::Text(text) => put(buffer, b't', text),
                    ValueRef::Blob(blob) => put(buffer, b'b', blob),
                }
            }
        }
        // A rotation, so that the order counts too and equal changes do not cancel out.
        self.sum = self.sum.rotate_left(5).wrapping_add(xxh3_128(buffer));
    }
    fn lost(&mut self) {
        self.lost = true;
    }
}

fn put(buffer: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    buffer.push(kind);
    buffer.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    buffer.extend_from_slice(bytes);
}

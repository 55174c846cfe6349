//! The rolling hash of what entries did: equal on replicas that did the same.
//!
//! Of every row that changes the table, the kind of change, the rowids and all values go in,
//! of every entry its index and its outcome (codes, counts, ids, rows, statement texts). Rows that
//! a `CREATE TABLE … AS SELECT` fills in are not reported by SQLite; they go in once they
//! are read or changed.

use orama_proto::sql::{OpDone, OpKind, SqlOutcome, SqlTransaction};
use rusqlite::types::ValueRef;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

use super::connection::STATE_TABLE;
use super::raw::{RowChange, RowObserver};

/// Bytes gathered before they are hashed. Most entries never get there and are hashed in one go.
const GATHER_BYTES: usize = 4096;

/// Sums the rows that change.
#[derive(Default)]
pub(super) struct Effects {
    gathered: Vec<u8>,
    /// What was hashed already, of entries that change much.
    hashed: Option<Box<Xxh3>>,
}

impl Effects {
    /// The sum of everything seen since it was last taken; 0 when there was nothing.
    pub(super) fn take(&mut self) -> u128 {
        let sum = match self.hashed.take() {
            Some(mut hasher) => {
                hasher.update(&self.gathered);
                hasher.digest128()
            }
            None if self.gathered.is_empty() => 0,
            None => xxh3_128(&self.gathered),
        };
        self.gathered.clear();
        sum
    }

    fn hash_gathered(&mut self) {
        self.hashed
            .get_or_insert_with(|| Box::new(Xxh3::new()))
            .update(&self.gathered);
        self.gathered.clear();
    }

    /// Lengths go first, so that no two different rows make the same bytes.
    fn bytes(&mut self, kind: u8, bytes: &[u8]) {
        self.gathered.push(kind);
        self.gathered
            .extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        if bytes.len() < GATHER_BYTES {
            self.gathered.extend_from_slice(bytes);
        } else {
            self.hash_gathered();
            if let Some(hasher) = &mut self.hashed {
                hasher.update(bytes);
            }
        }
    }

    fn word(&mut self, kind: u8, word: u64) {
        self.gathered.push(kind);
        self.gathered.extend_from_slice(&word.to_le_bytes());
    }

    fn values(&mut self, values: &[ValueRef<'_>]) {
        self.word(b'#', values.len() as u64);
        for value in values {
            match value {
                ValueRef::Null => self.gathered.push(b'n'),
                ValueRef::Integer(i) => self.word(b'i', i.cast_unsigned()),
                ValueRef::Real(r) => self.word(b'r', r.to_bits()),
                ValueRef::Text(text) => self.bytes(b't', text),
                ValueRef::Blob(blob) => self.bytes(b'b', blob),
            }
        }
    }
}

impl RowObserver for Effects {
    fn row(&mut self, change: &RowChange<'_>) {
        if change.table == STATE_TABLE.as_bytes() {
            return;
        }
        self.bytes(change.kind, change.table);
        self.word(b'<', change.old_rowid.cast_unsigned());
        self.word(b'>', change.new_rowid.cast_unsigned());
        self.values(change.old);
        self.values(change.new);
        if self.gathered.len() >= GATHER_BYTES {
            self.hash_gathered();
        }
    }
}

/// The hash after the entry `index`.
pub(super) fn chain(
    hash: u128,
    index: u64,
    effects: u128,
    transaction: &SqlTransaction,
    outcome: &SqlOutcome,
) -> u128 {
    let mut all = Vec::with_capacity(96);
    all.extend_from_slice(&hash.to_le_bytes());
    all.extend_from_slice(&index.to_le_bytes());
    all.extend_from_slice(&effects.to_le_bytes());
    let done = match outcome {
        SqlOutcome::Committed(done) => {
            all.push(b'c');
            done
        }
        SqlOutcome::RolledBack {
            failed,
            error,
            before,
        } => {
            // Not the message: its wording may change between versions.
            all.push(b'r');
            all.extend_from_slice(&failed.to_le_bytes());
            all.extend_from_slice(error.code.as_str().as_bytes());
            before
        }
    };
    for (op, done) in transaction.ops.iter().zip(done) {
        all.extend_from_slice(&xxh3_64(op.sql.as_bytes()).to_le_bytes());
        op_done(&mut all, done);
    }
    xxh3_128(&all)
}

fn op_done(all: &mut Vec<u8>, done: &OpDone) {
    all.push(match done.kind {
        OpKind::Exec => b'e',
        OpKind::Query => b'q',
    });
    all.extend_from_slice(&done.rows_affected.to_le_bytes());
    all.extend_from_slice(&done.last_insert_id.to_le_bytes());
    match &done.rows {
        None => all.push(b'-'),
        Some(rows) => {
            all.push(b'+');
            all.extend_from_slice(&rows.count.to_le_bytes());
            for column in &rows.columns {
                all.extend_from_slice(&xxh3_64(column.as_bytes()).to_le_bytes());
            }
            all.extend_from_slice(&xxh3_128(&rows.json).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change<'a>(table: &'a str, new: &'a [ValueRef<'a>]) -> RowChange<'a> {
        RowChange {
            kind: b'I',
            table: table.as_bytes(),
            old_rowid: 1,
            new_rowid: 1,
            old: &[],
            new,
        }
    }

    fn sum(changes: &[RowChange<'_>]) -> u128 {
        let mut effects = Effects::default();
        for change in changes {
            effects.row(change);
        }
        effects.take()
    }

    #[test]
    fn tells_changes_apart() {
        let long = vec![b'x'; 3 * GATHER_BYTES];
        let rows: Vec<Vec<ValueRef<'_>>> = vec![
            vec![],
            vec![ValueRef::Null],
            vec![ValueRef::Integer(1)],
            vec![ValueRef::Real(1.0)],
            vec![ValueRef::Real(-0.0)],
            vec![ValueRef::Real(0.0)],
            vec![ValueRef::Text(b"1")],
            vec![ValueRef::Blob(b"1")],
            vec![ValueRef::Text(b"ab"), ValueRef::Text(b"c")],
            vec![ValueRef::Text(b"a"), ValueRef::Text(b"bc")],
            vec![ValueRef::Text(&long)],
            vec![ValueRef::Text(&long[1..])],
            vec![ValueRef::Text(&long), ValueRef::Null],
        ];
        let mut seen = std::collections::HashSet::new();
        assert!(seen.insert(sum(&[])));
        for row in &rows {
            assert!(seen.insert(sum(&[change("t", row)])), "{row:?}");
            assert!(seen.insert(sum(&[change("u", row)])), "{row:?}");
            assert!(seen.insert(sum(&[change("t", row), change("t", row)])));
        }
    }

    #[test]
    fn many_rows_hash_like_their_bytes_and_ours_do_not_count() {
        let value = [ValueRef::Text(b"some text that is not short")];
        let mut effects = Effects::default();
        for _ in 0..1_000 {
            effects.row(&change("t", &value));
            effects.row(&change(STATE_TABLE, &value));
        }
        let first = effects.take();
        assert_eq!(effects.take(), 0);
        for _ in 0..1_000 {
            effects.row(&change("t", &value));
        }
        assert_eq!(effects.take(), first);
        for _ in 0..999 {
            effects.row(&change("t", &value));
        }
        assert_ne!(effects.take(), first);
    }
}

//! Removing records: by age, by count, by namespace; a bounded transaction at a time.

use std::ops::Bound;

use orama_proto::{Namespace, Timestamp};
use redb::{Database, ReadableDatabase};

use super::file::{self, Fault, JournalFile};
use super::tables::{self, TOTALS, Totals, Write};
use super::{JournalError, PRUNE_BATCH};

/// Functions looked at in one read transaction.
const PAGE: usize = 1_000;

/// When to stop removing from a function: see [`Write::remove_oldest`].
type Enough<'a> = &'a dyn Fn(Totals, &[u8]) -> bool;

pub(super) fn prune(
    file: &JournalFile,
    before: Timestamp,
    per_function: usize,
) -> Result<u64, JournalError> {
    let before_ms = before.0 / 1_000;
    let per_function = per_function as u64;
    remove(file, &[], None, &|left, key| {
        let id = key.rsplit(|b| *b == 0).next().unwrap_or_default();
        // An id without a time has no age: such a record goes when there are too many.
        let old = tables::millis_of(id).is_some_and(|at| at < before_ms);
        left.records <= per_function && !old
    })
}

pub(super) fn delete_namespace(
    file: &JournalFile,
    namespace: &Namespace,
) -> Result<u64, JournalError> {
    let start = [namespace.as_str().as_bytes(), &[0]].concat();
    let end = tables::end_of(&start);
    remove(file, &start, Some(&end), &|_, _| false)
}

/// Applies `enough` to every function from `start` to `end`.
fn remove(
    file: &JournalFile,
    start: &[u8],
    end: Option<&[u8]>,
    enough: Enough<'_>,
) -> Result<u64, JournalError> {
    let mut removed = 0;
    let mut from = Bound::Included(start.to_vec());
    loop {
        let page = file.with(|db| page(db, &from, end, enough))?;
        let mut todo = page.prefixes.as_slice();
        while !todo.is_empty() {
            let (done, count) = file.with(|db| batch(db, todo, enough))?;
            removed += count as u64;
            todo = todo.get(done..).unwrap_or_default();
        }
        match page.last {
            Some(last) => from = Bound::Excluded(last),
            None => return Ok(removed),
        }
    }
}

struct Page {
    /// Functions that have something to remove.
    prefixes: Vec<Vec<u8>>,
    /// Where the next page begins, when there is one.
    last: Option<Vec<u8>>,
}

/// Looks for work with a read transaction, so that a journal in order costs no write.
fn page(
    db: &Database,
    from: &Bound<Vec<u8>>,
    end: Option<&[u8]>,
    enough: Enough<'_>,
) -> Result<Page, Fault> {
    let txn = db.begin_read()?;
    let totals = txn.open_table(TOTALS)?;
    let heads = txn.open_table(tables::HEADS)?;
    let mut page = Page {
        prefixes: Vec::new(),
        last: None,
    };
    let from = from.as_ref().map(Vec::as_slice);
    let end = end.map_or(Bound::Unbounded, Bound::Excluded);
    for (seen, row) in totals.range::<&[u8]>((from, end))?.enumerate() {
        let (prefix, total) = row?;
        let prefix = prefix.value();
        let (records, bytes) = total.value();
        let range = tables::newer_than(prefix, None);
        let oldest = heads
            .range::<&[u8]>(tables::borrowed(&range))?
            .next()
            .transpose()?;
        if oldest.is_none_or(|(key, _)| !enough(Totals { records, bytes }, key.value())) {
            page.prefixes.push(prefix.to_vec());
        }
        if seen + 1 == PAGE {
            page.last = Some(prefix.to_vec());
            break;
        }
    }
    Ok(page)
}

/// One transaction. Answers how many functions are finished and how many records are gone.
fn batch(db: &Database, prefixes: &[Vec<u8>], enough: Enough<'_>) -> Result<(usize, usize), Fault> {
    let txn = file::begin_write(db)?;
    let mut removed = 0;
    let mut done = 0;
    {
        let mut write = Write::open(&txn)?;
        for prefix in prefixes {
            removed += write.remove_oldest(prefix, PRUNE_BATCH - removed, enough)?;
            if removed >= PRUNE_BATCH {
                // Perhaps finished, perhaps not: the next transaction looks again.
                break;
            }
            done += 1;
        }
    }
    txn.commit()?;
    Ok((done, removed))
}

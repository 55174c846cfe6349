//! Removing records: by age, by count, by namespace; a bounded transaction at a time.

use std::ops::Bound;

use orama_proto::{Namespace, Timestamp};
use redb::{Database, ReadableDatabase, ReadableTable};

use super::chunk::{self, CHUNK_SPAN_MS};
use super::file::{self, Fault, JournalFile};
use super::tables::{self, CHUNKS, TOTALS, Totals, Write};
use super::{JournalError, PRUNE_BATCH};

/// Functions looked at in one read transaction.
const PAGE: usize = 1_000;
/// Behind every id, which is text.
const BEHIND_ALL: &[u8] = &[0xff];

/// What is kept of a function.
enum Keep {
    Nothing,
    Newest {
        /// How ids begin that are just young enough.
        from: String,
        records: u64,
    },
}

/// Ids before these are removed.
struct Cuts {
    /// For ids that have a time: an id without one has no age, and goes when there are too many.
    age: Vec<u8>,
    count: Vec<u8>,
}

impl Cuts {
    fn remove(&self, id: &[u8], timed: bool) -> bool {
        *id < *self.count || (timed && *id < *self.age)
    }
    /// No chunk whose oldest id is this or newer has anything to remove.
    fn end_before(&self, id: &[u8]) -> bool {
        *id >= *self.count && *id >= *self.age
    }
}

pub(super) fn prune(
    file: &JournalFile,
    before: Timestamp,
    per_function: usize,
) -> Result<u64, JournalError> {
    let keep = Keep::Newest {
        from: tables::text_of(before.0 / 1_000),
        records: per_function as u64,
    };
    remove(file, &[], None, &keep)
}

pub(super) fn delete_namespace(
    file: &JournalFile,
    namespace: &Namespace,
) -> Result<u64, JournalError> {
    let start = [namespace.as_str().as_bytes(), &[0]].concat();
    let end = tables::end_of(&start);
    remove(file, &start, Some(&end), &Keep::Nothing)
}

/// Applies `keep` to every function from `start` to `end`.
fn remove(
    file: &JournalFile,
    start: &[u8],
    end: Option<&[u8]>,
    keep: &Keep,
) -> Result<u64, JournalError> {
    let mut removed = 0;
    let mut from = Bound::Included(start.to_vec());
    loop {
        let page = file.with(|db| page(db, &from, end, keep))?;
        let mut todo = page.prefixes.as_slice();
        while !todo.is_empty() {
            let (done, count) = file.with(|db| batch(db, todo, keep))?;
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
    keep: &Keep,
) -> Result<Page, Fault> {
    let txn = db.begin_read()?;
    let totals = txn.open_table(TOTALS)?;
    let chunks = txn.open_table(CHUNKS)?;
    let mut page = Page {
        prefixes: Vec::new(),
        last: None,
    };
    let from = from.as_ref().map(Vec::as_slice);
    let end = end.map_or(Bound::Unbounded, Bound::Excluded);
    for (seen, row) in totals.range::<&[u8]>((from, end))?.enumerate() {
        let (prefix, total) = row?;
        let prefix = prefix.value();
        let work = match keep {
            Keep::Nothing => true,
            Keep::Newest { records, .. } if total.value().0 > *records => true,
            Keep::Newest { from, .. } => has_older(&chunks, prefix, from.as_bytes())?,
        };
        if work {
            page.prefixes.push(prefix.to_vec());
        }
        if seen + 1 == PAGE {
            page.last = Some(prefix.to_vec());
            break;
        }
    }
    Ok(page)
}

/// Whether a function may have a record older than `from`, or has none at all.
fn has_older(
    chunks: &impl ReadableTable<&'static [u8], &'static [u8]>,
    prefix: &[u8],
    from: &[u8],
) -> Result<bool, Fault> {
    let range = tables::newer_than(prefix, None);
    let mut empty = true;
    for row in chunks.range::<&[u8]>(tables::borrowed(&range))? {
        let (key, value) = row?;
        empty = false;
        let Some(floor) = floor(id_of(prefix, key.value())) else {
            continue;
        };
        if *floor >= *from {
            break;
        }
        if chunk::glance(value.value())
            .next()
            .is_none_or(|e| e.id < from)
        {
            return Ok(true);
        }
    }
    Ok(empty)
}

/// One transaction. Answers how many functions are finished and how many records are gone.
fn batch(db: &Database, prefixes: &[Vec<u8>], keep: &Keep) -> Result<(usize, usize), Fault> {
    let txn = file::begin_write(db)?;
    let mut removed = 0;
    let mut done = 0;
    {
        let mut write = Write::open(&txn)?;
        for prefix in prefixes {
            removed += remove_from(&mut write, prefix, keep, PRUNE_BATCH - removed)?;
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

/// Removes from one function until `budget` records are gone, the last chunk whole.
fn remove_from(
    write: &mut Write<'_>,
    prefix: &[u8],
    keep: &Keep,
    budget: usize,
) -> Result<usize, Fault> {
    let mut total = write.totals(prefix)?;
    let cuts = match keep {
        Keep::Nothing => Cuts {
            age: Vec::new(),
            count: BEHIND_ALL.to_vec(),
        },
        Keep::Newest { from, records } => {
            let excess = total.records.saturating_sub(*records);
            let excess = usize::try_from(excess).map_or(budget, |e| e.min(budget));
            Cuts {
                age: from.clone().into_bytes(),
                count: oldest_kept(&write.chunks, prefix, excess)?,
            }
        }
    };
    let mut removed = 0;
    let mut changed = Vec::new();
    let range = tables::newer_than(prefix, None);
    for row in write.chunks.range::<&[u8]>(tables::borrowed(&range))? {
        let (key, value) = row?;
        let last = id_of(prefix, key.value());
        let floor = floor(last);
        if removed >= budget || floor.as_ref().is_some_and(|f| cuts.end_before(f)) {
            break;
        }
        let timed = floor.is_some();
        if cuts.remove(last, timed) {
            removed += chunk::count(value.value()) as usize;
            changed.push((key.value().to_vec(), None));
        } else if let Some(mut entries) = chunk::read(key.value(), value.value()) {
            let count = entries.len();
            entries.retain(|e| !cuts.remove(e.id, timed));
            if entries.len() < count {
                removed += count - entries.len();
                let (_, left) = chunk::write(prefix, &entries);
                changed.push((key.value().to_vec(), Some(left)));
            }
        }
    }
    for (key, left) in changed {
        match left {
            Some(left) => write.put(&key, &left, &mut total)?,
            None => write.take(&key, &mut total)?,
        }
    }
    if write.is_empty(prefix)? {
        // Nothing is left, whatever was counted.
        total = Totals::default();
    }
    write.set_totals(prefix, total)?;
    Ok(removed)
}

/// The oldest id that stays when the `excess` oldest records go. A chunk that
/// cannot be read counts as if all its records had its newest id.
fn oldest_kept(
    chunks: &impl ReadableTable<&'static [u8], &'static [u8]>,
    prefix: &[u8],
    excess: usize,
) -> Result<Vec<u8>, Fault> {
    if excess == 0 {
        return Ok(Vec::new());
    }
    let mut ids: Vec<Vec<u8>> = Vec::new();
    let range = tables::newer_than(prefix, None);
    for row in chunks.range::<&[u8]>(tables::borrowed(&range))? {
        let (key, value) = row?;
        let last = id_of(prefix, key.value());
        if ids.len() > excess
            && let Some(floor) = floor(last)
        {
            // What was not read yet is not older than the floor.
            ids.sort_unstable();
            if ids.get(excess).is_some_and(|kept| **kept < *floor) {
                break;
            }
        }
        match chunk::read(key.value(), value.value()) {
            Some(entries) => ids.extend(entries.iter().map(|e| e.id.to_vec())),
            None => {
                let count = chunk::count(value.value()) as usize;
                ids.extend(std::iter::repeat_n(last.to_vec(), count));
            }
        }
    }
    ids.sort_unstable();
    Ok(ids
        .into_iter()
        .nth(excess)
        .unwrap_or_else(|| BEHIND_ALL.to_vec()))
}

fn id_of<'a>(prefix: &[u8], key: &'a [u8]) -> &'a [u8] {
    key.get(prefix.len()..).unwrap_or_default()
}

/// No record of this chunk, or of one behind it, is older. None for an id without a time.
fn floor(last: &[u8]) -> Option<Vec<u8>> {
    let at = tables::millis_of(last)?;
    Some(tables::text_of(at.saturating_sub(CHUNK_SPAN_MS)).into_bytes())
}

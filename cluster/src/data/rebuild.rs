//! Makes a fenced database again from a copy and the log. It is made beside the old one, so that
//! applying goes on meanwhile; only for the last few entries and the exchange of the files is it
//! held up. Everything here blocks.

use std::io;
use std::path::Path;

use orama_proto::sql::{DatabaseId, SqlTransaction, Stamp};

use super::apply::fault;
use super::command::Command;
use super::keeper::DataKeeper;
use crate::consensus::CommandLog;
use crate::sql::{Databases, Item, Mark, SaveFault, Staged};

/// So many entries, or bytes of them, are applied at once.
const BATCH_ENTRIES: usize = 256;
const BATCH_BYTES: usize = 8 << 20;
/// So many entries may be left for when applying is held up,
const REST_ENTRIES: u64 = 256;
/// unless as many rounds as this did not get there: the group is faster than this.
const ROUNDS_MAX: usize = 16;
/// A database that proves damaged while an entry is applied is made again on the spot, with
/// applying held up, when it has at most so many bytes,
const ON_THE_SPOT_BYTES: u64 = 16 << 20;
/// and the log has at most so many entries to add.
const ON_THE_SPOT_ENTRIES: u64 = 20_000;

fn save_fault(error: SaveFault) -> io::Error {
    match error {
        SaveFault::Io(error) => error,
        SaveFault::Engine(error) => fault(error),
    }
}

/// A database on its way.
struct Rebuild<'a> {
    databases: &'a Databases,
    id: &'a DatabaseId,
    log: &'a dyn CommandLog,
    staged: Staged,
    /// Everything of the log up to here is in it.
    after: u64,
}

impl<'a> Rebuild<'a> {
    /// From `copy` (or from nothing), which has everything up to the entry `after` in it.
    fn begin(
        keeper: &'a DataKeeper,
        databases: &'a Databases,
        id: &'a DatabaseId,
        copy: Option<&Path>,
        after: u64,
        to: u64,
    ) -> io::Result<Self> {
        let closed = || io::Error::other("the log is not open");
        let log = keeper.log().ok_or_else(closed)?.as_ref();
        // Nothing is copied for a log that does not reach back.
        if after < to {
            log.commands(after, after + 1, &mut |_, _| Ok(()))?;
        }
        let staged = databases.stage(id, copy).map_err(save_fault)?;
        // What is between was for other databases.
        let after = after.max(staged.mark().applied);
        Ok(Self {
            databases,
            id,
            log,
            staged,
            after,
        })
    }

    fn catch_up(&mut self, to: u64) -> io::Result<()> {
        if self.after < to {
            replay(self.log, &mut self.staged, self.id, self.after, to)?;
            self.after = to;
        }
        Ok(())
    }

    fn exchange(self) -> io::Result<Mark> {
        self.databases.exchange(self.staged).map_err(save_fault)
    }
}

/// Replaces a fenced database by `copy` (or by nothing), which has everything up to the entry
/// `after` in it, and by what the log adds to it. When that fails it stays fenced as it is.
pub(super) fn beside(
    keeper: &DataKeeper,
    databases: &Databases,
    id: &DatabaseId,
    copy: Option<&Path>,
    after: u64,
) -> io::Result<()> {
    let to = keeper.progress().lock().index();
    let mut rebuild = Rebuild::begin(keeper, databases, id, copy, after, to)?;
    for _ in 0..ROUNDS_MAX {
        let to = keeper.progress().lock().index();
        if to.saturating_sub(rebuild.after) <= REST_ENTRIES {
            break;
        }
        rebuild.catch_up(to)?;
    }
    // Most of what is to be written to the disk is written before anybody waits for it.
    rebuild.staged.seal().map_err(save_fault)?;
    // Nothing is applied from here on.
    let progress = keeper.progress().lock();
    // Meanwhile the state may have become another one: from a snapshot, or because the database
    // was removed.
    if !keeper.is_fenced(id) || !databases.is_fenced(id) {
        return Err(io::Error::other("it is not fenced any more"));
    }
    rebuild.catch_up(progress.index())?;
    // Where nobody has it, what this replica had is no measure.
    if (copy.is_some() || after == 0)
        && let Some(entry) = rebuild.staged.lacks()
    {
        let what = format!("the copy and the log do not have its entry {entry}");
        return Err(io::Error::other(what));
    }
    rebuild.exchange()?;
    keeper.mended(id);
    Ok(())
}

/// Tries this node's copies of a database, the newest first, then the whole log.
fn each_copy(
    keeper: &DataKeeper,
    databases: &Databases,
    id: &DatabaseId,
    mut attempt: impl FnMut(Option<&Path>, u64) -> io::Result<()>,
) -> io::Result<u64> {
    let mut failed = None;
    for saved in keeper.saved() {
        let done = databases.saved(&saved.pairs, id).and_then(|backup| {
            let path = backup.as_ref().map(|b| b.path.as_path());
            attempt(path, saved.at)
        });
        match done {
            Ok(()) => return Ok(saved.at),
            Err(error) => failed = Some(error),
        }
    }
    // A young log has it all.
    match attempt(None, 0) {
        Ok(()) => Ok(0),
        Err(error) => Err(failed.unwrap_or(error)),
    }
}

/// Rebuilds a fenced database from this node's copies of it and the log. Answers the index its
/// copy came from.
pub(super) fn locally(
    keeper: &DataKeeper,
    databases: &Databases,
    id: &DatabaseId,
) -> io::Result<u64> {
    each_copy(keeper, databases, id, |copy, after| {
        beside(keeper, databases, id, copy, after)
    })
}

/// The same up to the entry `to`, with applying held up: only when it is short.
pub(super) fn on_the_spot(
    keeper: &DataKeeper,
    databases: &Databases,
    id: &DatabaseId,
    to: u64,
) -> io::Result<u64> {
    let bytes = databases.bytes_of(id);
    if bytes > ON_THE_SPOT_BYTES {
        let what = format!("with {bytes} bytes it is too large to wait for");
        return Err(io::Error::other(what));
    }
    each_copy(keeper, databases, id, |copy, after| {
        let entries = to.saturating_sub(after);
        if entries > ON_THE_SPOT_ENTRIES {
            let what = format!("{entries} entries of the log are too many to wait for");
            return Err(io::Error::other(what));
        }
        let mut rebuild = Rebuild::begin(keeper, databases, id, copy, after, to)?;
        rebuild.catch_up(to)?;
        rebuild.exchange().map(drop)
    })
}

struct Collected {
    bytes: usize,
    entries: Vec<(u64, Stamp, SqlTransaction)>,
}

impl Collected {
    fn flush(&mut self, staged: &mut Staged) -> io::Result<()> {
        let entries = std::mem::take(&mut self.entries);
        self.bytes = 0;
        if entries.is_empty() {
            return Ok(());
        }
        let items: Vec<Item<'_>> = entries
            .iter()
            .map(|(index, stamp, transaction)| Item {
                index: *index,
                stamp: *stamp,
                transaction,
            })
            .collect();
        staged.apply(&items).map(drop).map_err(fault)
    }
}

fn replay(
    log: &dyn CommandLog,
    staged: &mut Staged,
    id: &DatabaseId,
    after: u64,
    to: u64,
) -> io::Result<()> {
    let mut collected = Collected {
        bytes: 0,
        entries: Vec::new(),
    };
    log.commands(after, to, &mut |index, bytes| {
        let (command, stamp) = Command::decode(bytes).map_err(io::Error::other)?;
        match command {
            Command::Transaction(transaction) if transaction.database == *id => {
                collected.bytes += bytes.len();
                collected.entries.push((index, stamp, transaction));
                if collected.entries.len() >= BATCH_ENTRIES || collected.bytes >= BATCH_BYTES {
                    collected.flush(staged)?;
                }
            }
            Command::Drop(dropped) if dropped == *id => {
                // Nothing comes after it, and the removal is applied like everything else.
                return Err(io::Error::other("it was dropped"));
            }
            _ => {}
        }
        Ok(())
    })?;
    collected.flush(staged)
}

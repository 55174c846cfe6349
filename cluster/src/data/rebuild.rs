//! Puts a copy in the place of a fenced database and brings it up to where the group is.
//! Everything here blocks, and is called while nothing is applied.

use std::io;
use std::path::Path;

use orama_proto::sql::{DatabaseId, SqlTransaction, Stamp};

use super::apply::fault;
use super::command::Command;
use super::keeper::DataKeeper;
use crate::consensus::CommandLog;
use crate::sql::{Databases, Item, SaveFault};

/// So many entries, or bytes of them, are applied at once.
const BATCH_ENTRIES: usize = 256;
const BATCH_BYTES: usize = 8 << 20;

/// Replaces a fenced database by `copy` (or by nothing), which has everything up to the entry
/// `after` in it, and applies what the log has for it up to `to`. When that fails it stays fenced.
pub(super) fn place(
    keeper: &DataKeeper,
    databases: &Databases,
    id: &DatabaseId,
    copy: Option<&Path>,
    after: u64,
    to: u64,
) -> io::Result<()> {
    let log = keeper
        .log()
        .ok_or_else(|| io::Error::other("the log is not open"))?;
    // Nothing is given up for a log that does not reach back.
    if after < to {
        log.commands(after, after + 1, &mut |_, _| Ok(()))?;
    }
    let mark = databases.replace(id, copy).map_err(|e| match e {
        SaveFault::Io(error) => error,
        SaveFault::Engine(error) => fault(error),
    })?;
    // What is between was for other databases.
    let after = after.max(mark.applied);
    let replayed = if after < to {
        replay(log.as_ref(), databases, id, after, to)
    } else {
        Ok(())
    };
    if let Err(error) = &replayed {
        databases
            .fence(id, &format!("it could not be rebuilt: {error}"))
            .map_err(fault)?;
    }
    replayed
}

/// Rebuilds a fenced database from this node's copies of it and the log, up to the entry `to`.
/// Answers the index its copy came from.
pub(super) fn locally(
    keeper: &DataKeeper,
    databases: &Databases,
    id: &DatabaseId,
    to: u64,
) -> io::Result<u64> {
    let mut failed = None;
    for saved in keeper.saved() {
        let done = databases.saved(&saved.pairs, id).and_then(|backup| {
            let path = backup.as_ref().map(|b| b.path.as_path());
            place(keeper, databases, id, path, saved.at, to)
        });
        match done {
            Ok(()) => return Ok(saved.at),
            Err(error) => failed = Some(error),
        }
    }
    // A young log has it all.
    match place(keeper, databases, id, None, 0, to) {
        Ok(()) => Ok(0),
        Err(error) => Err(failed.unwrap_or(error)),
    }
}

struct Collected {
    bytes: usize,
    entries: Vec<(u64, Stamp, SqlTransaction)>,
}

impl Collected {
    fn flush(&mut self, databases: &Databases, id: &DatabaseId) -> io::Result<()> {
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
        let applied = databases.apply(id, &items).map_err(fault)?;
        applied.map(drop).map_err(io::Error::other)
    }
}

fn replay(
    log: &dyn CommandLog,
    databases: &Databases,
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
                    collected.flush(databases, id)?;
                }
            }
            Command::Drop(dropped) if dropped == *id => {
                collected.flush(databases, id)?;
                databases.remove(id, index).map_err(fault)?;
            }
            _ => {}
        }
        Ok(())
    })?;
    collected.flush(databases, id)
}

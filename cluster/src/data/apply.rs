//! A batch of committed entries, sorted by what they change: each database gets
//! its entries in one call, registers are written once.
//!
//! Databases know nothing of each other, so only the order within one of them
//! matters. A drop ends what was collected for its database.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use orama_proto::sql::{DatabaseId, SqlTransaction, Stamp};

use super::command::{Command, Reply};
use super::dropped::{self, Dropped};
use super::shape::{self, Shape};
use super::{Expect, KEY_MAX_BYTES, REGISTERS_MAX, VALUE_MAX_BYTES};
use crate::consensus::KeptEntry;
use crate::sql::{Applied, Databases, EngineFault, Fenced, Item};

/// An engine's fault as the consensus layer understands it: it tells a full disk from a broken one.
pub(super) fn fault(fault: EngineFault) -> io::Error {
    match fault {
        EngineFault::Full => io::Error::new(io::ErrorKind::StorageFull, "the disk is full"),
        other => io::Error::other(other),
    }
}

/// A transaction that waits for its database's turn.
struct Waiting {
    /// Its place in the batch.
    place: usize,
    index: u64,
    stamp: Stamp,
    transaction: SqlTransaction,
}

/// Told how long entries took that were not there before.
pub(super) type Took<'a> = &'a dyn Fn(&DatabaseId, &[(Shape, Duration)]);

/// One batch. `mend` is asked when a database proves damaged right now: it answers whether
/// the file is sound again, with everything before the given index in it.
pub(super) struct Batch<'a, M> {
    databases: &'a Databases,
    dropped: &'a mut Dropped,
    mend: M,
    took: Took<'a>,
    replies: Vec<Reply>,
    waiting: BTreeMap<DatabaseId, Vec<Waiting>>,
    registers: Registers,
}

/// Registers as the batch leaves them.
#[derive(Default)]
struct Registers {
    changes: BTreeMap<String, String>,
    added: usize,
    index: u64,
}

impl<'a, M: FnMut(&Fenced, u64) -> bool> Batch<'a, M> {
    pub(super) fn new(
        databases: &'a Databases,
        dropped: &'a mut Dropped,
        mend: M,
        took: Took<'a>,
    ) -> Self {
        Self {
            databases,
            dropped,
            mend,
            took,
            replies: Vec::new(),
            waiting: BTreeMap::new(),
            registers: Registers::default(),
        }
    }

    /// Applies the entries; one reply for each, empty for those without a command.
    pub(super) fn run(mut self, entries: &[KeptEntry]) -> io::Result<Vec<Vec<u8>>> {
        let known = self.databases.registers_applied();
        self.replies = vec![Reply::Done; entries.len()];
        for (place, entry) in entries.iter().enumerate() {
            let Some(bytes) = &entry.command else {
                continue;
            };
            let index = entry.at.index;
            let (command, stamp) = Command::decode(bytes).map_err(|e| {
                let what = format!("entry {index} cannot be applied: {e}");
                io::Error::new(io::ErrorKind::InvalidData, what)
            })?;
            match command {
                Command::Transaction(transaction) => {
                    if let Some(by) = self.dropped.by(&transaction.database) {
                        // Replayed: what it did went with the drop.
                        self.replies[place] = match index > by {
                            true => Reply::Outcome(dropped::outcome()),
                            false => Reply::NotKnown,
                        };
                        continue;
                    }
                    let id = transaction.database.clone();
                    self.waiting.entry(id).or_default().push(Waiting {
                        place,
                        index,
                        stamp,
                        transaction,
                    });
                }
                Command::Drop(id) => {
                    if let Some(waiting) = self.waiting.remove(&id) {
                        self.apply(&id, &waiting)?;
                    }
                    self.databases.remove(&id, index).map_err(fault)?;
                    if index > known {
                        self.dropped.note(index, id);
                        self.registers.index = index;
                    }
                }
                // Told from their mark, as databases tell themselves.
                Command::Register { .. } if index <= known => {}
                Command::Register { key, value, expect } => {
                    self.replies[place] =
                        self.registers
                            .set(self.databases, index, key, value, &expect);
                }
            }
        }
        for (id, waiting) in std::mem::take(&mut self.waiting) {
            self.apply(&id, &waiting)?;
        }
        let Registers {
            mut changes, index, ..
        } = self.registers;
        changes.extend(self.dropped.changed());
        if !changes.is_empty() {
            let changes: Vec<_> = changes.into_iter().collect();
            self.databases
                .set_registers(index, &changes)
                .map_err(fault)?;
        }
        let replies = self.replies.into_iter().zip(entries);
        replies
            .map(|(reply, entry)| match entry.command {
                Some(_) => reply.encode().map_err(io::Error::other),
                None => Ok(Vec::new()),
            })
            .collect()
    }

    fn apply(&mut self, id: &DatabaseId, waiting: &[Waiting]) -> io::Result<()> {
        let items: Vec<Item<'_>> = waiting
            .iter()
            .map(|w| Item {
                index: w.index,
                stamp: w.stamp,
                transaction: &w.transaction,
            })
            .collect();
        let Some(first) = items.first().map(|i| i.index) else {
            return Ok(());
        };
        let mut begun = Instant::now();
        let mut applied = self.databases.apply(id, &items).map_err(fault)?;
        if let Err(fenced) = &applied
            && (self.mend)(fenced, first)
        {
            // Mending is nobody's work.
            begun = Instant::now();
            applied = self.databases.apply(id, &items).map_err(fault)?;
        }
        match applied {
            Ok(applied) => {
                (self.took)(id, &costs(waiting, &applied, begun.elapsed()));
                for (w, done) in waiting.iter().zip(applied) {
                    self.replies[w.place] = done.outcome.map_or(Reply::NotKnown, Reply::Outcome);
                }
            }
            Err(_) => {
                for w in waiting {
                    self.replies[w.place] = Reply::NotKnown;
                }
            }
        }
        Ok(())
    }
}

/// What each new entry took, and its part of what they took together (opening, committing).
fn costs(waiting: &[Waiting], applied: &[Applied], whole: Duration) -> Vec<(Shape, Duration)> {
    let fresh = waiting.iter().zip(applied);
    let fresh = fresh.filter(|(_, applied)| applied.outcome.is_some());
    let mut costs: Vec<_> = fresh
        .map(|(w, applied)| (shape::of(&w.transaction), applied.took))
        .collect();
    let alone: Duration = costs.iter().map(|(_, took)| *took).sum();
    let count = u32::try_from(costs.len()).unwrap_or(u32::MAX).max(1);
    let part = whole.saturating_sub(alone) / count;
    for (_, took) in &mut costs {
        *took += part;
    }
    costs
}

impl Registers {
    fn set(
        &mut self,
        databases: &Databases,
        index: u64,
        key: String,
        value: String,
        expect: &Expect,
    ) -> Reply {
        let ours = key.starts_with(dropped::OURS);
        if ours || key.len() > KEY_MAX_BYTES || value.len() > VALUE_MAX_BYTES {
            return Reply::TooLong;
        }
        let present = match self.changes.get(&key) {
            Some(value) => Some(value.clone()),
            None => databases.register(&key),
        };
        let fits = match expect {
            Expect::Anything => true,
            Expect::Absent => present.is_none(),
            Expect::Value(wanted) => present.as_ref() == Some(wanted),
        };
        if !fits {
            return Reply::Differs(present);
        }
        if present.is_none() {
            if databases.registers() + self.added >= REGISTERS_MAX {
                return Reply::Full;
            }
            self.added += 1;
        }
        self.changes.insert(key, value);
        self.index = index;
        Reply::Done
    }
}

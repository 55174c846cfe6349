//! Applies entries of the log to one database: a batch in one transaction, each
//! entry in a savepoint, the applied index and the effect hash in the same transaction.
//!
//! What an entry does must not depend on which entries share its transaction: another replica
//! cuts its batches elsewhere. SQLite ends the whole transaction by itself on `OR ROLLBACK`,
//! `RAISE(ROLLBACK)`, an interrupt (the step budget) and a full database. Then what came before
//! is applied again, the entry that did it in a transaction of its own, and so on.

mod entry;

use std::path::Path;
use std::time::{Duration, Instant};

use orama_proto::sql::{SqlOutcome, SqlTransaction, Stamp};

use self::entry::Ran;
use super::connection::{Connection, Failure};
use super::{EngineFault, effects};

/// How far a database is, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Mark {
    /// Index of the last entry applied to it; 0 before the first.
    pub(crate) applied: u64,
    /// Rolling hash of all effects so far.
    pub(crate) hash: u128,
}

/// One entry to apply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'a> {
    /// Its index in the log.
    pub(crate) index: u64,
    pub(crate) stamp: Stamp,
    pub(crate) transaction: &'a SqlTransaction,
}

/// What became of one entry.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    pub(crate) index: u64,
    /// `None`: the file had it already (replay after a restart).
    pub(crate) outcome: Option<SqlOutcome>,
    /// The rolling hash after it.
    pub(crate) hash: u128,
    /// How long its statements ran here; of one that ended a batch's transaction, what the
    /// others had run for nothing too.
    pub(crate) took: Duration,
}

/// How long it took is no part of what became of it.
impl PartialEq for Applied {
    fn eq(&self, other: &Self) -> bool {
        let of = |a: &Self| (a.index, a.hash);
        of(self) == of(other) && self.outcome == other.outcome
    }
}

/// The connection through which a database changes. Blocks.
pub(crate) struct Writer {
    conn: Connection,
    mark: Mark,
    /// A fault came between: the transaction may be open, and only the file knows the mark.
    unsettled: bool,
}

/// How a batch went.
enum Batch {
    Committed,
    /// SQLite ended the transaction in this entry, after so long; nothing of the batch is in the file.
    Ended(usize, Duration),
}

impl Writer {
    /// Opens or makes the file. `check`: read all of it first (`quick_check`).
    pub(crate) fn open(path: &Path, check: bool) -> Result<Self, EngineFault> {
        let conn = Connection::writer(path)?;
        if check {
            quick_check(&conn)?;
        }
        let mark = read_mark(&conn)?;
        Ok(Self {
            conn,
            mark,
            unsettled: false,
        })
    }

    /// What the file says.
    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    /// Applies entries in order. Those at or before the mark are skipped. On a fault the entry
    /// it came in and those after it are not in the file; those before it are only if SQLite had
    /// ended a transaction of the batch. The mark says which.
    pub(crate) fn apply(&mut self, items: &[Item<'_>]) -> Result<Vec<Applied>, EngineFault> {
        if self.unsettled {
            self.settle()?;
        }
        let mut done = Vec::with_capacity(items.len());
        let there = items
            .iter()
            .take_while(|item| item.index <= self.mark.applied)
            .count();
        let (there, fresh) = items.split_at(there);
        done.extend(there.iter().map(|item| Applied {
            index: item.index,
            outcome: None,
            hash: self.mark.hash,
            took: Duration::ZERO,
        }));
        let result = self.run(fresh, &mut done);
        match result {
            Ok(()) => Ok(done),
            Err(fault) => {
                self.unsettled = true;
                // What it says is no news: the next `apply` looks whether it worked.
                let _ = self.settle();
                Err(fault)
            }
        }
    }

    /// Ends what a fault left open and reads the mark again.
    fn settle(&mut self) -> Result<(), EngineFault> {
        if !self.conn.transaction_gone() {
            self.ours("ROLLBACK", &[])?;
        }
        self.conn.take_effects();
        self.conn.rolled_back();
        self.mark = read_mark(&self.conn)?;
        self.unsettled = false;
        Ok(())
    }

    fn run(&mut self, mut items: &[Item<'_>], done: &mut Vec<Applied>) -> Result<(), EngineFault> {
        while !items.is_empty() {
            let (at, wasted) = match self.batch(items, done)? {
                Batch::Committed => return Ok(()),
                Batch::Ended(at, wasted) => (at, wasted),
            };
            let (before, rest) = items.split_at(at);
            let Some((ended, after)) = rest.split_first() else {
                return Ok(());
            };
            self.run(before, done)?;
            self.alone(ended, wasted, done)?;
            items = after;
        }
        Ok(())
    }

    /// Applies entries in one transaction.
    fn batch(&mut self, items: &[Item<'_>], done: &mut Vec<Applied>) -> Result<Batch, EngineFault> {
        let before = done.len();
        let mut mark = self.mark;
        self.ours("BEGIN IMMEDIATE", &[])?;
        let begun = Instant::now();
        let mut last = begun;
        for (at, item) in items.iter().enumerate() {
            match entry::run(&self.conn, item)? {
                Ran::Settled { outcome, effects } => {
                    let now = Instant::now();
                    let took = now - last;
                    last = now;
                    done.push(settled(&mut mark, item, effects, outcome, took));
                }
                Ran::Ended(_) => {
                    self.conn.rolled_back();
                    done.truncate(before);
                    return Ok(Batch::Ended(at, begun.elapsed()));
                }
            }
        }
        self.commit(mark)?;
        Ok(Batch::Committed)
    }

    /// Applies an entry in a transaction of its own; when SQLite ends that, it is recorded in another.
    fn alone(
        &mut self,
        item: &Item<'_>,
        wasted: Duration,
        done: &mut Vec<Applied>,
    ) -> Result<(), EngineFault> {
        let mut mark = self.mark;
        self.ours("BEGIN IMMEDIATE", &[])?;
        let begun = Instant::now();
        let (outcome, effects) = match entry::run(&self.conn, item)? {
            Ran::Settled { outcome, effects } => (outcome, effects),
            Ran::Ended(outcome) => {
                self.conn.rolled_back();
                self.ours("BEGIN IMMEDIATE", &[])?;
                entry::record(&self.conn, item.index)?;
                (outcome, 0)
            }
        };
        let took = wasted + begun.elapsed();
        let applied = settled(&mut mark, item, effects, outcome, took);
        self.commit(mark)?;
        done.push(applied);
        Ok(())
    }

    fn commit(&mut self, mark: Mark) -> Result<(), EngineFault> {
        let hash = mark.hash.to_be_bytes();
        self.ours(
            "UPDATE _orama_state SET hash = ?1 WHERE id = 1",
            &[&hash.as_slice()],
        )?;
        self.ours("COMMIT", &[])?;
        self.mark = mark;
        Ok(())
    }

    fn ours(&self, sql: &'static str, params: &[&dyn rusqlite::ToSql]) -> Result<(), EngineFault> {
        entry::ours(&self.conn, sql, params)
    }
}

fn settled(
    mark: &mut Mark,
    item: &Item<'_>,
    effects: u128,
    outcome: SqlOutcome,
    took: Duration,
) -> Applied {
    mark.applied = item.index;
    mark.hash = effects::chain(mark.hash, item.index, effects, item.transaction, &outcome);
    Applied {
        index: item.index,
        outcome: Some(outcome),
        hash: mark.hash,
        took,
    }
}

fn read_mark(conn: &Connection) -> Result<Mark, EngineFault> {
    let read = conn.sql().query_row(
        "SELECT applied, hash FROM _orama_state WHERE id = 1",
        [],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)),
    );
    let (applied, hash) = read.map_err(|e| match e {
        rusqlite::Error::SqliteFailure(..) => fault(conn.failure(e)),
        other => EngineFault::Damaged(format!("its own mark: {other}")),
    })?;
    let hash = <[u8; 16]>::try_from(hash)
        .map_err(|_| EngineFault::Damaged("its own mark: the hash is none".to_owned()))?;
    Ok(Mark {
        applied: applied.cast_unsigned(),
        hash: u128::from_be_bytes(hash),
    })
}

/// Reads all of the file.
fn quick_check(conn: &Connection) -> Result<(), EngineFault> {
    // A tenant's CHECK may answer otherwise now than when its row came: it is no part of the file.
    let checks = |on: bool| {
        conn.sql()
            .pragma_update(None, "ignore_check_constraints", !on)
            .map_err(|e| fault(conn.failure(e)))
    };
    checks(false)?;
    let found = conn
        .sql()
        .query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
        .map_err(|e| fault(conn.failure(e)));
    checks(true)?;
    match found?.as_str() {
        "ok" => Ok(()),
        other => Err(EngineFault::Damaged(other.to_owned())),
    }
}

/// Statements of ours cannot be to blame: one that fails is the replica's trouble.
fn fault(failure: Failure) -> EngineFault {
    match failure {
        Failure::Fault(fault) => fault,
        Failure::Statement(error) => EngineFault::Io(error.message),
    }
}

#[cfg(test)]
mod tests;

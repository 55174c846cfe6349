//! What a batch may never show: which entries shared it, a fault in it, a crash after it.

mod batches;
mod crash;
mod faults;
mod hostile;
mod keys;
mod semantics;

use std::path::{Path, PathBuf};

use orama_proto::sql::{
    DatabaseId, OpDone, OpKind, SqlCode, SqlError, SqlLimits, SqlOp, SqlOutcome, SqlTransaction,
    SqlValue, Stamp,
};
use orama_proto::{Namespace, RequestId, Timestamp};

use super::{Applied, Item, Mark, Writer};
use crate::sql::{Dump, DumpError, EngineFault};

pub(super) const STEPS: u64 = 1_000_000;

fn op(kind: OpKind, sql: &str, args: Vec<SqlValue>) -> SqlOp {
    SqlOp {
        kind,
        sql: sql.to_owned(),
        args,
    }
}

fn exec(sql: &str) -> SqlOp {
    op(OpKind::Exec, sql, vec![])
}

fn query(sql: &str) -> SqlOp {
    op(OpKind::Query, sql, vec![])
}

fn transaction(ops: Vec<SqlOp>) -> SqlTransaction {
    SqlTransaction {
        database: DatabaseId {
            namespace: Namespace::parse("ns").unwrap(),
            born: Timestamp(1),
        },
        request_id: RequestId::random(),
        limits: SqlLimits {
            pages: 4096,
            steps: STEPS,
        },
        ops,
    }
}

fn stamp(index: u64) -> Stamp {
    let mut seed = [7; 16];
    seed[..8].copy_from_slice(&index.to_be_bytes());
    Stamp {
        clock: Timestamp(1_700_000_000_000_000 + index * 1_000_003),
        seed,
    }
}

fn item(index: u64, transaction: &SqlTransaction) -> Item<'_> {
    Item {
        index,
        stamp: stamp(index),
        transaction,
    }
}

/// A database with its log.
struct Db {
    dir: tempfile::TempDir,
    writer: Writer,
    next: u64,
}

impl Db {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::open(&dir.path().join("a.db"), false).unwrap();
        Self {
            dir,
            writer,
            next: 1,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("a.db")
    }

    fn apply(&mut self, transaction: &SqlTransaction) -> Result<SqlOutcome, EngineFault> {
        let applied = self.writer.apply(&[item(self.next, transaction)])?;
        assert_eq!(applied.len(), 1);
        assert_eq!(applied[0].index, self.next);
        assert_eq!(
            self.writer.mark(),
            Mark {
                applied: self.next,
                hash: applied[0].hash
            }
        );
        self.next += 1;
        Ok(applied[0].outcome.clone().unwrap())
    }

    fn run(&mut self, ops: Vec<SqlOp>) -> SqlOutcome {
        self.apply(&transaction(ops)).unwrap()
    }

    fn done(&mut self, ops: Vec<SqlOp>) -> Vec<OpDone> {
        match self.run(ops) {
            SqlOutcome::Committed(done) => done,
            SqlOutcome::RolledBack { error, .. } => panic!("{error:?}"),
        }
    }

    fn fails(&mut self, ops: Vec<SqlOp>) -> (u32, SqlError) {
        match self.run(ops) {
            SqlOutcome::Committed(done) => panic!("{done:?}"),
            SqlOutcome::RolledBack { failed, error, .. } => (failed, error),
        }
    }

    /// The answer of a query as JSON text.
    fn json(&mut self, sql: &str) -> String {
        let done = self.done(vec![query(sql)]);
        String::from_utf8(done[0].rows.clone().unwrap().json).unwrap()
    }
}

/// Everything in a file, as SQL. Closes nothing: sees what is committed.
fn dump(path: &Path) -> Vec<String> {
    let mut all = Vec::new();
    Dump::open(path)
        .unwrap()
        .each::<DumpError>(|s| {
            all.push(s.to_sql());
            Ok(())
        })
        .unwrap();
    all
}

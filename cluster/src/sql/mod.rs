//! SQLite as a state machine: one file per namespace, the same on every replica.
//!
//! Nothing here knows Raft: `databases` keeps the files of one data group and is
//! told what to apply, with which index; `crate::data` is the group's machine and
//! asks. `OVERVIEW.md` beside this file says why replicas stay equal and what is
//! durable when.

mod authorizer;
mod connection;
mod databases;
mod dump;
mod effects;
mod functions;
mod meter;
mod raw;
mod reader;
mod rows;
mod writer;

pub(crate) use databases::{
    Backup, Databases, DatabasesOptions, Fenced, Floor, Metrics, SaveFault,
};
pub use dump::{Dump, DumpError, DumpStatement, SqlPiece, split_sql, sql_pieces};
pub(crate) use reader::{Query, Reader};
pub(crate) use writer::{Applied, Item, Mark, Writer};

/// Bytes that the queries which run now hold in large values and temporary files.
fn read_memory() -> u64 {
    raw::reads()
}

/// Something other than the statement is wrong: the replica may not go on as if
/// the statement had failed, because on the others it did not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineFault {
    /// The file system has no room.
    #[error("the disk is full")]
    Full,
    /// The file system or memory failed.
    #[error("{0}")]
    Io(String),
    /// The file is not what was written.
    #[error("the file is damaged: {0}")]
    Damaged(String),
}

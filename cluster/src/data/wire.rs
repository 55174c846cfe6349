//! What nodes say to each other about data groups.

use std::time::Duration;

use bytes::Bytes;
use orama_proto::sql::{DatabaseId, ReadOptions, Rows, SqlError, SqlOutcome, SqlTransaction};
use orama_proto::{GroupId, record};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{DatabaseStatus, Expect, SqlQuery};

/// Version of [`Ask`] and [`Told`].
const WIRE_VERSION: u8 = 2;
/// An answer that is longer is fetched piece by piece: the frames of a lane are limited,
/// and others wait behind them.
pub(super) const INLINE_MAX_BYTES: usize = 4 << 20;
/// One piece.
pub(super) const PIECE_BYTES: usize = 1 << 20;
/// Databases in one comparison.
pub(super) const COMPARED_MAX: usize = 512;

/// What to do before a database is copied, and which kind of copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum CopyFor {
    /// For a client: everything acknowledged before is in it.
    Client,
    /// For another replica, which has applied up to this entry.
    Replica(u64),
}

/// A question.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Ask {
    /// A register's value.
    Get { group: GroupId, key: String },
    /// Set a register.
    Set {
        group: GroupId,
        key: String,
        value: String,
        expect: Expect,
    },
    /// Make a transaction.
    Execute {
        group: GroupId,
        transaction: SqlTransaction,
    },
    /// Run queries on your replica.
    Query {
        group: GroupId,
        database: DatabaseId,
        queries: Vec<SqlQuery>,
        read: ReadOptions,
    },
    /// The databases of your replica.
    Databases { group: GroupId },
    /// The hashes of databases after these entries; at most [`COMPARED_MAX`].
    Hashes {
        group: GroupId,
        of: Vec<(DatabaseId, u64)>,
    },
    /// Whether any database of your replica is fenced.
    Sound { group: GroupId },
    /// Copy a database, to be fetched.
    Copy {
        group: GroupId,
        database: DatabaseId,
        copy_for: CopyFor,
    },
    /// A piece of something that waits to be fetched.
    Piece { token: u128, offset: u64 },
    /// It was fetched, or is not wanted any more.
    Release { token: u128 },
}

impl Ask {
    /// Whether asking it twice could do something twice.
    pub(super) fn is_write(&self) -> bool {
        matches!(self, Self::Set { .. } | Self::Execute { .. })
    }
}

/// A copy that waits to be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copied {
    pub(super) token: u128,
    pub(super) bytes: u64,
    /// xxh3-128 of the file, of a copy for a replica.
    pub(super) sum: u128,
    /// Everything up to this entry is in it.
    pub(super) at: u64,
}

/// An answer. What leaves everything as it was and may succeed on another
/// replica is declined instead, unless the reason matters to whoever asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Told {
    Value(Option<String>),
    Done,
    Differs(Option<String>),
    /// There are as many registers as there may be.
    Registers,
    Unknown,
    Full,
    Written {
        index: u64,
        outcome: SqlOutcome,
    },
    Rows(Vec<Result<Rows, SqlError>>),
    Stale(String),
    Fenced(String),
    Databases(Vec<DatabaseStatus>),
    /// In the order of the question; none where it is not known.
    Hashes(Vec<Option<u128>>),
    Sound(bool),
    Copied(Copied),
    /// There is no such database up to this entry.
    NoDatabase {
        at: u64,
    },
    Piece(ByteBuf),
    /// The answer is longer than a frame should be: to be fetched.
    Parcel {
        token: u128,
        bytes: u64,
    },
    /// Of a write: its turn did not come, nothing was proposed. When to try again.
    Busy(Duration),
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Bytes, String> {
    record::encode(WIRE_VERSION, value)
        .map(Bytes::from)
        .map_err(|e| e.to_string())
}

pub(super) fn ask(bytes: &[u8]) -> Result<Ask, String> {
    record::decode(WIRE_VERSION, bytes).map_err(|e| e.to_string())
}

pub(super) fn told(bytes: &[u8]) -> Result<Told, String> {
    record::decode(WIRE_VERSION, bytes).map_err(|e| e.to_string())
}

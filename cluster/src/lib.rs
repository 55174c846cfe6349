//! Many nodes as one: the replicated metadata, blobs, and what a node keeps for itself.
//!
//! Only this crate opens database files and sockets to peers.

pub mod blobs;
pub mod consensus;
pub mod data;
pub mod data_dir;
mod disk;
#[cfg(test)]
#[path = "../../proto/src/golden.rs"]
mod golden;
pub mod journal;
pub mod membership;
pub mod mesh;
pub mod meta;
mod sql;

pub use blobs::{BlobError, BlobNet, BlobStore};
pub use data::{Answer, DataError, DataGroups, DatabaseStatus, Export, SqlQuery, Written};
pub use data_dir::{DataDir, DataDirError};
pub use disk::room_for_bulk;
pub use journal::{JournalError, JournalQuery, JournalStats, JournalStore};
pub use membership::{Cluster, ClusterError, ClusterOptions, LinkOptions, OperationError, Seed};
pub use mesh::{CallError, Declined, Handler, Incoming, Lane, Mesh, Service};
pub use meta::{MetaOptions, MetaStore, NamespaceEntry, OpenError, ProposeError};
pub use sql::{
    Dump, DumpError, DumpStatement, SqlLines, SqlPiece, SqlStatement, SqlTooLong, split_sql,
    sql_pieces, turns_foreign_keys_off, with_arguments,
};

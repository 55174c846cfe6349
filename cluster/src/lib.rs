//! Many nodes as one: the replicated metadata, blobs, and what a node keeps for itself.
//!
//! Only this crate opens database files and (from the next stage on) sockets to peers.

pub mod blobs;
pub mod consensus;
pub mod data_dir;
mod disk;
pub mod journal;
pub mod meta;

pub use blobs::{BlobError, BlobStore};
pub use data_dir::{DataDir, DataDirError};
pub use disk::room_for_bulk;
pub use journal::{JournalError, JournalQuery, JournalStats, JournalStore};
pub use meta::{MetaOptions, MetaStore, NamespaceEntry, OpenError, ProposeError};

//! The node's data directory: its layout, its lock, its identity.

use std::path::{Path, PathBuf};

use orama_proto::NodeId;

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process holds the lock.
    #[error("the data directory {path} is in use by another node process{}", pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The holder, when it could be read.
        pid: Option<u32>,
    },
    /// Written by a version of this program that is not known here.
    #[error("the data directory {path} has format {found}, this program reads format {known}")]
    Format {
        /// The directory.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What is known.
        known: u32,
    },
    /// The file system refused.
    #[error("the data directory {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// An open data directory; the lock is held until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    node_id: NodeId,
}

impl DataDir {
    /// Opens or creates the directory (mode 0700) and takes its lock.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        todo!()
    }
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// This node's identity, made with the directory.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }
    /// The Raft log: one redb file.
    pub fn raft_log(&self) -> PathBuf {
        self.path.join("raft").join("log.redb")
    }
    /// The metadata state machine: a sled directory.
    pub fn state(&self) -> PathBuf {
        self.path.join("state")
    }
    /// Raft snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }
    /// Blobs by content id.
    pub fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }
    /// Compiled modules.
    pub fn compiled(&self) -> PathBuf {
        self.path.join("compiled")
    }
    /// The journal: one redb file.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal.redb")
    }
}

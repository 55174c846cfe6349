//! What can go wrong with a group's storage.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use orama_proto::{GroupId, NodeId};

/// Log, state or snapshots cannot be opened or trusted.
#[derive(Debug, thiserror::Error)]
pub enum StorageFault {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another handle in this process still has the file open.
    #[error("{path} is still open")]
    Busy {
        /// The file or directory.
        path: PathBuf,
    },
    /// A file of the log does not verify.
    #[error(
        "the Raft log {path} is damaged: {what}. It holds changes that were acknowledged, so this node will not start without it; restore the file from a backup"
    )]
    LogFile {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The log is gone, and what was made after it is there.
    #[error(
        "the Raft log {path} is gone, but {witness} is there: acknowledged changes are missing with it, so this node will not start without it; restore it from a backup"
    )]
    LogMissing {
        /// The log's directory.
        path: PathBuf,
        /// What proves that there was one.
        witness: PathBuf,
    },
    /// The log was written in a layout that was never released and cannot be read.
    #[error(
        "{path} is a Raft log of a layout that was never released and that this program does not read; start with an empty data directory and deploy again, or use the program that wrote it"
    )]
    LogLayout {
        /// The file.
        path: PathBuf,
    },
    /// One record of the log does not verify.
    #[error("the Raft log of group {group} is damaged: {record}: {what}")]
    LogRecord {
        /// Whose log.
        group: GroupId,
        /// `entry 17`, `the vote` and so on.
        record: String,
        /// What was found.
        what: String,
    },
    /// The only voter's state knows more than its log: acknowledged entries are gone from the log.
    #[error(
        "the Raft log of group {group} ends at index {log}, but {witness} of this node reaches index {reached}: acknowledged changes are missing from the log (was an older copy put back?)"
    )]
    LogShort {
        /// Whose log.
        group: GroupId,
        /// Its last index; none when it is empty.
        log: String,
        /// `the state` or `a snapshot`.
        witness: &'static str,
        /// How far that reaches.
        reached: u64,
    },
    /// The state must be rebuilt, and nothing bridges the gap.
    #[error(
        "the state of group {group} must be rebuilt ({why}), but the log starts after index {purged} and no valid snapshot reaches that far{}",
        damaged.iter().map(|d| format!("; {d}")).collect::<String>()
    )]
    NoBridge {
        /// Whose state.
        group: GroupId,
        /// Why the state cannot be used.
        why: String,
        /// Everything up to here was purged from the log.
        purged: u64,
        /// What is wrong with each snapshot that was refused.
        damaged: Vec<String>,
    },
    /// The directory belongs to another node.
    #[error("the Raft log of group {group} belongs to a group without this node ({node})")]
    Foreign {
        /// Whose log.
        group: GroupId,
        /// This node.
        node: NodeId,
    },
    /// The state machine cannot use what is stored.
    #[error("the state of group {group}: {what}")]
    State {
        /// Whose state.
        group: GroupId,
        /// What was found.
        what: String,
    },
    /// Anything else that keeps the group from starting.
    #[error("group {group} cannot start: {what}")]
    Start {
        /// Which group.
        group: GroupId,
        /// What was found.
        what: String,
    },
}

impl StorageFault {
    pub(crate) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }
}

/// Why a running group stopped; the first reason stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Halt {
    /// No space for the log.
    Full,
    /// Anything else.
    Broken(String),
}

/// Where writer and state machine leave the reason, for whoever gets openraft's bare "stopped".
#[derive(Debug, Clone, Default)]
pub(crate) struct HaltReason(Arc<OnceLock<Halt>>);

impl HaltReason {
    pub(crate) fn set(&self, halt: Halt) {
        // Only the first reason is the cause; later ones follow from it.
        let _ = self.0.set(halt);
    }
    pub(crate) fn set_io(&self, error: &io::Error) {
        self.set(if is_full(error) {
            Halt::Full
        } else {
            Halt::Broken(error.to_string())
        });
    }
    pub(crate) fn get(&self) -> Option<&Halt> {
        self.0.get()
    }
}

/// Whether the error means that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

//! A group whose state is files of its own: what the consensus layer asks of it.
//!
//! The other kind of machine ([`super::Machine`]) gives its changes away as pairs, which
//! are kept in sled. A keeper keeps its state itself and says how far it is. It may say less than it has:
//! entries that it knows already are given to it again after a restart, and it skips them.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::admission::Admission;
use super::fault::StorageFault;
use super::machine::Machine;
use super::types::{MembershipRecord, Position};

/// One committed entry.
#[derive(Debug)]
pub(crate) struct KeptEntry {
    pub(crate) at: Position,
    /// A change of members, effective from here on.
    pub(crate) membership: Option<MembershipRecord>,
    /// A command; neither for an entry that only marks a new leader.
    pub(crate) command: Option<Vec<u8>>,
}

/// How far a keeper's state is on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resumed {
    pub(crate) at: Option<Position>,
    pub(crate) membership: MembershipRecord,
}

/// Pairs that describe a snapshot: small, and kept by the consensus layer as its snapshot file.
pub(crate) type Manifest = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads commands that are applied already back from the group's log. Blocks.
pub(crate) trait CommandLog: Send + Sync {
    /// Hands the commands with an index in `after + 1 ..= to` to `each`, in order. An error when
    /// the log does not reach back that far.
    fn commands(
        &self,
        after: u64,
        to: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()>;
}

/// A machine that keeps its own state. All methods but [`Self::stamp`], [`Self::admit`] and [`Self::hash`] may
/// block; they are called on blocking threads. `apply` and `adopt` are never called at the same
/// time, nor `save` and `adopt`, nor two of `save`; `keep` never during an `unpack`.
/// Everything else may be called while they run.
pub(crate) trait Keeper: Send + Sync + 'static {
    /// Opens what is on disk. The inner error is why it cannot be trusted: then [`Self::rebuild`]
    /// is called. Called once, before anything else.
    fn open(&self, log: Arc<dyn CommandLog>) -> Result<Result<Resumed, String>, StorageFault>;

    /// Throws everything away and begins from a snapshot of this node, or from nothing. Errors
    /// of the kinds named at [`Self::write_body`] say that the snapshot's files are damaged:
    /// then it is called again with the older one.
    fn rebuild(&self, snapshot: Option<(&Manifest, &Resumed)>) -> io::Result<()>;

    /// Applies entries; answers a reply for each. What is answered is in the files (not synced:
    /// the log is). An error stops the group on this node.
    fn apply(&self, entries: Vec<KeptEntry>) -> io::Result<Vec<Vec<u8>>>;

    /// Hash of the whole state, equal on replicas with the same applied index. Does not wait.
    fn hash(&self) -> u128;

    /// Makes everything up to `at` safe on disk, so that a restart goes on there at least,
    /// and the snapshot that a manifest describes. `at` was applied before the call.
    fn save(&self, at: &Resumed) -> io::Result<Manifest>;

    /// Forgets what belongs to no snapshot any more; these are kept. Also called after `open`.
    fn keep(&self, manifests: &[Manifest]) -> io::Result<()>;

    /// Whether a snapshot is worth its cost: `entries` and `bytes` of commands and `seconds` since the last.
    fn due(&self, entries: u64, bytes: u64, seconds: u64) -> bool;

    /// Bytes that [`Self::save`] will write at most, beside the manifest.
    fn save_bytes(&self) -> u64;

    /// Bytes that [`Self::write_body`] writes.
    fn body_bytes(&self, manifest: &Manifest) -> io::Result<u64>;
    /// Writes the whole snapshot, files included, for another replica. `InvalidData`,
    /// `UnexpectedEof` and `NotFound` say that its files are damaged: it is set aside then.
    fn write_body(&self, manifest: &Manifest, out: &mut dyn io::Write) -> io::Result<()>;

    /// Takes a whole snapshot from another replica beside the present state; answers its
    /// manifest. The present state changes only at [`Self::adopt`].
    fn unpack(&self, body: &mut dyn io::Read) -> io::Result<Manifest>;
    /// Replaces the present state by a snapshot that was unpacked. Atomic over crashes. Also
    /// called after `open`, for one that a crash kept from being adopted.
    fn adopt(&self, manifest: &Manifest, at: &Resumed) -> io::Result<()>;

    /// Called on the leader right before a command is appended: it adds what only a leader may
    /// decide. The command may be anybody's bytes. Called again, on the bytes as they were
    /// proposed, when the command is tried again. Does not wait. An error, which says why: it must
    /// not get into the log, where it could not be taken out again.
    fn stamp(&self, command: &mut Vec<u8>) -> Result<(), String>;

    /// Asked on the leader of this term before a command is appended, which may be anybody's
    /// bytes: whether its turn has come. Does not wait.
    fn admit(&self, _command: &[u8], _term: u64) -> Admission {
        Admission::Now(None)
    }

    /// Closes the files; what was held back is written. Also called when opening failed.
    fn close(&self);
    /// Deletes everything. Called after `close`, or without anything being open.
    fn erase(&self) -> io::Result<()>;
}

/// Who holds a group's state.
#[derive(Clone)]
pub(crate) enum Backend {
    /// Pairs in sled, and a machine that gives its changes away.
    Pairs(Arc<dyn Machine>),
    /// Files of its own.
    Files(Arc<dyn Keeper>),
}

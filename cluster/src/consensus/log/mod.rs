//! The Raft log of all groups of a node: one directory of segments, one writer.

mod appender;
mod cleaner;
mod engine;
mod files;
mod frame;
#[cfg(test)]
mod golden_tests;
mod index;
mod probe;
mod record;
mod replay;
mod scan;
mod segment;
mod storage;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use orama_proto::GroupId;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use self::appender::Appender;
use self::engine::{Engine, Op};
use self::writer::{Done, Request};
use super::fault::{HaltReason, StorageFault};
use super::metrics::Metrics;
use super::types::Position;

pub(in crate::consensus) use self::files::{refuse_old_layout, segments};
pub use self::probe::LogProbe;
pub(crate) use self::storage::GroupLog;

/// How far a group's log may be purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PurgeLimit {
    /// As far as openraft asks.
    Unlimited,
    /// Up to the older of the kept snapshots, so that a damaged newest one
    /// still leaves a way; nothing while there is none.
    Snapshot(Option<Position>),
}

/// Handle of the log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RaftLog {
    engine: Engine,
    queue: mpsc::Sender<Request>,
    groups: Arc<Mutex<HashMap<GroupId, GroupLog>>>,
    halt: HaltReason,
}

impl RaftLog {
    /// Opens or creates the directory, verifies all of it and starts the writer. Blocks.
    pub(crate) fn open(path: &Path, metrics: &Metrics) -> Result<Self, StorageFault> {
        let (engine, appender) = Engine::open(path)?;
        Self::start(engine, appender, metrics)
    }

    /// Whether nobody has the log open any more; then all of it is written.
    #[cfg(test)]
    pub(crate) fn is_closed(path: &Path) -> bool {
        !files::is_locked(path)
    }

    fn start(engine: Engine, appender: Appender, metrics: &Metrics) -> Result<Self, StorageFault> {
        let halt = HaltReason::default();
        metrics.log_bytes.set(appender.disk_bytes());
        let queue = writer::start(appender, halt.clone(), metrics.clone())
            .map_err(|e| StorageFault::io("(writer thread)", e))?;
        Ok(Self {
            engine,
            queue,
            groups: Arc::default(),
            halt,
        })
    }

    /// Why writing has stopped, if it has.
    pub(crate) fn halt(&self) -> &HaltReason {
        &self.halt
    }

    /// A group's log, every record of it verified. Blocks at the first call for a group.
    pub(crate) fn group(&self, group: GroupId) -> Result<GroupLog, StorageFault> {
        let mut groups = self.groups.lock();
        if let Some(log) = groups.get(&group) {
            return Ok(log.clone());
        }
        let tail = self.engine.tail(group)?;
        let log = GroupLog::new(group, self.engine.clone(), self.queue.clone(), tail);
        groups.insert(group, log.clone());
        Ok(log)
    }

    /// Whether nothing was ever written for a group, or all of it was erased.
    pub(crate) fn is_pristine(&self, group: GroupId) -> Result<bool, StorageFault> {
        Ok(match self.groups.lock().get(&group) {
            Some(log) => log.is_pristine(),
            None => self.engine.is_pristine(group),
        })
    }

    /// Durably forgets everything of a group. Handles of it that are still
    /// held take nothing more; [`RaftLog::group`] begins a new log afterwards.
    pub(crate) async fn erase(&self, group: GroupId) -> io::Result<()> {
        let held = self.groups.lock().get(&group).cloned();
        if let Some(log) = held {
            log.retire();
        }
        let (reply, answer) = oneshot::channel();
        let request = Request::Write {
            op: Op::Erase { group },
            done: Done::Reply(reply),
        };
        let ended = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.queue.send(request).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())??;
        self.groups.lock().remove(&group);
        Ok(())
    }

    /// Writes what is still lazy and the mark of an orderly end, ends the
    /// writer and waits for it. Afterwards the directory can be opened again.
    pub(crate) async fn close(&self) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        if self.queue.send(Request::Close(reply)).await.is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }
}

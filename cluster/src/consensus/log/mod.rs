//! The Raft log of all groups of a node: one file, one writer.

mod engine;
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

use self::engine::{Engine, Mark};
use self::tail::Tail;
use self::writer::Request;
use super::fault::{HaltReason, StorageFault};
use super::metrics::Metrics;
use super::types::{Position, VoteRecord};

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

/// Handle of the log's file. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RaftLog {
    engine: Engine,
    queue: mpsc::Sender<Request>,
    groups: Arc<Mutex<HashMap<GroupId, GroupLog>>>,
    halt: HaltReason,
}

impl RaftLog {
    /// Opens or creates the file, verifies all of it and starts the writer. Blocks.
    pub(crate) fn open(path: &Path, metrics: &Metrics) -> Result<Self, StorageFault> {
        Self::start(Engine::open(path)?, metrics)
    }

    /// Whether nobody has the file open any more; then all of it is written.
    #[cfg(test)]
    pub(crate) fn is_closed(path: &Path) -> bool {
        !matches!(Engine::open(path), Err(StorageFault::Busy { .. }))
    }

    fn start(engine: Engine, metrics: &Metrics) -> Result<Self, StorageFault> {
        let halt = HaltReason::default();
        let queue = writer::start(engine.clone(), halt.clone(), metrics.clone())
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
        let tail = self.load(group)?;
        let log = GroupLog::new(group, self.engine.clone(), self.queue.clone(), tail);
        groups.insert(group, log.clone());
        Ok(log)
    }

    /// Whether nothing was ever written for the group. Blocks at the first call for a group.
    pub(crate) fn is_pristine(&self, group: GroupId) -> Result<bool, StorageFault> {
        Ok(self.group(group)?.is_pristine())
    }

    /// Deletes everything of a group that runs no more.
    pub(crate) async fn erase(&self, group: GroupId) -> io::Result<()> {
        self.groups.lock().remove(&group);
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || engine.erase(group))
            .await
            .map_err(io::Error::other)?
    }

    fn load(&self, group: GroupId) -> Result<Tail, StorageFault> {
        let vote: Option<VoteRecord> = self.engine.mark(group, Mark::Vote)?;
        let purged: Option<Position> = self.engine.mark(group, Mark::Purged)?;
        let committed: Option<Position> = self.engine.mark(group, Mark::Committed)?;
        let mut last = purged;
        let mut gap = None;
        self.engine.visit(group, 0, u64::MAX, |entry, _| {
            let expected = last.map_or(0, |at| at.index + 1);
            if entry.at.index != expected {
                gap = Some((expected, entry.at.index));
                return false;
            }
            last = Some(entry.at);
            true
        })?;
        match gap {
            None => Ok(Tail::found(vote, purged, committed, last)),
            Some((expected, found)) => Err(StorageFault::LogRecord {
                group,
                record: format!("entry {expected}"),
                what: format!("it is missing, entry {found} is there"),
            }),
        }
    }

    /// Writes what is still lazy, ends the writer and waits for it.
    pub(crate) async fn close(&self) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        if self.queue.send(Request::Close(reply)).await.is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }
}

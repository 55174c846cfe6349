//! One group's log as openraft sees it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use openraft::errors::LeaderChanged;
use openraft::storage::{IOFlushed, LeaderBoundedStreamError, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};
use orama_proto::GroupId;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::PurgeLimit;
use super::engine::{Engine, Op};
use super::record;
use super::tail::Tail;
use super::writer::{Done, Request};
use crate::consensus::fault::StorageFault;
use crate::consensus::types::{
    Leader, Position, RaftEntry, RaftLogId, RaftVote, Types, VoteRecord,
};

/// A batch of entries that is read at once has no more bytes than this, one entry at least.
const READ_BYTES: usize = 1 << 20;

/// Longest payload of an entry; far more than may be proposed, so that lengths fit their fields.
const RECORD_MAX: usize = 256 << 20;

fn size_of(entry: &RaftEntry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(command) => command.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

/// The log of one group. Cheap to clone; also its reader.
#[derive(Clone)]
pub(crate) struct GroupLog {
    group: GroupId,
    engine: Engine,
    queue: mpsc::Sender<Request>,
    tail: Arc<Mutex<Tail>>,
    limit: Arc<Mutex<PurgeLimit>>,
}

fn stopped() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the writer of the Raft log has ended",
    )
}

fn invalid(fault: StorageFault) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}

impl GroupLog {
    pub(super) fn new(
        group: GroupId,
        engine: Engine,
        queue: mpsc::Sender<Request>,
        tail: Tail,
    ) -> Self {
        Self {
            group,
            engine,
            queue,
            tail: Arc::new(Mutex::new(tail)),
            limit: Arc::new(Mutex::new(PurgeLimit::Unlimited)),
        }
    }

    /// The position up to which entries are gone, and that of the last entry.
    pub(crate) fn ends(&self) -> (Option<Position>, Option<Position>) {
        let tail = self.tail.lock();
        (tail.purged, tail.last)
    }

    /// Whether nothing was ever written for this group.
    pub(crate) fn is_pristine(&self) -> bool {
        let tail = self.tail.lock();
        tail.vote.is_none() && tail.last.is_none()
    }

    /// Where the entry with this index stands; `None` when it is not in the log. Blocks.
    pub(crate) fn position(&self, index: u64) -> Result<Option<Position>, StorageFault> {
        if let Some(purged) = self.tail.lock().purged
            && purged.index == index
        {
            return Ok(Some(purged));
        }
        let (entries, _) = self.read(index, index.saturating_add(1), READ_BYTES)?;
        Ok(entries.first().map(|e| e.log_id.into()))
    }

    /// Sets how far purging may go from now on.
    pub(crate) fn limit_purge(&self, limit: PurgeLimit) {
        *self.limit.lock() = limit;
    }

    /// The same log, purged without regard to snapshots.
    #[cfg(test)]
    pub(crate) fn without_limit(mut self) -> Self {
        self.limit = Arc::new(Mutex::new(PurgeLimit::Unlimited));
        self
    }

    /// Entries with `from <= index < to`, at most `bytes` of them but one at
    /// least, and the index after the last one that was looked at. Blocks when
    /// they are not in memory.
    pub(crate) fn read(
        &self,
        from: u64,
        to: u64,
        bytes: usize,
    ) -> Result<(Vec<RaftEntry>, u64), StorageFault> {
        let slice = self.tail.lock().slice(from, to);
        let mut out = Vec::new();
        let mut sum = 0;
        let mut gap = None;
        let mut full = false;
        let disk = slice.disk.clone();
        self.engine
            .visit(self.group, disk.start, disk.end, |entry, size| {
                if let Some(last) = out.last().map(|e: &RaftEntry| e.log_id.index)
                    && entry.log_id.index != last + 1
                {
                    gap = Some(last + 1);
                    return false;
                }
                if !out.is_empty() && sum + size > bytes {
                    full = true;
                    return false;
                }
                sum += size;
                out.push(entry);
                true
            })?;
        // What was read must begin where it was asked for and meet what is in
        // memory, but for what was purged or truncated meanwhile.
        if gap.is_none() {
            let due = self.tail.lock().slice(disk.start, disk.end).disk;
            let first = out.first().map_or(due.end, |e| e.log_id.index);
            let next = out.last().map_or(due.start, |e| e.log_id.index + 1);
            if first > due.start {
                gap = Some(due.start);
            } else if !full && next < due.end {
                gap = Some(next);
            }
        }
        if let Some(index) = gap {
            return Err(StorageFault::LogRecord {
                group: self.group,
                record: format!("entry {index}"),
                what: "it is missing".into(),
            });
        }
        if !full {
            for (entry, size) in slice.recent {
                if !out.is_empty() && sum + size > bytes {
                    break;
                }
                sum += size;
                out.push(entry);
            }
        }
        let next = out.last().map_or(to, |e| e.log_id.index + 1);
        Ok((out, next))
    }

    async fn fetch(&self, from: u64, to: u64, bytes: usize) -> io::Result<(Vec<RaftEntry>, u64)> {
        let on_disk = !self.tail.lock().slice(from, to).disk.is_empty();
        if !on_disk {
            return self.read(from, to, bytes).map_err(invalid);
        }
        let log = self.clone();
        tokio::task::spawn_blocking(move || log.read(from, to, bytes))
            .await
            .map_err(io::Error::other)?
            .map_err(invalid)
    }

    /// Takes nothing more: the group is about to be erased.
    pub(super) fn retire(&self) {
        self.tail.lock().erased = true;
    }

    fn check_alive(&self) -> io::Result<()> {
        match self.tail.lock().erased {
            true => Err(stopped()),
            false => Ok(()),
        }
    }

    async fn write(&self, op: Op) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        let done = Done::Reply(reply);
        self.queue
            .send(Request::Write { op, done })
            .await
            .map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(&at) => at,
        Bound::Excluded(&at) => at.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(&at) => at.saturating_add(1),
        Bound::Excluded(&at) => at,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<Types> for GroupLog {
    // The caller wants the whole range: it asks for few entries, or is openraft starting up.
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<RaftEntry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        Ok(self.fetch(from, to, usize::MAX).await?.0)
    }

    async fn limited_get_log_entries(&mut self, from: u64, to: u64) -> io::Result<Vec<RaftEntry>> {
        Ok(self.fetch(from, to, READ_BYTES).await?.0)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<RaftEntry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let log = self.clone();
        let batches = stream::try_unfold(from, move |from| {
            let log = log.clone();
            async move {
                if from >= to {
                    return Ok(None);
                }
                let (entries, next) = log.fetch(from, to, READ_BYTES).await?;
                Ok::<_, io::Error>(Some((entries, next)))
            }
        });
        Box::pin(flatten(batches))
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: Leader,
        range: RB,
    ) -> impl Stream<Item = Result<RaftEntry, LeaderBoundedStreamError<Types>>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let log = self.clone();
        let batches = stream::try_unfold(from, move |from| {
            let log = log.clone();
            async move {
                log.check_leader(leader)?;
                if from >= to {
                    return Ok(None);
                }
                let (entries, next) = log.fetch(from, to, READ_BYTES).await?;
                // A new leader may have truncated while the file was read.
                log.check_leader(leader)?;
                Ok::<_, LeaderBoundedStreamError<Types>>(Some((entries, next)))
            }
        });
        Box::pin(flatten(batches))
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        Ok(self.tail.lock().vote.map(Into::into))
    }
}

impl GroupLog {
    fn check_leader(&self, leader: Leader) -> Result<(), LeaderChanged<Types>> {
        let vote: Option<RaftVote> = self.tail.lock().vote.map(Into::into);
        match vote {
            Some(v) if v.leader_id == leader && v.committed => Ok(()),
            other => Err(LeaderChanged::new(leader, other)),
        }
    }
}

fn flatten<E>(
    batches: impl Stream<Item = Result<Vec<RaftEntry>, E>>,
) -> impl Stream<Item = Result<RaftEntry, E>> {
    batches.flat_map(|batch| {
        stream::iter(match batch {
            Ok(entries) => entries.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        })
    })
}

impl RaftLogStorage<Types> for GroupLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let (purged, last) = self.ends();
        Ok(LogState {
            last_purged_log_id: purged.map(Into::into),
            last_log_id: last.map(Into::into),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        self.check_alive()?;
        let vote = VoteRecord::from(vote);
        let group = self.group;
        self.write(Op::Vote { group, vote }).await?;
        self.tail.lock().vote = Some(vote);
        Ok(())
    }

    // Not a promise to anybody: it rides on the next commit. What is lost of it
    // is found again by the next leader's first entry.
    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        let Some(at) = committed.map(Position::from) else {
            return Ok(());
        };
        self.check_alive()?;
        self.tail.lock().committed = Some(at);
        let group = self.group;
        let request = Request::Write {
            op: Op::Committed { group, at },
            done: Done::Lazy,
        };
        self.queue.send(request).await.map_err(|_| stopped())
    }

    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        let tail = self.tail.lock();
        // After a power cut the mark may be ahead of nothing: entries and mark share commits.
        Ok(tail.committed.map(Into::into))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let (mut first, mut last) = (None, 0);
        {
            let mut tail = self.tail.lock();
            if tail.erased {
                return Err(stopped());
            }
            for entry in entries {
                let index = entry.log_id.index;
                let start = records.len();
                if tail.next().is_some_and(|next| index > next) || size_of(&entry) > RECORD_MAX {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                record::put_entry(&mut records, self.group, &entry).map_err(io::Error::other)?;
                tail.append(entry, records.len() - start);
                first.get_or_insert(index);
                last = index;
            }
        }
        let Some(first) = first else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        let request = Request::Write {
            op: Op::Append {
                group: self.group,
                first,
                records,
            },
            done: Done::Appended {
                callback,
                tail: Arc::clone(&self.tail),
                last,
            },
        };
        self.queue.send(request).await.map_err(|_| stopped())
    }

    async fn truncate_after(&mut self, keep: Option<RaftLogId>) -> io::Result<()> {
        self.check_alive()?;
        let from = self.tail.lock().truncate(keep.map(Into::into));
        match from {
            None => Ok(()),
            Some(from) => {
                let group = self.group;
                self.write(Op::Truncate { group, from }).await
            }
        }
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        let asked = Position::from(upto);
        let upto = match *self.limit.lock() {
            PurgeLimit::Unlimited => Some(asked),
            PurgeLimit::Snapshot(kept) => {
                kept.map(|at| if at.index < asked.index { at } else { asked })
            }
        };
        let Some(upto) = upto else { return Ok(()) };
        self.check_alive()?;
        if !self.tail.lock().purge(upto) {
            return Ok(());
        }
        let group = self.group;
        self.write(Op::Purge { group, upto }).await
    }
}

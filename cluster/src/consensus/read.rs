//! Linearizable reads: what was committed when somebody asked is applied here
//! before they look.
//!
//! The leader's read index is used, never its lease. A lease is judged by the
//! leader's clock, and the clock of a virtual machine that was paused stands still
//! while another leader is elected: it would answer what is stale. (A process that
//! is merely stopped notices, because its clock goes on.) A read index costs a round
//! of heartbeats, shared by all who wait at a moment; a group of one needs none.
//!
//! Weak reads do with the lease: the leader's own word, without a round.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use orama_proto::NodeId;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::group::{Group, ReadFault};
use super::wire::{GroupAnswer, GroupRequest};

/// One question to the leader waits so long; then it is asked again.
const ASK_WAIT: Duration = Duration::from_secs(1);
const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Whose word a reader wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// The leader's, confirmed by a majority after the question.
    Majority,
    /// The leader's alone, as long as its lease holds.
    Leader,
}

/// The answer to everybody of one round.
#[derive(Debug, Clone, Copy)]
enum Round {
    Asking,
    Index(u64),
    Failed,
}

/// Who waits for a read index. One question is under way at most; whoever comes
/// meanwhile must wait for the next, because the present answer may be older than they are.
#[derive(Default)]
pub(super) struct Readers {
    next: Mutex<Next>,
}

#[derive(Default)]
struct Next {
    waiting: Option<Arc<watch::Sender<Round>>>,
    asking: bool,
}

impl Readers {
    /// Joins the next round; the flag says that somebody must begin asking.
    fn join(&self) -> (watch::Receiver<Round>, bool) {
        let mut next = self.next.lock();
        let round = next
            .waiting
            .get_or_insert_with(|| Arc::new(watch::Sender::new(Round::Asking)));
        let receiver = round.subscribe();
        let begin = !next.asking;
        next.asking = true;
        (receiver, begin)
    }

    /// Closes the round that gathered; nobody joins it any more.
    fn begin(&self) -> Option<Arc<watch::Sender<Round>>> {
        let mut next = self.next.lock();
        let round = next.waiting.take();
        next.asking = round.is_some();
        round
    }
}

impl Group {
    /// Waits until this replica has applied everything that was committed before the
    /// call: the leader's read index, one request for all who wait at a moment.
    pub(crate) async fn confirm(&self, deadline: Instant) -> Result<(), ReadFault> {
        let result = self.index(Word::Majority, deadline).await.map(drop);
        let label = match &result {
            Ok(()) => "ok",
            Err(ReadFault::NoLeader) => "no_leader",
            Err(ReadFault::Stopped(_)) => "stopped",
        };
        let labels = [self.inner.id.to_string(), label.to_owned()];
        let reads = &self.inner.shared.metrics.reads;
        reads.with_label_values(&labels).inc();
        result
    }

    /// The same with the leader's own word: what it knew to be committed at the question
    /// is applied here; no majority is asked. Answers that index.
    pub(crate) async fn weak_index(&self, deadline: Instant) -> Result<u64, ReadFault> {
        self.index(Word::Leader, deadline).await
    }

    fn readers(&self, word: Word) -> &Readers {
        match word {
            Word::Majority => &self.inner.readers,
            Word::Leader => &self.inner.weak,
        }
    }

    async fn index(&self, word: Word, deadline: Instant) -> Result<u64, ReadFault> {
        let mut pause = PAUSE_FIRST;
        loop {
            if self.is_stopped() {
                let why = self.stopped("it was shut down").to_string();
                return Err(ReadFault::Stopped(why));
            }
            let (mut round, begin) = self.readers(word).join();
            if begin {
                self.ask_rounds(word);
            }
            let answered = round.wait_for(|round| !matches!(round, Round::Asking));
            let answer = match tokio::time::timeout_at(deadline.into(), answered).await {
                Ok(Ok(answer)) => *answer,
                // The one who asks was stopped with its runtime.
                Ok(Err(_)) => Round::Failed,
                Err(_) => return Err(ReadFault::NoLeader),
            };
            if let Round::Index(index) = answer {
                if self.wait_applied(index, deadline).await {
                    return Ok(index);
                }
                return Err(ReadFault::NoLeader);
            }
            if Instant::now() + pause >= deadline {
                return Err(ReadFault::NoLeader);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Asks for round after round until nobody waits.
    fn ask_rounds(&self, word: Word) {
        let group = self.clone();
        tokio::spawn(async move {
            while let Some(round) = group.readers(word).begin() {
                let deadline = Instant::now() + ASK_WAIT;
                let asked = group.ask_index(word, deadline);
                let asked = tokio::time::timeout_at(deadline.into(), asked);
                let metrics = &group.inner.shared.metrics;
                let labels = [group.inner.id.to_string()];
                metrics.read_rounds.with_label_values(&labels).inc();
                round.send_replace(match asked.await {
                    Ok(Some(index)) => Round::Index(index),
                    Ok(None) | Err(_) => Round::Failed,
                });
            }
        });
    }

    async fn ask_index(&self, word: Word, deadline: Instant) -> Option<u64> {
        let leader = match self.leader() {
            Some(leader) if leader != self.inner.shared.node => leader,
            _ => match self.index_here(word).await {
                Ok(index) => return Some(index),
                Err(leader) => leader.filter(|to| *to != self.inner.shared.node)?,
            },
        };
        let question = match word {
            Word::Majority => GroupRequest::ReadIndex,
            Word::Leader => GroupRequest::WeakIndex,
        };
        let asked = tokio::select! {
            asked = self.ask_leader(leader, &question, deadline) => asked,
            () = self.superseded(leader) => return None,
        };
        match asked {
            Ok(GroupAnswer::ReadIndex(index)) => Some(index),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(group = %self.inner.id, %leader, %error, "no read index");
                None
            }
        }
    }

    /// The read index with this node as the leader, its word as good as demanded after
    /// this was called; else who may be the leader.
    async fn index_here(&self, word: Word) -> Result<u64, Option<NodeId>> {
        let raft = &self.inner.raft;
        let policy = match word {
            Word::Majority => ReadPolicy::ReadIndex,
            Word::Leader => ReadPolicy::LeaseRead,
        };
        match raft.get_read_linearizer(policy).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(to.leader_id.map(NodeId))
            }
            Err(RaftError::APIError(_) | RaftError::Fatal(_)) => Err(None),
        }
    }

    /// The read index for another node.
    pub(super) async fn serve_index(&self) -> GroupAnswer {
        self.index_here(Word::Majority)
            .await
            .map_or(GroupAnswer::NotLeader, GroupAnswer::ReadIndex)
    }

    /// The same without a round.
    pub(super) async fn serve_weak_index(&self) -> GroupAnswer {
        self.index_here(Word::Leader)
            .await
            .map_or(GroupAnswer::NotLeader, GroupAnswer::ReadIndex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_joins_a_round_that_is_being_asked_for() {
        let readers = Readers::default();
        let (first, begin) = readers.join();
        assert!(begin);
        let (second, begin) = readers.join();
        assert!(!begin, "one asks for both");
        let round = readers.begin().unwrap();
        let (late, begin) = readers.join();
        assert!(!begin, "the one who asks goes on with the next round");
        round.send_replace(Round::Index(7));
        for early in [&first, &second] {
            assert!(matches!(*early.borrow(), Round::Index(7)));
        }
        assert!(matches!(*late.borrow(), Round::Asking));
        assert!(readers.begin().is_some());
        assert!(readers.begin().is_none());
        assert!(readers.join().1, "the next one begins again");
    }
}

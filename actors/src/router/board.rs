//! The newest load report of each linked member, and what was sent to it since.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use orama_proto::load::LoadReport;
use orama_proto::{ContentId, Namespace, NodeId};
use parking_lot::Mutex;

use super::choose::Load;
use super::peers::Linked;

/// A report older than this says nothing any more: eight were missed.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(2);
/// Modules that a peer did not have, and namespaces that it had no place for,
/// remembered until its next report: so many of each.
const REFUSED_MAX: usize = 16;

/// What is known of the linked members. Its size is bounded by the membership.
#[derive(Default)]
pub(super) struct LoadBoard {
    /// Replaced as a whole by each gossip round, read without a lock.
    members: ArcSwap<Vec<Arc<PeerLoad>>>,
}

/// One member's line on the board.
pub(super) struct PeerLoad {
    pub(super) id: NodeId,
    pub(super) name: Arc<str>,
    active: AtomicBool,
    /// The last report sent to it is not answered yet.
    telling: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    report: Option<(LoadReport, Instant)>,
    /// Counts reports, so that what was sent before the newest is not subtracted from it.
    round: u64,
    /// Invocations sent since the report that have not ended.
    sent: u32,
    /// It said since the report that it takes nothing.
    full: bool,
    /// Modules that it said since the report it does not have.
    lacking: Vec<ContentId>,
    /// Namespaces that it said since the report have all their places there taken.
    crowded: Vec<Namespace>,
}

impl LoadBoard {
    /// The members with a link now; others are forgotten. Answers all of them.
    pub(super) fn set_linked(&self, linked: Vec<Linked>) -> Arc<Vec<Arc<PeerLoad>>> {
        let known = self.members.load();
        let members = linked
            .into_iter()
            .map(|member| {
                let same = |p: &&Arc<PeerLoad>| p.id == member.id && *p.name == *member.name;
                match known.iter().find(same) {
                    Some(peer) => {
                        peer.active.store(member.active, Ordering::Relaxed);
                        Arc::clone(peer)
                    }
                    None => Arc::new(PeerLoad {
                        id: member.id,
                        name: Arc::from(member.name),
                        active: AtomicBool::new(member.active),
                        telling: AtomicBool::new(false),
                        state: Mutex::default(),
                    }),
                }
            })
            .collect();
        let members = Arc::new(members);
        self.members.store(Arc::clone(&members));
        members
    }

    /// The linked members.
    pub(super) fn members(&self) -> Arc<Vec<Arc<PeerLoad>>> {
        self.members.load_full()
    }

    /// Keeps a member's newest report. One of a node without a line yet is
    /// dropped: the next gossip round gives it one, the node's next report fills it.
    pub(super) fn report(&self, from: NodeId, report: LoadReport, now: Instant) {
        if let Some(peer) = self.members.load().iter().find(|p| p.id == from) {
            let mut state = peer.state.lock();
            *state = State {
                report: Some((report, now)),
                round: state.round + 1,
                ..State::default()
            };
        }
    }

    /// Fresh reports.
    pub(super) fn fresh(&self, now: Instant) -> Vec<(NodeId, LoadReport)> {
        let members = self.members.load();
        let reports = members.iter().filter_map(|p| Some((p.id, p.fresh(now)?)));
        reports.collect()
    }
}

impl PeerLoad {
    fn fresh(&self, now: Instant) -> Option<LoadReport> {
        self.state.lock().fresh(now)
    }

    /// Age of the newest report; `None` when there is none.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        let (_, at) = self.state.lock().report?;
        Some(now.saturating_duration_since(at))
    }

    /// Its load when it may be offered an invocation now: of this module and namespace, if given.
    pub(super) fn eligible(
        &self,
        what: Option<(&ContentId, &Namespace)>,
        now: Instant,
    ) -> Option<Load> {
        if !self.active.load(Ordering::Relaxed) {
            return None;
        }
        let state = self.state.lock();
        let report = state.fresh(now)?;
        let busy = report.running.saturating_add(state.sent);
        let refused = what.is_some_and(|(module, namespace)| {
            state.lacking.contains(module) || state.crowded.contains(namespace)
        });
        let room = !report.closed && !state.full && report.queued == 0 && busy < report.capacity;
        (room && !refused).then_some(Load {
            busy,
            capacity: report.capacity,
            latency_us: report.latency_us,
        })
    }

    /// Counts an invocation as sent to it until the guard is dropped or its next report counts it.
    pub(super) fn send(self: &Arc<Self>) -> Sent {
        let mut state = self.state.lock();
        state.sent += 1;
        Sent {
            round: state.round,
            peer: Arc::clone(self),
        }
    }

    /// It takes nothing: not to be asked before its next report.
    pub(super) fn takes_nothing(&self) {
        self.state.lock().full = true;
    }

    /// It does not have this module: not to be asked for it before its next report.
    pub(super) fn lacks(&self, module: ContentId) {
        note(&mut self.state.lock().lacking, module);
    }

    /// This namespace has no free place there: not to be asked for it before its next report.
    pub(super) fn is_crowded_with(&self, namespace: &Namespace) {
        note(&mut self.state.lock().crowded, namespace.clone());
    }

    /// A turn to tell it this node's load; `None` while the last report is unanswered.
    pub(super) fn tell(self: &Arc<Self>) -> Option<Telling> {
        let free = !self.telling.swap(true, Ordering::AcqRel);
        free.then(|| Telling(Arc::clone(self)))
    }
}

impl State {
    fn fresh(&self, now: Instant) -> Option<LoadReport> {
        let (report, at) = self.report?;
        (now.saturating_duration_since(at) <= STALE_AFTER).then_some(report)
    }
}

fn note<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if list.len() < REFUSED_MAX && !list.contains(&item) {
        list.push(item);
    }
}

/// An invocation on its way to a peer, or running there.
pub(super) struct Sent {
    round: u64,
    peer: Arc<PeerLoad>,
}

impl Drop for Sent {
    fn drop(&mut self) {
        let mut state = self.peer.state.lock();
        if state.round == self.round {
            state.sent = state.sent.saturating_sub(1);
        } else if let Some((report, _)) = &mut state.report {
            // The report counts it as running, and it is not any more. At worst it had
            // ended just before the report: then the peer refuses one that it has no place for.
            report.running = report.running.saturating_sub(1);
        }
    }
}

/// A report on its way to a peer.
pub(super) struct Telling(Arc<PeerLoad>);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.telling.store(false, Ordering::Release);
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;

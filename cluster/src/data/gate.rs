//! Reads at once: so many a node, and no namespace more than its share, so that
//! one that asks for much does not keep the others waiting.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use orama_proto::Namespace;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::metrics::Metrics;

/// Reads that run at once on a node.
pub(super) const READS_AT_ONCE: usize = 64;
/// Of one namespace.
pub(super) const READS_OF_ONE: usize = READS_AT_ONCE / 2;
/// Reads that wait on a node; further ones are refused.
pub(super) const READS_WAITING: usize = 4096;

/// A read was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoTurn {
    /// As many wait as may.
    Crowded,
    /// Its time was over before its turn came.
    Late,
}

struct Share {
    room: Arc<Semaphore>,
    users: usize,
}

/// Lets reads in.
pub(super) struct Gate {
    all: Arc<Semaphore>,
    shares: Mutex<HashMap<Namespace, Share>>,
    waiting: AtomicUsize,
    metrics: Metrics,
}

/// The right to read; gives its place back when it is dropped.
pub(super) struct Turn {
    _place: Place,
    _share: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// Somebody reads or waits in a namespace.
struct Place {
    gate: Arc<Gate>,
    namespace: Namespace,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shares = self.gate.shares.lock();
        if let Some(share) = shares.get_mut(&self.namespace) {
            share.users -= 1;
            if share.users == 0 {
                shares.remove(&self.namespace);
            }
        }
    }
}

/// One that waits is counted until it does not.
struct Waiting<'a>(&'a Gate);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
        self.0.metrics.reads_waiting.dec();
    }
}

impl Gate {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            all: Arc::new(Semaphore::new(READS_AT_ONCE)),
            shares: Mutex::default(),
            waiting: AtomicUsize::new(0),
            metrics,
        }
    }

    fn enter(self: &Arc<Self>, namespace: &Namespace) -> (Place, Arc<Semaphore>) {
        let mut shares = self.shares.lock();
        let room = match shares.get_mut(namespace) {
            Some(share) => {
                share.users += 1;
                Arc::clone(&share.room)
            }
            None => {
                let room = Arc::new(Semaphore::new(READS_OF_ONE));
                let share = Share {
                    room: Arc::clone(&room),
                    users: 1,
                };
                shares.insert(namespace.clone(), share);
                room
            }
        };
        let place = Place {
            gate: Arc::clone(self),
            namespace: namespace.clone(),
        };
        (place, room)
    }

    /// Waits for a turn: first among the namespace's own reads, then among all.
    pub(super) async fn turn(
        self: &Arc<Self>,
        namespace: &Namespace,
        deadline: Instant,
    ) -> Result<Turn, NoTurn> {
        let (place, room) = self.enter(namespace);
        if let Ok(share) = Arc::clone(&room).try_acquire_owned()
            && let Ok(all) = Arc::clone(&self.all).try_acquire_owned()
        {
            return Ok(Turn {
                _place: place,
                _share: share,
                _all: all,
            });
        }
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        self.metrics.reads_waiting.inc();
        let _waiting = Waiting(self);
        if before >= READS_WAITING {
            return Err(NoTurn::Crowded);
        }
        let both = async {
            let share = room.acquire_owned().await.ok()?;
            let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some((share, all))
        };
        match tokio::time::timeout_at(deadline.into(), both).await {
            Ok(Some((share, all))) => Ok(Turn {
                _place: place,
                _share: share,
                _all: all,
            }),
            _ => Err(NoTurn::Late),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn gate() -> Arc<Gate> {
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        Arc::new(Gate::new(metrics))
    }
    fn name(text: &str) -> Namespace {
        Namespace::parse(text).unwrap()
    }
    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[tokio::test]
    async fn one_namespace_leaves_room_for_others() {
        let (gate, greedy, other) = (gate(), name("greedy"), name("other"));
        let mut turns = Vec::new();
        for _ in 0..READS_OF_ONE {
            turns.push(gate.turn(&greedy, soon()).await.ok().unwrap());
        }
        assert_eq!(gate.turn(&greedy, soon()).await.err(), Some(NoTurn::Late));
        let beside = gate.turn(&other, soon()).await.ok().unwrap();
        drop(turns.pop());
        assert!(gate.turn(&greedy, soon()).await.is_ok());
        drop((turns, beside));
        assert!(gate.shares.lock().is_empty(), "nothing is kept of them");
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn so_many_wait_and_no_more() {
        let (gate, greedy) = (gate(), name("greedy"));
        let mut turns = Vec::new();
        for _ in 0..READS_OF_ONE {
            turns.push(gate.turn(&greedy, soon()).await.ok().unwrap());
        }
        let late = Instant::now() + Duration::from_secs(60);
        let mut waiting = Vec::new();
        for _ in 0..READS_WAITING {
            let mut turn = Box::pin(gate.turn(&greedy, late));
            assert!(futures::poll!(&mut turn).is_pending());
            waiting.push(turn);
        }
        assert_eq!(gate.turn(&greedy, late).await.err(), Some(NoTurn::Crowded));
        drop(waiting);
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
        drop(turns);
        assert!(gate.turn(&greedy, late).await.is_ok());
    }
}

//! The worker of each HTTP thread.
//!
//! An invocation runs where its request arrived and borrows from the thread's
//! [`WorkerState`] without asking anyone. The `InvocationWorker` actor beside
//! it shares that state, proves once a second that the thread still turns, and
//! is what operators see in the list of actors.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Arbiter, AsyncContext, Context, Supervised, Supervisor};
use orama_proto::api::ActorInfo;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

const BEAT: Duration = Duration::from_secs(1);
/// A thread that did not turn for so long is reported as stopped.
const SILENCE: Duration = Duration::from_secs(10);

static NEXT_NODE: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// This thread's worker for each platform of the process: one, but in tests.
    static HERE: RefCell<Vec<Here>> = const { RefCell::new(Vec::new()) };
}

struct Here {
    node: u64,
    state: Arc<WorkerState>,
    /// Never sent anything: an actor whose address is held is one its supervisor restarts.
    _actor: Option<Addr<InvocationWorker>>,
}

/// What an invocation needs of its thread.
pub(super) struct WorkerState {
    number: u64,
    /// One guest at a time may go on once it has used up its first slices, so
    /// that long ones never hold up short ones (HOTPATH 6).
    pub(super) slow_lane: Arc<Semaphore>,
    running: AtomicU64,
    handled: AtomicU64,
    restarts: AtomicU64,
    supervised: AtomicBool,
    made: Instant,
    /// Milliseconds from `made` to the last sign of life.
    beat: AtomicU64,
}

impl WorkerState {
    fn new(number: u64) -> Self {
        Self {
            number,
            slow_lane: Arc::new(Semaphore::new(1)),
            running: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            supervised: AtomicBool::new(false),
            made: Instant::now(),
            beat: AtomicU64::new(0),
        }
    }

    fn turn(&self) {
        let millis = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat.store(millis, Ordering::Relaxed);
    }

    /// Counts a guest as running here until the guard is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.running.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    fn info(&self) -> ActorInfo {
        let since = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        let silent = self.made.elapsed().saturating_sub(since) > SILENCE;
        let state = match self.running.load(Ordering::Relaxed) {
            _ if silent && self.supervised.load(Ordering::Relaxed) => "stopped",
            0 => "idle",
            _ => "running",
        };
        ActorInfo {
            name: format!("worker-{}", self.number),
            state: state.to_owned(),
            // Invocations take no mailbox hop; nothing can wait in one.
            mailbox: 0,
            handled: self.handled.load(Ordering::Relaxed),
            restarts: self.restarts.load(Ordering::Relaxed),
        }
    }
}

/// A guest running in a thread.
pub(super) struct Busy(Arc<WorkerState>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
        self.0.handled.fetch_add(1, Ordering::Relaxed);
    }
}

struct InvocationWorker(Arc<WorkerState>);

impl Actor for InvocationWorker {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        self.0.turn();
        self.0.supervised.store(true, Ordering::Relaxed);
        ctx.run_interval(BEAT, |worker, _| worker.0.turn());
    }
}

impl Supervised for InvocationWorker {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.0.restarts.fetch_add(1, Ordering::Relaxed);
    }
}

/// The workers of this node.
pub(crate) struct Workers {
    node: u64,
    list: Mutex<Vec<Arc<WorkerState>>>,
    next: AtomicU64,
}

impl Workers {
    pub(crate) fn new() -> Self {
        Self {
            node: NEXT_NODE.fetch_add(1, Ordering::Relaxed),
            list: Mutex::new(Vec::new()),
            next: AtomicU64::new(0),
        }
    }

    /// The worker of the calling thread, started at the first call.
    pub(super) fn here(&self) -> Arc<WorkerState> {
        HERE.with(|here| {
            let mut here = here.borrow_mut();
            if let Some(known) = here.iter().find(|h| h.node == self.node) {
                return Arc::clone(&known.state);
            }
            let state = self.start();
            // Elsewhere, in a plain runtime, there is nothing to run an actor
            // on; invocations need none.
            let actor = Arbiter::try_current().map(|_| {
                let shared = Arc::clone(&state);
                Supervisor::start(move |_| InvocationWorker(shared))
            });
            here.push(Here {
                node: self.node,
                state: Arc::clone(&state),
                _actor: actor,
            });
            state
        })
    }

    fn start(&self) -> Arc<WorkerState> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(WorkerState::new(number));
        let mut list = self.list.lock();
        // Of a thread that has ended only this list still knows.
        list.retain(|state| Arc::strong_count(state) > 1);
        list.push(Arc::clone(&state));
        drop(list);
        state
    }

    /// State of the workers, by number.
    pub(crate) fn info(&self) -> Vec<ActorInfo> {
        self.list.lock().iter().map(|state| state.info()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn a_thread_has_one_worker_per_node() {
        let (node, other) = (Workers::new(), Workers::new());
        let first = node.here();
        assert!(Arc::ptr_eq(&first, &node.here()));
        assert!(!Arc::ptr_eq(&first, &other.here()));
        assert_eq!(node.info().len(), 1);
        while !first.supervised.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn without_an_arbiter_there_is_a_worker_too() {
        let node = Workers::new();
        let state = node.here();
        let busy = state.busy();
        assert_eq!(node.info()[0].state, "running");
        drop(busy);
        let info = &node.info()[0];
        assert_eq!((info.state.as_str(), info.handled), ("idle", 1));
    }

    #[test]
    fn workers_of_ended_threads_are_forgotten() {
        let node = Arc::new(Workers::new());
        for _ in 0..5 {
            let node = Arc::clone(&node);
            std::thread::spawn(move || drop(node.here()))
                .join()
                .unwrap();
        }
        assert_eq!(node.info().len(), 1);
    }
}

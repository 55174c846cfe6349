//! The worker of each thread that runs guests.
//!
//! An invocation runs where its request arrived (one from another node: on a
//! thread kept for those) and borrows from the thread's
//! [`WorkerState`] without asking anyone. The `InvocationWorker` actor beside
//! it shares that state, proves once a second that the thread still turns, and
//! is what operators see in the list of actors.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
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
    name: String,
    /// One guest at a time may go on once it has used up its first slices, so
    /// that long ones never hold up short ones (HOTPATH 6).
    pub(super) slow_lane: Arc<Semaphore>,
    running: AtomicU64,
    handled: AtomicU64,
    /// Estimate of the median duration of this thread's attempts, microseconds. Only its thread writes it.
    median_us: AtomicU32,
    restarts: AtomicU64,
    supervised: AtomicBool,
    made: Instant,
    /// Milliseconds from `made` to the last sign of life.
    beat: AtomicU64,
}

impl WorkerState {
    fn new(name: String) -> Self {
        Self {
            name,
            slow_lane: Arc::new(Semaphore::new(1)),
            running: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            median_us: AtomicU32::new(0),
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

    /// An attempt of this thread took so long. The estimate goes a sixteenth up
    /// or down, so that it settles where as many are longer as are shorter.
    pub(super) fn took(&self, time: Duration) {
        let sample = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let now = self.median_us.load(Ordering::Relaxed);
        let step = now / 16 + 1;
        let next = match sample.cmp(&now) {
            _ if now == 0 => sample,
            std::cmp::Ordering::Greater => now.saturating_add(step).min(sample),
            std::cmp::Ordering::Less => now.saturating_sub(step).max(sample),
            std::cmp::Ordering::Equal => now,
        };
        self.median_us.store(next, Ordering::Relaxed);
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
            name: self.name.clone(),
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
        self.here_as(|| format!("worker-{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// Starts the worker of the calling thread, which is kept for invocations from other nodes.
    pub(crate) fn start_forwarded(&self, number: usize) {
        self.here_as(|| format!("forwarded-{number}"));
    }

    fn here_as(&self, name: impl FnOnce() -> String) -> Arc<WorkerState> {
        HERE.with(|here| {
            let mut here = here.borrow_mut();
            if let Some(known) = here.iter().find(|h| h.node == self.node) {
                return Arc::clone(&known.state);
            }
            let state = self.start(name());
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

    fn start(&self, name: String) -> Arc<WorkerState> {
        let state = Arc::new(WorkerState::new(name));
        let mut list = self.list.lock();
        // Of a thread that has ended only this list still knows.
        list.retain(|state| Arc::strong_count(state) > 1);
        list.push(Arc::clone(&state));
        drop(list);
        state
    }

    /// Median of the threads' median durations, microseconds; 0 before anything ran.
    pub(crate) fn median_us(&self) -> u32 {
        let list = self.list.lock();
        let known = list.iter().map(|w| w.median_us.load(Ordering::Relaxed));
        let mut known: Vec<_> = known.filter(|us| *us > 0).collect();
        known.sort_unstable();
        known.get(known.len() / 2).copied().unwrap_or(0)
    }

    /// State of the workers, by age.
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
    fn the_median_is_followed_and_outliers_are_not() {
        let node = Workers::new();
        assert_eq!(node.median_us(), 0);
        let state = node.here();
        for i in 0..2_000_u64 {
            // One in ten is a thousand times as long.
            let us = if i % 10 == 0 {
                1_000_000
            } else {
                900 + i % 200
            };
            state.took(Duration::from_micros(us));
        }
        assert!(
            (850..=1_200).contains(&node.median_us()),
            "{}",
            node.median_us()
        );
        for _ in 0..200 {
            state.took(Duration::from_micros(10));
        }
        assert_eq!(node.median_us(), 10);
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

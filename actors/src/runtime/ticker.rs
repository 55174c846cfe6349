//! The engine's clock: one thread that moves the epoch every millisecond.
//!
//! Guests look at the epoch in every loop and function; when it has moved they
//! come back to the host, which then decides whether they go on. The thread
//! sleeps for good once no guest has run for a while, and is woken by the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

/// Length of a guest's slice.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Ticks without a guest before the thread goes to sleep. Waking it costs a
/// system call, so a node that answers a request now and then keeps it awake.
const IDLE_TICKS: u32 = 250;

#[derive(Default)]
struct State {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
    ticks: AtomicU64,
}

/// Owns the thread; it ends when this is dropped.
pub(crate) struct Ticker {
    state: Arc<State>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

/// A guest that runs: while this lives, the clock does.
pub(crate) struct Running<'a>(&'a Ticker);

impl Ticker {
    /// Starts the thread.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let state = Arc::new(State::default());
        let engine = engine.weak();
        let shared = state.clone();
        let handle = std::thread::Builder::new()
            .name("orama-epoch".into())
            .spawn(move || tick(&engine, &shared))?;
        Ok(Self {
            state,
            thread: handle.thread().clone(),
            handle: Some(handle),
        })
    }

    /// Notes that a guest runs, and wakes the clock when it sleeps.
    pub(crate) fn enter(&self) -> Running<'_> {
        self.state.running.fetch_add(1, Ordering::SeqCst);
        // Pairs with the order in `tick`: either it sees this guest or this sees it asleep.
        if self.state.asleep.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(self)
    }

    /// A coarse, cheap clock that stands still while nothing runs.
    pub(crate) fn now(&self) -> u64 {
        self.state.ticks.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn is_asleep(&self) -> bool {
        self.state.asleep.load(Ordering::SeqCst)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
        if let Some(handle) = self.handle.take() {
            // Only fails when the thread panicked, which it has no way to.
            let _ = handle.join();
        }
    }
}

fn tick(engine: &EngineWeak, state: &State) {
    let mut idle = 0;
    while !state.stop.load(Ordering::SeqCst) {
        std::thread::park_timeout(TICK);
        let Some(engine) = engine.upgrade() else {
            return;
        };
        engine.increment_epoch();
        state.ticks.fetch_add(1, Ordering::Relaxed);
        if state.running.load(Ordering::SeqCst) > 0 {
            idle = 0;
            continue;
        }
        idle += 1;
        if idle < IDLE_TICKS {
            continue;
        }
        drop(engine);
        state.asleep.store(true, Ordering::SeqCst);
        while state.running.load(Ordering::SeqCst) == 0 && !state.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        state.asleep.store(false, Ordering::SeqCst);
        idle = 0;
    }
}

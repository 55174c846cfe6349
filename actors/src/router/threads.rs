//! The threads that run other nodes' invocations. Guests burn CPU, so they
//! never run on the threads of the mesh; and HTTP threads have work of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::Arbiter;
use parking_lot::Mutex;

use crate::worker::Invoker;

/// One thread per core, each with its worker.
pub(super) struct Threads(Vec<Thread>);

struct Thread {
    handle: actix::ArbiterHandle,
    /// Invocations it was given that have not ended.
    busy: Arc<AtomicUsize>,
    /// Held to end the thread.
    arbiter: Mutex<Option<Arbiter>>,
}

/// Counts as an invocation of its thread until dropped.
pub(super) struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Threads {
    /// Starts them on the current actix system.
    pub(super) fn start(invoker: &Arc<Invoker>) -> std::io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let thread = |number| {
            let arbiter = Arbiter::try_new()?;
            let invoker = Arc::clone(invoker);
            arbiter.spawn_fn(move || invoker.workers.start_forwarded(number));
            Ok(Thread {
                handle: arbiter.handle(),
                busy: Arc::default(),
                arbiter: Mutex::new(Some(arbiter)),
            })
        };
        (0..count).map(thread).collect::<Result<_, _>>().map(Self)
    }

    /// Runs `job` on the thread that has least to do. It may keep the guard;
    /// false when the threads have ended. How many jobs there are is bounded by
    /// the places that they hold.
    pub(super) fn run(&self, job: impl FnOnce(Busy) + Send + 'static) -> bool {
        let least = |thread: &&Thread| thread.busy.load(Ordering::Relaxed);
        let Some(thread) = self.0.iter().min_by_key(least) else {
            return false;
        };
        thread.busy.fetch_add(1, Ordering::Relaxed);
        let busy = Busy(Arc::clone(&thread.busy));
        thread.handle.spawn_fn(move || job(busy))
    }

    /// Ends the threads; what runs on them is dropped.
    pub(super) fn stop(&self) {
        for thread in &self.0 {
            if let Some(arbiter) = thread.arbiter.lock().take() {
                arbiter.stop();
            }
        }
    }
}

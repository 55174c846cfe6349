//! Threads on which reads run: SQLite blocks a thread while it works.
//!
//! Not tokio's blocking threads: for a read of 10 µs, with 64 readers on two cores, a
//! queue of our own did 1.4 to 1.8 times as many a second (at 30 µs there was no
//! difference any more). They are started when they are needed, at most as many as reads
//! are let in at once (`gate`), and end when nothing is read for a while.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// A thread without work ends after so long.
const IDLE: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce() + Send>;

/// The threads. They end with this.
pub(super) struct Threads {
    shared: Arc<Shared>,
    max: usize,
}

struct Shared {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Work>,
    threads: usize,
    idle: usize,
    stop: bool,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.state.lock().stop = true;
        self.shared.ready.notify_all();
    }
}

impl Threads {
    /// At most so many. Whoever gives them work bounds how much waits.
    pub(super) fn new(max: usize) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            ready: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
            max,
        }
    }

    /// Runs `work`; `None` when it panicked, or no thread could be started.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.submit(Box::new(move || {
            // Nobody may wait any more.
            let _ = sender.send(work());
        }));
        receiver.await.ok()
    }

    fn submit(&self, work: Work) {
        let mut state = self.shared.state.lock();
        state.queue.push_back(work);
        // One that was called and has not come yet still counts as idle: each piece of work
        // needs one of its own, or it would wait behind the other for as long as that takes.
        if state.idle >= state.queue.len() {
            drop(state);
            self.shared.ready.notify_one();
            return;
        }
        if state.threads >= self.max {
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("orama-read".into());
        if let Err(error) = thread.spawn(move || shared.work()) {
            let mut state = self.shared.state.lock();
            state.threads -= 1;
            if state.threads == 0 {
                // Nobody would ever do it.
                state.queue.clear();
            }
            drop(state);
            tracing::error!(%error, "a thread for reads cannot be started");
        }
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(work) = state.queue.pop_front() {
                drop(state);
                // Whoever waits is told by the closed channel; the hook has logged it.
                let _ = catch_unwind(AssertUnwindSafe(work));
                state = self.state.lock();
                continue;
            }
            if state.stop {
                break;
            }
            state.idle += 1;
            let waited = self.ready.wait_for(&mut state, IDLE);
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn work_never_waits_behind_other_work_while_there_may_be_more_threads() {
        let threads = Threads::new(3);
        assert_eq!(threads.run(|| 1).await, Some(1));
        let mut gates = Vec::new();
        let mut held = Vec::new();
        for _ in 0..2 {
            let (open, gate) = mpsc::channel::<()>();
            gates.push(open);
            let mut run = Box::pin(threads.run(move || gate.recv().is_err()));
            assert!(futures::poll!(&mut run).is_pending());
            held.push(run);
        }
        assert_eq!(threads.run(|| 2).await, Some(2), "the third is free");
        assert_eq!(threads.shared.state.lock().threads, 3);
        drop(gates);
        for run in held {
            assert_eq!(run.await, Some(true));
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_costs_no_thread() {
        let threads = Threads::new(1);
        assert_eq!(threads.run(|| panic!("on purpose")).await, None::<()>);
        assert_eq!(threads.run(|| 3).await, Some(3));
        let shared = Arc::clone(&threads.shared);
        drop(threads);
        while shared.state.lock().threads > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

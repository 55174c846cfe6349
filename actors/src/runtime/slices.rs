//! Fairness within one worker thread.
//!
//! A guest runs in slices of one tick. After each it goes back to the
//! runtime, behind whatever else is ready on this thread. After its first few
//! slices it is no longer taken for a short one and must also hold the
//! thread's single slow-lane permit, so that however many long guests there
//! are, only one of them runs between two turns of the others.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;
use wasmtime::{AsContextMut, Caller, StoreContextMut, UpdateDeadline};

use super::call::BoxFuture;
use super::failure::Stop;
use super::guest::Guest;

/// Slices a guest has before it goes to the slow lane.
pub(crate) const FREE_SLICES: u32 = 2;

/// Where the permit is while the guest has it.
type Held = Arc<Mutex<Option<OwnedSemaphorePermit>>>;

/// A guest's place in its thread's slow lane.
pub(crate) struct Lane {
    semaphore: Arc<Semaphore>,
    slices: u32,
    /// Made when the guest first comes to the slow lane; most never do.
    held: Option<Held>,
}

impl Lane {
    pub(crate) fn new(semaphore: Arc<Semaphore>) -> Self {
        Self {
            semaphore,
            slices: 0,
            held: None,
        }
    }

    fn release(&self) {
        if let Some(held) = &self.held {
            held.lock().take();
        }
    }

    /// What the guest awaits before its next slice.
    fn next_turn(&mut self) -> BoxFuture<'static, ()> {
        self.release();
        self.slices = self.slices.saturating_add(1);
        if self.is_long() {
            self.turn()
        } else {
            Box::pin(yield_now())
        }
    }

    fn is_long(&self) -> bool {
        self.slices > FREE_SLICES
    }

    /// A turn in the slow lane.
    fn turn(&mut self) -> BoxFuture<'static, ()> {
        let held = self.held.get_or_insert_default().clone();
        let semaphore = self.semaphore.clone();
        Box::pin(async move {
            // A closed lane belongs to a worker that is going away: run on without.
            let permit = semaphore.acquire_owned().await.ok();
            // In this order: were the yield first, all long guests would be
            // woken by one tick and run back to back. It is tokio's yield
            // because that lets the I/O driver run before this task does.
            yield_now().await;
            *held.lock() = permit;
        })
    }
}

/// Called when the epoch has moved under a running guest.
pub(crate) fn at_tick(
    mut store: StoreContextMut<'_, Guest>,
) -> Result<UpdateDeadline, wasmtime::Error> {
    let guest = store.data_mut();
    if Instant::now() >= guest.deadline.at {
        return Err(Stop::Timeout.into());
    }
    Ok(UpdateDeadline::YieldCustom(1, guest.lane.next_turn()))
}

/// Awaits something on behalf of a guest, which gives up the slow lane while
/// it waits and is not charged slices for the time. A long guest takes the
/// lane again before it goes on: many that sleep for a moment between short
/// pieces of work would otherwise all run between two turns of the others.
pub(crate) async fn wait<F: Future>(caller: &mut Caller<'_, Guest>, future: F) -> F::Output {
    let held = caller.data().lane.held.clone();
    let mut waited = false;
    let mut future = std::pin::pin!(future);
    let output = std::future::poll_fn(|cx| {
        let poll = future.as_mut().poll(cx);
        if poll.is_pending() && !waited {
            waited = true;
            if let Some(held) = &held {
                held.lock().take();
            }
        }
        poll
    })
    .await;
    // A call that was answered at once must not lengthen the slice, or a
    // guest could keep the thread by calling it in a loop.
    if waited {
        if caller.data().lane.is_long() {
            let turn = caller.data_mut().lane.turn();
            turn.await;
        }
        caller.as_context_mut().set_epoch_deadline(1);
    }
    output
}

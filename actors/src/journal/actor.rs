//! The journal's actor: gathers records, writes them in batches, enforces retention.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Supervised};
use orama_cluster::JournalError;
use orama_proto::Timestamp;
use orama_proto::invocation::InvocationRecord;
use tokio::sync::{Mutex, oneshot};

use super::handle::{Shared, Sink};

/// How often losses are reported in the node's log, if there are any.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What was taken from the queue and is not written yet. It outlives a restart
/// of the actor, so nothing that was taken is lost then.
#[derive(Default)]
pub(super) struct Intake {
    batch: Vec<InvocationRecord>,
    waiters: Vec<oneshot::Sender<()>>,
}

impl Intake {
    /// Waits for a batch. False when the queue is closed and everything is taken.
    async fn gather(&mut self, shared: &Shared) -> bool {
        if !self.batch.is_empty() || !self.waiters.is_empty() {
            return true;
        }
        if !shared.queue.ready().await {
            return false;
        }
        let until = tokio::time::Instant::now() + shared.options.gather;
        shared.queue.company(until).await;
        (self.batch, self.waiters) = shared.queue.take();
        true
    }
}

/// The actor. Nobody sends it messages: its queue is the mailbox, because the
/// hot path must be able to put a record there without an address of a thread.
pub(super) struct JournalActor {
    shared: Arc<Shared>,
    sink: Arc<dyn Sink>,
    intake: Arc<Mutex<Intake>>,
    reported: u64,
}

impl JournalActor {
    pub(super) fn new(
        shared: Arc<Shared>,
        sink: Arc<dyn Sink>,
        intake: Arc<Mutex<Intake>>,
    ) -> Self {
        Self {
            shared,
            sink,
            intake,
            reported: 0,
        }
    }

    fn prune(&mut self, ctx: &mut Context<Self>) {
        let sink = Arc::clone(&self.sink);
        let shared = Arc::clone(&self.shared);
        let pass = async move {
            let keep = u64::try_from(shared.options.keep_for.as_micros()).unwrap_or(u64::MAX);
            let before = Timestamp(Timestamp::now().0.saturating_sub(keep));
            let per_function = shared.options.keep_per_function;
            let work = move || sink.prune(before, per_function);
            match tokio::task::spawn_blocking(work).await {
                Ok(Ok(removed)) => {
                    shared.metrics.pruned.inc_by(removed);
                    tracing::debug!(removed, "journal retention enforced");
                }
                Ok(Err(error)) => tracing::warn!(%error, "journal retention failed"),
                Err(error) => tracing::error!(%error, "journal retention was interrupted"),
            }
        };
        ctx.spawn(wrap_future(pass));
    }

    fn report(&mut self, _: &mut Context<Self>) {
        let dropped = self.shared.metrics.dropped();
        if dropped > self.reported {
            let lost = dropped - self.reported;
            tracing::warn!(lost, "invocation records were lost");
            self.reported = dropped;
        }
    }
}

impl Actor for JournalActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let work = run(
            Arc::clone(&self.shared),
            Arc::clone(&self.sink),
            Arc::clone(&self.intake),
        );
        // The queue closes when the last handle is gone and everything is
        // written: then so is the work, and the thread's only purpose.
        ctx.spawn(
            wrap_future(work).map(|(), actor: &mut Self, ctx: &mut Context<Self>| {
                actor.report(ctx);
                actix::ActorContext::terminate(ctx);
                actix::Arbiter::current().stop();
            }),
        );
        self.prune(ctx);
        ctx.run_interval(self.shared.options.prune_every, Self::prune);
        ctx.run_interval(REPORT_EVERY, Self::report);
    }
}

impl Supervised for JournalActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.shared.restarts.fetch_add(1, Ordering::Relaxed);
    }
}

async fn run(shared: Arc<Shared>, sink: Arc<dyn Sink>, intake: Arc<Mutex<Intake>>) {
    // Held for as long as this actor lives: there is one reader of the queue.
    let mut intake = intake.lock().await;
    let options = &shared.options;
    let mut tries = 0;
    while intake.gather(&shared).await {
        // Taken out while it is being written: the writing goes on even if this actor is restarted.
        let batch = Arc::new(std::mem::take(&mut intake.batch));
        let written = write(&shared, &sink, &batch).await;
        let mut batch = Arc::try_unwrap(batch).unwrap_or_else(|shared| (*shared).clone());
        tries += 1;
        if let Err(error) = written {
            shared.metrics.commit_failures.inc();
            if tries < options.tries {
                if tries == 1 {
                    tracing::warn!(%error, "a batch of invocation records was not written, trying again");
                }
                // What came first stays first. Nothing further is taken from
                // the queue meanwhile, so what is held here stays one batch.
                intake.batch = batch;
                let pause = options.retry_after * 2_u32.pow((tries - 1).min(5));
                tokio::time::sleep(pause).await;
                continue;
            }
            shared.metrics.not_written.inc_by(batch.len() as u64);
            tracing::error!(%error, records = batch.len(), "a batch of invocation records was given up");
        }
        tries = 0;
        shared.release(&batch);
        shared
            .handled
            .fetch_add(batch.len() as u64, Ordering::Relaxed);
        batch.clear();
        for done in intake.waiters.drain(..) {
            // Whoever waited may have gone.
            let _ = done.send(());
        }
    }
}

async fn write(
    shared: &Shared,
    sink: &Arc<dyn Sink>,
    batch: &Arc<Vec<InvocationRecord>>,
) -> Result<(), JournalError> {
    if batch.is_empty() {
        return Ok(());
    }
    let start = Instant::now();
    let (sink, records) = (Arc::clone(sink), Arc::clone(batch));
    tokio::task::spawn_blocking(move || sink.append(&records))
        .await
        .unwrap_or_else(|error| Err(JournalError::Storage(error.to_string())))?;
    shared
        .metrics
        .commit_seconds
        .observe(start.elapsed().as_secs_f64());
    shared.metrics.written.inc_by(batch.len() as u64);
    Ok(())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

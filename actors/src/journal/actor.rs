//! The journal's actor: gathers records, writes them in batches, enforces retention.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, AsyncContext, Context};
use orama_cluster::JournalError;
use orama_proto::Timestamp;
use orama_proto::invocation::InvocationRecord;
use tokio::sync::{Mutex, oneshot};

use super::handle::{Shared, Sink};

/// How often losses are reported in the node's log, if there are any.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// Pause before an actor that panicked is replaced.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// What was taken from the queue and is not written yet. It outlives the
/// actor, so that one that comes after a panic goes on with it.
#[derive(Default)]
pub(super) struct Intake {
    batch: Arc<Vec<InvocationRecord>>,
    /// An earlier batch's room, for the queue.
    spare: Vec<InvocationRecord>,
    waiters: Vec<oneshot::Sender<()>>,
    /// How often the batch was tried.
    tries: u32,
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
        let (batch, waiters) = shared.queue.take(std::mem::take(&mut self.spare));
        (self.batch, self.waiters) = (Arc::new(batch), waiters);
        true
    }

    /// Gives each record its id. Here and not where it was made: a reader who
    /// follows a log asks for what stands behind the last id it saw, so ids
    /// must rise in the order in which records can be seen.
    fn stamp(&mut self) {
        let Some(records) = Arc::get_mut(&mut self.batch) else {
            return;
        };
        for record in records.iter_mut().filter(|record| record.id.is_empty()) {
            record.id = uuid::Uuid::now_v7().to_string();
        }
        #[cfg(test)]
        assert!(
            self.tries > 1 || records.iter().all(|r| r.error_message != tests::BOMB),
            "a record that the test made to bring the actor down"
        );
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
        // Ends when the last handle is gone and everything is written.
        ctx.spawn(
            wrap_future(work).map(|(), actor: &mut Self, ctx: &mut Context<Self>| {
                actor.report(ctx);
                actix::ActorContext::terminate(ctx);
            }),
        );
        self.prune(ctx);
        ctx.run_interval(self.shared.options.prune_every, Self::prune);
        ctx.run_interval(REPORT_EVERY, Self::report);
    }
}

/// Runs the journal's actor on the current thread until the journal is closed
/// and written, and a new one in place of any that panicked: a supervisor of
/// the actor library would be torn down by the panic together with its actor.
pub(super) async fn supervise(shared: Arc<Shared>, sink: Arc<dyn Sink>) {
    let intake = Arc::new(Mutex::new(Intake::default()));
    loop {
        let actor = JournalActor::new(Arc::clone(&shared), Arc::clone(&sink), Arc::clone(&intake));
        match actix::spawn(Context::new().into_future(actor)).await {
            Err(error) if error.is_panic() => {
                tracing::error!(%error, "the journal panicked and is started again");
                shared.restarts.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(RESTART_PAUSE).await;
            }
            // The thread's only purpose has ended.
            _ => {
                actix::Arbiter::current().stop();
                return;
            }
        }
    }
}

async fn run(shared: Arc<Shared>, sink: Arc<dyn Sink>, intake: Arc<Mutex<Intake>>) {
    // Held for as long as this actor lives: there is one reader of the queue.
    let mut intake = intake.lock().await;
    let options = &shared.options;
    while intake.gather(&shared).await {
        // Counted before it is tried: whatever brings this actor down must not do so for ever.
        intake.tries += 1;
        intake.stamp();
        let written = if intake.tries > options.tries {
            Err(JournalError::Storage(
                "it was tried often enough".to_owned(),
            ))
        } else {
            write(&shared, &sink, &intake.batch).await
        };
        if let Err(error) = written {
            shared.metrics.commit_failures.inc();
            if intake.tries < options.tries {
                if intake.tries == 1 {
                    tracing::warn!(%error, "a batch of invocation records was not written, trying again");
                }
                // What came first stays first. Nothing further is taken from
                // the queue meanwhile, so what is held here stays one batch.
                let pause = options.retry_after * 2_u32.pow((intake.tries - 1).min(5));
                tokio::time::sleep(pause).await;
                continue;
            }
            let records = intake.batch.len();
            shared.metrics.not_written.inc_by(records as u64);
            tracing::error!(%error, records, "a batch of invocation records was given up");
        }
        intake.tries = 0;
        let batch = std::mem::take(&mut intake.batch);
        shared.release(&batch);
        shared
            .handled
            .fetch_add(batch.len() as u64, Ordering::Relaxed);
        // The blocking thread has let go of it; where it has not, there is one room less.
        if let Some(mut room) = Arc::into_inner(batch) {
            room.clear();
            intake.spare = room;
        }
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

//! The router's actor: every round it looks who is linked and tells them this node's load.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::fut::wrap_future;
use actix::{Actor, AsyncContext, Context};
use bytes::Bytes;
use orama_cluster::{Lane, Service};
use orama_proto::load::LOAD_VERSION;
use orama_proto::record;
use tokio::time::MissedTickBehavior;

use super::Shared;
use super::board::PeerLoad;
use super::peers::Peers;

/// How often load is told.
pub(super) const ROUND: Duration = Duration::from_millis(250);
/// How long an answer to a report is waited for; meanwhile that peer gets no other.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Pause before an actor that panicked is replaced.
const RESTART_PAUSE: Duration = Duration::from_millis(250);

struct RouterActor(Arc<Shared>);

impl Actor for RouterActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(wrap_future(rounds(Arc::clone(&self.0))));
    }
}

/// Runs the actor on the current thread, and a new one in place of any that
/// panicked: a supervisor of the actor library would be torn down by the panic
/// together with its actor. Ends with the thread.
pub(super) async fn supervise(shared: Arc<Shared>) {
    loop {
        let actor = RouterActor(Arc::clone(&shared));
        match actix::spawn(Context::new().into_future(actor)).await {
            Err(error) if error.is_panic() => {
                tracing::error!(%error, "the router panicked and is started again");
                shared.restarts.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(RESTART_PAUSE).await;
            }
            _ => return,
        }
    }
}

async fn rounds(shared: Arc<Shared>) {
    let Some(peers) = shared.peers.clone() else {
        return;
    };
    let mut ticks = tokio::time::interval(ROUND);
    // After a pause of the whole process one round says everything.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let draining = async {
        match shared.invoker() {
            Some(invoker) => {
                // Only the admission, so that a platform that ends is not held up by this.
                let admission = Arc::clone(&invoker.admission);
                drop(invoker);
                admission.closing().await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::pin!(draining);
    let mut open = true;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // Said at once: whoever hears it sends nothing more here.
            () = &mut draining, if open => open = false,
        }
        round(&shared, &peers);
    }
}

/// Looks who is linked and sends each of them this node's load.
pub(super) fn round(shared: &Arc<Shared>, peers: &Arc<dyn Peers>) {
    shared.active.store(peers.active(), Ordering::Relaxed);
    let members = shared.board.set_linked(peers.linked());
    let now = Instant::now();
    let ages = members.iter().filter_map(|peer| peer.age(now));
    let oldest = ages.max().unwrap_or_default();
    shared.metrics.oldest.set(oldest.as_secs_f64());
    let eligible = members
        .iter()
        .filter(|peer| peer.eligible(None, now).is_some());
    let eligible = i64::try_from(eligible.count()).unwrap_or(i64::MAX);
    shared.metrics.eligible.set(eligible);
    shared.rounds.fetch_add(1, Ordering::Relaxed);
    let Some(report) = shared.report() else {
        return;
    };
    let body = match record::encode(LOAD_VERSION, &report) {
        Ok(body) => Bytes::from(body),
        Err(error) => {
            tracing::error!(%error, "a load report cannot be written");
            return;
        }
    };
    for peer in members.iter() {
        tell(shared, peers, peer, body.clone());
    }
}

fn tell(shared: &Shared, peers: &Arc<dyn Peers>, peer: &Arc<PeerLoad>, body: Bytes) {
    // Nothing queues behind a slow peer: it gets the next report, which is newer.
    let Some(telling) = peer.tell() else {
        shared.metrics.skipped.inc();
        return;
    };
    let (peers, id) = (Arc::clone(peers), peer.id);
    tokio::spawn(async move {
        let deadline = Instant::now() + ANSWER_WITHIN;
        let call = peers.call(id, Lane::Heartbeat, Service::Load, body, deadline);
        if let Err(error) = call.await {
            // The peer's reports and its link tell the same; this is no news.
            tracing::trace!(%error, "a load report was not taken");
        }
        drop(telling);
    });
}

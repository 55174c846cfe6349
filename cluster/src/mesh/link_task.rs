//! The task of a link: starts its lanes, introduces it, watches whether the
//! peer lives, clears away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::AsyncReadExt;
use libp2p::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::frame::FrameError;
use super::hello::{Greeting, Hello};
use super::lane::Failure;
use super::link::{End, Link};
use super::shared::Shared;
use super::transport::{Command, Direction, Opened};
use super::{BoxFuture, Declined, Incoming, Lane, Service};

/// How often the peer is asked whether it is there.
const PING_EVERY: Duration = Duration::from_millis(500);
/// Ticks without a byte from the peer after which it is taken for dead. Ticks
/// instead of time: one that was itself stopped for a while has seen few.
const SILENT_TICKS: u32 = 6;
/// Ticks without an answer from a peer that is heard: nothing reaches it, or it
/// has far too much to send.
const UNANSWERED_TICKS: u32 = 20;
/// How long a ping may take; beyond it the link has ended.
const PING_TIMEOUT: Duration = Duration::from_secs(12);
/// How long an introduction may take.
const INTRODUCTION: Duration = Duration::from_secs(5);
/// Ticks for which a link must have been surplus before it is ended.
const SURPLUS_TICKS: u32 = 2;
/// How long a refused link stays, so that the peer learns why it goes.
const FAREWELL: Duration = Duration::from_millis(250);

/// Runs a link to its end.
pub(super) async fn run(link: Arc<Link>, mut streams: mpsc::Receiver<Opened>, shared: Arc<Shared>) {
    let mut tasks = JoinSet::new();
    let end = tokio::select! {
        end = link.ended() => end,
        () = drive(&link, &mut streams, &shared, &mut tasks) => link.ended().await,
    };
    tasks.abort_all();
    shared.metrics.ended(end.reason);
    let last = shared.links.remove(&link);
    let name = link.peer().map(|peer| peer.name).unwrap_or_default();
    let (node, address, why) = (link.node, &link.address, &end.text);
    if last && !end.wanted {
        tracing::warn!(%node, name, %address, why, "the link to a node broke");
    } else if last {
        tracing::info!(%node, name, %address, why, "the link to a node was closed");
    } else {
        tracing::debug!(%node, name, %address, why, "a connection ended");
    }
    let _ = shared.commands.send(Command::Close(link.connection)).await;
}

/// Answers when it has ended the link.
async fn drive(
    link: &Arc<Link>,
    streams: &mut mpsc::Receiver<Opened>,
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<()>,
) {
    let mut tick = interval(PING_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let introduce_by = Instant::now() + INTRODUCTION;
    let mut health = Health::default();
    loop {
        tokio::select! {
            opened = streams.recv() => match opened {
                Some(Opened::Stream(lane, Direction::Outbound, stream)) => {
                    call_on(link, lane, stream, shared, tasks);
                    link.advance(shared, |progress| progress.opened[lane as usize] = true);
                }
                Some(Opened::Stream(lane, Direction::Inbound, stream)) => {
                    serve_on(link, lane, stream, shared, tasks);
                }
                Some(Opened::Refused(lane)) => {
                    let text = format!("the peer does not take the lane {}", lane.as_str());
                    return link.end(End::wrong("lane_refused", text));
                }
                None => return link.end(End::closed()),
            },
            () = shared.closed() => return link.end(End::shutdown()),
            _ = tick.tick() => {
                if !link.is_introduced() {
                    if Instant::now() >= introduce_by {
                        return link.end(End::wrong("not_introduced", "the peer did not introduce itself in time"));
                    }
                    continue;
                }
                if health.is_dead(link) {
                    return link.end(End::silent());
                }
                if link.begin_ping() {
                    tasks.spawn(ping(Arc::clone(link)));
                }
                if health.is_surplus(link, shared) {
                    link.retire();
                    tasks.spawn(retire(Arc::clone(link)));
                }
            }
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// What is remembered from tick to tick.
#[derive(Default)]
struct Health {
    heard: u64,
    answered: u64,
    silent: u32,
    unanswered: u32,
    surplus: u32,
}

impl Health {
    fn is_dead(&mut self, link: &Link) -> bool {
        let (heard, answered) = (link.heard(), link.answered());
        self.silent = if heard == self.heard {
            self.silent + 1
        } else {
            0
        };
        self.unanswered = if answered == self.answered {
            self.unanswered + 1
        } else {
            0
        };
        (self.heard, self.answered) = (heard, answered);
        self.silent >= SILENT_TICKS || self.unanswered >= UNANSWERED_TICKS
    }

    /// Of two nodes the one with the smaller id decides which link goes, so
    /// that they do not end one each.
    fn is_surplus(&mut self, link: &Link, shared: &Shared) -> bool {
        let newer = shared.links.best(link.node);
        let surplus = shared.id < link.node
            && !link.is_retired()
            && newer.is_some_and(|best| best.connection != link.connection);
        self.surplus = if surplus { self.surplus + 1 } else { 0 };
        self.surplus >= SURPLUS_TICKS
    }
}

fn call_on(
    link: &Arc<Link>,
    lane: Lane,
    stream: Stream,
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<()>,
) {
    let (reader, writer) = stream.split();
    let to = Arc::clone(link);
    tasks.spawn(async move {
        if let Err(error) = to.client(lane).write(writer).await {
            to.end(End::unwritable(&error));
        }
    });
    let (from, of) = (Arc::clone(link), Arc::clone(shared));
    tasks.spawn(async move {
        if let Err(error) = from.client(lane).read(reader, || from.note_heard()).await {
            stopped(&from, lane, &error, &of);
        }
    });
    if lane == Lane::Heartbeat {
        tasks.spawn(introduce(Arc::clone(link), Arc::clone(shared)));
    }
}

fn serve_on(
    link: &Arc<Link>,
    lane: Lane,
    stream: Stream,
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<()>,
) {
    let (reader, writer) = stream.split();
    let to = Arc::clone(link);
    tasks.spawn(async move {
        if let Err(error) = to.server(lane).write(writer).await {
            to.end(End::unwritable(&error));
        }
    });
    let (from, of) = (Arc::clone(link), Arc::clone(shared));
    tasks.spawn(async move {
        let dispatch = |service, incoming| match service {
            Service::Hello => (lane == Lane::Heartbeat).then(|| greeted(&from, &of, &incoming)),
            _ if !from.knows_peer() => None,
            _ => of.dispatch(service, incoming),
        };
        let heard = || from.note_heard();
        let read = from.server(lane).read(from.node, reader, dispatch, heard);
        if let Err(error) = read.await {
            stopped(&from, lane, &error, &of);
        }
    });
}

/// A lane cannot be read on: the link ends.
fn stopped(link: &Link, lane: Lane, error: &FrameError, shared: &Shared) {
    if error.is_violation() {
        warn_of(link, lane, &error.to_string(), error.label(), shared);
    }
    link.end(End::wrong(error.label(), error.to_string()));
}

fn warn_of(link: &Link, lane: Lane, why: &str, label: &'static str, shared: &Shared) {
    if let Some(suppressed) = shared.quiet.due((link.node, label)) {
        tracing::warn!(
            node = %link.node, address = %link.address, lane = lane.as_str(), why, suppressed,
            "a peer breaks the rules of the mesh; its link is cut"
        );
    }
}

/// Says who this node is, now and whenever that changes.
async fn introduce(link: Arc<Link>, shared: Arc<Shared>) {
    let mut hello = shared.hello();
    loop {
        let ours = Arc::clone(&hello.borrow_and_update());
        refuse_foreign(&link, ours.cluster, link.cluster(), &shared);
        let bytes = match Greeting::Hello((*ours).clone()).encode() {
            Ok(bytes) => bytes,
            Err(error) => return link.end(End::wrong("hello", error.to_string())),
        };
        let client = link.client(Lane::Heartbeat);
        let deadline = Instant::now() + INTRODUCTION;
        match client.call(Service::Hello, bytes.into(), deadline).await {
            Ok(_) => link.advance(&shared, |progress| progress.greeted = true),
            Err(Failure::Declined(why)) => return condemn(&link, End::wrong("refused", why)),
            Err(Failure::Busy | Failure::Deadline) if link.is_introduced() => {
                sleep(PING_EVERY).await;
                continue;
            }
            Err(_) => return,
        }
        if hello.changed().await.is_err() {
            return;
        }
    }
}

/// Answers the peer's word about itself.
fn greeted(
    link: &Arc<Link>,
    shared: &Arc<Shared>,
    incoming: &Incoming,
) -> BoxFuture<'static, Result<Bytes, Declined>> {
    let answer = match Greeting::decode(&incoming.body) {
        Ok(Greeting::Ping) => Ok(Bytes::new()),
        Ok(Greeting::Retire) => {
            // Only with another link that calls can use from now on.
            let other = shared.links.best(link.node);
            let other = other.is_some_and(|best| best.connection != link.connection);
            if other {
                link.retire();
            }
            Ok(Bytes::from(vec![u8::from(other && link.is_idle())]))
        }
        Ok(Greeting::Hello(hello)) => met(link, shared, hello),
        Err(error) => {
            let label = "greeting_malformed";
            warn_of(link, Lane::Heartbeat, &error.to_string(), label, shared);
            link.end(End::wrong(label, error.to_string()));
            Err(Declined(error.to_string()))
        }
    };
    Box::pin(std::future::ready(answer))
}

fn met(link: &Arc<Link>, shared: &Arc<Shared>, hello: Hello) -> Result<Bytes, Declined> {
    let theirs = hello.cluster;
    if refuse_foreign(link, shared.cluster(), theirs, shared) {
        return Err(Declined("this node belongs to another cluster".to_owned()));
    }
    // Before calls can use the link: it may end at any moment.
    if let Some(keeper) = shared.kept.lock().get(&link.node) {
        keeper.learn(&hello.addresses);
    }
    let mut news = false;
    link.advance(shared, |progress| {
        let hello = Some(Arc::new(hello));
        news = progress.hello.is_some() && progress.hello != hello;
        progress.hello = hello;
    });
    if news {
        shared.links.changed();
    }
    Ok(Bytes::new())
}

/// Ends a link between clusters.
fn refuse_foreign(
    link: &Arc<Link>,
    ours: Option<orama_proto::ClusterId>,
    theirs: Option<orama_proto::ClusterId>,
    shared: &Arc<Shared>,
) -> bool {
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        return false;
    };
    if ours == theirs {
        return false;
    }
    if let Some(suppressed) = shared.quiet.due((link.node, "foreign")) {
        tracing::warn!(
            node = %link.node, address = %link.address, %ours, %theirs, suppressed,
            "a node of another cluster has the same secret; its link is closed"
        );
    }
    condemn(
        link,
        End::wrong("foreign", "the peer belongs to another cluster"),
    );
    true
}

/// Ends a link a moment later: the peer is to learn why first.
fn condemn(link: &Arc<Link>, why: End) {
    link.condemn(why.clone());
    let link = Arc::clone(link);
    tokio::spawn(async move {
        sleep(FAREWELL).await;
        link.end(why);
    });
}

async fn ping(link: Arc<Link>) {
    if let Ok(bytes) = Greeting::Ping.encode() {
        let deadline = Instant::now() + PING_TIMEOUT;
        let client = link.client(Lane::Heartbeat);
        let _ = client.call(Service::Hello, bytes.into(), deadline).await;
    }
    link.end_ping();
}

/// Ends a surplus link once neither side has a call on it.
async fn retire(link: Arc<Link>) {
    let Ok(bytes) = Greeting::Retire.encode() else {
        return;
    };
    let bytes = Bytes::from(bytes);
    loop {
        let deadline = Instant::now() + PING_TIMEOUT;
        let client = link.client(Lane::Heartbeat);
        let answer = client.call(Service::Hello, bytes.clone(), deadline).await;
        if answer.is_ok_and(|idle| idle[..] == [1]) && link.is_idle() {
            return link.end(End::surplus());
        }
        sleep(PING_EVERY).await;
    }
}

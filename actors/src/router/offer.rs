//! Sending an invocation to a peer, and what its answer, or the lack of one, means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use orama_cluster::{CallError, Lane, Service};
use orama_proto::forward::{FORWARD_INPUT_MAX, ForwardReply, ForwardedInvoke, NotTaken};
use orama_proto::{ApiError, NodeId, Timestamp};

use super::board::PeerLoad;
use super::choose::{random_below, two_choices};
use super::metrics::Out;
use super::{Router, Shared};
use crate::errors;
use crate::platform::Completed;
use crate::worker::Request;

/// Peers that are asked before the invocation waits here.
const PEERS_ASKED_MAX: usize = 2;
/// Of a forwarded invocation; what comes from outside has 0.
const NEXT_HOP: u8 = 1;

/// An invocation that found no place here.
pub(crate) struct Offer<'a> {
    pub(crate) request: &'a Request,
    pub(crate) input: &'a Bytes,
    /// Running it twice does no harm, says the caller.
    pub(crate) repeatable: bool,
    /// The longest that it can take.
    pub(crate) within: Duration,
}

/// What became of an offer.
#[derive(Debug)]
pub(crate) enum Elsewhere {
    /// Nobody took it, or it may be run again: it is to wait for a place here.
    Here,
    /// It succeeded there.
    Ran(Completed),
    /// This is what the client should see.
    Failed(ApiError),
}

/// Takes note of an attempt that was lost with its node: when it was sent, how
/// long ago that is, what the client would see.
pub(crate) type OnLost<'a> = &'a (dyn Fn(Timestamp, Duration, &ApiError) + Send + Sync);

/// How one peer answered.
enum Answer {
    Ran {
        output: Bytes,
        duration_ms: u64,
    },
    Failed(ApiError),
    /// It did not start it: another may be asked.
    NotStarted,
    /// It may have run it.
    Lost(String),
}

impl Router {
    /// Offers an invocation to peers that seem to have room.
    pub(crate) async fn offer(&self, offer: &Offer<'_>, on_lost: OnLost<'_>) -> Elsewhere {
        let shared = &self.0.shared;
        if offer.input.len() > FORWARD_INPUT_MAX {
            return Elsewhere::Here;
        }
        let mut asked: Vec<NodeId> = Vec::new();
        let mut body = None;
        while asked.len() < PEERS_ASKED_MAX {
            let Some(peer) = shared.choose(offer.request, &asked) else {
                return Elsewhere::Here;
            };
            let body = match &body {
                Some(body) => Bytes::clone(body),
                None => match encode(offer) {
                    Ok(encoded) => Bytes::clone(body.insert(encoded)),
                    Err(error) => return Elsewhere::Failed(error),
                },
            };
            if !asked.is_empty() {
                shared.metrics.retries.inc();
            }
            asked.push(peer.id);
            let (started_at, clock) = (Timestamp::now(), Instant::now());
            match shared.ask(&peer, offer, body).await {
                Answer::Ran {
                    output,
                    duration_ms,
                } => {
                    return Elsewhere::Ran(Completed {
                        output,
                        duration_ms,
                        node: Arc::clone(&peer.name),
                    });
                }
                Answer::Failed(error) => return Elsewhere::Failed(error),
                Answer::NotStarted => {}
                Answer::Lost(why) => {
                    let Request { id, function, .. } = offer.request;
                    let error = errors::lost(&peer.name, id, &function.name);
                    tracing::warn!(
                        request_id = %id, node = %peer.name, namespace = %function.namespace,
                        function = %function.name, again = offer.repeatable, why,
                        "an invocation was lost with the node that ran it"
                    );
                    on_lost(started_at, clock.elapsed(), &error);
                    if !offer.repeatable {
                        return Elsewhere::Failed(error);
                    }
                    shared.metrics.repeats.inc();
                }
            }
        }
        Elsewhere::Here
    }
}

impl Shared {
    /// One of the peers with room, by two choices; none of those in `asked`.
    fn choose(&self, request: &Request, asked: &[NodeId]) -> Option<Arc<PeerLoad>> {
        let now = Instant::now();
        let function = &request.function;
        let members = self.board.members();
        let eligible = members
            .iter()
            .filter(|peer| !asked.contains(&peer.id))
            .filter_map(|peer| {
                let what = (&function.wasm_cid, &function.namespace);
                Some((peer.eligible(Some(what), now)?, peer))
            })
            .collect();
        two_choices(eligible, random_below).map(Arc::clone)
    }

    async fn ask(&self, peer: &Arc<PeerLoad>, offer: &Offer<'_>, body: Bytes) -> Answer {
        let Some(peers) = &self.peers else {
            return Answer::NotStarted;
        };
        let _sent = peer.send();
        let start = Instant::now();
        let deadline = start + offer.within;
        let called = peers.call(peer.id, Lane::Calls, Service::Invoke, body, deadline);
        let (how, answer) = match called.await {
            Ok(reply) => read(&reply),
            Err(error) => not_answered(&error),
        };
        self.metrics.forwarded(how);
        let function = &offer.request.function;
        match how {
            Out::Done | Out::Failed => {
                self.metrics.seconds.observe(start.elapsed().as_secs_f64());
            }
            Out::Busy | Out::Draining | Out::NotSent | Out::Lost => peer.takes_nothing(),
            Out::NamespaceBusy => peer.is_crowded_with(&function.namespace),
            // A peer of another version of this program declines everything of ours.
            Out::NotReady | Out::Declined => peer.lacks(function.wasm_cid),
        }
        answer
    }
}

fn encode(offer: &Offer<'_>) -> Result<Bytes, ApiError> {
    let Request {
        id,
        function,
        principal,
        trigger,
        ..
    } = offer.request;
    let head = ForwardedInvoke {
        request_id: id.clone(),
        namespace: function.namespace.clone(),
        function: function.name.clone(),
        function_id: function.function_id.clone(),
        version: function.version,
        wasm_cid: function.wasm_cid,
        principal: (**principal).clone(),
        trigger: *trigger,
        hops: NEXT_HOP,
    };
    head.encode(offer.input)
        .map(Bytes::from)
        .map_err(|error| errors::unexpected(&format!("an invocation cannot be written: {error}")))
}

fn read(reply: &Bytes) -> (Out, Answer) {
    match ForwardReply::decode(reply) {
        Ok((ForwardReply::Done { duration_ms }, output)) => {
            let output = reply.slice(output..);
            (
                Out::Done,
                Answer::Ran {
                    output,
                    duration_ms,
                },
            )
        }
        Ok((ForwardReply::Failed(error), _)) => (Out::Failed, Answer::Failed(error.into())),
        Ok((ForwardReply::NotTaken(why), _)) => {
            let how = match why {
                NotTaken::Busy => Out::Busy,
                NotTaken::NamespaceBusy => Out::NamespaceBusy,
                NotTaken::NotReady => Out::NotReady,
                NotTaken::Draining => Out::Draining,
            };
            (how, Answer::NotStarted)
        }
        // It was answered, so it may have run.
        Err(error) => (Out::Lost, Answer::Lost(error.to_string())),
    }
}

fn not_answered(error: &CallError) -> (Out, Answer) {
    match error {
        CallError::Lost(_) | CallError::Deadline(_) => (Out::Lost, Answer::Lost(error.to_string())),
        CallError::NotSent(_) => (Out::NotSent, Answer::NotStarted),
        CallError::Busy(_) => (Out::Busy, Answer::NotStarted),
        CallError::Declined { .. } | CallError::TooLarge { .. } => {
            (Out::Declined, Answer::NotStarted)
        }
    }
}

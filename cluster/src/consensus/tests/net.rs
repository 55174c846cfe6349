//! Links between nodes of one process that lose, cut and count what they carry.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use orama_proto::NodeId;
use parking_lot::Mutex;

use crate::consensus::link::Link;
use crate::mesh::{BoxFuture, CallError, Declined, Handler, Incoming, Lane, Service};

/// A call that is about to be made.
pub(super) struct Packet {
    pub(super) from: NodeId,
    pub(super) service: Service,
    pub(super) lane: Lane,
    pub(super) size: usize,
}

/// What becomes of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives,
    /// The link breaks before the request is seen, and the caller learns it.
    Lost,
    /// The request is handled and its answer is lost.
    Unanswered,
    /// A byte near the end changes.
    Damaged,
}

type Rule = Box<dyn FnMut(&Packet) -> Fate + Send>;
type Handlers = (Arc<dyn Handler>, Arc<dyn Handler>);

#[derive(Default)]
pub(super) struct Net {
    nodes: Mutex<HashMap<NodeId, Handlers>>,
    cut: Mutex<HashSet<(NodeId, NodeId)>>,
    rule: Mutex<Option<Rule>>,
}

impl Net {
    pub(super) fn join(&self, node: NodeId, handlers: Handlers) {
        self.nodes.lock().insert(node, handlers);
    }
    pub(super) fn leave(&self, node: NodeId) {
        self.nodes.lock().remove(&node);
    }
    /// Nothing gets from `from` to `to` any more, and nobody is told.
    pub(super) fn cut(&self, from: NodeId, to: NodeId) {
        self.cut.lock().insert((from, to));
    }
    /// Cuts a node off from all the others.
    pub(super) fn isolate(&self, node: NodeId) {
        for other in self.nodes.lock().keys().copied().filter(|o| *o != node) {
            self.cut(node, other);
            self.cut(other, node);
        }
    }
    pub(super) fn heal(&self) {
        self.cut.lock().clear();
    }
    /// Every call is asked about from now on.
    pub(super) fn rule(&self, rule: impl FnMut(&Packet) -> Fate + Send + 'static) {
        *self.rule.lock() = Some(Box::new(rule));
    }
    pub(super) fn no_rule(&self) {
        *self.rule.lock() = None;
    }
    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.lock().contains(&(from, to))
    }
}

/// One node's end.
pub(super) struct Port {
    pub(super) net: Arc<Net>,
    pub(super) me: NodeId,
}

async fn silence(to: NodeId, deadline: Instant) -> Result<Bytes, CallError> {
    tokio::time::sleep_until(deadline.into()).await;
    Err(CallError::Deadline(to))
}

impl Link for Port {
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        service: Service,
        body: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let (net, me) = (Arc::clone(&self.net), self.me);
        Box::pin(async move {
            assert!(body.len() <= lane.frame_max(), "{} bytes", body.len());
            let packet = Packet {
                from: me,
                service,
                lane,
                size: body.len(),
            };
            let fate = (net.rule.lock().as_mut()).map_or(Fate::Arrives, |rule| rule(&packet));
            if fate == Fate::Lost {
                return Err(CallError::Lost(to));
            }
            if !net.nodes.lock().contains_key(&me) {
                return Err(CallError::NotSent(to));
            }
            if net.is_cut(me, to) {
                return silence(to, deadline).await;
            }
            let Some((raft, group)) = net.nodes.lock().get(&to).cloned() else {
                return Err(CallError::NotSent(to));
            };
            let handler = if service == Service::Raft {
                raft
            } else {
                group
            };
            let mut body = body.to_vec();
            if fate == Fate::Damaged {
                let end = body.len() - 5;
                body[end] ^= 0x20;
            }
            let incoming = Incoming {
                from: me,
                deadline,
                body: body.into(),
            };
            // As the mesh does: a handler runs on its own, and stops with its caller.
            let answer = tokio::time::timeout_at(deadline.into(), handler.call(incoming));
            let answer = match answer.await {
                Ok(answer) => answer,
                Err(_) => return Err(CallError::Deadline(to)),
            };
            if fate == Fate::Unanswered {
                return Err(CallError::Lost(to));
            }
            // A node that was stopped meanwhile answers nobody.
            if net.is_cut(to, me) || !net.nodes.lock().contains_key(&to) {
                return silence(to, deadline.min(Instant::now() + Duration::from_secs(2))).await;
            }
            answer.map_err(|Declined(why)| CallError::Declined { node: to, why })
        })
    }
}

//! A change that was acknowledged is visible everywhere at once: whoever made
//! it here may ask any other node next. So the proposer waits, a little, until
//! the linked members have applied it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use orama_cluster::mesh::BoxFuture;
use orama_cluster::{CallError, Cluster, Declined, Handler, Incoming, Lane, ProposeError, Service};
use orama_proto::command::{MetaCommand, MetaReply};
use orama_proto::gather::{GATHER_VERSION, VisibleReply, VisibleRequest};
use orama_proto::{NodeId, RequestId, record};
use parking_lot::Mutex;

use super::Inner;

/// What waiting for the others costs a change at most.
const WAIT: Duration = Duration::from_millis(300);
/// A member that was late is not waited for again for so long: one that is
/// paused must not slow every change.
const SKIP_FOR: Duration = Duration::from_secs(5);

/// Who was late, and until when nobody waits for it. Bounded by membership.
#[derive(Default)]
pub(super) struct Visible {
    late: Mutex<HashMap<NodeId, Instant>>,
}

/// What came of asking a member.
enum Seen {
    /// It has applied the change, or says at once that it cannot: there is nothing to wait for.
    Answered,
    /// It took all the time.
    Late,
}

impl Visible {
    /// Asks the members, all at once, until each has answered or the time is up.
    /// Answers how many were late.
    async fn settle<F, Fut>(&self, members: Vec<NodeId>, ask: F) -> usize
    where
        F: Fn(NodeId) -> Fut,
        Fut: Future<Output = Seen>,
    {
        let now = Instant::now();
        let worth_asking: Vec<_> = {
            let mut late = self.late.lock();
            late.retain(|_, until| *until > now);
            members
                .into_iter()
                .filter(|node| !late.contains_key(node))
                .collect()
        };
        let asked = worth_asking.into_iter().map(|node| {
            let asked = ask(node);
            async move {
                let seen = tokio::time::timeout(WAIT, asked).await;
                matches!(seen, Err(_) | Ok(Seen::Late)).then_some(node)
            }
        });
        let late: Vec<_> = futures::future::join_all(asked)
            .await
            .into_iter()
            .flatten()
            .collect();
        let until = Instant::now() + SKIP_FOR;
        self.late
            .lock()
            .extend(late.iter().map(|node| (*node, until)));
        late.len()
    }
}

impl Inner {
    /// Proposes a change, and waits until it is visible on the members that can be reached.
    pub(super) async fn propose(
        &self,
        request_id: &RequestId,
        command: MetaCommand,
    ) -> Result<MetaReply, ProposeError> {
        let reply = self.meta.propose(request_id, command).await?;
        self.settle().await;
        Ok(reply)
    }

    /// Waits until what is applied here is applied on the linked members.
    pub(super) async fn settle(&self) {
        let Some(mesh) = self.cluster.mesh() else {
            return;
        };
        let members: Vec<_> = self.cluster.linked().iter().map(|m| m.id).collect();
        if members.is_empty() {
            return;
        }
        let since = Instant::now();
        let index = self.meta.applied_index();
        let Ok(body) = record::encode(GATHER_VERSION, &VisibleRequest { index }) else {
            return;
        };
        let body = Bytes::from(body);
        let late = self
            .visible
            .settle(members, |node| {
                let (mesh, body) = (mesh.clone(), body.clone());
                async move {
                    let (lane, service) = (Lane::Calls, Service::Visible);
                    let answer = mesh.call(node, lane, service, body, since + WAIT).await;
                    seen(answer, index)
                }
            })
            .await;
        let took = since.elapsed().as_secs_f64();
        self.metrics.visible_seconds.observe(took);
        if late > 0 {
            self.metrics.visible_late.inc_by(late as u64);
            tracing::debug!(index, late, "a change is not yet visible everywhere");
        }
    }
}

fn seen(answer: Result<Bytes, CallError>, index: u64) -> Seen {
    match answer {
        Ok(bytes) => match record::decode::<VisibleReply>(GATHER_VERSION, &bytes) {
            Ok(reply) if reply.applied < index => Seen::Late,
            _ => Seen::Answered,
        },
        Err(CallError::Deadline(_)) => Seen::Late,
        Err(_) => Seen::Answered,
    }
}

/// Lets peers wait for changes to be applied here.
pub(super) fn serve(platform: &Arc<Inner>, cluster: &Cluster) {
    if let Some(mesh) = cluster.mesh() {
        let handler = Serve(Arc::downgrade(platform));
        mesh.serve(Service::Visible, Arc::new(handler));
    }
}

struct Serve(Weak<Inner>);

impl Handler for Serve {
    fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Declined>> {
        let changes = self.0.upgrade().map(|platform| platform.meta.changes());
        Box::pin(async move {
            let mut changes = changes.ok_or_else(|| Declined("the node is stopping".to_owned()))?;
            let request: VisibleRequest = record::decode(GATHER_VERSION, &incoming.body)
                .map_err(|error| Declined(error.to_string()))?;
            let until = incoming.deadline.min(Instant::now() + WAIT);
            let applied = changes.wait_for(|applied| *applied >= request.index);
            // Late or not, the answer says how far it is.
            let _ = tokio::time::timeout_at(until.into(), applied).await;
            let applied = *changes.borrow();
            record::encode(GATHER_VERSION, &VisibleReply { applied })
                .map(Bytes::from)
                .map_err(|error| Declined(error.to_string()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_paused_member_costs_the_wait_once() {
        let visible = Visible::default();
        let members = || vec![NodeId(1), NodeId(2)];
        let asked = AtomicUsize::new(0);
        let ask = |node: NodeId| {
            asked.fetch_add(1, Ordering::Relaxed);
            async move {
                if node == NodeId(2) {
                    std::future::pending::<()>().await;
                }
                Seen::Answered
            }
        };
        let since = Instant::now();
        assert_eq!(visible.settle(members(), ask).await, 1);
        assert!(since.elapsed() >= WAIT);
        let since = Instant::now();
        for _ in 0..10 {
            assert_eq!(visible.settle(members(), ask).await, 0);
        }
        assert!(since.elapsed() < WAIT);
        assert_eq!(asked.load(Ordering::Relaxed), 12);
        assert_eq!(visible.settle(Vec::new(), ask).await, 0);
    }

    #[test]
    fn only_who_took_the_time_is_late() {
        let node = NodeId(1);
        let applied = |applied| {
            let bytes = record::encode(GATHER_VERSION, &VisibleReply { applied }).unwrap();
            Ok(Bytes::from(bytes))
        };
        let late = |answer| matches!(seen(answer, 7), Seen::Late);
        assert!(late(applied(6)) && late(Err(CallError::Deadline(node))));
        assert!(!late(applied(7)) && !late(applied(8)));
        assert!(!late(Err(CallError::NotSent(node))) && !late(Err(CallError::Busy(node))));
        assert!(!late(Ok(Bytes::from_static(b"?"))));
    }
}

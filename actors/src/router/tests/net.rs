//! The mesh's place: links between nodes of one process, which fail on demand.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use orama_cluster::{CallError, Handler, Incoming, Lane, Service};
use orama_proto::NodeId;
use parking_lot::Mutex;

use super::Node;
use crate::router::peers::{Linked, Peers};
use crate::runtime::BoxFuture;

/// How a link fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// The request is not written.
    NotSent,
    /// The peer takes no more calls.
    Busy,
    /// The handler declines.
    Declined,
    /// The request is handled, its answer is lost.
    Lost,
    /// The request is handled, its answer comes too late.
    Deadline,
    /// It is over the lane's limit.
    TooLarge,
}

#[derive(Default)]
pub(super) struct End {
    pub(super) name: String,
    pub(super) handlers: HashMap<u8, Arc<dyn Handler>>,
    pub(super) fault: Option<Fault>,
    pub(super) active: bool,
}

/// All nodes and the links between them.
#[derive(Clone, Default)]
pub(super) struct Net(pub(super) Arc<Mutex<HashMap<NodeId, End>>>);

impl Net {
    pub(super) fn fail(&self, to: &Node, fault: Fault) {
        self.0.lock().get_mut(&to.id).unwrap().fault = Some(fault);
    }
    pub(super) fn set_active(&self, node: &Node, active: bool) {
        self.0.lock().get_mut(&node.id).unwrap().active = active;
    }
    pub(super) async fn call(
        &self,
        from: NodeId,
        to: NodeId,
        service: Service,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let (handler, fault) = {
            let ends = self.0.lock();
            let end = ends.get(&to).ok_or(CallError::NotSent(to))?;
            let handler = end.handlers.get(&(service as u8)).cloned();
            // Load reports always pass, so that the peer stays eligible.
            let fault = end.fault.filter(|_| service == Service::Invoke);
            (handler.ok_or(CallError::Busy(to))?, fault)
        };
        let incoming = Incoming {
            from,
            deadline,
            body,
        };
        let why = "it declines".to_owned();
        match fault {
            None => {}
            Some(Fault::NotSent) => return Err(CallError::NotSent(to)),
            Some(Fault::Busy) => return Err(CallError::Busy(to)),
            Some(Fault::Declined) => return Err(CallError::Declined { node: to, why }),
            Some(Fault::TooLarge) => return Err(CallError::TooLarge { bytes: 2, limit: 1 }),
            Some(fault @ (Fault::Lost | Fault::Deadline)) => {
                tokio::spawn(handler.call(incoming));
                return Err(match fault {
                    Fault::Lost => CallError::Lost(to),
                    _ => CallError::Deadline(to),
                });
            }
        }
        match tokio::time::timeout_at(deadline.into(), handler.call(incoming)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(declined)) => Err(CallError::Declined {
                node: to,
                why: declined.0,
            }),
            Err(_) => Err(CallError::Deadline(to)),
        }
    }
}

pub(super) struct FakePeers {
    pub(super) net: Net,
    pub(super) own: NodeId,
}

impl Peers for FakePeers {
    fn linked(&self) -> Vec<Linked> {
        let ends = self.net.0.lock();
        let others = ends.iter().filter(|(id, _)| **id != self.own);
        others
            .map(|(id, end)| Linked {
                id: *id,
                name: end.name.clone(),
                active: end.active,
            })
            .collect()
    }
    fn active(&self) -> bool {
        self.net.0.lock()[&self.own].active
    }
    fn call(
        &self,
        to: NodeId,
        _: Lane,
        service: Service,
        body: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Bytes, CallError>> {
        Box::pin(self.net.call(self.own, to, service, body, deadline))
    }
    fn serve(&self, service: Service, handler: Arc<dyn Handler>) {
        let mut ends = self.net.0.lock();
        let handlers = &mut ends.get_mut(&self.own).unwrap().handlers;
        handlers.insert(service as u8, handler);
    }
}

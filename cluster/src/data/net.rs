//! Registers over the mesh: a node without a replica asks one that has one.

use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use orama_proto::{GroupId, NodeId, record};
use serde::{Deserialize, Serialize};

use super::{DataError, DataGroups, Expect, Inner};
use crate::mesh::{BoxFuture, CallError, Declined, Handler, Incoming, Lane, Service};

/// Version of [`Ask`] and [`Answer`].
const WIRE_VERSION: u8 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Ask {
    Get {
        group: GroupId,
        key: String,
    },
    Set {
        group: GroupId,
        key: String,
        value: String,
        expect: Expect,
    },
}

impl Ask {
    pub(super) fn group(&self) -> GroupId {
        match self {
            Self::Get { group, .. } | Self::Set { group, .. } => *group,
        }
    }
    fn is_write(&self) -> bool {
        matches!(self, Self::Set { .. })
    }
}

/// An outcome on the wire. What leaves everything as it was and may succeed on
/// another replica is declined instead.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Answer {
    Value(Option<String>),
    Done,
    Differs(Option<String>),
    Registers,
    Unknown,
    Full,
}

/// Answers calls of [`Service::Data`].
pub(super) struct Desk(pub(super) Weak<Inner>);

impl Handler for Desk {
    fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Declined>> {
        let inner = self.0.upgrade();
        Box::pin(async move {
            let declined = |why: &dyn std::fmt::Display| Declined(why.to_string());
            let groups = DataGroups(inner.ok_or_else(|| declined(&"the node stops"))?);
            let ask: Ask =
                record::decode(WIRE_VERSION, &incoming.body).map_err(|e| declined(&e))?;
            if groups.replica(ask.group()).is_none() {
                return Err(declined(&"no replica here"));
            }
            // A write goes on when the caller is gone: half of it would be no outcome.
            let deadline = incoming.deadline;
            let write = ask.is_write();
            let work = async move { groups.local(&ask, deadline).await };
            let outcome = match tokio::spawn(work).await {
                Ok(outcome) => outcome,
                Err(_) if write => Err(DataError::Unknown(GroupId::META)),
                Err(error) => return Err(declined(&error)),
            };
            let answer = match outcome {
                Ok(Done::Value(value)) => Answer::Value(value),
                Ok(Done::Set) => Answer::Done,
                Err(DataError::Differs(value)) => Answer::Differs(value),
                Err(DataError::Limit { .. }) => Answer::Registers,
                Err(DataError::Unknown(_)) => Answer::Unknown,
                Err(DataError::Full(_)) => Answer::Full,
                // It may have been proposed before.
                Err(DataError::Stopped { .. }) if write => Answer::Unknown,
                Err(error) => return Err(declined(&error)),
            };
            let bytes = record::encode(WIRE_VERSION, &answer).map_err(|e| declined(&e))?;
            Ok(Bytes::from(bytes))
        })
    }
}

/// What was asked for.
#[derive(Debug)]
pub(super) enum Done {
    Value(Option<String>),
    Set,
}

impl DataGroups {
    /// Asks one replica after the other, until one answers. A write that may
    /// have been handled is not sent again.
    pub(super) async fn remote(&self, ask: &Ask, deadline: Instant) -> Result<Done, DataError> {
        let group = ask.group();
        let Some(mesh) = &self.0.mesh else {
            return Err(DataError::Unavailable(group));
        };
        let body = record::encode(WIRE_VERSION, ask).map_err(|e| DataError::Stopped {
            group,
            why: e.to_string(),
        })?;
        let body = Bytes::from(body);
        for node in self.others_with(group) {
            let answer = mesh
                .call(node, Lane::Calls, Service::Data, body.clone(), deadline)
                .await;
            match answer {
                Ok(bytes) => return outcome(&bytes, group, node),
                Err(error) if error.maybe_handled() && ask.is_write() => {
                    return Err(DataError::Unknown(group));
                }
                Err(CallError::Deadline(_)) => return Err(DataError::Unavailable(group)),
                Err(error) => {
                    tracing::debug!(%group, %node, %error, "asking another replica");
                }
            }
        }
        Err(DataError::Unavailable(group))
    }

    /// Linked nodes that are to hold a replica; where one begins differs from
    /// call to call, so that no replica gets all the questions.
    fn others_with(&self, group: GroupId) -> Vec<NodeId> {
        let topology = self.0.meta.topology();
        let replicas = topology.groups.get(&group).map(|p| p.replicas.clone());
        let mut nodes = replicas.unwrap_or_default();
        nodes.retain(|n| *n != self.0.node && self.0.mesh.as_ref().is_some_and(|m| m.linked(*n)));
        if !nodes.is_empty() {
            let turn = self
                .0
                .turn
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let at = turn % nodes.len();
            nodes.rotate_left(at);
        }
        nodes
    }

    pub(super) fn serve(inner: &Arc<Inner>) {
        if let Some(mesh) = &inner.mesh {
            mesh.serve(Service::Data, Arc::new(Desk(Arc::downgrade(inner))));
        }
    }
}

fn outcome(bytes: &[u8], group: GroupId, node: NodeId) -> Result<Done, DataError> {
    let answer: Answer = record::decode(WIRE_VERSION, bytes).map_err(|error| {
        tracing::warn!(%group, %node, %error, "an answer that is not understood");
        DataError::Unknown(group)
    })?;
    match answer {
        Answer::Value(value) => Ok(Done::Value(value)),
        Answer::Done => Ok(Done::Set),
        Answer::Differs(value) => Err(DataError::Differs(value)),
        Answer::Registers => Err(super::too_many()),
        Answer::Unknown => Err(DataError::Unknown(group)),
        Answer::Full => Err(DataError::Full(group)),
    }
}

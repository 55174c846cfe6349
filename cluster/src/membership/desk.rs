//! Answers what other nodes ask about membership.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use orama_proto::{NodeId, limits};
use parking_lot::Mutex;

use super::core::Core;
use super::form::Fresh;
use super::wire::{self, Answer, Ask, Known, Phase, Standing};
use super::{join, status};
use crate::mesh::{BoxFuture, Declined, Handler, Incoming, Mesh};

/// How long the leader may take to confirm that a caller is no member.
const CONFIRM_WITHIN: Duration = Duration::from_secs(1);

/// How far this node is.
pub(super) enum State {
    Starting,
    Fresh(Fresh),
    Joining,
    /// Weak: the mesh holds the desk, and the core holds the mesh.
    Member(Weak<Core>),
}

/// The handler of `Service::Membership`.
pub(super) struct Desk {
    node: NodeId,
    mesh: Mesh,
    state: Mutex<State>,
}

impl Desk {
    pub(super) fn new(mesh: &Mesh) -> Arc<Self> {
        Arc::new(Self {
            node: mesh.node_id(),
            mesh: mesh.clone(),
            state: Mutex::new(State::Starting),
        })
    }

    pub(super) fn set(&self, state: State) {
        *self.state.lock() = state;
    }

    /// Lets go of the mesh's other users.
    pub(super) fn close(&self) {
        self.set(State::Starting);
    }

    /// Whether this node may back `candidate`; see [`Fresh::agree`].
    pub(super) fn agree(&self, candidate: NodeId, expect: u32) -> Result<(), String> {
        let peers = self.mesh.peers();
        if let Some(member) = peers.iter().find(|p| p.cluster.is_some()) {
            return Err(format!("{} belongs to a cluster already", member.name));
        }
        let fresh: Vec<NodeId> = peers.iter().map(|p| p.id).chain([self.node]).collect();
        match &mut *self.state.lock() {
            State::Fresh(state) => state.agree(candidate, expect, &fresh, Instant::now()),
            _ => Err("this node is not new".into()),
        }
    }

    fn linked(&self) -> Vec<Known> {
        let peers = self.mesh.peers();
        peers
            .into_iter()
            .take(limits::MEMBERS_MAX)
            .map(|peer| Known {
                node: peer.id,
                addresses: peer.addresses,
            })
            .collect()
    }

    fn core(&self) -> Option<Arc<Core>> {
        match &*self.state.lock() {
            State::Member(core) => core.upgrade(),
            _ => None,
        }
    }

    fn phase(&self) -> Phase {
        match &*self.state.lock() {
            State::Starting => Phase::Starting,
            State::Fresh(_) => Phase::Fresh,
            State::Joining => Phase::Joining,
            State::Member(core) => core
                .upgrade()
                .and_then(|core| core.meta.topology().cluster)
                .map_or(Phase::Joining, Phase::Member),
        }
    }

    async fn answer(&self, from: NodeId, ask: Ask) -> Result<Answer, String> {
        let core = self.core();
        match (ask, core) {
            (Ask::Probe { known }, core) => Ok(self.probe(from, known, core).await),
            (Ask::Agree { expect }, _) => Ok(match self.agree(from, expect) {
                Ok(()) => Answer::Done,
                Err(why) => Answer::Later(why),
            }),
            (_, None) => Err("this node is no member of a cluster yet".into()),
            (Ask::Join { member, pristine }, Some(core)) => {
                // The caller may go; what was begun for it is finished.
                let work = async move { join::admit(&core, from, member, pristine).await };
                tokio::spawn(work).await.map_err(|e| e.to_string())
            }
            (Ask::Views, Some(core)) => Ok(Answer::Views(status::own_views(&core))),
            (Ask::Lead { group, to }, Some(core)) => {
                match super::replicas::hand_over(&core, group, to).await {
                    Ok(()) => Ok(Answer::Done),
                    Err(why) => Ok(Answer::Later(why)),
                }
            }
        }
    }

    async fn probe(&self, from: NodeId, known: Vec<Known>, core: Option<Arc<Core>>) -> Answer {
        let phase = self.phase();
        let Some(core) = core else {
            return Answer::Probe {
                phase,
                standing: Standing::Unknown,
                // New nodes may share one seed only: through it they find each other.
                known: self.linked(),
            };
        };
        core.learn(known);
        let knows = || core.meta.topology().nodes.contains_key(&from);
        let standing = if knows() {
            Standing::Member
        } else {
            let deadline = Instant::now() + CONFIRM_WITHIN;
            // It may have been let in a moment ago.
            match core.meta.confirm(deadline).await {
                _ if knows() => Standing::Member,
                Ok(()) if core.is_complete() => Standing::Stranger,
                _ => Standing::Unknown,
            }
        };
        Answer::Probe {
            phase,
            standing,
            known: core.known(),
        }
    }
}

/// What the mesh is given; the desk itself outlives each call.
pub(super) struct Door(pub(super) Arc<Desk>);

impl Handler for Door {
    fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Declined>> {
        let desk = Arc::clone(&self.0);
        Box::pin(async move {
            let ask: Ask = wire::decode(&incoming.body).map_err(Declined)?;
            let answer = desk.answer(incoming.from, ask).await.map_err(Declined)?;
            wire::encode(&answer).map_err(Declined)
        })
    }
}

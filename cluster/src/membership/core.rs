//! What every part of membership works with.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use orama_proto::command::{MetaCommand, MetaReply};
use orama_proto::topology::{Member, NodeState, Placement, Topology};
use orama_proto::{GroupId, NodeId, RequestId};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ClusterOptions;
use super::metrics::Metrics;
use super::quorum::odd;
use super::wire::{self, Answer, Ask, Known};
use crate::consensus::{Group, Groups};
use crate::data::DataGroups;
use crate::mesh::{Lane, Mesh, Service};
use crate::meta::{MetaStore, ProposeError};

/// How long one proposal of membership's own may take.
pub(super) const PROPOSE_WITHIN: Duration = Duration::from_secs(10);

/// A peer did not answer a question.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAnswer(pub(super) String);

/// This node's part in the cluster.
pub(super) struct Core {
    pub(super) node: NodeId,
    pub(super) options: ClusterOptions,
    pub(super) groups: Groups,
    pub(super) meta: MetaStore,
    pub(super) meta_group: Group,
    pub(super) data: DataGroups,
    pub(super) mesh: Option<Mesh>,
    pub(super) metrics: Metrics,
    pub(super) removed: watch::Sender<bool>,
    pub(super) stop: watch::Sender<bool>,
    /// The topology named this node at some time.
    pub(super) was_member: AtomicBool,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Addresses that peers told of; at most one entry per member.
    book: Mutex<BTreeMap<NodeId, Vec<String>>>,
    /// When each member was last reached, or first heard of.
    contact: Mutex<BTreeMap<NodeId, Instant>>,
}

impl Core {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        node: NodeId,
        options: ClusterOptions,
        groups: Groups,
        meta: MetaStore,
        meta_group: Group,
        data: DataGroups,
        mesh: Option<Mesh>,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            node,
            options,
            groups,
            meta,
            meta_group,
            data,
            mesh,
            metrics,
            removed: watch::Sender::new(false),
            stop: watch::Sender::new(false),
            was_member: AtomicBool::new(false),
            tasks: Mutex::default(),
            book: Mutex::default(),
            contact: Mutex::default(),
        })
    }

    /// Runs a task that ends when the node stops; what it waits for is dropped then.
    pub(super) fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let mut stop = self.stop.subscribe();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = work => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
        self.tasks.lock().push(task);
    }

    /// Ends the tasks.
    pub(super) async fn stop_tasks(&self) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            // A panic was reported where it happened.
            let _ = task.await;
        }
    }

    /// The addresses this node tells others.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.mesh.as_ref().map(Mesh::addresses).unwrap_or_default()
    }

    /// This node's record as it should be.
    pub(super) fn member(&self) -> Member {
        Member {
            id: self.node,
            name: self.options.name.clone(),
            addresses: self.addresses(),
            version: self.options.version.clone(),
            state: NodeState::Active,
            joined_at: orama_proto::Timestamp::now(),
        }
    }

    /// Members that can be reached now, this node among them.
    pub(super) fn linked(&self, topology: &Topology) -> BTreeSet<NodeId> {
        let mut linked = BTreeSet::from([self.node]);
        if let Some(mesh) = &self.mesh {
            linked.extend(mesh.peers().into_iter().map(|p| p.id));
            linked.retain(|n| *n == self.node || topology.nodes.contains_key(n));
        }
        linked
    }

    /// Notes who can be reached.
    pub(super) fn note_contact(&self, topology: &Topology) {
        let (now, linked) = (Instant::now(), self.linked(topology));
        let mut contact = self.contact.lock();
        contact.retain(|n, _| topology.nodes.contains_key(n));
        for node in topology.nodes.keys() {
            let seen = contact.entry(*node).or_insert(now);
            if linked.contains(node) {
                *seen = now;
            }
        }
    }

    /// For how long a member could not be reached.
    pub(super) fn silent_for(&self, node: NodeId) -> Duration {
        let contact = self.contact.lock();
        contact.get(&node).map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Members that could not be reached for long enough to be replaced, as far
    /// as was watched since then.
    pub(super) fn gone(&self, topology: &Topology, since: Option<Instant>) -> BTreeSet<NodeId> {
        let after = self.options.replace_after;
        if since.is_some_and(|since| since.elapsed() < after) {
            return BTreeSet::new();
        }
        let linked = self.linked(topology);
        let nodes = topology.nodes.keys().copied();
        nodes
            .filter(|n| !linked.contains(n) && self.silent_for(*n) >= after)
            .collect()
    }

    /// Takes addresses that a peer told of.
    pub(super) fn learn(&self, known: Vec<Known>) {
        let topology = self.meta.topology();
        let mut book = self.book.lock();
        for known in known.into_iter().take(orama_proto::limits::MEMBERS_MAX) {
            let member = topology.nodes.contains_key(&known.node) || topology.nodes.is_empty();
            if member && known.node != self.node && known.is_sound() && !known.addresses.is_empty()
            {
                book.insert(known.node, known.addresses);
            }
        }
        if book.len() > orama_proto::limits::MEMBERS_MAX {
            book.retain(|n, _| topology.nodes.contains_key(n));
        }
    }

    /// Where a member may be: what it says itself, what others said, what is recorded.
    pub(super) fn addresses_of(&self, member: &Member) -> Vec<String> {
        let told = self.book.lock().get(&member.id).cloned();
        let mut addresses = told.unwrap_or_default();
        for address in &member.addresses {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses.truncate(2 * orama_proto::limits::ADDRESSES_PER_MEMBER);
        addresses
    }

    /// What this node knows first hand: itself and those it is linked with.
    pub(super) fn known(&self) -> Vec<Known> {
        let mut known = vec![Known {
            node: self.node,
            addresses: self.addresses(),
        }];
        if let Some(mesh) = &self.mesh {
            known.extend(mesh.peers().into_iter().map(|p| Known {
                node: p.id,
                addresses: p.addresses,
            }));
        }
        known.retain(Known::is_sound);
        known.truncate(orama_proto::limits::MEMBERS_MAX);
        known
    }

    /// Asks a peer.
    pub(super) async fn ask(
        &self,
        node: NodeId,
        ask: &Ask,
        within: Duration,
    ) -> Result<Answer, NoAnswer> {
        match &self.mesh {
            Some(mesh) => self::ask(mesh, node, ask, within).await,
            None => Err(NoAnswer("this node has no links".into())),
        }
    }

    /// Makes a change of membership's own.
    pub(super) async fn propose(&self, command: MetaCommand) -> Result<MetaReply, ProposeError> {
        let id = RequestId::random();
        let proposal = self.meta.propose(&id, command);
        tokio::time::timeout(PROPOSE_WITHIN, proposal)
            .await
            .unwrap_or_else(|_| Err(ProposeError::Unknown("no answer in time".into())))
    }

    /// Writes a placement that was decided on this topology.
    pub(super) async fn place(
        &self,
        group: GroupId,
        placement: Placement,
        epoch: u64,
    ) -> Result<MetaReply, ProposeError> {
        self.propose(MetaCommand::PlaceGroup {
            group,
            placement,
            epoch,
        })
        .await
    }

    /// Voters that a cluster has before anything is acknowledged in it.
    pub(super) fn voters_at_first(&self) -> usize {
        usize::try_from(self.meta.topology().first_voters).unwrap_or(usize::MAX)
    }

    /// The same for a cluster that this node forms.
    pub(super) fn expected_voters(&self) -> u32 {
        let expect = self
            .options
            .links
            .as_ref()
            .map_or(1, |l| l.bootstrap_expect);
        let expect = usize::try_from(expect).unwrap_or(usize::MAX);
        let voters = odd(expect.max(1).min(self.options.voters_max.max(1)));
        u32::try_from(voters).unwrap_or(u32::MAX)
    }

    /// Whether a cluster that is being formed has come so far that it may be
    /// used: its data groups are placed. That is done when the voters it waits
    /// for are there, and it lasts.
    pub(super) fn is_complete(&self) -> bool {
        let topology = self.meta.topology();
        topology.cluster.is_some()
            && (!topology.groups.is_empty()
                || (topology.data_groups == 0
                    && self.meta_group.view().voters.len() >= self.voters_at_first()))
    }

    /// Notes whether the topology names this node: it was removed when it did once and does no more.
    pub(super) fn watch_standing(&self, topology: &Topology) {
        if topology.nodes.contains_key(&self.node) {
            self.was_member.store(true, Ordering::Relaxed);
        } else if topology.cluster.is_some() && self.was_member.load(Ordering::Relaxed) {
            self.mark_removed();
        }
    }

    /// The cluster does not know this node any more.
    pub(super) fn mark_removed(&self) {
        let told = self.removed.send_if_modified(|removed| {
            let first = !*removed;
            *removed = true;
            first
        });
        if told {
            tracing::warn!(node = %self.node, "this node was removed from the cluster");
        }
    }
}

/// Asks a peer about membership.
pub(super) async fn ask(
    mesh: &Mesh,
    node: NodeId,
    ask: &Ask,
    within: Duration,
) -> Result<Answer, NoAnswer> {
    let body = wire::encode(ask).map_err(NoAnswer)?;
    let deadline = Instant::now() + within;
    let answer = mesh
        .call(node, Lane::Calls, Service::Membership, body, deadline)
        .await
        .map_err(|e| NoAnswer(e.to_string()))?;
    wire::decode(&answer).map_err(NoAnswer)
}

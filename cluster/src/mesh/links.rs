//! All links of this node, and which of them calls to a node go out on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use libp2p::swarm::ConnectionId;
use orama_proto::NodeId;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::Peer;
use super::link::Link;
use super::metrics::Metrics;

pub(super) struct Links {
    table: RwLock<Table>,
    changes: watch::Sender<u64>,
    metrics: Metrics,
    order: AtomicU64,
}

#[derive(Default)]
struct Table {
    /// Every connection, introduced or not.
    all: HashMap<ConnectionId, Arc<Link>>,
    /// Introduced ones, the newest last.
    linked: HashMap<NodeId, Vec<Arc<Link>>>,
}

impl Links {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            table: RwLock::default(),
            changes: watch::Sender::new(0),
            metrics,
            order: AtomicU64::new(0),
        }
    }

    /// The place of a new connection in the order of all.
    pub(super) fn next_order(&self) -> u64 {
        self.order.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a new connection. Answers the oldest ones of its node that are
    /// more than `most` with it; they are to end.
    pub(super) fn insert(&self, link: Arc<Link>, most: usize) -> Vec<Arc<Link>> {
        let mut table = self.table.write();
        let node = link.node;
        table.all.insert(link.connection, link);
        let mut same: Vec<Arc<Link>> = table
            .all
            .values()
            .filter(|other| other.node == node)
            .cloned()
            .collect();
        same.sort_by_key(|link| link.order);
        same.truncate(same.len().saturating_sub(most));
        same
    }

    /// A connection is introduced: calls may use it.
    pub(super) fn introduce(&self, link: Arc<Link>) {
        {
            let mut table = self.table.write();
            if !table.all.contains_key(&link.connection) {
                return;
            }
            let same = table.linked.entry(link.node).or_default();
            same.push(link);
            self.metrics.links(table.linked.len());
        }
        self.changed();
    }

    /// A connection has ended. Answers whether it was introduced and the last one of its node.
    pub(super) fn remove(&self, link: &Link) -> bool {
        let last = {
            let mut table = self.table.write();
            table.all.remove(&link.connection);
            let Some(same) = table.linked.get_mut(&link.node) else {
                return false;
            };
            let had = same.len();
            same.retain(|other| other.connection != link.connection);
            if same.len() == had {
                return false;
            }
            let last = same.is_empty();
            if last {
                table.linked.remove(&link.node);
                self.metrics.links(table.linked.len());
            }
            last
        };
        self.changed();
        last
    }

    /// What is known about peers has changed.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn by_connection(&self, connection: ConnectionId) -> Option<Arc<Link>> {
        self.table.read().all.get(&connection).cloned()
    }

    /// The link for a new call: the newest, unless it is to end.
    pub(super) fn best(&self, node: NodeId) -> Option<Arc<Link>> {
        let table = self.table.read();
        let same = table.linked.get(&node)?;
        let usable = || same.iter().rev().filter(|link| !link.has_ended());
        usable()
            .find(|link| !link.is_retired())
            .or_else(|| usable().next())
            .cloned()
    }

    pub(super) fn is_linked(&self, node: NodeId) -> bool {
        self.best(node).is_some()
    }

    /// Every connection of a node, or of all.
    pub(super) fn of(&self, node: Option<NodeId>) -> Vec<Arc<Link>> {
        let table = self.table.read();
        let all = table.all.values();
        all.filter(|link| node.is_none_or(|node| link.node == node))
            .cloned()
            .collect()
    }

    pub(super) fn peer(&self, node: NodeId) -> Option<Peer> {
        self.best(node)?.peer()
    }

    pub(super) fn peers(&self) -> Vec<Peer> {
        let mut nodes: Vec<NodeId> = self.table.read().linked.keys().copied().collect();
        nodes.sort();
        nodes.into_iter().filter_map(|id| self.peer(id)).collect()
    }
}

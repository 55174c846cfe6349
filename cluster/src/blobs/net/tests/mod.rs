//! Several nodes' blobs in one process: real stores, calls by hand.

mod fetching;
mod spreading;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use orama_proto::blob::{BLOB_VERSION, BlobReply, BlobRequest};
use orama_proto::{ContentId, NodeId, record};
use parking_lot::Mutex;
use prometheus::Registry;

use super::peers::Peers;
use super::*;
use crate::mesh::{BoxFuture, CallError, Declined, Handler, Incoming, Lane};

/// What a call meets on its way, instead of the peer.
pub(super) enum Fault {
    None,
    Busy,
    Lost,
    /// No answer until the deadline.
    Silent,
}

type Weather = Box<dyn FnMut(NodeId, &BlobRequest) -> Fault + Send>;

/// The nodes and the wires between them.
#[derive(Default)]
pub(super) struct Town {
    handlers: Mutex<BTreeMap<NodeId, Arc<dyn Handler>>>,
    voters: Mutex<Vec<NodeId>>,
    unlinked: Mutex<BTreeSet<NodeId>>,
    weather: Mutex<Option<Weather>>,
    /// Every call that was made: from, to, what.
    pub(super) calls: Mutex<Vec<(NodeId, NodeId, BlobRequest)>>,
}

impl Town {
    pub(super) fn weather(
        &self,
        weather: impl FnMut(NodeId, &BlobRequest) -> Fault + Send + 'static,
    ) {
        *self.weather.lock() = Some(Box::new(weather));
    }
    pub(super) fn vote(&self, voters: &[u64]) {
        *self.voters.lock() = voters.iter().map(|n| NodeId(*n)).collect();
    }
    pub(super) fn cut(&self, node: u64) {
        self.unlinked.lock().insert(NodeId(node));
    }
    pub(super) fn mend(&self, node: u64) {
        self.unlinked.lock().remove(&NodeId(node));
    }
    pub(super) fn reads(&self) -> Vec<(u64, u64)> {
        let calls = self.calls.lock();
        let reads = calls.iter().filter_map(|(_, to, request)| match request {
            BlobRequest::Read { offset, .. } => Some((to.0, *offset)),
            _ => None,
        });
        reads.collect()
    }
    pub(super) fn count(&self, wanted: impl Fn(&BlobRequest) -> bool) -> usize {
        self.calls
            .lock()
            .iter()
            .filter(|(_, _, r)| wanted(r))
            .count()
    }
}

/// The town as one node sees it.
struct View {
    me: NodeId,
    town: Arc<Town>,
}

impl Peers for View {
    fn me(&self) -> NodeId {
        self.me
    }
    fn linked(&self) -> Vec<NodeId> {
        let cut = self.town.unlinked.lock();
        let all = self.town.handlers.lock();
        all.keys()
            .copied()
            .filter(|n| *n != self.me && !cut.contains(n))
            .collect()
    }
    fn voters(&self) -> Vec<NodeId> {
        self.town.voters.lock().clone()
    }
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        body: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let request: BlobRequest = record::decode(BLOB_VERSION, &body).unwrap();
        let bulk = matches!(request, BlobRequest::Read { .. });
        assert_eq!(lane == Lane::Bulk, bulk);
        let fault = match &mut *self.town.weather.lock() {
            Some(weather) => weather(to, &request),
            None => Fault::None,
        };
        let linked = self.linked().contains(&to);
        let handler = self.town.handlers.lock().get(&to).cloned();
        self.town.calls.lock().push((self.me, to, request));
        let from = self.me;
        Box::pin(async move {
            match fault {
                Fault::Busy => return Err(CallError::Busy(to)),
                Fault::Lost => return Err(CallError::Lost(to)),
                Fault::Silent => {
                    tokio::time::sleep_until(deadline.into()).await;
                    return Err(CallError::Deadline(to));
                }
                Fault::None => {}
            }
            let Some(handler) = handler.filter(|_| linked) else {
                return Err(CallError::NotSent(to));
            };
            let incoming = Incoming {
                from,
                deadline,
                body,
            };
            let answer = tokio::time::timeout_at(deadline.into(), handler.call(incoming)).await;
            let answer = answer.map_err(|_| CallError::Deadline(to))?;
            let answer = answer.map_err(|Declined(why)| CallError::Declined { node: to, why })?;
            assert!(answer.len() <= lane.frame_max());
            Ok(answer)
        })
    }
}

/// A node of the town.
pub(super) struct Node {
    pub(super) dir: tempfile::TempDir,
    pub(super) net: BlobNet,
    registry: Registry,
}

impl Node {
    pub(super) fn new(town: &Arc<Town>, id: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new();
        let store = BlobStore::open(dir.path(), &registry).unwrap();
        let peers = View {
            me: NodeId(id),
            town: Arc::clone(town),
        };
        let net = BlobNet::with_peers(store, Arc::new(peers), &registry).unwrap();
        let handler = Arc::new(net.handler());
        town.handlers.lock().insert(NodeId(id), handler);
        Self { dir, net, registry }
    }
    pub(super) async fn put(&self, bytes: &[u8]) -> ContentId {
        let bytes = Bytes::copy_from_slice(bytes);
        self.net.store().put(bytes).await.unwrap()
    }
    pub(super) async fn holds(&self, cid: ContentId) -> bool {
        self.net.store().get(cid).await.is_ok()
    }
    pub(super) fn file(&self, cid: ContentId) -> std::path::PathBuf {
        let name = cid.to_string();
        self.dir.path().join(&name[name.len() - 2..]).join(&name)
    }
    pub(super) fn counter(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().filter(|f| f.name() == name);
        family
            .flat_map(|f| f.get_metric())
            .map(|m| m.get_counter().get_value())
            .sum()
    }
}

/// A peer that answers as a test wants it to.
pub(super) struct Liar<F>(pub(super) F);

impl<F: Fn(BlobRequest) -> BlobReply + Send + Sync + 'static> Handler for Liar<F> {
    fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Declined>> {
        let reply = (self.0)(record::decode(BLOB_VERSION, &incoming.body).unwrap());
        let bytes = record::encode(BLOB_VERSION, &reply).unwrap();
        Box::pin(std::future::ready(Ok(bytes.into())))
    }
}

pub(super) fn liar(
    town: &Arc<Town>,
    id: u64,
    answer: impl Fn(BlobRequest) -> BlobReply + Send + Sync + 'static,
) {
    let handler = Arc::new(Liar(answer));
    town.handlers.lock().insert(NodeId(id), handler);
}

/// Bytes that no two chunks share.
pub(super) fn content(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

pub(super) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

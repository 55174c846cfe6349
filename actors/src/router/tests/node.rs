//! A node: a real runtime, workers and journal over a faked mesh.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use orama_cluster::{JournalQuery, JournalStore};
use orama_proto::function::FunctionVersion;
use orama_proto::invocation::InvocationRecord;
use orama_proto::{ApiError, NodeId};
use prometheus::Registry;
use tokio::sync::Semaphore;

use super::fakes::{Disk, Functions, Gate, Services, Shared};
use super::net::{End, FakePeers, Net};
use super::{invoke, until};
use crate::journal::{Journal, JournalOptions};
use crate::platform::{Completed, Invoke};
use crate::router::Router;
use crate::runtime::{Compiler, Runtime, RuntimeOptions};
use crate::worker::{self, Admission, Confirmations, Invoker, Limits, Modules, Workers};

/// A node.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) invoker: Arc<Invoker>,
    pub(super) router: Router,
    pub(super) functions: Arc<Functions>,
    pub(super) gate: Arc<Gate>,
    pub(super) net: Net,
    pub(super) disk: Disk,
    journal: JournalStore,
    _dir: tempfile::TempDir,
}

impl Node {
    /// Starts a node for so many guests.
    pub(super) fn start(net: &Net, number: u64, name: &str, running: usize, disk: &Disk) -> Self {
        Self::with_limits(net, number, name, (running, running), disk)
    }

    /// Starts a node for so many guests, so many of them of one namespace.
    pub(super) fn with_limits(
        net: &Net,
        number: u64,
        name: &str,
        (running, per_namespace): (usize, usize),
        disk: &Disk,
    ) -> Self {
        let (id, registry) = (NodeId(number), Registry::new());
        let end = End {
            name: name.to_owned(),
            active: true,
            ..End::default()
        };
        net.0.lock().insert(id, end);
        let dir = tempfile::tempdir().unwrap();
        let options = RuntimeOptions {
            compiled_dir: dir.path().join("compiled"),
            compiler: Compiler::Here,
            max_instances: 16,
            max_loaded_modules: 16,
        };
        let runtime = Runtime::new(options, &registry).unwrap();
        let store = JournalStore::open(&dir.path().join("journal")).unwrap();
        let thread = actix::Arbiter::new();
        let options = JournalOptions::default();
        let journal = Journal::start(store.clone(), options, thread, &registry).unwrap();
        let metrics = Arc::new(worker::Metrics::register(&registry).unwrap());
        let limits = Limits {
            running,
            per_namespace,
            queued_per_namespace: 16,
            wait: Duration::from_secs(20),
        };
        let gate = Arc::new(Gate {
            waiting: AtomicUsize::new(0),
            open: Semaphore::new(0),
        });
        let peers = Arc::new(FakePeers {
            net: net.clone(),
            own: id,
        });
        let router = Router::with_peers(id, name, Some(peers), &registry).unwrap();
        let functions = Arc::<Functions>::default();
        let invoker = Arc::new(Invoker {
            catalog: Arc::new(Shared(Arc::clone(&functions))),
            confirmations: Confirmations::register(&registry).unwrap(),
            modules: Arc::new(Modules::new(runtime.clone(), disk.clone())),
            runtime,
            admission: Admission::new(limits, Arc::clone(&metrics)),
            workers: Workers::new(),
            journal,
            services: Arc::new(Services(Arc::clone(&gate))),
            metrics,
            router: router.clone(),
        });
        router.start(&invoker).unwrap();
        Self {
            id,
            invoker,
            router,
            functions,
            gate,
            net: net.clone(),
            disk: disk.clone(),
            journal: store,
            _dir: dir,
        }
    }

    /// Knows the version and has its module in memory.
    pub(super) async fn deploy(&self, function: &Arc<FunctionVersion>) {
        self.functions.known.lock().push(Arc::clone(function));
        self.invoker.modules.get(function.wasm_cid).await.unwrap();
    }

    /// Invokes in the background.
    pub(super) fn spawn(
        &self,
        invoke: Invoke,
    ) -> tokio::task::JoinHandle<Result<Completed, ApiError>> {
        let invoker = Arc::clone(&self.invoker);
        actix::spawn(async move { invoker.invoke(invoke).await })
    }

    /// Takes the namespace's places with guests that wait at its gate.
    pub(super) async fn fill(&self, function: &FunctionVersion) {
        let places = self.invoker.admission.limits().per_namespace;
        let before = self.gate.waiting.load(Ordering::SeqCst);
        for _ in 0..places {
            drop(self.spawn(invoke(function)));
        }
        until(|| self.gate.waiting.load(Ordering::SeqCst) == before + places).await;
    }

    /// Waits until this node knows that `other` has so much room.
    pub(super) async fn sees(&self, other: &Self, running: u32) {
        let seen = |(id, load): &(NodeId, orama_proto::load::LoadReport)| {
            *id == other.id && load.running == running
        };
        until(|| self.router.loads().iter().any(seen)).await;
    }

    pub(super) async fn records(&self, function: &FunctionVersion) -> Vec<InvocationRecord> {
        assert!(self.invoker.journal.flush(Duration::from_secs(10)).await);
        let query = JournalQuery {
            namespace: function.namespace.clone(),
            function: function.name.clone(),
            limit: 50,
            after: None,
            request_id: None,
        };
        self.journal.query(&query).unwrap()
    }

    /// No guest runs, and no request is being worked on.
    pub(super) async fn idle(&self) {
        let left = self.invoker.admission.idle(Duration::from_secs(10)).await;
        assert_eq!((left, self.invoker.admission.load()), (0, (0, 0)));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.router.stop();
        self.invoker.journal.stop();
        // The net holds handlers, which hold the node weakly.
        self.net.0.lock().remove(&self.id);
    }
}

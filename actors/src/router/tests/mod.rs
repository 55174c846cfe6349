//! Nodes in one process, without a network: real runtimes, workers and
//! journals, the mesh replaced by one that can be told how to fail.

mod answers;
mod forward;
mod lookup;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use orama_cluster::{
    Answer, BlobError, CallError, Handler, Incoming, JournalQuery, JournalStore, Lane, Service,
    SqlQuery, Written,
};
use orama_proto::function::{FunctionSpec, FunctionStatus, FunctionVersion};
use orama_proto::invocation::{InvocationRecord, Principal, Trigger};
use orama_proto::sql::{ReadOptions, SqlCode, SqlError, SqlOp};
use orama_proto::{
    ApiError, ContentId, FunctionName, Namespace, NodeId, RequestId, SecretName, Timestamp,
};
use parking_lot::Mutex;
use prometheus::Registry;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::Router;
use super::peers::{Linked, Peers};
use crate::journal::{Journal, JournalOptions};
use crate::platform::{Completed, Invoke};
use crate::runtime::{BoxFuture, Compiler, HostServices, Runtime, RuntimeOptions};
use crate::sql::SqlCaller;
use crate::worker::{
    self, Admission, Blobs, Catalog, Confirmations, Invoker, Limits, Modules, Workers,
};

/// Waits at the node's gate, then writes whom it sees as its caller.
pub(super) const GATED: &str = r#"(module
  (import "env" "get_secret" (func $gate (param i32 i32) (result i64)))
  (import "env" "get_caller_wallet" (func $wallet (result i64)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "GATE")
  (func (export "malloc") (param i32) (result i32) (i32.const 8192))
  (func (export "_start") (local $p i64)
    (drop (call $gate (i32.const 1024) (i32.const 4)))
    (local.set $p (call $wallet))
    (i32.store (i32.const 0) (i32.wrap_i64 (i64.shr_u (local.get $p) (i64.const 32))))
    (i32.store (i32.const 4) (i32.wrap_i64 (local.get $p)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

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
struct End {
    name: String,
    handlers: HashMap<u8, Arc<dyn Handler>>,
    fault: Option<Fault>,
    active: bool,
}

/// All nodes and the links between them.
#[derive(Clone, Default)]
pub(super) struct Net(Arc<Mutex<HashMap<NodeId, End>>>);

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

struct FakePeers {
    net: Net,
    own: NodeId,
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

/// What a node knows of functions.
#[derive(Default)]
pub(super) struct Functions {
    pub(super) known: Mutex<Vec<Arc<FunctionVersion>>>,
    /// Acknowledged elsewhere: known once it is confirmed.
    pub(super) later: Mutex<Vec<Arc<FunctionVersion>>>,
    pub(super) no_leader: AtomicBool,
    pub(super) confirms: AtomicUsize,
}

impl Functions {
    fn find(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u64>,
    ) -> Option<Arc<FunctionVersion>> {
        let known = self.known.lock();
        let all = known.iter().filter(|f| {
            f.namespace == *namespace && f.name == *name && version.is_none_or(|v| f.version == v)
        });
        all.max_by_key(|f| f.version).cloned()
    }
}

/// A shared handle, so that the test keeps one.
struct Shared(Arc<Functions>);

impl Catalog for Shared {
    fn resolve(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u64>,
    ) -> Option<Arc<FunctionVersion>> {
        let found = self.0.find(namespace, name, version)?;
        (found.status == FunctionStatus::Active).then_some(found)
    }
    fn exists(&self, namespace: &Namespace, name: &FunctionName, version: Option<u64>) -> bool {
        self.0.find(namespace, name, version).is_some()
    }
    fn confirm(&self, _: Instant) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            self.0.confirms.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            if self.0.no_leader.load(Ordering::SeqCst) {
                return Err("no leader".to_owned());
            }
            let later = std::mem::take(&mut *self.0.later.lock());
            self.0.known.lock().extend(later);
            Ok(())
        })
    }
}

/// Where the guests of a node wait.
pub(super) struct Gate {
    pub(super) waiting: AtomicUsize,
    open: Semaphore,
}

impl Gate {
    pub(super) fn open(&self) {
        self.open.add_permits(1_000);
    }
}

struct Services(Arc<Gate>);

impl HostServices for Services {
    fn secret<'a>(
        &'a self,
        _: &'a Namespace,
        _: &'a SecretName,
    ) -> BoxFuture<'a, Result<Option<Zeroizing<Vec<u8>>>, String>> {
        Box::pin(async move {
            self.0.waiting.fetch_add(1, Ordering::SeqCst);
            self.0.open.acquire().await.unwrap().forget();
            Ok(None)
        })
    }

    fn sql_execute<'a>(
        &'a self,
        _: SqlCaller<'a>,
        _: Vec<SqlOp>,
        _: Instant,
    ) -> BoxFuture<'a, Result<Written, SqlError>> {
        Box::pin(async { Err(SqlError::new(SqlCode::Unavailable, "no databases here")) })
    }

    fn sql_query<'a>(
        &'a self,
        _: SqlCaller<'a>,
        _: Vec<SqlQuery>,
        _: ReadOptions,
        _: Instant,
    ) -> BoxFuture<'a, Result<Answer, SqlError>> {
        Box::pin(async { Err(SqlError::new(SqlCode::Unavailable, "no databases here")) })
    }
}

/// Every module of the test, on every node's disk.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<HashMap<ContentId, Bytes>>>);

impl Blobs for Disk {
    fn ensure(&self, _: ContentId) -> BoxFuture<'_, Result<(), BlobError>> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn get(&self, cid: ContentId) -> BoxFuture<'_, Result<Bytes, BlobError>> {
        let found = self.0.lock().get(&cid).cloned();
        Box::pin(std::future::ready(found.ok_or(BlobError::Missing(cid))))
    }
}

/// A node.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) invoker: Arc<Invoker>,
    pub(super) router: Router,
    pub(super) functions: Arc<Functions>,
    pub(super) gate: Arc<Gate>,
    net: Net,
    disk: Disk,
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

/// Two nodes with one place each that have the function `gated`, version 2.
pub(super) async fn pair() -> (Node, Node, Arc<FunctionVersion>) {
    let (net, disk) = (Net::default(), Disk::default());
    let function = gated(&disk, FunctionSpec::default());
    let a = Node::start(&net, 1, "a", 1, &disk);
    let b = Node::start(&net, 2, "b", 1, &disk);
    a.deploy(&function).await;
    b.deploy(&function).await;
    a.sees(&b, 0).await;
    b.sees(&a, 0).await;
    (a, b, function)
}

pub(super) fn gated(disk: &Disk, spec: FunctionSpec) -> Arc<FunctionVersion> {
    version(disk, GATED, 2, spec)
}

pub(super) fn version(
    disk: &Disk,
    wat: &str,
    number: u64,
    spec: FunctionSpec,
) -> Arc<FunctionVersion> {
    let wasm = Bytes::from(wat::parse_str(wat).unwrap());
    let cid = ContentId::of(&wasm);
    disk.0.lock().insert(cid, wasm);
    Arc::new(FunctionVersion {
        function_id: "f-1".into(),
        namespace: Namespace::parse("tenant").unwrap(),
        name: FunctionName::parse("gated").unwrap(),
        version: number,
        wasm_cid: cid,
        wasm_bytes: 1,
        spec,
        status: FunctionStatus::Active,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
        created_by: String::new(),
        rolled_back_from: None,
    })
}

/// An invocation by a user of the namespace.
pub(super) fn invoke(function: &FunctionVersion) -> Invoke {
    Invoke {
        request_id: RequestId::random(),
        namespace: function.namespace.clone(),
        name: function.name.clone(),
        version: Some(function.version),
        principal: Arc::new(Principal::Jwt {
            namespace: function.namespace.clone(),
            subject: "0xabc".into(),
            claims: [("role".to_owned(), "admin".to_owned())].into(),
        }),
        trigger: Trigger::Http,
        input: Bytes::from_static(b"input"),
        repeatable: false,
    }
}

/// Waits for a condition.
pub(super) async fn until(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    waited.expect("the condition came true");
}

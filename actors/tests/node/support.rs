//! A whole node without HTTP, in a temporary directory, that can be started again.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orama_actors::platform::Logs;
use orama_actors::platform::{Completed, Deploy, Invoke, StartError};
use orama_actors::runtime::Compiler;
use orama_actors::vault::MasterKeys;
use orama_actors::{Platform, PlatformOptions};
use orama_cluster::mesh::ClusterSecrets;
use orama_cluster::{
    BlobStore, Cluster, ClusterOptions, DataDir, JournalQuery, JournalStore, LinkOptions, Seed,
};
use orama_proto::function::{FunctionSpec, FunctionVersion};
use orama_proto::invocation::{InvocationRecord, Principal, Trigger};
use orama_proto::{ApiError, FunctionName, Namespace, RequestId};
use zeroize::Zeroizing;

pub const ADMIN: &str = "operator-token";

/// Runs a test on an actix system whose runtime has several threads, as the node does.
pub fn on_a_system<F: Future<Output = ()>>(test: F) {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    };
    actix::System::with_tokio_rt(runtime).block_on(test);
}

/// Settings that tests change.
#[derive(Clone)]
pub struct Settings {
    pub master_keys: String,
    pub max_running: usize,
    pub per_namespace: usize,
    pub queued: usize,
    pub wait: Duration,
    pub name: String,
    pub links: Option<LinkOptions>,
}

impl Settings {
    /// The same for a node of a cluster that is begun, or joined at the member's address.
    pub fn linked(&self, name: &str, member: Option<&Node>) -> Self {
        let seed = |node: &Node| Seed::Address(node.addresses().remove(0));
        let links = LinkOptions {
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            advertise: Vec::new(),
            secrets: ClusterSecrets::parse("the secret of this test").unwrap(),
            join: member.map(seed).into_iter().collect(),
            bootstrap_expect: u32::from(member.is_none()),
        };
        Self {
            name: name.to_owned(),
            links: Some(links),
            ..self.clone()
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            master_keys: MasterKeys::generate().to_string(),
            max_running: 16,
            per_namespace: 8,
            queued: 64,
            wait: Duration::from_secs(5),
            name: "node".into(),
            links: None,
        }
    }
}

/// A running node.
pub struct Node {
    pub platform: Platform,
    pub dir: DataDir,
    pub registry: prometheus::Registry,
}

impl Node {
    pub async fn start(path: &Path, settings: &Settings) -> Self {
        Self::try_start(path, settings).await.unwrap()
    }

    pub async fn try_start(path: &Path, settings: &Settings) -> Result<Self, StartError> {
        let registry = prometheus::Registry::new();
        let dir = DataDir::open(path).unwrap();
        let options = ClusterOptions {
            name: settings.name.clone(),
            links: settings.links.clone(),
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start(&dir, options, &registry).await.unwrap();
        let blobs = BlobStore::open(&dir.blobs(), &registry).unwrap();
        let journal = JournalStore::open(&dir.journal()).unwrap();
        let options = PlatformOptions {
            compiled_dir: dir.compiled(),
            compiler: Compiler::Here,
            master_keys: MasterKeys::parse(&settings.master_keys).unwrap(),
            admin_token: Zeroizing::new(ADMIN.to_owned()),
            max_running: settings.max_running,
            max_running_per_namespace: settings.per_namespace,
            max_queued_per_namespace: settings.queued,
            max_queue_wait: settings.wait,
            database_max_bytes: orama_proto::limits::DATABASE_MAX_BYTES as u64,
        };
        match Platform::start(options, cluster.clone(), blobs, journal, &registry).await {
            Ok(platform) => Ok(Self {
                platform,
                dir,
                registry,
            }),
            Err(error) => {
                cluster.shutdown().await;
                Err(error)
            }
        }
    }

    /// Stops it so that the directory can be opened again.
    pub async fn stop(self) {
        assert_eq!(self.platform.drain(Duration::from_secs(10)).await, 0);
    }

    pub async fn deploy(
        &self,
        namespace: &str,
        name: &str,
        wat: &str,
        spec: FunctionSpec,
    ) -> FunctionVersion {
        self.try_deploy(namespace, name, wat, spec).await.unwrap()
    }

    pub async fn try_deploy(
        &self,
        namespace: &str,
        name: &str,
        wat: &str,
        spec: FunctionSpec,
    ) -> Result<FunctionVersion, ApiError> {
        let deploy = Deploy {
            namespace: ns(namespace),
            name: function(name),
            spec,
            wasm: Bytes::from(wat::parse_str(wat).unwrap()),
            created_by: namespace.to_owned(),
        };
        self.platform.deploy(&RequestId::random(), deploy).await
    }

    pub fn call(
        &self,
        namespace: &str,
        name: &str,
        principal: Principal,
        input: &[u8],
    ) -> impl Future<Output = Result<Completed, ApiError>> + use<> {
        let invoke = Invoke {
            request_id: RequestId::random(),
            namespace: ns(namespace),
            name: function(name),
            version: None,
            principal: Arc::new(principal),
            trigger: Trigger::Http,
            input: Bytes::copy_from_slice(input),
            repeatable: false,
        };
        let platform = self.platform.clone();
        async move { platform.invoke(invoke).await }
    }

    /// Where its mesh listens.
    pub fn addresses(&self) -> Vec<String> {
        self.platform.cluster().mesh().unwrap().addresses()
    }

    pub async fn logs(&self, namespace: &str, name: &str) -> Vec<InvocationRecord> {
        self.all_logs(namespace, name).await.records
    }

    pub async fn all_logs(&self, namespace: &str, name: &str) -> Logs {
        let query = JournalQuery {
            namespace: ns(namespace),
            function: function(name),
            limit: 50,
            after: None,
            request_id: None,
        };
        self.platform.logs(query).await.unwrap()
    }

    /// The value of a gauge without labels.
    pub fn gauge(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name).unwrap();
        family.get_metric()[0].get_gauge().get_value()
    }

    /// The value of a counter, summed over its labels that contain `label`.
    pub fn counter(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let metrics = families.iter().filter(|f| f.name() == name);
        metrics
            .flat_map(|f| f.get_metric())
            .filter(|m| label.is_empty() || m.get_label().iter().any(|l| l.value() == label))
            .map(|m| m.get_counter().get_value())
            .sum()
    }
}

pub fn ns(text: &str) -> Namespace {
    Namespace::parse(text).unwrap()
}

pub fn function(text: &str) -> FunctionName {
    FunctionName::parse(text).unwrap()
}

/// Copies stdin to stdout.
pub const ECHO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 1024))
    (loop $again
      (i32.store (i32.const 4) (i32.const 4096))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.load (i32.const 8)) (then
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br $again))))))"#;

/// Writes what the host call `IMPORT` answers for stdin's text.
pub fn asking(import: &str) -> String {
    let module = r#"(module
      (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (import "env" "IMPORT" (func $ask (param i32 i32) (result i64)))
      (memory (export "memory") 4)
      (global $next (mut i32) (i32.const 65536))
      (func (export "malloc") (param i32) (result i32)
        (global.get $next)
        (global.set $next (i32.add (global.get $next) (local.get 0))))
      (func (export "_start") (local $answer i64)
        (i32.store (i32.const 0) (i32.const 1024))
        (i32.store (i32.const 4) (i32.const 4096))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (local.set $answer (call $ask (i32.const 1024) (i32.load (i32.const 8))))
        (i32.store (i32.const 0) (i32.wrap_i64 (i64.shr_u (local.get $answer) (i64.const 32))))
        (i32.store (i32.const 4) (i32.wrap_i64 (local.get $answer)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    module.replace("IMPORT", import)
}

/// Never ends by itself.
pub const LOOP: &str = r#"(module (memory (export "memory") 1)
  (func (export "_start") (loop $for_ever (br $for_ever))))"#;

/// Exits with code 3.
pub const EXIT: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const 3))))"#;

/// Logs its input, writes the secret `WHO` and its caller's wallet.
pub const SECRETIVE: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "env" "get_secret" (func $secret (param i32 i32) (result i64)))
  (import "host" "get_caller_wallet" (func $wallet (result i64)))
  (import "orama" "log_info" (func $log (param i32 i32)))
  (memory (export "memory") 4)
  (data (i32.const 512) "WHO")
  (global $next (mut i32) (i32.const 65536))
  (func (export "malloc") (param i32) (result i32)
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get 0))))
  (func $answer (param i64)
    (i32.store (i32.const 0) (i32.wrap_i64 (i64.shr_u (local.get 0) (i64.const 32))))
    (i32.store (i32.const 4) (i32.wrap_i64 (local.get 0)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 4096))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $log (i32.const 1024) (i32.load (i32.const 8)))
    (call $answer (call $secret (i32.const 512) (i32.const 3)))
    (call $answer (call $wallet))))"#;

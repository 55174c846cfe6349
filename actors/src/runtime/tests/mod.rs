//! Whole invocations of small guests written as text.

mod command;
mod database;
mod hostfn;
mod modules;
mod reactor;
mod slices;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use orama_cluster::{Answer, SqlQuery, Written};
use orama_proto::function::{FunctionSpec, FunctionStatus, FunctionVersion};
use orama_proto::invocation::{LogLevel, Principal, Trigger};
use orama_proto::sql::{ReadOptions, SqlCode, SqlError, SqlOp};
use orama_proto::{ContentId, FunctionName, Namespace, RequestId, SecretName, Timestamp};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::sql::SqlCaller;

use super::{
    BoxFuture, Call, Compiler, HostServices, Outcome, PreparedModule, Runtime, RuntimeOptions,
};

/// A runtime on a directory of its own.
pub(crate) struct Node {
    pub(crate) runtime: Runtime,
    pub(crate) registry: prometheus::Registry,
    pub(crate) lane: Arc<Semaphore>,
    dir: Arc<tempfile::TempDir>,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with(Arc::new(tempfile::tempdir().unwrap()), 256, 100)
    }

    pub(crate) fn with(dir: Arc<tempfile::TempDir>, instances: u32, loaded: usize) -> Self {
        let registry = prometheus::Registry::new();
        let options = RuntimeOptions {
            compiled_dir: dir.path().join("compiled"),
            compiler: Compiler::Here,
            max_instances: instances,
            max_loaded_modules: loaded,
        };
        Self {
            runtime: Runtime::new(options, &registry).unwrap(),
            registry,
            lane: Arc::new(Semaphore::new(1)),
            dir,
        }
    }

    /// Another runtime on the same directory, after this one has ended.
    pub(crate) fn restart(self) -> Self {
        let dir = self.dir.clone();
        drop(self);
        Self::with(dir, 256, 100)
    }

    pub(crate) async fn prepare(&self, wat: &str) -> Arc<PreparedModule> {
        let wasm = Bytes::from(wat::parse_str(wat).unwrap());
        self.runtime
            .prepare(ContentId::of(&wasm), wasm)
            .await
            .unwrap()
    }

    pub(crate) fn call(&self, input: &[u8]) -> Call {
        call(input, self.lane.clone())
    }

    /// Prepares and runs with the defaults.
    pub(crate) async fn run(&self, wat: &str, input: &[u8]) -> Outcome {
        let module = self.prepare(wat).await;
        self.runtime.run(&module, self.call(input)).await
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name).unwrap();
        family.get_metric()[0].get_counter().get_value() as u64
    }
}

pub(crate) fn call(input: &[u8], lane: Arc<Semaphore>) -> Call {
    Call {
        request_id: RequestId::from("7f000001-0000-4000-8000-000000000001"),
        function: Arc::new(version(FunctionSpec {
            timeout_seconds: 1,
            env_vars: [("KEY".to_owned(), "värde".to_owned())].into(),
            ..FunctionSpec::default()
        })),
        principal: Arc::new(Principal::Jwt {
            namespace: Namespace::parse("tenant").unwrap(),
            subject: "0xabc".into(),
            claims: [("role".to_owned(), "admin".to_owned())].into(),
        }),
        trigger: Trigger::Http,
        input: Bytes::copy_from_slice(input),
        services: Arc::new(Services),
        slow_lane: lane,
    }
}

pub(crate) fn version(spec: FunctionSpec) -> FunctionVersion {
    FunctionVersion {
        function_id: "id".into(),
        namespace: Namespace::parse("tenant").unwrap(),
        name: FunctionName::parse("echo").unwrap(),
        version: 1,
        wasm_cid: ContentId::of(b""),
        wasm_bytes: 0,
        spec,
        status: FunctionStatus::Active,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
        created_by: String::new(),
        rolled_back_from: None,
    }
}

/// Secrets of the namespace `tenant`.
struct Services;

impl HostServices for Services {
    fn secret<'a>(
        &'a self,
        namespace: &'a Namespace,
        name: &'a SecretName,
    ) -> BoxFuture<'a, Result<Option<Zeroizing<Vec<u8>>>, String>> {
        assert_eq!(namespace.as_str(), "tenant");
        Box::pin(async move {
            match name.as_str() {
                "TOKEN" => Ok(Some(Zeroizing::new(b"s3cret".to_vec()))),
                "SEALED" => Err("the vault is sealed".into()),
                "NEVER" => std::future::pending().await,
                _ => Ok(None),
            }
        })
    }
}

pub(crate) fn lines(outcome: &Outcome, level: LogLevel) -> Vec<&str> {
    outcome
        .logs
        .iter()
        .filter(|line| line.level == level)
        .map(|line| line.message.as_str())
        .collect()
}

/// Copies stdin to stdout.
pub(crate) const ECHO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start")
    (loop $again
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (i32.const 65536))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.load (i32.const 8))
        (then
          (i32.store (i32.const 4) (i32.load (i32.const 8)))
          (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
          (br $again))))))"#;

/// Runs for ever.
pub(crate) const LOOP: &str =
    r#"(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))"#;

/// Sleeps for some milliseconds.
pub(crate) fn sleeper(milliseconds: u64) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const {}))
    (if (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)) (then unreachable))))"#,
        milliseconds * 1_000_000
    )
}

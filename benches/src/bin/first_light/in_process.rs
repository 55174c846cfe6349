//! (b) Instantiate, run and drop, without HTTP.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use bytes::Bytes;
use orama_actors::runtime::{BoxFuture, Call, Compiler, HostServices, Runtime, RuntimeOptions};
use orama_benches::figures::{Latencies, shown};
use orama_proto::function::{FunctionSpec, FunctionStatus, FunctionVersion};
use orama_proto::invocation::{Principal, Trigger};
use orama_proto::{ContentId, FunctionName, Namespace, RequestId, SecretName, Timestamp};
use orama_tests::guests;
use zeroize::Zeroizing;

use crate::BODY;

const CALLS: usize = 50_000;

struct NoServices;

impl HostServices for NoServices {
    fn secret<'a>(
        &'a self,
        _: &'a Namespace,
        _: &'a SecretName,
    ) -> BoxFuture<'a, Result<Option<Zeroizing<Vec<u8>>>, String>> {
        Box::pin(async { Ok(None) })
    }
}

pub(crate) async fn section() -> anyhow::Result<String> {
    let mut text = String::from(
        "## In process: instantiate, run, drop\n\nOne thread, a fresh instance for every call. Target: p50 under 10 µs for the small guest.\n\n| guest | bytes | p50 | p99 | calls per second |\n|---|---|---|---|---|\n",
    );
    let guests = [
        ("WAT echo", guests::echo(), CALLS),
        ("C echo", guests::c("ops"), CALLS),
        ("stock Go echo", guests::go("echo"), CALLS / 25),
    ];
    for (name, wasm, calls) in guests {
        let bytes = wasm.len();
        let latencies = tokio::task::spawn_blocking(move || on_one_thread(wasm, calls)).await??;
        let p50 = latencies.percentile(0.5);
        writeln!(
            text,
            "| {name} | {bytes} | {} | {} | {:.0} |",
            shown(p50),
            shown(latencies.percentile(0.99)),
            1.0 / p50.as_secs_f64()
        )?;
    }
    Ok(text)
}

/// Runs on a runtime of one thread, as a worker of the node does.
fn on_one_thread(wasm: Vec<u8>, calls: usize) -> anyhow::Result<Latencies> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(measure(wasm, calls)))
}

async fn measure(wasm: Vec<u8>, calls: usize) -> anyhow::Result<Latencies> {
    let dir = tempfile::tempdir()?;
    let options = RuntimeOptions {
        compiled_dir: dir.path().to_owned(),
        compiler: Compiler::Here,
        max_instances: 1_000,
        max_loaded_modules: 16,
    };
    let engine = Runtime::new(options, &prometheus::Registry::new())?;
    let cid = ContentId::of(&wasm);
    let module = engine.prepare(cid, Bytes::from(wasm.clone())).await?;
    let now = Timestamp::now();
    let function = Arc::new(FunctionVersion {
        function_id: "bench".into(),
        namespace: Namespace::parse("bench")?,
        name: FunctionName::parse("echo")?,
        version: 1,
        wasm_cid: cid,
        wasm_bytes: wasm.len() as u64,
        spec: FunctionSpec::default(),
        status: FunctionStatus::Active,
        created_at: now,
        updated_at: now,
        created_by: "bench".into(),
        rolled_back_from: None,
    });
    let principal = Arc::new(Principal::Anonymous);
    let services: Arc<dyn HostServices> = Arc::new(NoServices);
    let slow_lane = Arc::new(tokio::sync::Semaphore::new(1));
    let input = Bytes::from_static(BODY);
    let request_id = RequestId::random();
    let mut nanos = Vec::with_capacity(calls);
    for n in 0..calls + calls / 10 {
        let call = Call {
            request_id: request_id.clone(),
            function: function.clone(),
            principal: principal.clone(),
            trigger: Trigger::Http,
            input: input.clone(),
            services: services.clone(),
            slow_lane: slow_lane.clone(),
        };
        let began = Instant::now();
        let outcome = engine.run(&module, call).await;
        let took = began.elapsed();
        let output = outcome.result?;
        ensure!(output == BODY, "the echo answered {output:?}");
        // The first tenth warms the pool.
        if n >= calls / 10 {
            nanos.push(u64::try_from(took.as_nanos())?);
        }
    }
    Ok(Latencies::new(nanos))
}

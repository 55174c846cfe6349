//! The life of an invocation behind the gateway: resolve, authorize, run, answer.

use std::sync::Arc;

use orama_cluster::MetaStore;
use orama_proto::function::FunctionVersion;
use orama_proto::invocation::Principal;
use orama_proto::{ApiError, FunctionName, Namespace};

use super::admission::Admission;
use super::attempt::{Attempts, Failure, Request};
use super::metrics::Metrics;
use super::modules::Modules;
use super::router;
use super::thread::Workers;
use crate::errors;
use crate::journal::Journal;
use crate::platform::{Completed, Invoke};
use crate::runtime::{Call, HostServices, Runtime};

/// Everything an invocation borrows from. Shared by all threads; nothing in
/// it is locked while a guest runs.
pub(crate) struct Invoker {
    pub(crate) meta: MetaStore,
    pub(crate) runtime: Runtime,
    pub(crate) modules: Arc<Modules>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) workers: Workers,
    pub(crate) journal: Journal,
    pub(crate) services: Arc<dyn HostServices>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Invoker {
    /// The version that an invocation means, if the principal may have it.
    ///
    /// # Errors
    /// `NOT_FOUND`, `UNAUTHORIZED`, `FORBIDDEN`.
    pub(crate) fn target(
        &self,
        principal: &Principal,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u64>,
    ) -> Result<Arc<FunctionVersion>, ApiError> {
        let function = router::resolve(&self.meta, namespace, name, version)?;
        router::authorize(
            principal,
            &function.namespace,
            &function.name,
            &function.spec,
        )?;
        Ok(function)
    }

    /// Runs a function on the calling thread, with its retries.
    ///
    /// # Errors
    /// What the client should see.
    pub(crate) async fn invoke(&self, invoke: Invoke) -> Result<Completed, ApiError> {
        let _request = self.admission.begin();
        let function = self.target(
            &invoke.principal,
            &invoke.namespace,
            &invoke.name,
            invoke.version,
        )?;
        let request = Request {
            principal: router::seen_by_guest(&invoke.principal, &function.namespace),
            id: invoke.request_id,
            function,
            trigger: invoke.trigger,
            input_size: invoke.input.len() as u64,
        };
        let worker = self.workers.here();
        let attempts = Attempts {
            request: &request,
            admission: &self.admission,
            metrics: &self.metrics,
            record: &|record| self.journal.record(record),
        };
        let attempt = || async {
            let _busy = worker.busy();
            let function = &request.function;
            let module = self.modules.get(function.wasm_cid).await.map_err(|error| {
                self.metrics.unavailable.inc();
                errors::module_at_invoke(&error, &request.id, function)
            })?;
            let call = Call {
                request_id: request.id.clone(),
                function: Arc::clone(function),
                principal: Arc::clone(&request.principal),
                trigger: request.trigger,
                input: invoke.input.clone(),
                services: Arc::clone(&self.services),
                slow_lane: Arc::clone(&worker.slow_lane),
            };
            Ok(self.runtime.run(&module, call).await)
        };
        let function = &request.function;
        match attempts.run(attempt).await {
            Ok((output, took)) => Ok(Completed {
                output,
                duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            }),
            Err(Failure::Guest(error)) => Err(errors::guest(&error, &request.id, &function.name)),
            Err(Failure::Refused(refusal)) => {
                Err(refusal.error(&function.namespace, self.admission.limits()))
            }
            Err(Failure::Module(error)) => Err(error),
        }
    }
}

//! The life of an invocation behind the gateway: resolve, authorize, find a
//! place here or elsewhere, run, answer.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use orama_proto::function::FunctionVersion;
use orama_proto::invocation::Principal;
use orama_proto::load::LoadReport;
use orama_proto::{ApiError, FunctionName, Namespace};

use super::admission::{Admission, Place};
use super::attempt::{Attempts, Failure, Request};
use super::confirm::{CONFIRM_WITHIN, Confirmations};
use super::metrics::Metrics;
use super::modules::Modules;
use super::resolve::{self, Catalog};
use super::retry;
use super::thread::Workers;
use crate::errors;
use crate::journal::Journal;
use crate::platform::{Completed, Invoke};
use crate::router::{Elsewhere, Offer, Router};
use crate::runtime::{Call, HostServices, Runtime};

/// Everything an invocation borrows from. Shared by all threads; nothing in
/// it is locked while a guest runs.
pub(crate) struct Invoker {
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) confirmations: Confirmations,
    pub(crate) runtime: Runtime,
    pub(crate) modules: Arc<Modules>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) workers: Workers,
    pub(crate) journal: Journal,
    pub(crate) services: Arc<dyn HostServices>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) router: Router,
}

impl Invoker {
    /// The version that an invocation means, if the principal may have it.
    /// What is not known here is looked for again once it is confirmed that
    /// this node knows everything acknowledged so far.
    ///
    /// # Errors
    /// `NOT_FOUND`, `UNAUTHORIZED`, `FORBIDDEN`; `SERVICE_UNAVAILABLE` when it
    /// is unknown and that could not be confirmed.
    pub(crate) async fn target(
        &self,
        principal: &Principal,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u64>,
    ) -> Result<Arc<FunctionVersion>, ApiError> {
        let function = match resolve::resolve(&*self.catalog, namespace, name, version) {
            Ok(function) => function,
            // Boxed: the way to the leader is no part of every invocation's future.
            Err(missing) => Box::pin(self.look_again(missing, namespace, name, version)).await?,
        };
        resolve::authorize(
            principal,
            &function.namespace,
            &function.name,
            &function.spec,
        )?;
        Ok(function)
    }

    async fn look_again(
        &self,
        missing: ApiError,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u64>,
    ) -> Result<Arc<FunctionVersion>, ApiError> {
        let deadline = Instant::now() + CONFIRM_WITHIN;
        let ask = || self.catalog.confirm(deadline);
        if !self.confirmations.after_now(deadline, ask).await {
            return Err(errors::unconfirmed(&missing));
        }
        resolve::resolve(&*self.catalog, namespace, name, version)
    }

    /// Runs a function with its retries: on the calling thread when there is a
    /// place now, else on another node that has one, else here after a wait.
    ///
    /// # Errors
    /// What the client should see.
    pub(crate) async fn invoke(&self, invoke: Invoke) -> Result<Completed, ApiError> {
        let _request = self.admission.begin();
        let function = self
            .target(
                &invoke.principal,
                &invoke.namespace,
                &invoke.name,
                invoke.version,
            )
            .await?;
        let request = Request {
            principal: resolve::seen_by_guest(&invoke.principal, &function.namespace),
            id: invoke.request_id,
            function,
            trigger: invoke.trigger,
            input_size: invoke.input.len() as u64,
        };
        let place = self.admission.try_place(&request.function.namespace);
        if place.is_none() && self.router.has_peers() && !self.admission.is_closed() {
            let elsewhere = self.elsewhere(&request, &invoke.input, invoke.repeatable);
            match Box::pin(elsewhere).await {
                Elsewhere::Here => {}
                Elsewhere::Ran(completed) => return Ok(completed),
                Elsewhere::Failed(error) => return Err(error),
            }
        }
        self.run_here(&request, invoke.input, place).await
    }

    async fn elsewhere(&self, request: &Request, input: &Bytes, repeatable: bool) -> Elsewhere {
        let spec = &request.function.spec;
        let offer = Offer {
            request,
            input,
            repeatable,
            within: retry::longest(spec, self.admission.limits().wait),
        };
        let lost = |started_at, took, error: &ApiError| {
            let record = request.lost(started_at, took, error.message.clone());
            self.journal.record(record);
        };
        self.router.offer(&offer, &lost).await
    }

    /// Runs a function on the calling thread, with its retries. The first
    /// attempt uses `place` or waits for one.
    ///
    /// # Errors
    /// What the client should see.
    pub(crate) async fn run_here(
        &self,
        request: &Request,
        input: Bytes,
        place: Option<Place>,
    ) -> Result<Completed, ApiError> {
        let worker = self.workers.here();
        let attempts = Attempts {
            request,
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
                input: input.clone(),
                services: Arc::clone(&self.services),
                slow_lane: Arc::clone(&worker.slow_lane),
            };
            let outcome = self.runtime.run(&module, call).await;
            worker.took(outcome.duration);
            Ok(outcome)
        };
        let function = &request.function;
        match attempts.run(place, attempt).await {
            Ok((output, took)) => Ok(Completed {
                output,
                duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                node: Arc::clone(self.router.name()),
            }),
            Err(Failure::Guest(error)) => Err(errors::guest(&error, &request.id, &function.name)),
            Err(Failure::Refused(refusal)) => {
                Err(refusal.error(&function.namespace, self.admission.limits()))
            }
            Err(Failure::Module(error)) => Err(error),
        }
    }

    /// How busy this node is. `closed` says only whether it shuts down.
    pub(crate) fn load(&self) -> LoadReport {
        let (running, queued) = self.admission.load();
        LoadReport {
            running,
            queued,
            capacity: u32::try_from(self.admission.limits().running).unwrap_or(u32::MAX),
            latency_us: self.workers.median_us(),
            closed: self.admission.is_closed(),
        }
    }
}

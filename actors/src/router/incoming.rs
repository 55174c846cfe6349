//! What peers ask: their load reports, and invocations that they have no place for.
//!
//! A forwarded invocation is taken at once or not at all. It waits for no
//! place and no module, so a caller that wrote its request either hears soon
//! that nothing was started, or may assume that something was.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use orama_cluster::mesh::BoxFuture;
use orama_cluster::{Declined, Handler, Incoming};
use orama_proto::forward::{FORWARD_HOPS_MAX, ForwardReply, ForwardedInvoke, NotTaken};
use orama_proto::load::{LOAD_VERSION, LoadReport};
use orama_proto::{ApiError, ContentId, RequestId, record};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Shared;
use super::metrics::In;
use crate::platform::Completed;
use crate::worker::{InFlight, Invoker, Place, Request};

/// Modules that are being loaded because a peer asked for them.
const LOADS_MAX: usize = 4;

/// Takes load reports.
pub(super) struct Loads(pub(super) Weak<Shared>);

impl Handler for Loads {
    fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Declined>> {
        let result = record::decode::<LoadReport>(LOAD_VERSION, &incoming.body)
            .map_err(|error| Declined(format!("a load report: {error}")))
            .map(|report| {
                if let Some(shared) = self.0.upgrade() {
                    shared.board.report(incoming.from, report, Instant::now());
                }
                Bytes::new()
            });
        Box::pin(std::future::ready(result))
    }
}

/// Takes invocations.
///
/// Principal and permission are believed as they come: whoever is on the mesh
/// has proven the cluster's secret, the link is encrypted and its other end is
/// known by its key, and a member could read and write the metadata that
/// permissions are made of anyway. That is the protection of the caller's
/// identity on its way; a second proof would prove nothing more.
pub(super) struct Invocations(pub(super) Weak<Shared>);

/// How a guest on one of the threads ended. The request counts as being worked
/// on until its answer is written, so the guard comes with it.
type Ended = (Result<Completed, ApiError>, InFlight);

/// What a call is answered.
enum Taken {
    Running(oneshot::Receiver<Ended>, RequestId),
    Not(NotTaken),
}

impl Handler for Invocations {
    fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Declined>> {
        let Some(shared) = self.0.upgrade() else {
            return Box::pin(std::future::ready(Err(ending())));
        };
        let taken = shared.take(&incoming.body);
        Box::pin(async move {
            let (reply, output, _request) = match taken? {
                Taken::Not(why) => (ForwardReply::NotTaken(why), Bytes::new(), None),
                // Dropping this future closes the channel, which stops the guest.
                Taken::Running(ended, id) => match ended.await {
                    Ok((Ok(completed), request)) => {
                        shared.metrics.taken(In::Done);
                        let duration_ms = completed.duration_ms;
                        let done = ForwardReply::Done { duration_ms };
                        (done, completed.output, Some(request))
                    }
                    Ok((Err(error), request)) => {
                        shared.metrics.taken(In::Failed);
                        (
                            ForwardReply::Failed(error.into()),
                            Bytes::new(),
                            Some(request),
                        )
                    }
                    // Its thread has ended with this node. It had begun: declining would be
                    // a lie, and so would an error of the guest's. An answer that says
                    // nothing lets the origin decide as if the link had broken.
                    Err(_) => {
                        shared.metrics.taken(In::Failed);
                        tracing::warn!(request_id = %id, "a forwarded invocation was cut off by the end of this node");
                        return Ok(Bytes::new());
                    }
                },
            };
            match reply.encode(&output) {
                Ok(body) => Ok(Bytes::from(body)),
                Err(error) => {
                    // Not declined: the guest may have run.
                    tracing::error!(%error, "the answer to a forwarded invocation cannot be written");
                    Ok(Bytes::new())
                }
            }
        })
    }
}

impl Shared {
    /// Starts the guest, or says why not.
    fn take(self: &Arc<Self>, body: &Bytes) -> Result<Taken, Declined> {
        let declined = |how, why: String| {
            self.metrics.taken(how);
            Err(Declined(why))
        };
        let (head, input) = match ForwardedInvoke::decode(body) {
            Ok((head, at)) => (head, body.slice(at..)),
            Err(error) => {
                return declined(In::Malformed, format!("a forwarded invocation: {error}"));
            }
        };
        if head.hops > FORWARD_HOPS_MAX {
            let why = format!(
                "the invocation has been forwarded {} times, the limit is {FORWARD_HOPS_MAX}",
                head.hops
            );
            return declined(In::Hops, why);
        }
        let Some(invoker) = self.invoker() else {
            return Err(ending());
        };
        let not = |how, why| {
            self.metrics.taken(how);
            Ok(Taken::Not(why))
        };
        if invoker.admission.is_closed() || !self.takes() {
            return not(In::Draining, NotTaken::Draining);
        }
        let version = Some(head.version);
        let function = invoker
            .catalog
            .resolve(&head.namespace, &head.function, version)
            .filter(|f| f.function_id == head.function_id && f.wasm_cid == head.wasm_cid);
        let Some(function) = function else {
            // One of the two is behind. Which one, only the caller's own node may decide.
            return not(In::NotReady, NotTaken::NotReady);
        };
        if invoker.runtime.loaded(&function.wasm_cid).is_none() {
            self.begin_loading(&invoker, function.wasm_cid);
            return not(In::NotReady, NotTaken::NotReady);
        }
        // Before the place, so that a drain that begins now waits for it.
        let in_flight = invoker.admission.begin();
        let Some(place) = invoker.admission.try_place(&function.namespace) else {
            let admission = &invoker.admission;
            let (running, _) = admission.load();
            return match () {
                () if admission.is_closed() => not(In::Draining, NotTaken::Draining),
                () if (running as usize) < admission.limits().running => {
                    not(In::NamespaceBusy, NotTaken::NamespaceBusy)
                }
                () => not(In::Busy, NotTaken::Busy),
            };
        };
        let request = Request {
            id: head.request_id,
            function,
            principal: Arc::new(head.principal),
            trigger: head.trigger,
            input_size: input.len() as u64,
        };
        let id = request.id.clone();
        match self.run(invoker, request, input, place, in_flight) {
            Some(ended) => Ok(Taken::Running(ended, id)),
            None => not(In::Draining, NotTaken::Draining),
        }
    }

    /// Runs the guest on one of the threads, with its retries and records.
    fn run(
        self: &Arc<Self>,
        invoker: Arc<Invoker>,
        request: Request,
        input: Bytes,
        place: Place,
        in_flight: InFlight,
    ) -> Option<oneshot::Receiver<Ended>> {
        let (mut answer, ended) = oneshot::channel();
        let shared = Arc::clone(self);
        let job = move |busy| {
            actix::spawn(async move {
                let _busy = busy;
                let run = invoker.run_here(&request, input, Some(place));
                let result = tokio::select! {
                    // First, so that a guest whose caller has gone by now does not begin.
                    biased;
                    () = answer.closed() => {
                        // A guest that had begun is dropped with its future, and leaves a record.
                        shared.metrics.taken(In::Cancelled);
                        return;
                    }
                    result = run => result,
                };
                // Whoever asked may have gone at this very moment.
                let _ = answer.send((result, in_flight));
            });
        };
        self.threads.get()?.run(job).then_some(ended)
    }

    /// Loads a module in the background, so that the next offer finds it.
    fn begin_loading(self: &Arc<Self>, invoker: &Arc<Invoker>, cid: ContentId) {
        {
            let mut loading = self.loading.lock();
            if loading.len() >= LOADS_MAX || !loading.insert(cid) {
                return;
            }
        }
        let guard = Loading {
            shared: Arc::clone(self),
            cid,
        };
        let modules = Arc::clone(&invoker.modules);
        let job = move |busy| {
            actix::spawn(async move {
                let _guard = guard;
                let _busy = busy;
                if let Err(error) = modules.get(cid).await {
                    // An invocation of it here will say so at ERROR, with its name.
                    tracing::warn!(%cid, %error, "a module was not loaded for a peer");
                }
            });
        };
        if let Some(threads) = self.threads.get() {
            threads.run(job);
        }
    }
}

/// A module that is being loaded.
struct Loading {
    shared: Arc<Shared>,
    cid: ContentId,
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.shared.loading.lock().remove(&self.cid);
    }
}

/// The modules that are being loaded.
pub(super) type LoadingSet = Mutex<HashSet<ContentId>>;

fn ending() -> Declined {
    Declined("this node starts or ends".to_owned())
}

//! Places for running guests: a limit for the node, one for each namespace,
//! and bounded queues in front of both.
//!
//! The namespace's place is taken before the node's. So a namespace can stand
//! in the node's queue with no more invocations than it may run at once, and
//! the node's queue, first come first served, is fair between namespaces.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use orama_proto::{ApiError, ErrorCode, Namespace};
use parking_lot::Mutex;
use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::{Instant, timeout_at};

use super::metrics::Metrics;

/// The node's own queue holds this many times what may run at once.
const NODE_QUEUE_FACTOR: usize = 4;
/// Seconds after which a refused client should come back.
const RETRY_AFTER_SECS: f64 = 1.0;

/// How many, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Guests that may run at once on this node.
    pub(crate) running: usize,
    /// Guests of one namespace that may run at once on this node.
    pub(crate) per_namespace: usize,
    /// Invocations of one namespace that may wait for one of its places.
    pub(crate) queued_per_namespace: usize,
    /// How long an invocation may wait in all.
    pub(crate) wait: Duration,
}

/// Why there was no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many of the namespace wait as may.
    NamespaceQueueFull,
    /// The namespace's places stayed taken for too long.
    NamespaceBusy,
    /// As many wait for the node as may.
    NodeQueueFull,
    /// The node's places stayed taken for too long.
    NodeBusy,
    /// The node is shutting down.
    Draining,
}

impl Refusal {
    pub(super) const ALL: [Self; 5] = [
        Self::NamespaceQueueFull,
        Self::NamespaceBusy,
        Self::NodeQueueFull,
        Self::NodeBusy,
        Self::Draining,
    ];

    /// The name in metrics.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NamespaceQueueFull => "namespace_queue_full",
            Self::NamespaceBusy => "namespace_busy",
            Self::NodeQueueFull => "node_queue_full",
            Self::NodeBusy => "node_busy",
            Self::Draining => "draining",
        }
    }

    /// What the client sees: 429 when it is the namespace's own doing, else 503.
    pub(super) fn error(self, namespace: &Namespace, limits: &Limits) -> ApiError {
        let (code, message) = match self {
            Self::NamespaceQueueFull | Self::NamespaceBusy => (
                ErrorCode::RateLimited,
                format!(
                    "namespace {namespace:?} is at its limit of {} running and {} waiting invocations on this node",
                    limits.per_namespace, limits.queued_per_namespace
                ),
            ),
            Self::NodeQueueFull | Self::NodeBusy => (
                ErrorCode::ServiceUnavailable,
                format!(
                    "this node is at its limit of {} running invocations",
                    limits.running
                ),
            ),
            Self::Draining => (
                ErrorCode::ServiceUnavailable,
                "this node is shutting down".to_owned(),
            ),
        };
        ApiError::new(code, message).after(RETRY_AFTER_SECS)
    }
}

#[derive(Default)]
struct Tenants {
    closed: bool,
    /// Only namespaces with an invocation waiting or running.
    map: HashMap<Namespace, Tenant>,
}

struct Tenant {
    places: Arc<Semaphore>,
    /// Invocations waiting or running.
    users: usize,
    queued: usize,
}

/// The places of this node.
pub(crate) struct Admission {
    limits: Limits,
    node: Arc<Semaphore>,
    node_waiting: AtomicUsize,
    tenants: Mutex<Tenants>,
    metrics: Arc<Metrics>,
    in_flight: AtomicUsize,
    all_done: Notify,
    /// Never has a permit; closed when the node drains, which wakes who waits on it.
    drain: Semaphore,
}

impl Admission {
    pub(crate) fn new(limits: Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            node: Arc::new(Semaphore::new(limits.running.min(Semaphore::MAX_PERMITS))),
            limits,
            node_waiting: AtomicUsize::new(0),
            tenants: Mutex::new(Tenants::default()),
            metrics,
            in_flight: AtomicUsize::new(0),
            all_done: Notify::new(),
            drain: Semaphore::new(0),
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A place for one guest if there is one at this moment: no queue, nothing counted.
    pub(crate) fn try_place(self: &Arc<Self>, namespace: &Namespace) -> Option<Place> {
        let (ticket, places) = self.enter(namespace).ok()?;
        let tenant = places.try_acquire_owned().ok()?;
        let node = Arc::clone(&self.node).try_acquire_owned().ok()?;
        self.metrics.running.inc();
        Some(Place {
            _node: node,
            _tenant: tenant,
            ticket,
        })
    }

    /// Guests that run, and invocations that wait for a place.
    pub(crate) fn load(&self) -> (u32, u32) {
        let count = |gauge: i64| u32::try_from(gauge.max(0)).unwrap_or(u32::MAX);
        (
            count(self.metrics.running.get()),
            count(self.metrics.queued.get()),
        )
    }

    /// Whether the node drains.
    pub(crate) fn is_closed(&self) -> bool {
        self.drain.is_closed()
    }

    /// Answers when the node begins to drain.
    pub(crate) async fn closing(&self) {
        // There is never a permit: it ends by being closed.
        let _ = self.drain.acquire().await;
    }

    /// Takes a place for one guest, waiting in the queues if need be.
    ///
    /// # Errors
    /// [`Refusal`], which is counted here.
    pub(super) async fn place(self: &Arc<Self>, namespace: &Namespace) -> Result<Place, Refusal> {
        let result = self.wait_for_place(namespace).await;
        if let Err(refusal) = &result {
            self.metrics.refused(*refusal);
        }
        result
    }

    async fn wait_for_place(self: &Arc<Self>, namespace: &Namespace) -> Result<Place, Refusal> {
        let (ticket, places) = self.enter(namespace)?;
        let until = Instant::now() + self.limits.wait;
        let tenant = match Arc::clone(&places).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(Refusal::Draining),
            Err(TryAcquireError::NoPermits) => {
                let _queued = ticket.queue()?;
                bounded(until, places.acquire_owned(), Refusal::NamespaceBusy).await?
            }
        };
        let node = match Arc::clone(&self.node).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(Refusal::Draining),
            Err(TryAcquireError::NoPermits) => {
                let _queued = self.queue_for_node()?;
                let acquire = Arc::clone(&self.node).acquire_owned();
                bounded(until, acquire, Refusal::NodeBusy).await?
            }
        };
        self.metrics.running.inc();
        Ok(Place {
            _node: node,
            _tenant: tenant,
            ticket,
        })
    }

    fn enter(self: &Arc<Self>, namespace: &Namespace) -> Result<(Ticket, Arc<Semaphore>), Refusal> {
        let mut tenants = self.tenants.lock();
        if tenants.closed {
            return Err(Refusal::Draining);
        }
        let places = match tenants.map.get_mut(namespace) {
            Some(tenant) => {
                tenant.users += 1;
                Arc::clone(&tenant.places)
            }
            None => {
                let limit = self.limits.per_namespace.min(Semaphore::MAX_PERMITS);
                let places = Arc::new(Semaphore::new(limit));
                let tenant = Tenant {
                    places: Arc::clone(&places),
                    users: 1,
                    queued: 0,
                };
                tenants.map.insert(namespace.clone(), tenant);
                places
            }
        };
        let ticket = Ticket {
            admission: Arc::clone(self),
            namespace: namespace.clone(),
        };
        Ok((ticket, places))
    }

    fn queue_for_node(&self) -> Result<Queued<'_>, Refusal> {
        let limit = self.limits.running.saturating_mul(NODE_QUEUE_FACTOR);
        if self.node_waiting.fetch_add(1, Ordering::Relaxed) >= limit {
            self.node_waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::NodeQueueFull);
        }
        self.metrics.queued.inc();
        Ok(Queued {
            admission: self,
            namespace: None,
        })
    }

    /// Marks a request as being worked on until the guard is dropped, pauses
    /// between attempts included.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight(Arc::clone(self))
    }

    /// Sleeps; false when the node began to drain meanwhile.
    pub(super) async fn pause(&self, time: Duration) -> bool {
        tokio::select! {
            _ = self.drain.acquire() => false,
            () = tokio::time::sleep(time) => true,
        }
    }

    /// Refuses everything from now on, also what waits in the queues.
    pub(crate) fn close(&self) {
        self.drain.close();
        self.node.close();
        let mut tenants = self.tenants.lock();
        tenants.closed = true;
        for tenant in tenants.map.values() {
            tenant.places.close();
        }
    }

    /// Waits until no request is being worked on, up to `limit`. Answers how many are left.
    pub(crate) async fn idle(&self, limit: Duration) -> usize {
        let wait = async {
            loop {
                let done = self.all_done.notified();
                tokio::pin!(done);
                // Registered before looking, so that the last one's end cannot fall between.
                done.as_mut().enable();
                if self.in_flight.load(Ordering::SeqCst) == 0 {
                    return;
                }
                done.await;
            }
        };
        // Too late is answered by the count.
        let _ = tokio::time::timeout(limit, wait).await;
        self.in_flight.load(Ordering::SeqCst)
    }
}

async fn bounded(
    until: Instant,
    acquire: impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>>,
    late: Refusal,
) -> Result<OwnedSemaphorePermit, Refusal> {
    match timeout_at(until, acquire).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) => Err(Refusal::Draining),
        Err(_) => Err(late),
    }
}

/// A place for one guest; dropping it gives it back.
pub(crate) struct Place {
    // Dropped in this order: the ticket last, which may remove the namespace's entry.
    _node: OwnedSemaphorePermit,
    _tenant: OwnedSemaphorePermit,
    ticket: Ticket,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.ticket.admission.metrics.running.dec();
    }
}

/// Keeps a namespace's entry alive.
struct Ticket {
    admission: Arc<Admission>,
    namespace: Namespace,
}

impl Ticket {
    fn queue(&self) -> Result<Queued<'_>, Refusal> {
        let admission = &*self.admission;
        let mut tenants = admission.tenants.lock();
        let Some(tenant) = tenants.map.get_mut(&self.namespace) else {
            return Err(Refusal::Draining);
        };
        if tenant.queued >= admission.limits.queued_per_namespace {
            return Err(Refusal::NamespaceQueueFull);
        }
        tenant.queued += 1;
        admission.metrics.queued.inc();
        Ok(Queued {
            admission,
            namespace: Some(&self.namespace),
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut tenants = self.admission.tenants.lock();
        if let Some(tenant) = tenants.map.get_mut(&self.namespace) {
            tenant.users -= 1;
            if tenant.users == 0 {
                tenants.map.remove(&self.namespace);
            }
        }
    }
}

/// Counts as waiting until dropped: for the namespace's places, or the node's.
struct Queued<'a> {
    admission: &'a Admission,
    namespace: Option<&'a Namespace>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.admission.metrics.queued.dec();
        match self.namespace {
            None => {
                self.admission.node_waiting.fetch_sub(1, Ordering::Relaxed);
            }
            Some(namespace) => {
                let mut tenants = self.admission.tenants.lock();
                if let Some(tenant) = tenants.map.get_mut(namespace) {
                    tenant.queued -= 1;
                }
            }
        }
    }
}

/// A request being worked on.
pub(crate) struct InFlight(Arc<Admission>);

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.all_done.notify_waiters();
        }
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;

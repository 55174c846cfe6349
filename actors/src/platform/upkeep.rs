//! Work in the background: getting modules ahead, sweeping what nothing refers
//! to, forgetting the records of namespaces that are gone.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use orama_proto::Namespace;

use super::deploy::DEPLOYS_AT_ONCE;
use super::{Inner, prefetch};

/// How often what nothing refers to is removed.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);
/// A blob younger than this may belong to a deploy on another node that is not yet known here.
const SWEEP_MIN_AGE: Duration = Duration::from_secs(60 * 60);
/// Changes gather so long before the namespaces are looked through again.
const NAMESPACES_GATHER: Duration = Duration::from_millis(200);

/// Starts the tasks. They hold the platform weakly and end with it.
pub(super) fn start(inner: &Arc<Inner>) {
    let tasks = [
        tokio::spawn(prefetch::run(Arc::downgrade(inner))).abort_handle(),
        tokio::spawn(sweep_for_ever(Arc::downgrade(inner))).abort_handle(),
        tokio::spawn(forget_namespaces(Arc::downgrade(inner))).abort_handle(),
    ];
    inner.upkeep.lock().extend(tasks);
}

async fn sweep_for_ever(platform: Weak<Inner>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(platform) = platform.upgrade() else {
            return;
        };
        platform.sweep(SWEEP_MIN_AGE).await;
    }
}

/// A namespace is deleted through one node; the others learn of it here. What
/// a node missed while it was away is hidden by the namespace's age when it is
/// read (`Inner::logs`), and removed by retention.
async fn forget_namespaces(platform: Weak<Inner>) {
    let Some(mut changes) = platform.upgrade().map(|p| p.meta.changes()) else {
        return;
    };
    let mut known = HashSet::new();
    loop {
        changes.borrow_and_update();
        let Some(inner) = platform.upgrade() else {
            return;
        };
        let entries = inner.meta.namespace_entries();
        let now: HashSet<Namespace> = entries.iter().map(|e| e.name.clone()).collect();
        for gone in known.difference(&now) {
            inner.forget(gone).await;
        }
        known = now;
        drop((entries, inner));
        tokio::time::sleep(NAMESPACES_GATHER).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

impl Inner {
    /// Removes blobs and compiled modules that no version refers to. No
    /// deploy runs here meanwhile: one of the same bytes would be left without
    /// them. Those of other nodes are younger than `min_age`.
    async fn sweep(&self, min_age: Duration) {
        let Ok(_turns) = self.deploys.acquire_many(DEPLOYS_AT_ONCE as u32).await else {
            return;
        };
        // A node that was cut off may not know of a version whose blob it holds.
        if let Err(error) = self.confirm().await {
            tracing::debug!(%error, "unused modules are kept: the metadata may be old");
            return;
        }
        let keep = self.meta.referenced_blobs();
        let compiled = self.runtime.sweep(keep.clone()).await;
        match self.blobs.store().sweep(keep, min_age).await {
            Ok(blobs) => tracing::debug!(blobs, compiled, "unused modules removed"),
            Err(error) => tracing::warn!(%error, "unused blobs could not be removed"),
        }
    }
}

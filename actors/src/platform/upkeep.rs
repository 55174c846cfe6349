//! Work in the background: warming up after a start, sweeping what nothing refers to.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use orama_proto::function::FunctionVersion;
use orama_proto::{ContentId, FunctionName, Namespace};

use super::Inner;
use super::deploy::DEPLOYS_AT_ONCE;
use super::start::LOADED_MODULES_MAX;

/// Modules loaded at start; the rest come with their first invocation.
const WARM_UP_MAX: usize = LOADED_MODULES_MAX / 2;
/// How often what nothing refers to is removed.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);
/// A blob younger than this may belong to a deploy on another node that is not yet known here.
const SWEEP_MIN_AGE: Duration = Duration::from_secs(60 * 60);

/// Starts the tasks. They hold the platform weakly and end with it.
pub(super) fn start(inner: &Arc<Inner>) {
    let tasks = [
        tokio::spawn(warm_up(Arc::downgrade(inner))).abort_handle(),
        tokio::spawn(sweep_for_ever(Arc::downgrade(inner))).abort_handle(),
    ];
    inner.upkeep.lock().extend(tasks);
}

async fn warm_up(platform: Weak<Inner>) {
    let Some(all) = platform.upgrade().map(|p| p.meta.active_functions()) else {
        return;
    };
    let start = Instant::now();
    let mut loaded = 0_u64;
    for cid in worth_warming(all, WARM_UP_MAX) {
        let Some(platform) = platform.upgrade() else {
            return;
        };
        match platform.modules.get(cid).await {
            Ok(_) => loaded += 1,
            // An invocation of it will say so at ERROR, with its name.
            Err(error) => tracing::warn!(%cid, %error, "a module was not warmed up"),
        }
    }
    if loaded > 0 {
        let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(loaded, millis, "modules warmed up");
    }
}

/// The modules an invocation without a version would run, newest first, each once.
fn worth_warming(all: Vec<Arc<FunctionVersion>>, limit: usize) -> Vec<ContentId> {
    let mut latest: HashMap<(Namespace, FunctionName), Arc<FunctionVersion>> = HashMap::new();
    for function in all {
        let key = (function.namespace.clone(), function.name.clone());
        let newer = latest
            .get(&key)
            .is_none_or(|known| known.version < function.version);
        if newer {
            latest.insert(key, function);
        }
    }
    let mut latest: Vec<_> = latest.into_values().collect();
    latest.sort_by_key(|f| (std::cmp::Reverse(f.created_at), f.wasm_cid));
    let mut seen = std::collections::HashSet::new();
    latest
        .into_iter()
        .map(|f| f.wasm_cid)
        .filter(|cid| seen.insert(*cid))
        .take(limit)
        .collect()
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

impl Inner {
    /// Removes blobs and compiled modules that no version refers to. No
    /// deploy runs meanwhile: one of the same bytes would be left without them.
    async fn sweep(&self, min_age: Duration) {
        let Ok(_turns) = self.deploys.acquire_many(DEPLOYS_AT_ONCE as u32).await else {
            return;
        };
        let keep = self.meta.referenced_blobs();
        let compiled = self.runtime.sweep(keep.clone()).await;
        match self.blobs.sweep(keep, min_age).await {
            Ok(blobs) => tracing::debug!(blobs, compiled, "unused modules removed"),
            Err(error) => tracing::warn!(%error, "unused blobs could not be removed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_proto::Timestamp;
    use orama_proto::function::{FunctionSpec, FunctionStatus};

    fn function(name: &str, version: u64, created: u64, wasm: &[u8]) -> Arc<FunctionVersion> {
        Arc::new(FunctionVersion {
            function_id: name.into(),
            namespace: Namespace::parse("default").unwrap(),
            name: FunctionName::parse(name).unwrap(),
            version,
            wasm_cid: ContentId::of(wasm),
            wasm_bytes: 1,
            spec: FunctionSpec::default(),
            status: FunctionStatus::Active,
            created_at: Timestamp(created),
            updated_at: Timestamp(created),
            created_by: String::new(),
            rolled_back_from: None,
        })
    }

    #[test]
    fn the_newest_come_first_and_each_module_once() {
        let all = vec![
            function("a", 1, 10, b"a1"),
            function("a", 2, 20, b"a2"),
            function("b", 7, 30, b"b"),
            function("c", 1, 5, b"b"),
        ];
        let cids = |names: &[&[u8]]| names.iter().map(|n| ContentId::of(n)).collect::<Vec<_>>();
        assert_eq!(worth_warming(all.clone(), 9), cids(&[b"b", b"a2"]));
        assert_eq!(worth_warming(all, 1), cids(&[b"b"]));
    }
}

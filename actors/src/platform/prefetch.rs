//! Every node gets every module that the metadata refers to, and loads those
//! that invocations without a version would run, before anybody asks for them.
//! So a first call is warm anywhere, and a node that was away or lost its disk
//! holds what it should again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures::FutureExt;
use orama_cluster::MetaStore;
use orama_proto::function::FunctionVersion;
use orama_proto::{ContentId, FunctionName, Namespace};
use tokio::task::JoinSet;

use super::Inner;
use super::start::LOADED_MODULES_MAX;

/// Modules loaded ahead; the rest are only stored, and load with their first invocation.
const WARM_MAX: usize = LOADED_MODULES_MAX / 2;
/// Modules fetched and compiled at once.
const AT_ONCE: usize = 2;
/// Changes gather so long before the metadata is looked through again.
const GATHER: Duration = Duration::from_millis(20);
/// At most this share of the time goes into looking through the metadata.
const LOOK_SHARE: u32 = 20;
/// Pause before a failed module is tried again; doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// A module that failed so often is worth a line in the log.
const WORTH_SAYING: u32 = 5;

/// A module, and whether it is to be loaded too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Job {
    cid: ContentId,
    warm: bool,
}

/// Runs until the platform ends.
pub(super) async fn run(platform: Weak<Inner>) {
    let Some((mut changes, alone)) = platform.upgrade().map(|p| {
        let alone = p.cluster.mesh().is_none();
        (p.meta.changes(), alone)
    }) else {
        return;
    };
    let began = Instant::now();
    let mut plan = Plan::default();
    let mut running = JoinSet::new();
    let mut look = true;
    let mut first = true;
    loop {
        if look {
            changes.borrow_and_update();
            let Some(platform) = platform.upgrade() else {
                return;
            };
            let since = Instant::now();
            plan.want(wanted(&platform.meta, alone), since);
            drop(platform);
            look = false;
            tokio::time::sleep(GATHER.max(since.elapsed() * LOOK_SHARE)).await;
        }
        while running.len() < AT_ONCE
            && let Some(job) = plan.next(Instant::now())
        {
            running.spawn(work(platform.clone(), job));
        }
        if first && running.is_empty() {
            first = false;
            let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(loaded = plan.warm(), millis, "modules warmed up");
        }
        let again = plan.next_try();
        tokio::select! {
            changed = changes.changed() => match changed {
                Ok(()) => look = true,
                Err(_) => return,
            },
            Some(ended) = running.join_next() => match ended {
                Ok((job, None)) => plan.done(job),
                Ok((job, Some(error))) => plan.failed(job, &error, alone, Instant::now()),
                Err(error) => tracing::error!(%error, "loading a module ahead was interrupted"),
            },
            () = until(again) => {}
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Answers why it failed, if it did.
async fn work(platform: Weak<Inner>, job: Job) -> (Job, Option<String>) {
    let Some(platform) = platform.upgrade() else {
        return (job, None);
    };
    // A panic must not make this node believe for ever that the work goes on.
    let outcome = std::panic::AssertUnwindSafe(async {
        let stored = platform.blobs.ensure(job.cid).await;
        stored.map_err(|error| error.to_string())?;
        if job.warm {
            let loaded = platform.modules.get(job.cid).await;
            loaded.map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(())
    });
    let outcome = outcome.catch_unwind().await;
    let error = outcome
        .unwrap_or_else(|_| Err("it panicked".to_owned()))
        .err();
    let label = match (&error, job.warm) {
        (None, true) => "loaded",
        (None, false) => "stored",
        (Some(_), _) => "failed",
    };
    let counter = platform.metrics.prefetched.with_label_values(&[label]);
    counter.inc();
    (job, error)
}

/// What this node should have, the most wanted first. A node for itself has
/// nowhere to get a module that it does not have.
fn wanted(meta: &MetaStore, alone: bool) -> Vec<Job> {
    let warm = worth_warming(meta.active_functions(), WARM_MAX);
    let seen: HashSet<_> = warm.iter().copied().collect();
    let rest = if alone {
        HashSet::new()
    } else {
        meta.referenced_blobs()
    };
    let job = |warm| move |cid| Job { cid, warm };
    let rest = rest.into_iter().filter(|cid| !seen.contains(cid));
    warm.into_iter()
        .map(job(true))
        .chain(rest.map(job(false)))
        .collect()
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
    let mut seen = HashSet::new();
    latest
        .into_iter()
        .map(|f| f.wasm_cid)
        .filter(|cid| seen.insert(*cid))
        .take(limit)
        .collect()
}

/// What is to be done. Holds nothing that the metadata does not refer to.
#[derive(Default)]
struct Plan {
    wanted: Vec<Job>,
    queue: VecDeque<Job>,
    /// Done, and whether loaded.
    done: HashMap<ContentId, bool>,
    running: HashSet<ContentId>,
    /// Failed so often, to be tried again then.
    failed: HashMap<ContentId, (u32, Instant)>,
}

impl Plan {
    fn want(&mut self, wanted: Vec<Job>, now: Instant) {
        let cids: HashSet<_> = wanted.iter().map(|job| job.cid).collect();
        self.done.retain(|cid, _| cids.contains(cid));
        self.failed.retain(|cid, _| cids.contains(cid));
        self.wanted = wanted;
        self.queue_up(now);
    }

    fn queue_up(&mut self, now: Instant) {
        let due = |job: &&Job| {
            let done = self
                .done
                .get(&job.cid)
                .is_some_and(|loaded| *loaded || !job.warm);
            let later = self.failed.get(&job.cid).is_some_and(|(_, at)| *at > now);
            !done && !later && !self.running.contains(&job.cid)
        };
        self.queue = self.wanted.iter().filter(due).copied().collect();
    }

    fn next(&mut self, now: Instant) -> Option<Job> {
        if self.queue.is_empty() && self.next_try().is_some_and(|at| at <= now) {
            self.queue_up(now);
        }
        let job = self.queue.pop_front()?;
        self.running.insert(job.cid);
        Some(job)
    }

    /// When something that failed is to be tried again.
    fn next_try(&self) -> Option<Instant> {
        let waiting = self
            .failed
            .iter()
            .filter(|(cid, _)| !self.running.contains(cid));
        waiting.map(|(_, (_, at))| *at).min()
    }

    fn done(&mut self, job: Job) {
        self.running.remove(&job.cid);
        self.failed.remove(&job.cid);
        self.done.insert(job.cid, job.warm);
    }

    fn failed(&mut self, job: Job, error: &str, alone: bool, now: Instant) {
        let Job { cid, .. } = job;
        self.running.remove(&cid);
        if alone {
            // An invocation of it will say so at ERROR, with its name.
            tracing::warn!(%cid, error, "a module was not warmed up");
            self.done.insert(cid, true);
            return;
        }
        let (times, at) = self.failed.entry(cid).or_insert((0, now));
        let pause = RETRY_FIRST * 2_u32.pow((*times).min(10));
        *times += 1;
        *at = now + pause.min(RETRY_LONGEST);
        match *times {
            WORTH_SAYING => {
                tracing::warn!(%cid, error, "a module cannot be had; it is tried again and again");
            }
            _ => tracing::debug!(%cid, error, times, "a module cannot be had yet"),
        }
    }

    fn warm(&self) -> usize {
        self.done.values().filter(|loaded| **loaded).count()
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

    fn job(name: &str, warm: bool) -> Job {
        let cid = ContentId::of(name.as_bytes());
        Job { cid, warm }
    }

    #[test]
    fn each_is_done_once_and_what_changes_is_taken_up() {
        let now = Instant::now();
        let mut plan = Plan::default();
        plan.want(vec![job("a", true), job("b", false)], now);
        assert_eq!(plan.next(now), Some(job("a", true)));
        // While it is being done it is not begun again.
        plan.want(vec![job("c", true), job("a", true), job("b", false)], now);
        assert_eq!(plan.next(now), Some(job("c", true)));
        assert_eq!(plan.next(now), Some(job("b", false)));
        assert_eq!(plan.next(now), None);
        for done in [job("a", true), job("c", true), job("b", false)] {
            plan.done(done);
        }
        assert_eq!(plan.warm(), 2);
        // Stored before, now to be loaded; the other way round there is nothing to do.
        plan.want(vec![job("b", true), job("a", false)], now);
        assert_eq!(plan.next(now), Some(job("b", true)));
        assert_eq!(plan.next(now), None);
        // What is not wanted any more is forgotten.
        plan.done(job("b", true));
        plan.want(Vec::new(), now);
        assert!(plan.done.is_empty() && plan.next_try().is_none());
    }

    #[test]
    fn what_fails_is_tried_again_later_and_later() {
        let mut now = Instant::now();
        let mut plan = Plan::default();
        plan.want(vec![job("a", true)], now);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let taken = plan.next(now).unwrap();
            plan.failed(taken, "nobody has it", false, now);
            assert_eq!(plan.next(now), None);
            let at = plan.next_try().unwrap();
            pauses.push((at - now).as_millis());
            now = at;
        }
        assert_eq!(pauses[..4], [500, 1_000, 2_000, 4_000]);
        assert_eq!(pauses[9], 60_000);
        let taken = plan.next(now).unwrap();
        plan.done(taken);
        assert_eq!(plan.next_try(), None);
        // Alone there is no hope.
        plan.want(vec![job("b", true)], now);
        let taken = plan.next(now).unwrap();
        plan.failed(taken, "it is not here", true, now);
        assert_eq!((plan.next(now), plan.next_try()), (None, None));
    }
}

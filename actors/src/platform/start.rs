//! From settings and open stores to a platform that runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_cluster::{BlobNet, BlobStore, Cluster, JournalStore, MetaStore, ProposeError};
use orama_proto::RequestId;
use orama_proto::command::MetaCommand;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};
use tokio::sync::Semaphore;

use super::deploy::DEPLOYS_AT_ONCE;
use super::services::NodeServices;
use super::{Inner, Platform, PlatformOptions, StartError, master_keys, upkeep, visible};
use crate::identity::{Identity, PlatformKeys};
use crate::journal::{Gather, Journal, JournalOptions};
use crate::router::Router;
use crate::runtime::{HostServices, Runtime, RuntimeOptions};
use crate::sql::Sql;
use crate::vault::{MasterKeys, VaultError, VaultOptions, Vaults};
use crate::worker::{
    self, Admission, Confirmations, Invoker, Limits, Modules, OneAtATime, Workers,
};

/// Loaded modules kept in memory.
pub(super) const LOADED_MODULES_MAX: usize = 512;

/// How long a node that starts tries to make the cluster's keys, and the pause between two tries.
const KEYS_WITHIN: Duration = Duration::from_secs(30);
const KEYS_AGAIN: Duration = Duration::from_millis(200);

/// What the facade itself counts.
pub(super) struct Metrics {
    pub(super) deploys: IntCounterVec,
    pub(super) rewrapped: IntCounter,
    /// `loaded`, `stored`, `failed`.
    pub(super) prefetched: IntCounterVec,
    pub(super) visible_seconds: Histogram,
    pub(super) visible_late: IntCounter,
}

impl Metrics {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            deploys: IntCounterVec::new(
                Opts::new("orama_deploys_total", "Deploys that ended, by result."),
                &["result"],
            )?,
            rewrapped: IntCounter::new(
                "orama_keys_rewrapped_total",
                "Keys re-wrapped under another master key.",
            )?,
            prefetched: IntCounterVec::new(
                Opts::new(
                    "orama_modules_prefetched_total",
                    "Modules got before anybody asked for them, by result.",
                ),
                &["result"],
            )?,
            visible_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "orama_change_visible_seconds",
                    "Time from a change being applied here to its being applied on all linked members.",
                )
                .buckets(vec![0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.3]),
            )?,
            visible_late: IntCounter::new(
                "orama_change_visible_late_total",
                "Members that did not apply a change in time and were not waited for.",
            )?,
        };
        registry.register(Box::new(metrics.deploys.clone()))?;
        registry.register(Box::new(metrics.rewrapped.clone()))?;
        registry.register(Box::new(metrics.prefetched.clone()))?;
        registry.register(Box::new(metrics.visible_seconds.clone()))?;
        registry.register(Box::new(metrics.visible_late.clone()))?;
        Ok(metrics)
    }
}

impl From<prometheus::Error> for StartError {
    fn from(error: prometheus::Error) -> Self {
        Self::Other(format!("metrics: {error}"))
    }
}

pub(super) async fn start(
    options: PlatformOptions,
    cluster: Cluster,
    blobs: BlobStore,
    journal_store: JournalStore,
    registry: &Registry,
) -> Result<Platform, StartError> {
    let meta = cluster.meta().clone();
    if actix::System::try_current().is_none() {
        let text = "the platform must be started within an actix system";
        return Err(StartError::Other(text.to_owned()));
    }
    for (name, value) in [
        ("max_running", options.max_running),
        (
            "max_running_per_namespace",
            options.max_running_per_namespace,
        ),
    ] {
        if value == 0 {
            return Err(StartError::Other(format!("{name} must be at least 1")));
        }
    }
    // Before anything else is started: a node that cannot open what exists must not run.
    let masters = options.master_keys.clone();
    master_keys::check(
        &masters,
        &meta.namespace_entries(),
        meta.platform_keys().as_deref(),
    )?;
    let keys = platform_keys(&masters, &meta).await?;
    let identity = Identity::new(&keys, &options.admin_token).map_err(StartError::Other)?;
    drop(keys);

    let runtime = Runtime::new(
        RuntimeOptions {
            compiled_dir: options.compiled_dir.clone(),
            compiler: options.compiler.clone(),
            max_instances: u32::try_from(options.max_running).unwrap_or(u32::MAX),
            max_loaded_modules: LOADED_MODULES_MAX,
        },
        registry,
    )?;
    let vaults = Vaults::start(masters, VaultOptions::default(), thread()?, registry)?;
    let journal = Journal::start(
        journal_store.clone(),
        JournalOptions::default(),
        thread()?,
        registry,
    )?;
    let gather = Arc::new(Gather::new(journal.clone(), journal_store.clone()));
    gather.serve(&cluster);
    let blobs = BlobNet::start(blobs, cluster.clone(), registry)?;
    let modules = Arc::new(Modules::new(runtime.clone(), blobs.clone()));
    let metrics = Arc::new(worker::Metrics::register(registry)?);
    let limits = Limits {
        running: options.max_running,
        per_namespace: options.max_running_per_namespace,
        queued_per_namespace: options.max_queued_per_namespace,
        wait: options.max_queue_wait,
    };
    let sql = Sql::new(
        cluster.data().clone(),
        meta.clone(),
        options.database_max_bytes,
        registry,
    )?;
    let services: Arc<dyn HostServices> = Arc::new(NodeServices {
        meta: meta.clone(),
        vaults: vaults.clone(),
        sql: sql.clone(),
    });
    let router = Router::new(&cluster, registry)?;
    let invoker = Arc::new(Invoker {
        catalog: Arc::new(meta.clone()),
        confirmations: Confirmations::register(registry)?,
        runtime: runtime.clone(),
        modules: Arc::clone(&modules),
        admission: Admission::new(limits, Arc::clone(&metrics)),
        workers: Workers::new(),
        journal: journal.clone(),
        services,
        metrics,
        router: router.clone(),
    });
    let inner = Arc::new(Inner {
        cluster,
        meta,
        blobs,
        journal,
        journal_store,
        gather,
        visible: visible::Visible::default(),
        runtime,
        modules,
        vaults,
        sql,
        identity,
        invoker,
        router,
        deploys: Semaphore::new(DEPLOYS_AT_ONCE),
        deploying: OneAtATime::default(),
        rotation: Semaphore::new(1),
        metrics: Metrics::register(registry)?,
        upkeep: parking_lot::Mutex::new(Vec::new()),
    });
    visible::serve(&inner, &inner.cluster);
    // Last: from here on peers send invocations.
    inner
        .router
        .start(&inner.invoker)
        .map_err(|error| StartError::Other(format!("a thread cannot be started: {error}")))?;
    upkeep::start(&inner);
    let status = inner.master_key_status(0);
    log_master_keys(&status.active, &status.wrapped_by);
    Ok(Platform { inner })
}

/// A thread for actors that must not wait for requests, nor requests for them.
fn thread() -> Result<actix::Arbiter, StartError> {
    actix::Arbiter::try_new()
        .map_err(|error| StartError::Other(format!("a thread cannot be started: {error}")))
}

fn log_master_keys(active: &str, wrapped_by: &BTreeMap<String, u64>) {
    tracing::info!(active, "master keys open everything that is sealed");
    let older: u64 = wrapped_by
        .iter()
        .filter(|(id, _)| *id != active)
        .map(|(_, count)| count)
        .sum();
    if older > 0 {
        tracing::warn!(
            active,
            older,
            "keys are still wrapped by an older master key; rotate to finish the change"
        );
    }
}

/// The cluster's own keys, made when it has none. Several nodes may try at
/// once; whoever's are replicated first, everyone reads.
async fn platform_keys(masters: &MasterKeys, meta: &MetaStore) -> Result<PlatformKeys, StartError> {
    if meta.platform_keys().is_none() {
        let sealed = PlatformKeys::generate().wrap(masters)?;
        let command = MetaCommand::InitPlatformKeys { sealed };
        let request_id = RequestId::random();
        let deadline = Instant::now() + KEYS_WITHIN;
        loop {
            match meta.propose(&request_id, command.clone()).await {
                Ok(_) => break,
                // A leader is being elected, or died with the answer. Making the
                // keys twice is harmless: the first ones stay.
                Err(ProposeError::NoLeader | ProposeError::Unknown(_))
                    if Instant::now() < deadline && meta.platform_keys().is_none() =>
                {
                    tokio::time::sleep(KEYS_AGAIN).await;
                }
                Err(_) if meta.platform_keys().is_some() => break,
                Err(error) => {
                    let text = format!("the cluster's keys cannot be made: {error}");
                    return Err(StartError::Other(text));
                }
            }
        }
    }
    match meta.platform_keys() {
        Some(wrapped) => Ok(PlatformKeys::unwrap(masters, &wrapped)?),
        None => Err(VaultError::Unavailable("the cluster has no keys".to_owned()).into()),
    }
}

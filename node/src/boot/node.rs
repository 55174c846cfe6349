//! Starting, serving, draining.
//!
//! A node of a cluster may look for its peers for a long time before it serves.
//! Meanwhile `/livez` is true and `/readyz` says what it waits for, and a signal
//! stops it. A node that was removed from its cluster drains and stops by itself.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use orama_actors::runtime::Compiler;
use orama_actors::vault::MasterKeys;
use orama_actors::{Platform, PlatformOptions};
use orama_cluster::{BlobStore, Cluster, ClusterOptions, DataDir, JournalStore};
use prometheus::Registry;
use tokio::sync::watch;

use super::dev;
use super::signals::{StopSignals, stop_now};
use crate::config::{ADMIN_TOKEN, Config, MASTER_KEY, Mode};
use crate::gateway::health::Health;
use crate::gateway::{self, Gateway, GatewayOptions, NodeFacts};
use crate::metrics::{self, MetricsServer};

/// What the platform has at least for its own drain, when requests used up the time.
const PLATFORM_DRAIN_MIN: Duration = Duration::from_secs(2);

/// A node that serves.
struct Running {
    /// Turns true when the node was removed from its cluster.
    removed: watch::Receiver<bool>,
    platform: Platform,
    gateway: Gateway,
    metrics: MetricsServer,
    health: Health,
    /// Holds the lock until everything has stopped.
    _dir: DataDir,
}

/// Runs a node on the current actix system until it is told to stop.
///
/// # Errors
/// For the operator.
pub(super) async fn serve(config: Config) -> anyhow::Result<()> {
    let mut signals = StopSignals::new().context("signals cannot be received")?;
    let drain_timeout = config.drain_timeout;
    let running = tokio::select! {
        running = start(config) => running?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped before the node was ready");
            return Ok(());
        }
    };
    let Running {
        mut removed,
        platform,
        gateway,
        metrics,
        health,
        _dir,
    } = running;
    let Gateway { handle, server, .. } = gateway;
    let mut server = actix::spawn(server);
    let asked = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, limit = ?drain_timeout, "draining");
            health.set_draining();
            true
        }
        () = turned_true(&mut removed) => {
            tracing::warn!(
                limit = ?drain_timeout,
                "this node was removed from its cluster: draining, then it stops for good"
            );
            health.set_removed();
            false
        }
        ended = &mut server => {
            let problem = match ended {
                Ok(Ok(())) => "it ended by itself".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            anyhow::bail!("the gateway has stopped: {problem}");
        }
    };
    let drained = async {
        let start = Instant::now();
        // Listeners close at once; requests being answered go on, up to the limit that
        // the gateway was given. Meanwhile others take over what this node leads, and
        // send it nothing any more.
        tokio::join!(handle.stop(true), platform.step_down());
        let left = drain_timeout.saturating_sub(start.elapsed());
        // Hands over what this node leads, then closes the links.
        let cut = platform.drain(left.max(PLATFORM_DRAIN_MIN)).await;
        metrics.handle.stop(false).await;
        cut
    };
    tokio::select! {
        cut = drained => {
            if cut > 0 {
                tracing::warn!(cut, "invocations were cut off by the drain limit");
            }
            tracing::info!("stopped");
            Ok(())
        }
        signal = impatient(&mut signals, asked) => {
            tracing::warn!(signal, "second signal: stopping at once");
            stop_now()
        }
    }
}

/// Waits for the signal that means "at once": the second one. Whoever removed a node
/// sends it a first one too.
async fn impatient(signals: &mut StopSignals, asked: bool) -> &'static str {
    if !asked {
        let signal = signals.next().await;
        tracing::info!(signal, "draining already");
    }
    signals.next().await
}

/// Waits until the watch is true; for ever when nobody can set it any more.
async fn turned_true(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|set| *set).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What the settings say about the node's part in a cluster.
fn cluster_options(config: &mut Config) -> ClusterOptions {
    ClusterOptions {
        name: config.node_name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        links: config.links.take(),
        snapshot_every: config.snapshot_every,
        data_groups: config.data_groups,
        replace_after: config.replace_after,
        ..ClusterOptions::default()
    }
}

async fn start(mut config: Config) -> anyhow::Result<Running> {
    let began = Instant::now();
    let health = Health::starting();
    let registry = Registry::new();
    let dir = DataDir::open(&config.data_dir).map_err(plain)?;
    let metrics = metrics::start(config.metrics_addr, health.clone(), &registry).map_err(plain)?;
    if config.mode == Mode::Dev {
        dev::fill_secrets(&mut config, &dir)?;
    }
    let master_key = config.master_key.take().context(MASTER_KEY)?;
    let admin_token = config.admin_token.take().context(ADMIN_TOKEN)?;
    let master_keys = MasterKeys::parse(master_key.expose()).map_err(plain)?;
    drop(master_key);

    let options = cluster_options(&mut config);
    if options.links.is_some() {
        health.set_waiting("it is looking for its cluster or waiting for a majority of it");
    }
    let cluster = Cluster::start(&dir, options, &registry)
        .await
        .map_err(plain)?;
    health.set_waiting("it opens what it stores");
    let (node_id, removed) = (cluster.node_id(), cluster.removed());
    let mesh = cluster.mesh().map(|mesh| mesh.addresses());
    let blobs = BlobStore::open(&dir.blobs(), &registry)
        .with_context(|| format!("blobs in {}", dir.blobs().display()))?;
    let journal = JournalStore::open(&dir.journal()).map_err(plain)?;
    let options = PlatformOptions {
        compiled_dir: dir.compiled(),
        compiler: Compiler::this_program(),
        master_keys,
        admin_token: admin_token.expose().clone(),
        max_running: config.max_running,
        max_running_per_namespace: config.max_running_per_namespace,
        max_queued_per_namespace: config.max_queued_per_namespace,
        max_queue_wait: config.max_queue_wait,
        database_max_bytes: config.database_max_bytes,
    };
    let platform = Platform::start(options, cluster, blobs, journal, &registry)
        .await
        .map_err(plain)?;
    let gateway = gateway::start(
        GatewayOptions {
            addr: config.http_addr,
            workers: config.workers,
            max_connections: config.max_connections,
            base_domain: config.base_domain.clone(),
            drain_timeout: config.drain_timeout,
            facts: NodeFacts {
                node_id: node_id.to_string(),
                node_name: config.node_name.clone(),
            },
        },
        platform.clone(),
        health.clone(),
        &registry,
    )
    .map_err(plain)?;
    let greeting = match config.mode {
        Mode::Node => String::new(),
        Mode::Dev => dev::settle(&platform, &dir, gateway.addr, &admin_token).await?,
    };
    health.set_ready();
    announce(gateway.addr, metrics.addr, mesh.as_deref(), &greeting);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = %node_id,
        name = config.node_name,
        http = %gateway.addr,
        metrics = %metrics.addr,
        mesh = mesh.unwrap_or_default().join(" "),
        data_dir = %dir.path().display(),
        workers = config.workers,
        ready_after = ?began.elapsed(),
        "ready"
    );
    Ok(Running {
        removed,
        platform,
        gateway,
        metrics,
        health,
        _dir: dir,
    })
}

/// The error's own text: ours name their cause in it, and the chain that is
/// printed at the end would say it again.
fn plain(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

/// Tells on stdout where the node is; scripts read it, because port 0 picks a port.
fn announce(http: SocketAddr, metrics: SocketAddr, mesh: Option<&[String]>, greeting: &str) {
    let mut out = std::io::stdout().lock();
    let text = announcement(http, metrics, mesh, greeting);
    // Nobody needs to listen.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// One line for each door; the mesh's has all its addresses, with spaces between.
fn announcement(
    http: SocketAddr,
    metrics: SocketAddr,
    mesh: Option<&[String]>,
    greeting: &str,
) -> String {
    let mesh = mesh
        .map(|addresses| format!("mesh on {}\n", addresses.join(" ")))
        .unwrap_or_default();
    format!("listening on http://{http}\nmetrics on http://{metrics}\n{mesh}{greeting}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mesh_is_announced_only_where_there_is_one() {
        let (http, metrics) = (
            "127.0.0.1:1".parse().unwrap(),
            "127.0.0.1:2".parse().unwrap(),
        );
        assert_eq!(
            announcement(http, metrics, None, ""),
            "listening on http://127.0.0.1:1\nmetrics on http://127.0.0.1:2\n"
        );
        let mesh = [
            "/ip4/127.0.0.1/tcp/3".to_owned(),
            "/ip6/::1/tcp/3".to_owned(),
        ];
        assert!(
            announcement(http, metrics, Some(&mesh), "")
                .ends_with("\nmesh on /ip4/127.0.0.1/tcp/3 /ip6/::1/tcp/3\n")
        );
    }

    #[tokio::test]
    async fn a_node_stops_when_it_was_removed_and_not_when_nobody_watches() {
        let (set, mut flag) = watch::channel(false);
        set.send_replace(true);
        turned_true(&mut flag).await;
        let (set, mut flag) = watch::channel(false);
        drop(set);
        let waited = tokio::time::timeout(Duration::from_millis(20), turned_true(&mut flag));
        assert!(waited.await.is_err());
    }
}

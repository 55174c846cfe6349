//! Single-row writes per second, and how many of them share a sync.

use std::fmt::Write as _;
use std::time::Duration;

use orama_benches::baseline::{fdatasync_rate, log_work, sqlite_writes};
use orama_benches::etcd::Etcd;
use orama_benches::figures::shown;
use orama_benches::load::{Measured, measure, together};
use orama_benches::nodes::settled;
use orama_tests::Tenant;
use orama_tests::cluster::Cluster;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{VALUE, exec, goal, with_table};

const CLIENTS: [usize; 4] = [1, 16, 64, 256];
/// Namespaces that the clients share, over all data groups.
const NAMESPACES: usize = 8;

/// Inserts by `clients` clients: a third of them through each node, each into one of `tenants`.
async fn inserts(
    cluster: &Cluster,
    tenants: &[Tenant],
    clients: usize,
    length: Duration,
) -> anyhow::Result<Measured> {
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let tenant = &tenants[client % tenants.len()];
        let request = exec(
            tenant,
            "INSERT INTO t(v) VALUES (?)",
            json!(["v".repeat(VALUE)]),
        );
        let to = cluster.node(client % cluster.len()).addr();
        tasks.spawn(async move { measure(to, &request, 1, length).await });
    }
    together(tasks).await
}

struct Row {
    clients: usize,
    disk: f64,
    measured: Measured,
    per_sync: f64,
}

/// One load, with the disk's rate right before it.
async fn row(
    cluster: &Cluster,
    tenants: &[Tenant],
    clients: usize,
    length: Duration,
) -> anyhow::Result<Row> {
    let disk = tokio::task::spawn_blocking(move || fdatasync_rate(VALUE, length / 4)).await??;
    inserts(cluster, tenants, clients, length / 4).await?;
    let before = log_work(cluster).await;
    let measured = inserts(cluster, tenants, clients, length).await?;
    let after = log_work(cluster).await;
    // Every write is in the log of every replica, however many share an entry there.
    let copies = (measured.latencies.len() * cluster.len()) as f64;
    let per_sync = copies / (after.0 - before.0).max(1.0);
    Ok(Row {
        clients,
        disk,
        measured,
        per_sync,
    })
}

pub(crate) async fn section() -> anyhow::Result<String> {
    let length = crate::length();
    let mut text = format!(
        "## Single-row writes per second\n\n`INSERT INTO t(v) VALUES (?)` with {VALUE} bytes, over HTTP keep-alive to all three nodes in turn, {} s each, into {NAMESPACES} namespaces. \
         etcd: `/v3/kv/put` of three local members. SQLite alone: one thread, WAL, synchronous=FULL. The disk: appends of as many bytes, each with an fdatasync. All in the same run. Writes per fsync: a write's copies on three nodes by all syncs of the log.\n\n\
         | clients | disk fdatasync/s | ours/s | p50 | p99 | writes per fsync | etcd/s | p50 | p99 | ours of etcd |\n|---|---|---|---|---|---|---|---|---|---|\n",
        length.as_secs()
    );
    let (mut rows, single) = {
        let cluster = settled(3, &[]).await;
        let mut tenants = Vec::new();
        for i in 0..NAMESPACES {
            tenants.push(with_table(&cluster, &format!("writes-{i}")).await?);
        }
        let mut rows = Vec::new();
        for clients in CLIENTS {
            rows.push(row(&cluster, &tenants, clients, length).await?);
        }
        // All of them in one namespace: one writer, one group.
        let single = row(&cluster, &tenants[..1], 256, length).await?;
        (rows, single)
    };
    let alone = tokio::task::spawn_blocking(move || sqlite_writes(1, VALUE, length)).await??;
    // One after the other: they would share cores and disk.
    let etcd = Etcd::start().await?;
    let (mut ahead, mut per_sync) = (None, 0.0);
    for row in rows.drain(..) {
        write!(
            text,
            "| {} | {:.0} | {} | {:.1} |",
            row.clients,
            row.disk,
            row.measured.columns(),
            row.per_sync
        )?;
        per_sync = row.per_sync;
        let Some(etcd) = &etcd else {
            writeln!(text, " | | | |")?;
            continue;
        };
        etcd.puts(row.clients, VALUE, length / 4).await?;
        let peer = etcd.puts(row.clients, VALUE, length).await?;
        let ratio = row.measured.per_second / peer.per_second;
        ahead = Some(ratio);
        writeln!(text, " {} | **{ratio:.2}** |", peer.columns(),)?;
    }
    writeln!(
        text,
        "\n256 clients in one namespace: {:.0}/s, p50 {}, p99 {}, {:.1} writes per fsync. SQLite alone: {:.0}/s, p50 {}, p99 {}.\n",
        single.measured.per_second,
        shown(single.measured.latencies.percentile(0.5)),
        shown(single.measured.latencies.percentile(0.99)),
        single.per_sync,
        alone.per_second,
        shown(alone.latencies.percentile(0.5)),
        shown(alone.latencies.percentile(0.99)),
    )?;
    match &etcd {
        Some(etcd) => writeln!(text, "etcd: {}.\n", etcd.version)?,
        None => writeln!(text, "**etcd is not installed: no comparison.**\n")?,
    }
    text.push_str(&goal(
        &format!("at least 20 writes per fsync at 256 clients ({per_sync:.1})"),
        per_sync >= 20.0,
    ));
    if let Some(ratio) = ahead {
        text.push_str(&goal(
            &format!("more writes than etcd at 256 clients ({ratio:.2})"),
            ratio > 1.0,
        ));
    }
    Ok(text)
}

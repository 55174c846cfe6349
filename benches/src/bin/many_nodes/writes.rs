//! (b) Committed writes per second, beside the disk's own rate, and (c) the
//! same load against etcd: both pay for HTTP with keep-alive.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use orama_benches::figures::{Latencies, shown};
use orama_benches::load::{Measured, Request, measure};
use orama_tests::cluster::Cluster;

use crate::etcd::Etcd;

const CLIENTS: [usize; 4] = [1, 16, 64, 256];
/// Bytes of a value.
const VALUE: usize = 100;

/// Appends of a value's size, each with its own fdatasync, per second.
fn disk_rate(length: Duration) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let mut file = File::create(dir.path().join("log"))?;
    let (began, mut count) = (Instant::now(), 0u64);
    while began.elapsed() < length {
        file.write_all(&[7; VALUE])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// Writes per second to registers of the data groups, each through the group's leader's gateway
/// or not, as it comes: a third of the clients talks to each node.
async fn ours(cluster: &Cluster, clients: usize, length: Duration) -> anyhow::Result<Measured> {
    let groups = cluster.data_groups(0).await;
    let token = cluster.node(0).admin_token().to_owned();
    let body = format!(r#"{{"value":"{}"}}"#, "v".repeat(VALUE));
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..clients {
        let group = groups[client % groups.len()];
        let path = format!("/v1/admin/cluster/groups/{group}/registers/c{client}");
        let request = Request::send("PUT", &path, Some(&token), body.as_bytes());
        let to = cluster.node(client % cluster.len()).addr();
        tasks.spawn(async move { measure(to, &request, 1, length).await });
    }
    together(tasks).await
}

async fn theirs(
    members: &[SocketAddr],
    clients: usize,
    length: Duration,
) -> anyhow::Result<Measured> {
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..clients {
        let body = Etcd::put_body(&format!("c{client}"), &"v".repeat(VALUE));
        let request = Request::send("POST", "/v3/kv/put", None, body.as_bytes());
        let to = members[client % members.len()];
        tasks.spawn(async move { measure(to, &request, 1, length).await });
    }
    together(tasks).await
}

/// The sum of what single clients measured.
async fn together(
    mut tasks: tokio::task::JoinSet<anyhow::Result<Measured>>,
) -> anyhow::Result<Measured> {
    let (mut per_second, mut all) = (0.0, Vec::new());
    while let Some(done) = tasks.join_next().await {
        let measured = done??;
        per_second += measured.per_second;
        all.extend(measured.latencies.into_nanos());
    }
    Ok(Measured {
        per_second,
        latencies: Latencies::new(all),
    })
}

/// Syncs of the log that all nodes have made, and entries they appended.
async fn log_work(cluster: &Cluster) -> (f64, f64) {
    let (mut syncs, mut entries) = (0.0, 0.0);
    for i in 0..cluster.len() {
        let node = cluster.node(i);
        syncs += node.metric("orama_raft_log_sync_seconds_count").await;
        entries += node.metric("orama_raft_log_batch_entries_sum").await;
    }
    (syncs, entries)
}

pub(crate) async fn section() -> anyhow::Result<String> {
    let length = crate::length();
    let mut text = format!(
        "## Committed writes per second\n\nValues of {VALUE} bytes, over HTTP keep-alive to all three nodes in turn, {} s each, fsync on. Ours: registers in the data groups. etcd: `/v3/kv/put` of three local members. \
         The disk: appends of as many bytes by one thread, each with an fdatasync, in the same run. Entries per fsync: over all nodes, by their metrics. Goals: ahead of etcd at 64 and 256 clients, at least 20 per fsync at 256.\n\n\
         | clients | disk fdatasync/s | ours/s | p50 | p99 | entries per fsync | etcd/s | p50 | p99 | ours of etcd |\n|---|---|---|---|---|---|---|---|---|---|\n",
        length.as_secs()
    );
    let mut rows = Vec::new();
    {
        let cluster = crate::three(&[]).await;
        for clients in CLIENTS {
            let disk = tokio::task::spawn_blocking(move || disk_rate(length / 4)).await??;
            ours(&cluster, clients, length / 4).await?;
            let before = log_work(&cluster).await;
            let measured = ours(&cluster, clients, length).await?;
            let after = log_work(&cluster).await;
            let per_sync = (after.1 - before.1) / (after.0 - before.0).max(1.0);
            rows.push((clients, disk, measured, per_sync));
        }
    }
    // One after the other: they would share cores and disk.
    let etcd = Etcd::start().await?;
    for (clients, disk, measured, per_sync) in rows {
        write!(
            text,
            "| {clients} | {disk:.0} | {:.0} | {} | {} | {per_sync:.1} |",
            measured.per_second,
            shown(measured.latencies.percentile(0.5)),
            shown(measured.latencies.percentile(0.99)),
        )?;
        match &etcd {
            Some(etcd) => {
                theirs(&etcd.clients, clients, length / 4).await?;
                let peer = theirs(&etcd.clients, clients, length).await?;
                writeln!(
                    text,
                    " {:.0} | {} | {} | **{:.2}** |",
                    peer.per_second,
                    shown(peer.latencies.percentile(0.5)),
                    shown(peer.latencies.percentile(0.99)),
                    measured.per_second / peer.per_second
                )?;
            }
            None => writeln!(text, " | | | |")?,
        }
    }
    match &etcd {
        Some(etcd) => writeln!(text, "\netcd: {}.", etcd.version)?,
        None => writeln!(text, "\n**etcd is not installed: no comparison.**")?,
    }
    Ok(text)
}

//! (b) Committed writes per second, beside the disk's own rate, and (c) the
//! same load against etcd: both pay for HTTP with keep-alive.

use std::fmt::Write as _;
use std::time::Duration;

use orama_benches::baseline::{self, log_work};
use orama_benches::etcd::Etcd;
use orama_benches::load::{Measured, Request, measure, together};
use orama_benches::nodes::settled;
use orama_tests::cluster::Cluster;

const CLIENTS: [usize; 4] = [1, 16, 64, 256];
/// Bytes of a value.
const VALUE: usize = 100;

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
        let cluster = settled(3, &[]).await;
        for clients in CLIENTS {
            let disk =
                tokio::task::spawn_blocking(move || baseline::fdatasync_rate(VALUE, length / 4))
                    .await??;
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
            "| {clients} | {disk:.0} | {} | {per_sync:.1} |",
            measured.columns(),
        )?;
        match &etcd {
            Some(etcd) => {
                etcd.puts(clients, VALUE, length / 4).await?;
                let peer = etcd.puts(clients, VALUE, length).await?;
                writeln!(
                    text,
                    " {} | **{:.2}** |",
                    peer.columns(),
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

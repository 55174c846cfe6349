//! (a) An invocation that runs on a peer because there is no place here,
//! against one that runs here: the same client, the same function.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use orama_benches::figures::{Latencies, shown};
use orama_benches::nodes::settled;
use orama_tests::{Deploy, Tenant, guests};

/// How long the slow guest keeps the place.
const ROUND: Duration = Duration::from_secs(20);
/// Guests that a node runs at once.
const PLACES: usize = 8;

pub(crate) async fn section() -> anyhow::Result<String> {
    let places = PLACES.to_string();
    let cluster = settled(3, &["--max-running", &places]).await;
    let tenant = cluster.node(0).tenant("bench").await;
    tenant.deploy(Deploy::new("echo", &guests::echo())).await;
    let slow = guests::sleeper(u64::try_from(ROUND.as_millis())?);
    tenant.deploy(Deploy::new("slow", &slow).timeout(60)).await;
    for i in 0..3 {
        let through = cluster.node(i).tenant_of(&tenant);
        for _ in 0..200 {
            through.invoke("echo", "[0]").await;
        }
    }
    let own = tenant.invoke("echo", "[0]").await;
    let own = own.header("x-orama-node").to_owned();
    let (local, strayed) = measure(&tenant, &own, crate::length()).await?;
    ensure!(
        strayed.len() * 100 <= local.len(),
        "an idle node forwarded {} of {}",
        strayed.len(),
        local.len()
    );
    // Guests that sleep take every place.
    let mut busy = tokio::task::JoinSet::new();
    for _ in 0..PLACES {
        let tenant = tenant.with_own_connections();
        busy.spawn(async move { tenant.invoke_or_die("slow", "").await });
    }
    let began = Instant::now();
    loop {
        let reply = tenant.invoke("echo", "[0]").await;
        if reply.status == 200 && reply.header("x-orama-node") != own {
            break;
        }
        ensure!(began.elapsed() < ROUND, "nothing was forwarded");
    }
    let left = ROUND
        .saturating_sub(began.elapsed() + Duration::from_secs(2))
        .min(crate::length());
    let (strayed, forwarded) = measure(&tenant, &own, left).await?;
    ensure!(!forwarded.is_empty(), "nothing was forwarded");
    busy.abort_all();
    let mut text = String::from(
        "## A forwarded invocation against a local one\n\nEcho of 3 bytes, one client on one keep-alive connection. Sleeping guests keep every place of the node, so that a peer runs the echo. Goal: under 300 µs more at p50.\n\n| | calls | p50 | p99 |\n|---|---|---|---|\n",
    );
    for (name, latencies) in [("local", &local), ("forwarded", &forwarded)] {
        writeln!(
            text,
            "| {name} | {} | {} | {} |",
            latencies.len(),
            shown(latencies.percentile(0.5)),
            shown(latencies.percentile(0.99))
        )?;
    }
    let more = |fraction| {
        let local = local.percentile(fraction);
        shown(forwarded.percentile(fraction).saturating_sub(local))
    };
    writeln!(
        text,
        "| **difference** | | **{}** | {} |\n\n{} calls ran here all the same and are left out.",
        more(0.5),
        more(0.99),
        strayed.len()
    )?;
    drop(cluster);
    Ok(text)
}

/// Latencies of one client's invocations that ran on the node itself, and of those that did not.
async fn measure(
    tenant: &Tenant,
    own: &str,
    length: Duration,
) -> anyhow::Result<(Latencies, Latencies)> {
    let (mut here, mut there) = (Vec::new(), Vec::new());
    let began = Instant::now();
    while began.elapsed() < length {
        let sent = Instant::now();
        let reply = tenant.invoke("echo", "[1]").await;
        let nanos = u64::try_from(sent.elapsed().as_nanos()).context("a latency")?;
        ensure!(reply.status == 200, "{reply:?}");
        if reply.header("x-orama-node") == own {
            here.push(nanos);
        } else {
            there.push(nanos);
        }
    }
    Ok((Latencies::new(here), Latencies::new(there)))
}

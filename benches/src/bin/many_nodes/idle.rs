//! (d) What a group costs that does nothing: two clusters that differ in
//! their number of data groups only.

use std::fmt::Write as _;
use std::time::Duration;

use orama_benches::nodes::settled;
use orama_tests::cluster::Cluster;

const FEW: u32 = 4;
const MANY: u32 = 64;

/// Of all nodes together.
struct Cost {
    resident: u64,
    cpu_seconds: f64,
    mesh_bytes: f64,
}

/// User and system time of a process, seconds.
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces; user and system time are the
    // 12th and 13th field after it, in ticks of a hundredth.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(ticks as f64 / 100.0)
}

async fn cost(cluster: &Cluster) -> anyhow::Result<Cost> {
    let mut sum = Cost {
        resident: 0,
        cpu_seconds: 0.0,
        mesh_bytes: 0.0,
    };
    for i in 0..cluster.len() {
        let node = cluster.node(i);
        sum.resident += node.resident_bytes();
        sum.cpu_seconds += cpu_seconds(node.pid())?;
        sum.mesh_bytes += node.metric("orama_mesh_bytes_total").await;
    }
    Ok(sum)
}

/// What an idle cluster with so many data groups costs: bytes in memory, CPU
/// and mesh bytes per second.
async fn idle(groups: u32) -> anyhow::Result<(f64, f64, f64)> {
    let cluster = settled(3, &["--data-groups", &groups.to_string()]).await;
    // Elections and snapshots of the start are over.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let length = crate::length() * 4;
    let before = cost(&cluster).await?;
    tokio::time::sleep(length).await;
    let after = cost(&cluster).await?;
    let seconds = length.as_secs_f64();
    Ok((
        after.resident as f64,
        (after.cpu_seconds - before.cpu_seconds) / seconds,
        // Each byte is counted by its sender and its receiver.
        (after.mesh_bytes - before.mesh_bytes) / seconds / 2.0,
    ))
}

pub(crate) async fn section() -> anyhow::Result<String> {
    let few = idle(FEW).await?;
    let many = idle(MANY).await?;
    let mut text = String::from(
        "## An idle group\n\nThree nodes, nothing to do, all three replicas of a group together. CPU in thousandths of a core.\n\n| data groups | memory | CPU | mesh |\n|---|---|---|---|\n",
    );
    let mut row = |name: String, (bytes, cpu, mesh): (f64, f64, f64)| {
        writeln!(
            text,
            "| {name} | {:.2} MiB | {:.2} | {mesh:.0} bytes/s |",
            bytes / 1_048_576.0,
            cpu * 1_000.0
        )
    };
    row(FEW.to_string(), few)?;
    row(MANY.to_string(), many)?;
    let groups = f64::from(MANY - FEW);
    let each = (
        (many.0 - few.0) / groups,
        (many.1 - few.1) / groups,
        (many.2 - few.2) / groups,
    );
    row("**each**".into(), each)?;
    Ok(text)
}

//! Thousands of databases on one node: memory, open files, time to be back.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use orama_benches::nodes::settled;
use orama_tests::sql::many::{fill, open_files};
use orama_tests::{Node, setting};

use crate::goal;

/// Clients that make them.
const CLIENTS: usize = 32;

/// Memory and open files of a node.
fn cost(node: &Node) -> (u64, usize) {
    (node.resident_bytes(), open_files(node.pid()))
}

pub(crate) async fn section() -> anyhow::Result<String> {
    let count = setting("SQL_NAMESPACES", 2_000) as usize;
    let mut cluster = settled(1, &[]).await;
    let empty = cost(cluster.node(0));
    let began = Instant::now();
    fill(cluster.node(0), count, CLIENTS).await;
    let made = began.elapsed();
    let filled = cost(cluster.node(0));
    let crashed = cluster.node_mut(0).crash_and_restart().await;
    let after_crash = cost(cluster.node(0));
    cluster.stop(0).await;
    let stopped = cluster.start_node(0).await;
    let after_stop = cost(cluster.node(0));
    let mut text = format!(
        "## {count} databases on one node\n\nOne namespace each, with a table and a row; made in {:.1} s by {CLIENTS} clients.\n\n\
         | | memory | open files | ready after |\n|---|---|---|---|\n",
        made.as_secs_f64()
    );
    let mut row = |name: &str, (bytes, files): (u64, usize), ready: Option<Duration>| {
        let ready = ready.map_or(String::new(), |took| format!("**{} ms**", took.as_millis()));
        writeln!(
            text,
            "| {name} | {:.1} MiB | {files} | {ready} |",
            bytes as f64 / 1_048_576.0
        )
    };
    row("without any", empty, None)?;
    row("made just now", filled, None)?;
    row("after kill -9", after_crash, Some(crashed))?;
    row("after a clean stop", after_stop, Some(stopped))?;
    let grown = filled.0.saturating_sub(empty.0) as f64 / count as f64 / 1_024.0;
    writeln!(
        text,
        "\n{grown:.1} KiB more for each while they are made.\n"
    )?;
    let worst = crashed.max(stopped);
    text.push_str(&goal(
        &format!("ready in under 3 s ({} ms)", worst.as_millis()),
        worst < Duration::from_secs(3),
    ));
    Ok(text)
}

//! Three local nodes: what forwarding costs, how many writes are committed,
//! beside the disk's own rate and etcd's, and what an idle group costs.
//! Appends to `benches/RESULTS.md`.
//!
//! `cargo build --release --workspace --bins && cargo run --release -p orama-benches --bin many_nodes`
//!
//! `MANY_NODES_SECONDS` (5) sets how long each figure is measured. The etcd
//! part needs `etcd` on PATH (scripts/install-test-tools.sh) and is left out,
//! with a line that says so, without it.

#[path = "many_nodes/forwarding.rs"]
mod forwarding;
#[path = "many_nodes/idle.rs"]
mod idle;
#[path = "many_nodes/writes.rs"]
mod writes;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use orama_benches::facts;
use orama_tests::cluster::{Cluster, Convergence, Options};
use orama_tests::setting;

fn main() -> ExitCode {
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(all()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("many_nodes: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How long each figure is measured.
pub(crate) fn length() -> Duration {
    Duration::from_secs(setting("MANY_NODES_SECONDS", 5))
}

/// Three nodes that log little, settled.
pub(crate) async fn three(args: &[&str]) -> Cluster {
    let options = Options {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: vec![("ORAMA_LOG".into(), "warn".into())],
        ..Options::default()
    };
    let cluster = Cluster::start(3, options).await;
    let wanted = Convergence {
        members: 3,
        voters: 3,
    };
    cluster.converged(wanted, Duration::from_secs(120)).await;
    cluster
}

async fn all() -> anyhow::Result<()> {
    let mut report = String::from("\n# Many nodes: three on one machine\n\n");
    report.push_str("Made by `cargo build --release --workspace --bins && cargo run --release -p orama-benches --bin many_nodes`.\n\n");
    report.push_str(&facts::machine());
    if cfg!(debug_assertions) {
        report.push_str("- **a debug build: these figures mean nothing**\n");
    }
    for section in [
        forwarding::section().await.context("forwarding")?,
        writes::section().await.context("writes")?,
        idle::section().await.context("idle groups")?,
    ] {
        report.push('\n');
        report.push_str(&section);
    }
    println!("{report}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md");
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .and_then(|mut file| file.write_all(report.as_bytes()))
        .with_context(|| path.display().to_string())?;
    println!("appended to {}", path.display());
    Ok(())
}

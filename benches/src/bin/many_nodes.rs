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

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use orama_benches::report::Report;
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

async fn all() -> anyhow::Result<()> {
    let mut report = Report::new("Many nodes: three on one machine", "many_nodes");
    for section in [
        forwarding::section().await.context("forwarding")?,
        writes::section().await.context("writes")?,
        idle::section().await.context("idle groups")?,
    ] {
        report.push(&section);
    }
    report.print();
    report.append()
}

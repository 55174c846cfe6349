//! From arguments to a serving node, and back down again.
//!
//! The order of a start is the order of dependence: data directory and its
//! lock, metrics server (so that a slow recovery or a search for peers can be
//! watched), cluster (mesh, groups, membership), blobs, journal, platform,
//! gateway. A stop goes the other way.

mod dev;
mod keep;
mod node;
pub mod reexec;
mod signals;

use anyhow::Context;
use tokio::runtime::Builder;

use crate::config::{Config, DevArgs, NodeRunArgs};
use crate::logging;

/// Fewest threads of the runtime that consensus and the mesh run on: with one,
/// a single long poll would hold back heartbeats.
const CORE_THREADS_MIN: usize = 2;

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// What keeps the node from starting or from stopping in order; for the operator.
pub fn run_node(args: NodeRunArgs) -> anyhow::Result<()> {
    run(Config::for_node(&args, &environment)?)
}

/// Runs a development platform until it is told to stop.
///
/// # Errors
/// As [`run_node`].
pub fn run_dev(args: DevArgs) -> anyhow::Result<()> {
    run(Config::for_dev(&args, &environment)?)
}

fn run(config: Config) -> anyhow::Result<()> {
    logging::start(&config)?;
    raise_open_files();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = Builder::new_multi_thread()
        .worker_threads(cores.max(CORE_THREADS_MIN))
        .thread_name("orama-core")
        .enable_all()
        .build()
        .context("the threads cannot be started")?;
    // Control actors live on this thread; consensus, mesh and other spawned
    // work on the runtime's own. Guests never run on either: they run on the
    // threads that the gateway and the workers of forwarded calls bring.
    let system = actix::System::with_tokio_rt(move || runtime);
    system.block_on(node::serve(config))
}

/// Every connection and every open blob is a descriptor: take all we may have.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

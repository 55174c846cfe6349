//! The harness of the black-box tests: starts the real `orama` binary, talks
//! to it as a client would, and holds every answer against the contract.
//!
//! - [`Node`]: a process of `orama node run` with a data directory of its own.
//! - [`Tenant`]: a namespace on it, with typed calls that answer a [`Reply`].
//! - [`guests`]: WebAssembly modules made by real compilers, once per source.
//! - [`Orama`]: the command line in an isolated home.
//! - [`sql`]: namespaces' databases over HTTP, workloads for them, what replicas say of them.
//! - [`raw`]: requests no decent client would send.

mod check;
pub mod cli;
mod client;
pub mod cluster;
pub mod guests;
pub mod history;
mod node;
pub mod raw;
mod rng;
pub mod sql;

pub use check::{await_record, await_records, expect_failure, expect_success};
pub use cli::Orama;
pub use client::{Deploy, Reply, Tenant, http_client};
pub use node::{Gateway, Node, NodeBuilder, Refusal, master_key, orama_binary, target_dir};
pub use rng::Rng;

/// Seed of a randomised test: `ORAMA_TEST_SEED`, else drawn and printed, so
/// that a failure can be played again.
pub fn seed() -> u64 {
    let seed = std::env::var("ORAMA_TEST_SEED")
        .ok()
        .map(|text| text.parse().expect("ORAMA_TEST_SEED must be a number"))
        .unwrap_or_else(|| getrandom::u64().expect("the system's random source"));
    println!("seed: ORAMA_TEST_SEED={seed}");
    seed
}

/// A number from the environment, or a default.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map(|text| {
            text.parse()
                .unwrap_or_else(|_| panic!("{name} must be a number"))
        })
        .unwrap_or(default)
}

/// Lets this process hold enough sockets for thousands of connections.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted).expect("raising the limit of open files");
}

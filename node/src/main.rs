//! The binary `orama`: one program that is a node, a development platform and
//! the command line that talks to either.

mod boot;
mod cli;
mod config;
mod gateway;
mod logging;
mod metrics;

use std::process::ExitCode;

/// Chosen by measurement: see benches/RESULTS.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    boot::reexec::without_library_backtraces();
    cli::main()
}

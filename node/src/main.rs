//! The binary `orama`: one program that is a node, a development platform and
//! the command line that talks to either.

mod boot;
mod cli;
mod config;
mod gateway;
mod logging;
mod metrics;
mod statement;

use std::process::ExitCode;

use orama_actors::runtime::{COMPILE_ARGUMENT, compile_stdin};

/// malloc and free were 13 % of an invocation's time with the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A node compiles modules by starting this program with this word; nobody types it.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == COMPILE_ARGUMENT)
    {
        return compile_stdin().into();
    }
    boot::reexec::without_library_backtraces();
    cli::main()
}

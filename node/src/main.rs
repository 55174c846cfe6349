//! The binary.
mod boot;
mod cli;
mod config;

fn main() -> std::process::ExitCode {
    cli::main()
}

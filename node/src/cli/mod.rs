//! The command line: `dev` and `node run`.

pub mod environments;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{DevArgs, NodeRunArgs};

#[derive(Parser)]
#[command(name = "orama", version, about = "Self-hosted serverless functions")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a development platform on this machine.
    Dev(DevArgs),
    /// Run and look after a node.
    Node {
        #[command(subcommand)]
        command: NodeCommand,
    },
}

#[derive(Subcommand)]
enum NodeCommand {
    /// Run a node.
    Run(NodeRunArgs),
}

/// Parses the arguments and does what they say.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Dev(args) => crate::boot::run_dev(args),
        Command::Node {
            command: NodeCommand::Run(args),
        } => crate::boot::run_node(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! The command line `orama`: parses, decides where and as whom, calls the
//! gateway, prints. Starting a node is [`crate::boot`]'s work.
//!
//! Invariants:
//! - Only `target` decides which gateway is called and with what.
//! - Only `output` writes to stdout and stderr.
//! - With `--json`, stdout holds the API's answer and nothing else.

mod admin;
mod args;
mod auth;
mod client;
mod cluster;
mod credentials;
mod db;
mod env;
pub mod environments;
mod error;
mod files;
mod function;
#[cfg(test)]
mod harness;
mod interrupt;
mod output;
mod prompt;
#[cfg(test)]
mod scripted;
mod secrets;
mod table;
mod target;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command, GlobalArgs, NodeCommand};
use client::Client;
use error::{CliError, Exit};
use files::Home;
use output::Output;
use target::{Target, Variables};

/// Everything a command needs.
struct App {
    home: Home,
    vars: Variables,
    global: GlobalArgs,
    out: Output,
}

impl App {
    /// Where the command goes.
    fn target(&self) -> Result<Target, CliError> {
        Target::resolve(&self.home, &self.vars, &self.global)
    }

    /// A client with the namespace's credential.
    fn client(&self) -> Result<Client, CliError> {
        let target = self.target()?;
        let token = target.require_credential()?;
        Client::new(target.url, Some(token))
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return match e.exit_code() {
                0 => ExitCode::SUCCESS,
                _ => Exit::Usage.into(),
            };
        }
    };
    match cli.command {
        Command::Dev(args) => served(crate::boot::run_dev(*args)),
        Command::Node(NodeCommand::Run(args)) => served(crate::boot::run_node(*args)),
        command => {
            let mut out = Output::standard(cli.global.json);
            match call(cli.global, command, &mut out) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => match error.exit() {
                    Some(exit) => {
                        out.failure(&error);
                        exit.into()
                    }
                    None => ExitCode::SUCCESS,
                },
            }
        }
    }
}

fn served(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The causes belong to the message: they name the file or the key.
            Output::standard(false).failure(&CliError::Failed(format!("{error:#}")));
            Exit::Error.into()
        }
    }
}

fn call(global: GlobalArgs, command: Command, out: &mut Output) -> Result<(), CliError> {
    let mut app = App {
        home: Home::from_env()?,
        vars: Variables::from_env()?,
        out: Output::standard(global.json),
        global,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::Failed(format!("cannot start: {e}")))?;
    std::mem::swap(&mut app.out, out);
    let result = runtime.block_on(dispatch(&mut app, command));
    std::mem::swap(&mut app.out, out);
    // A thread may still wait for a line from the terminal.
    runtime.shutdown_background();
    result
}

async fn dispatch(app: &mut App, command: Command) -> Result<(), CliError> {
    match command {
        Command::Function(command) => function::run(app, command).await,
        Command::Secrets(command) => secrets::run(app, command).await,
        Command::Namespace(command) => admin::namespace(app, command).await,
        Command::Key(command) => admin::key(app, command).await,
        Command::Cluster(command) => cluster::run(app, command).await,
        Command::Db(command) => db::run(app, command).await,
        Command::Env(command) => env::run(app, command),
        Command::Auth(command) => auth::run(app, command).await,
        Command::Dev(_) | Command::Node(_) => Err(CliError::Failed(
            "a node is not started from here".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests;

//! `orama function …`.

mod build;
mod deploy;
mod follow;
mod init;
mod invoke;
mod logs;
mod manage;
mod project;
mod toolchain;

use orama_proto::FunctionName;

use super::args::FunctionCommand;
use super::error::CliError;
use super::{App, secrets};

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub async fn run(app: &mut App, command: FunctionCommand) -> Result<(), CliError> {
    match command {
        FunctionCommand::Init { name } => init::run(app, &name),
        FunctionCommand::Build(args) => build::run(app, &args.dir),
        FunctionCommand::Deploy(args) => deploy::run(app, &args).await,
        FunctionCommand::Invoke(args) => invoke::run(app, args).await,
        FunctionCommand::List => manage::list(app).await,
        FunctionCommand::Get { name } => manage::get(app, &name).await,
        FunctionCommand::Delete { name, force } => manage::delete(app, &name, force).await,
        FunctionCommand::Logs(args) => logs::run(app, args).await,
        FunctionCommand::Versions { name } => manage::versions(app, &name).await,
        FunctionCommand::Rollback { name, version } => manage::rollback(app, &name, version).await,
        FunctionCommand::Enable { name } => manage::set_enabled(app, &name, true).await,
        FunctionCommand::Disable { name } => manage::set_enabled(app, &name, false).await,
        FunctionCommand::Secrets(command) => secrets::run(app, command).await,
    }
}

/// A function's name as an argument.
fn named(text: &str) -> Result<FunctionName, CliError> {
    FunctionName::parse(text)
        .map_err(|e| CliError::Usage(format!("invalid function name {}: {}", e.given, e.rule)))
}

/// `NAME` or `NAME@VERSION` as an argument. Strict: what is not a version must
/// not quietly become the latest one.
fn addressed(text: &str) -> Result<String, CliError> {
    let Some((name, version)) = text.split_once('@') else {
        return Ok(named(text)?.to_string());
    };
    let name = named(name)?;
    match version.parse::<u64>() {
        Ok(number) if number > 0 && version.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(format!("{name}@{number}"))
        }
        _ => Err(CliError::Usage(format!(
            "{version:?} is not a version: expected NAME@N with N a number from 1"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_strictly() {
        assert_eq!(addressed("f").unwrap(), "f");
        assert_eq!(addressed("f@12").unwrap(), "f@12");
        for bad in [
            "f@", "f@abc", "f@0", "f@-1", "f@+1", "f@1@2", "a/b", "..", "@1", "🚀",
        ] {
            assert!(matches!(addressed(bad), Err(CliError::Usage(_))), "{bad}");
        }
    }
}

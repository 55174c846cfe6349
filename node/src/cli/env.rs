//! `orama env …`.

use serde_json::json;

use super::App;
use super::args::EnvCommand;
use super::environments::{Environment, Environments};
use super::error::CliError;
use super::table::Table;

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub fn run(app: &mut App, command: EnvCommand) -> Result<(), CliError> {
    match command {
        EnvCommand::Add {
            name,
            url,
            description,
        } => {
            let new = Environments::update(&app.home, |all| all.add(&name, &url, &description))?;
            let all = Environments::load(&app.home)?;
            if app.out.json() {
                return match all.find(&name) {
                    Some(found) => app.out.value(&shown(found)),
                    None => Ok(()),
                };
            }
            app.out.line(if new {
                format!(
                    "Environment {name:?} added; `orama env use {name}` makes it the active one."
                )
            } else {
                format!("Environment {name:?} changed.")
            })
        }
        EnvCommand::Use { name } => {
            Environments::update(&app.home, |all| all.activate(&name))?;
            current(app, true)
        }
        EnvCommand::List => {
            let all = Environments::load(&app.home)?;
            if app.out.json() {
                let list: Vec<_> = all.all().iter().map(shown).collect();
                return app
                    .out
                    .value(&json!({"count": list.len(), "environments": list}));
            }
            let mut table = Table::new(&["ACTIVE", "NAME", "URL", "DESCRIPTION"]);
            for one in all.all() {
                table.row([
                    if one.is_active { "*" } else { "" }.to_owned(),
                    one.name.clone(),
                    one.gateway_url.clone(),
                    one.description.clone(),
                ]);
            }
            app.out.table(&table, "No environments.")
        }
        EnvCommand::Current => current(app, false),
        EnvCommand::Remove { name } => {
            Environments::update(&app.home, |all| all.remove(&name))?;
            if app.out.json() {
                return app.out.value(&json!({"removed": name}));
            }
            app.out.line(format!("Environment {name:?} removed."))
        }
    }
}

fn current(app: &mut App, switched: bool) -> Result<(), CliError> {
    let target = app.target()?;
    if app.out.json() {
        return app.out.value(&json!({
            "name": target.environment,
            "gateway_url": target.key(),
            "source": target.source,
        }));
    }
    let url = target.key();
    match &target.environment {
        Some(name) => app.out.line(format!("{name}  {url}")),
        None => {
            if switched {
                app.out.warn(format_args!(
                    "{} is set and wins over the active environment",
                    target.source
                ));
            }
            app.out.line(format!("{url}  (from {})", target.source))
        }
    }
}

fn shown(one: &Environment) -> serde_json::Value {
    json!({
        "name": one.name,
        "gateway_url": one.gateway_url,
        "description": one.description,
        "is_active": one.is_active,
    })
}

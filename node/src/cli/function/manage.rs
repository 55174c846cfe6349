//! `orama function list|get|delete|versions|rollback|enable|disable`.

use orama_proto::api::{
    DeployResponse, EnabledResponse, FunctionList, Message, RollbackRequest, VersionList,
};
use orama_proto::function::FunctionStatus;
use reqwest::Method;
use serde_json::Value;

use super::super::App;
use super::super::error::CliError;
use super::super::output::short_time;
use super::super::prompt::confirm;
use super::super::table::Table;
use super::{addressed, named};

/// `list`.
///
/// # Errors
/// See [`CliError`].
pub async fn list(app: &mut App) -> Result<(), CliError> {
    let answer = app.client()?.get(&["functions"], &[]).await?;
    if app.out.json() {
        return app.out.raw(&answer.body);
    }
    let list: FunctionList = answer.parse()?;
    let mut table = Table::new(&["NAME", "VERSION", "STATUS", "MEMORY", "TIMEOUT", "PUBLIC"]);
    for one in &list.functions {
        table.row([
            one.name.clone(),
            one.version.to_string(),
            status(one.status).to_owned(),
            format!("{}MB", one.memory_limit_mb),
            format!("{}s", one.timeout_seconds),
            if one.is_public { "yes" } else { "no" }.to_owned(),
        ]);
    }
    app.out.table(&table, "No functions deployed.")?;
    if !table.is_empty() {
        app.out
            .line(format!("\nTotal: {} function(s)", list.functions.len()))?;
    }
    Ok(())
}

/// `get`.
///
/// # Errors
/// See [`CliError`].
pub async fn get(app: &mut App, name: &str) -> Result<(), CliError> {
    let name = addressed(name)?;
    let answer = app.client()?.get(&["functions", &name], &[]).await?;
    if app.out.json() {
        return app.out.raw(&answer.body);
    }
    let value: Value = answer.parse()?;
    app.out.line(format!("{value:#}"))
}

/// `delete`.
///
/// # Errors
/// See [`CliError`].
pub async fn delete(app: &mut App, name: &str, force: bool) -> Result<(), CliError> {
    let name = addressed(name)?;
    let client = app.client()?;
    let question = if name.contains('@') {
        format!("Delete {name}?")
    } else {
        format!("Delete function {name} with all its versions?")
    };
    confirm(app, force, &question).await?;
    let answer = client.delete(&["functions", &name]).await?;
    if app.out.json() {
        return app.out.raw(&answer.body);
    }
    let message: Message = answer.parse()?;
    app.out.line(message.message)
}

/// `versions`.
///
/// # Errors
/// See [`CliError`].
pub async fn versions(app: &mut App, name: &str) -> Result<(), CliError> {
    let name = named(name)?;
    let path = ["functions", name.as_str(), "versions"];
    let answer = app.client()?.get(&path, &[]).await?;
    if app.out.json() {
        return app.out.raw(&answer.body);
    }
    let list: VersionList = answer.parse()?;
    let mut table = Table::new(&["VERSION", "WASM CID", "STATUS", "CREATED", "NOTE"]);
    for one in &list.versions {
        let note = one.rolled_back_from.map(|v| format!("copy of version {v}"));
        table.row([
            one.version.to_string(),
            one.wasm_cid.clone(),
            status(one.status).to_owned(),
            short_time(one.created_at),
            note.unwrap_or_default(),
        ]);
    }
    app.out
        .table(&table, &format!("No versions of function \"{name}\"."))?;
    if !table.is_empty() {
        app.out
            .line(format!("\nTotal: {} version(s)", list.versions.len()))?;
    }
    Ok(())
}

/// `rollback`.
///
/// # Errors
/// See [`CliError`].
pub async fn rollback(app: &mut App, name: &str, version: u64) -> Result<(), CliError> {
    let name = named(name)?;
    let client = app.client()?;
    let path = ["functions", name.as_str(), "rollback"];
    let body = RollbackRequest { version };
    let answer = client.json(Method::POST, &path, &body).await?;
    if app.out.json() {
        return app.out.raw(&answer.body);
    }
    let made: DeployResponse = answer.parse()?;
    app.out.line(format!(
        "Rolled back: version {} of {name} is a copy of version {version}",
        made.function.version
    ))
}

/// `enable` and `disable`.
///
/// # Errors
/// See [`CliError`].
pub async fn set_enabled(app: &mut App, name: &str, enabled: bool) -> Result<(), CliError> {
    let name = named(name)?;
    let client = app.client()?;
    let action = if enabled { "enable" } else { "disable" };
    let path = ["functions", name.as_str(), action];
    let answer = client
        .json(Method::POST, &path, &serde_json::json!({}))
        .await?;
    if app.out.json() {
        return app.out.raw(&answer.body);
    }
    let state: EnabledResponse = answer.parse()?;
    app.out.line(format!(
        "Function {} is {}.",
        state.function,
        if state.enabled { "enabled" } else { "disabled" }
    ))
}

fn status(status: FunctionStatus) -> &'static str {
    match status {
        FunctionStatus::Active => "active",
        FunctionStatus::Inactive => "inactive",
        FunctionStatus::Deleted => "deleted",
    }
}

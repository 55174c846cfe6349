//! `orama namespace …` and `orama key …`: the operator's commands.

use orama_proto::api::{
    CreateKeyRequest, CreateKeyResponse, CreateNamespaceRequest, CreateNamespaceResponse, KeyList,
    MasterKeyStatus, Message, NamespaceList,
};
use orama_proto::name::Namespace;
use reqwest::Method;

use super::App;
use super::args::{KeyCommand, NamespaceCommand};
use super::client::{Answer, Client};
use super::credentials::{Credentials, Default as DefaultKey};
use super::error::CliError;
use super::output::short_time;
use super::prompt;
use super::table::Table;
use super::target::Target;

pub(super) fn operator(app: &App) -> Result<(Target, Client), CliError> {
    let target = app.target()?;
    let token = target.require_admin()?;
    let client = Client::new(target.url.clone(), Some(token))?;
    Ok((target, client))
}

fn checked(name: &str) -> Result<Namespace, CliError> {
    Namespace::parse(name).map_err(|e| CliError::Usage(e.to_string()))
}

/// Prints the body of a call that only says that it was done.
pub(super) fn done(app: &mut App, answer: &Answer, sentence: String) -> Result<(), CliError> {
    if app.out.json() {
        return app.out.raw(&answer.body);
    }
    let message = answer.parse::<Message>().map(|m| m.message);
    app.out.line(message.unwrap_or(sentence))
}

/// Runs `orama namespace …`.
///
/// # Errors
/// See [`CliError`].
pub async fn namespace(app: &mut App, command: NamespaceCommand) -> Result<(), CliError> {
    match command {
        NamespaceCommand::Create { name, save } => {
            let name = checked(&name)?.to_string();
            let (target, client) = operator(app)?;
            let body = CreateNamespaceRequest { name };
            let answer = client
                .json(Method::POST, &["admin", "namespaces"], &body)
                .await?;
            let made: CreateNamespaceResponse = answer.parse()?;
            // Printed before it is stored: it is shown only this once.
            if app.out.json() {
                app.out.raw(&answer.body)?;
            } else {
                app.out
                    .line(format!("Namespace {:?} created.", made.namespace))?;
                app.out
                    .line(format!("API key (shown only now): {}", made.api_key))?;
            }
            if save {
                Credentials::update(&app.home, |all| {
                    all.set_key(
                        &target.key(),
                        &made.namespace,
                        &made.api_key,
                        DefaultKey::No,
                    );
                    Ok(())
                })?;
                app.out.progress(format_args!(
                    "Stored; use it with --namespace {}.",
                    made.namespace
                ));
            }
            Ok(())
        }
        NamespaceCommand::List => {
            let (_, client) = operator(app)?;
            let answer = client.get(&["admin", "namespaces"], &[]).await?;
            if app.out.json() {
                return app.out.raw(&answer.body);
            }
            let list: NamespaceList = answer.parse()?;
            let mut table = Table::new(&["NAME", "FUNCTIONS", "SECRETS", "KEYS", "CREATED"]);
            for one in &list.namespaces {
                table.row([
                    one.name.clone(),
                    one.functions.to_string(),
                    one.secrets.to_string(),
                    one.api_keys.to_string(),
                    short_time(one.created_at),
                ]);
            }
            app.out.table(&table, "No namespaces.")
        }
        NamespaceCommand::Delete { name, force } => {
            let name = checked(&name)?;
            let (target, client) = operator(app)?;
            let question = format!(
                "Delete namespace {name:?} with all its functions, secrets, keys and logs?"
            );
            prompt::confirm(app, force, &question).await?;
            let answer = client
                .delete(&["admin", "namespaces", name.as_str()])
                .await?;
            // Its key opens nothing any more.
            let url = target.key();
            if Credentials::load(&app.home)?
                .key(&url, Some(name.as_str()))
                .is_some()
            {
                Credentials::update(&app.home, |all| Ok(all.forget(&url, Some(name.as_str()))))?;
            }
            done(app, &answer, format!("Namespace {name:?} deleted."))
        }
    }
}

/// Runs `orama key …`.
///
/// # Errors
/// See [`CliError`].
pub async fn key(app: &mut App, command: KeyCommand) -> Result<(), CliError> {
    let (target, client) = operator(app)?;
    match command {
        KeyCommand::Create { label } => {
            let namespace = checked(target.namespace()?)?;
            let path = ["admin", "namespaces", namespace.as_str(), "keys"];
            let body = CreateKeyRequest { label };
            let answer = client.json(Method::POST, &path, &body).await?;
            if app.out.json() {
                return app.out.raw(&answer.body);
            }
            let made: CreateKeyResponse = answer.parse()?;
            app.out.line(format!(
                "Key {} of namespace {:?} created.",
                made.id, made.namespace
            ))?;
            app.out
                .line(format!("API key (shown only now): {}", made.api_key))
        }
        KeyCommand::List => {
            let namespace = checked(target.namespace()?)?;
            let path = ["admin", "namespaces", namespace.as_str(), "keys"];
            let answer = client.get(&path, &[]).await?;
            if app.out.json() {
                return app.out.raw(&answer.body);
            }
            let list: KeyList = answer.parse()?;
            let mut table = Table::new(&["ID", "LABEL", "CREATED"]);
            for one in &list.keys {
                table.row([
                    one.id.clone(),
                    one.label.clone(),
                    short_time(one.created_at),
                ]);
            }
            app.out
                .table(&table, &format!("No API keys in namespace {namespace:?}."))
        }
        KeyCommand::Revoke { id, force } => {
            let namespace = checked(target.namespace()?)?;
            let question = format!("Revoke key {id:?} of namespace {namespace:?}?");
            prompt::confirm(app, force, &question).await?;
            let path = ["admin", "namespaces", namespace.as_str(), "keys", &id];
            let answer = client.delete(&path).await?;
            done(app, &answer, format!("Key {id:?} revoked."))
        }
        KeyCommand::RotateMaster => {
            app.out
                .progress("Re-wrapping data keys under the active master key...");
            let path = ["admin", "master-key", "rotate"];
            let body = serde_json::json!({});
            let answer = client.json(Method::POST, &path, &body).await?;
            master(app, &answer, true)
        }
        KeyCommand::MasterStatus => {
            let answer = client.get(&["admin", "master-key"], &[]).await?;
            master(app, &answer, false)
        }
    }
}

fn master(app: &mut App, answer: &Answer, rotated: bool) -> Result<(), CliError> {
    if app.out.json() {
        return app.out.raw(&answer.body);
    }
    let status: MasterKeyStatus = answer.parse()?;
    if rotated {
        app.out
            .line(format!("Re-wrapped {} key(s).", status.rewrapped))?;
    }
    app.out
        .line(format!("Active master key: {}", status.active))?;
    let mut table = Table::new(&["MASTER KEY", "WRAPS", "STATE"]);
    for (id, wraps) in &status.wrapped_by {
        let state = if *id == status.active {
            "active"
        } else if *wraps > 0 {
            "still needed"
        } else {
            "may be removed"
        };
        table.row([id.clone(), wraps.to_string(), state.to_owned()]);
    }
    app.out.table(&table, "Nothing is wrapped yet.")
}

//! `orama auth …`: a credential is stored only after the gateway accepted it.

use orama_proto::api::WhoAmI;
use serde_json::json;

use super::App;
use super::args::AuthCommand;
use super::client::Client;
use super::credentials::{Credentials, Default as DefaultKey};
use super::error::CliError;
use super::output::short_time;
use super::prompt;
use super::target::Token;

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub async fn run(app: &mut App, command: AuthCommand) -> Result<(), CliError> {
    match command {
        AuthCommand::Login {
            api_key,
            admin_token,
        } => {
            let operator = admin_token.is_some();
            let token = match api_key.or(admin_token) {
                Some(text) => Token::new(text.trim().to_owned()),
                None => prompt::credential(app, "API key").await?,
            };
            login(app, token, operator).await
        }
        AuthCommand::Whoami => whoami(app).await,
        AuthCommand::Logout => logout(app),
    }
}

async fn login(app: &mut App, token: Token, operator: bool) -> Result<(), CliError> {
    let target = app.target()?;
    let url = target.key();
    let client = Client::new(target.url.clone(), Some(token.clone()))?;
    let answer = client.get(&["auth", "whoami"], &[]).await?;
    let who: WhoAmI = answer.parse()?;
    if !who.authenticated {
        return Err(CliError::Auth(format!(
            "{url} does not accept this credential"
        )));
    }
    if operator && who.method != "admin" {
        return Err(CliError::Auth(format!(
            "this is not the operator's token of {url}"
        )));
    }
    let namespace = who.namespace.clone().unwrap_or_default();
    if who.method == "admin" {
        Credentials::update(&app.home, |all| {
            all.set_admin_token(&url, &token);
            Ok(())
        })?;
    } else {
        if let Some(wanted) = target.named_namespace()
            && wanted != namespace
        {
            return Err(CliError::Usage(format!(
                "--namespace is {wanted:?} and the credential belongs to {namespace:?}"
            )));
        }
        Credentials::update(&app.home, |all| {
            all.set_key(&url, &namespace, &token, DefaultKey::Yes);
            Ok(())
        })?;
        if app.vars.token.is_some() {
            app.out
                .warn("ORAMA_TOKEN is set and wins over the stored credential");
        }
    }
    if app.out.json() {
        return app.out.raw(&answer.body);
    }
    app.out.line(if who.method == "admin" {
        format!("Logged in to {url} as operator.")
    } else {
        format!("Logged in to {url}, namespace {namespace:?}.")
    })
}

async fn whoami(app: &mut App) -> Result<(), CliError> {
    let target = app.target()?;
    // With only the operator's token stored, that is who one is.
    let token = match target.credential() {
        Some(token) => token,
        None => target
            .require_admin()
            .or_else(|_| target.require_credential())?,
    };
    let url = target.key();
    let client = Client::new(target.url, Some(token))?;
    let answer = client.get(&["auth", "whoami"], &[]).await?;
    if app.out.json() {
        return app.out.raw(&answer.body);
    }
    let who: WhoAmI = answer.parse()?;
    let environment = target.environment.map(|e| format!(" ({e})"));
    app.out.line(format!(
        "Gateway:    {url}{}",
        environment.unwrap_or_default()
    ))?;
    if !who.authenticated {
        return Err(CliError::Auth(format!(
            "{url} does not accept the credential"
        )));
    }
    app.out.line(format!("Method:     {}", who.method))?;
    let expires = who
        .expires_at
        .map(|secs| short_time(orama_proto::Timestamp(secs.saturating_mul(1_000_000))));
    for (label, value) in [
        ("Namespace:  ", who.namespace),
        ("Subject:    ", who.subject),
        ("Key:        ", who.api_key),
        ("Expires:    ", expires),
    ] {
        if let Some(value) = value {
            app.out.line(format!("{label}{value}"))?;
        }
    }
    Ok(())
}

fn logout(app: &mut App) -> Result<(), CliError> {
    let target = app.target()?;
    let url = target.key();
    let removed = Credentials::update(&app.home, |all| {
        Ok(all.forget(&url, target.named_namespace()))
    })?;
    if app.vars.token.is_some() {
        app.out
            .warn("ORAMA_TOKEN is still set, and commands still use it");
    }
    if app.out.json() {
        return app
            .out
            .value(&json!({"gateway_url": url, "removed": removed}));
    }
    app.out.line(match removed {
        0 => format!("No credential is stored for {url}."),
        n => format!("Removed {n} credential(s) for {url}."),
    })
}

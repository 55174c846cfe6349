//! `orama cluster …`: what the operator of several nodes asks and does.

mod leave;
mod verdict;
mod view;

use orama_proto::api::{ClusterStatus, TransferRequest};
use reqwest::Method;

use super::App;
use super::admin::{done, operator};
use super::args::ClusterCommand;
use super::client::{Answer, Client};
use super::error::CliError;
use verdict::Verdict;

const STATUS: [&str; 2] = ["admin", "cluster"];

/// Runs `orama cluster …`.
///
/// # Errors
/// See [`CliError`].
pub async fn run(app: &mut App, command: ClusterCommand) -> Result<(), CliError> {
    let (_, client) = operator(app)?;
    match command {
        ClusterCommand::Status => {
            let (answer, status) = ask(&client).await?;
            show(app, &answer, &status)
        }
        ClusterCommand::Drain { node, undo } => {
            let path = ["admin", "cluster", "nodes", &node, "drain"];
            let body = serde_json::json!({ "undo": undo });
            let answer = client.json(Method::POST, &path, &body).await?;
            done(app, &answer, format!("Node {node:?}: done."))
        }
        ClusterCommand::Leave { node, force } => leave::run(app, &client, &node, force).await,
        ClusterCommand::Transfer { group, node } => {
            let path = ["admin", "cluster", "groups", &group, "transfer"];
            let body = TransferRequest { node: node.clone() };
            let answer = client.json(Method::POST, &path, &body).await?;
            done(app, &answer, format!("Node {node:?} leads group {group}."))
        }
    }
}

/// What the cluster says about itself.
async fn ask(client: &Client) -> Result<(Answer, ClusterStatus), CliError> {
    let answer = client.get(&STATUS, &[]).await?;
    let status = answer.parse()?;
    Ok((answer, status))
}

/// The verdict first: whoever is called at night reads one line.
fn show(app: &mut App, answer: &Answer, status: &ClusterStatus) -> Result<(), CliError> {
    let verdict = Verdict::of(status);
    if app.out.json() {
        app.out.raw(&answer.body)?;
    } else {
        for line in verdict.lines() {
            app.out.line(line)?;
        }
        app.out.line("")?;
        app.out.table(&view::nodes(status), "No nodes.")?;
        app.out.line("")?;
        app.out.table(&view::groups(status), "No groups.")?;
        app.out.line("")?;
        app.out.line(view::foot(status))?;
    }
    match verdict.into_problem() {
        None => Ok(()),
        Some(first) => Err(CliError::Unhealthy(first)),
    }
}

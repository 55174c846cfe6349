//! `orama cluster leave`: asks, starts it, and watches until the node is gone.

use std::time::{Duration, Instant};

use orama_proto::api::{ClusterNode, ClusterStatus, LeaveResponse};
use reqwest::Method;

use super::verdict::still_holds;
use crate::cli::App;
use crate::cli::client::{Answer, Client};
use crate::cli::error::CliError;
use crate::cli::prompt;

/// How long the node that is asked may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(300);
/// Shortest beginning of an id that names a node, as for the server.
const ID_MIN_CHARS: usize = 4;

/// How patient the command is.
struct Pace {
    /// Pause between two looks.
    look_every: Duration,
    /// Without any answer for so long, there will be none.
    blind_for: Duration,
    /// How long the command watches. The cluster goes on without it.
    watch_for: Duration,
}

const PACE: Pace = Pace {
    look_every: Duration::from_secs(2),
    blind_for: Duration::from_secs(30),
    watch_for: Duration::from_secs(1800),
};

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub(super) async fn run(
    app: &mut App,
    client: &Client,
    node: &str,
    force: bool,
) -> Result<(), CliError> {
    let question = format!(
        "Remove node {node:?} from the cluster for good? Its groups move to other nodes; its data directory cannot be used again."
    );
    prompt::confirm(app, force, &question).await?;
    leave(app, client, node, &PACE).await
}

async fn leave(app: &mut App, client: &Client, node: &str, pace: &Pace) -> Result<(), CliError> {
    let path = ["admin", "cluster", "nodes", node, "leave"];
    let body = serde_json::json!({});
    let leave = client.json_within(Method::POST, &path, &body, ANSWER_WITHIN);
    tokio::pin!(leave);
    let mut watch = Watch::new(node, pace);
    let answer = loop {
        tokio::select! {
            answer = &mut leave => break answer,
            () = tokio::time::sleep(pace.look_every) => {
                watch.look(app, client).await;
            }
        }
    };
    let answer = match answer {
        Ok(answer) => answer,
        // It was seen leaving, and it was the one that was asked: it is away.
        Err(CliError::Unreachable { .. }) if watch.is_own() && watch.leaving => {
            return silent(app, node, None);
        }
        Err(error) => return Err(error),
    };
    // A node of another version may answer without an id.
    if let Ok(said) = answer.parse::<LeaveResponse>() {
        watch.told(said);
    }
    // 202: the node that was asked has other things to do, the cluster goes on.
    if answer.accepted() {
        let began = Instant::now();
        loop {
            match watch.look(app, client).await {
                Look::There => {}
                Look::Gone => break,
                Look::Blind if watch.is_own() => return silent(app, node, Some(&answer)),
                Look::Blind => {
                    return Err(CliError::Failed(format!(
                        "the node that was asked does not answer any more; node {node:?} goes on leaving. Ask another node with `orama --api-url URL cluster status`"
                    )));
                }
            }
            if began.elapsed() > pace.watch_for {
                return Err(CliError::Failed(format!(
                    "node {node:?} is still leaving; `orama cluster status` shows how far it is"
                )));
            }
            tokio::time::sleep(pace.look_every).await;
        }
    }
    if app.out.json() {
        return app.out.raw(&answer.body);
    }
    app.out.line(format!("Node {node:?} has left the cluster."))
}

/// The node that leaves was the one that was asked, and is silent now: that is
/// how it ends.
fn silent(app: &mut App, node: &str, answer: Option<&Answer>) -> Result<(), CliError> {
    app.out.progress(format_args!(
        "Node {node:?} was asked itself and does not answer any more. Another node's `orama --api-url URL cluster status` shows that it is gone."
    ));
    match answer {
        Some(answer) if app.out.json() => app.out.raw(&answer.body),
        None if app.out.json() => Ok(()),
        _ => app.out.line(format!(
            "Node {node:?} has stopped, as one that has left does."
        )),
    }
}

/// Says what is still to be done, once for every change of it.
struct Watch<'a> {
    /// What the node was called on the command line.
    called: &'a str,
    /// The whole id, as soon as it is known: only that stays one node's.
    id: Option<String>,
    /// Whether the node that answers is the one that leaves, as far as known.
    own: bool,
    /// Whether it was seen leaving.
    leaving: bool,
    pace: &'a Pace,
    said: String,
    /// Since when nothing can be seen.
    blind: Option<Instant>,
}

/// What a look shows.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    There,
    Gone,
    /// Nothing, for so long that it will not get better.
    Blind,
}

impl<'a> Watch<'a> {
    fn new(called: &'a str, pace: &'a Pace) -> Self {
        Self {
            called,
            id: None,
            own: false,
            leaving: false,
            pace,
            said: String::new(),
            blind: None,
        }
    }

    /// Takes what the server says.
    fn told(&mut self, said: LeaveResponse) {
        if said.id.is_empty() {
            return;
        }
        self.own = said.id == said.answered_by;
        self.id = Some(said.id);
    }

    fn is_own(&self) -> bool {
        self.own
    }

    /// Whether the node is still there, as far as can be told.
    async fn look(&mut self, app: &mut App, client: &Client) -> Look {
        let line = match super::ask(client).await {
            Ok((_, status)) => {
                self.blind = None;
                match self.find(&status) {
                    Some(node) => {
                        self.id = Some(node.id.clone());
                        self.own = node.name == status.answered_by;
                        self.leaving = node.state == "leaving";
                        still_holds(&status, node)
                    }
                    None => return Look::Gone,
                }
            }
            // It may be the very node that is leaving, or one moment of many.
            Err(error) => {
                let since = *self.blind.get_or_insert_with(Instant::now);
                if since.elapsed() > self.pace.blind_for {
                    return Look::Blind;
                }
                format!("cannot see how far it is: {error}")
            }
        };
        if line != self.said {
            app.out.progress(&line);
            self.said = line;
        }
        Look::There
    }

    fn find<'s>(&self, status: &'s ClusterStatus) -> Option<&'s ClusterNode> {
        match &self.id {
            Some(id) => status.nodes.iter().find(|n| n.id == *id),
            None => find(status, self.called),
        }
    }
}

/// The node that is meant, as the server reads it: its name, its id, or the
/// beginning of its id when that is long enough and says which.
fn find<'a>(status: &'a ClusterStatus, called: &str) -> Option<&'a ClusterNode> {
    let nodes = || status.nodes.iter();
    if let Some(node) = nodes().find(|n| n.name == called || n.id == called) {
        return Some(node);
    }
    let mut alike = nodes().filter(|n| called.len() >= ID_MIN_CHARS && n.id.starts_with(called));
    match (alike.next(), alike.next()) {
        (Some(node), None) => Some(node),
        _ => None,
    }
}

#[cfg(test)]
#[path = "leave_tests.rs"]
mod tests;

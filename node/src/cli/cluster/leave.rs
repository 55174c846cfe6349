//! `orama cluster leave`: asks, starts it, and watches until the node is gone.

use std::time::{Duration, Instant};

use orama_proto::api::{ClusterNode, ClusterStatus};
use reqwest::Method;

use super::verdict::still_holds;
use crate::cli::App;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::prompt;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long the node that is asked may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(300);
/// Without any answer for so long, the node that is asked is the one that left.
const BLIND_FOR: Duration = Duration::from_secs(30);
/// How long the command watches. The cluster goes on without it.
const WATCH_FOR: Duration = Duration::from_secs(1800);

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
    let path = ["admin", "cluster", "nodes", node, "leave"];
    let body = serde_json::json!({});
    let leave = client.json_within(Method::POST, &path, &body, ANSWER_WITHIN);
    tokio::pin!(leave);
    let mut watch = Watch::new(node);
    let answer = loop {
        tokio::select! {
            answer = &mut leave => break answer?,
            () = tokio::time::sleep(LOOK_EVERY) => {
                watch.look(app, client).await;
            }
        }
    };
    // 202: the node that was asked has other things to do, the cluster goes on.
    if answer.accepted() {
        let began = Instant::now();
        loop {
            match watch.look(app, client).await {
                Look::There => {}
                Look::Gone => break,
                Look::Blind => {
                    return Err(CliError::Failed(format!(
                        "the node that was asked does not answer any more; node {node:?} goes on leaving. Ask another node with `orama --api-url URL cluster status`"
                    )));
                }
            }
            if began.elapsed() > WATCH_FOR {
                return Err(CliError::Failed(format!(
                    "node {node:?} is still leaving; `orama cluster status` shows how far it is"
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    if app.out.json() {
        return app.out.raw(&answer.body);
    }
    app.out.line(format!("Node {node:?} has left the cluster."))
}

/// Says what is still to be done, once for every change of it.
struct Watch<'a> {
    node: &'a str,
    said: String,
    /// Since when nothing can be seen.
    blind: Option<Instant>,
}

/// What a look shows.
enum Look {
    There,
    Gone,
    /// Nothing, for so long that it will not get better.
    Blind,
}

impl<'a> Watch<'a> {
    fn new(node: &'a str) -> Self {
        Self {
            node,
            said: String::new(),
            blind: None,
        }
    }

    /// Whether the node is still there, as far as can be told.
    async fn look(&mut self, app: &mut App, client: &Client) -> Look {
        let line = match super::ask(client).await {
            Ok((_, status)) => match find(&status, self.node) {
                Some(node) => still_holds(&status, node),
                None => return Look::Gone,
            },
            // It may be the very node that is leaving, or one moment of many.
            Err(error) => {
                let since = *self.blind.get_or_insert_with(Instant::now);
                if since.elapsed() > BLIND_FOR {
                    return Look::Blind;
                }
                format!("cannot see how far it is: {error}")
            }
        };
        if !line.starts_with("cannot") {
            self.blind = None;
        }
        if line != self.said {
            app.out.progress(&line);
            self.said = line;
        }
        Look::There
    }
}

fn find<'a>(status: &'a ClusterStatus, node: &str) -> Option<&'a ClusterNode> {
    let nodes = status.nodes.iter();
    // As the server reads it: the table shows the beginnings of ids.
    nodes
        .clone()
        .find(|n| n.name == node)
        .or_else(|| nodes.clone().find(|n| n.id.starts_with(node)))
}

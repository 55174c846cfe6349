//! What the cluster says about itself, and waiting for it to say something.

use std::time::{Duration, Instant};

use orama_proto::api::{ClusterGroup, ClusterStatus};
use reqwest::Method;
use serde_json::json;

use super::Cluster;
use crate::client::{Reply, send, try_send};

/// What a converged cluster looks like.
#[derive(Debug, Clone, Copy)]
pub struct Convergence {
    /// Members.
    pub members: usize,
    /// Voters of the metadata group.
    pub voters: usize,
}

impl Cluster {
    /// The cluster as one of its nodes sees it; `None` when it does not say.
    pub async fn try_status(&self, i: usize) -> Option<ClusterStatus> {
        let request = self.node(i).admin_request(Method::GET, "/v1/admin/cluster");
        let reply = try_send(request.timeout(Duration::from_secs(10))).await;
        reply.ok().filter(|r| r.status == 200).map(|r| r.parse())
    }
    /// The cluster as one of its nodes sees it.
    pub async fn status(&self, i: usize) -> ClusterStatus {
        let request = self.node(i).admin_request(Method::GET, "/v1/admin/cluster");
        send(request).await.expect(200).parse()
    }
    /// An operation of the administrator through a node; any answer.
    pub async fn operate(&self, i: usize, path: &str, body: serde_json::Value) -> Reply {
        let path = format!("/v1/admin/cluster{path}");
        send(self.node(i).admin_request(Method::POST, &path).json(&body)).await
    }
    /// The id of a member, by its name.
    pub async fn id_of(&self, i: usize) -> String {
        let ask = *self.running().first().expect("a node that runs");
        let name = self.name(i);
        let status = self.status(ask).await;
        let node = status.nodes.into_iter().find(|n| n.name == name);
        node.unwrap_or_else(|| panic!("{name} is no member")).id
    }
    /// The place of the node that leads a group, as node `ask` sees it.
    pub async fn leader(&self, ask: usize, group: u32) -> Option<usize> {
        let status = self.try_status(ask).await?;
        let leader = group_of(&status, group)?.leader.clone()?;
        let node = status.nodes.iter().find(|n| n.id == leader)?;
        Some(self.index(&node.name))
    }
    /// Makes a node lead a group, and waits until it does.
    pub async fn make_leader(&self, ask: usize, group: u32, node: usize) {
        let path = format!("/groups/{group}/transfer");
        let body = json!({ "node": self.name(node) });
        let began = Instant::now();
        while self.leader(ask, group).await != Some(node) {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{} does not come to lead group {group}",
                self.name(node)
            );
            let _ = self.operate(ask, &path, body.clone()).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    /// The data groups, by id.
    pub async fn data_groups(&self, ask: usize) -> Vec<u32> {
        let status = self.status(ask).await;
        let ids = status.groups.iter().map(|g| g.id).filter(|id| *id > 0);
        ids.collect()
    }

    /// Waits until a node's view of the cluster is as wanted: `wanted` answers what is missing.
    pub async fn wait_until(
        &self,
        ask: usize,
        limit: Duration,
        wanted: impl Fn(&ClusterStatus) -> Option<String>,
    ) -> ClusterStatus {
        let began = Instant::now();
        loop {
            let status = self.try_status(ask).await;
            let missing = match &status {
                Some(status) => wanted(status),
                None => Some("it does not answer".into()),
            };
            match (missing, status) {
                (None, Some(status)) => return status,
                (missing, status) => assert!(
                    began.elapsed() < limit,
                    "{} after {limit:?}: {}; status: {status:#?}",
                    self.name(ask),
                    missing.unwrap_or_default()
                ),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until every running node sees all members, every group has one
    /// leader and the wanted voters, and has applied all of every group it can speak of.
    pub async fn converged(&self, wanted: Convergence, limit: Duration) {
        let began = Instant::now();
        for i in self.running() {
            let left = limit.saturating_sub(began.elapsed());
            self.wait_until(i, left.max(Duration::from_millis(1)), |status| {
                missing(status, wanted)
            })
            .await;
        }
        self.agree(limit.saturating_sub(began.elapsed())).await;
    }

    /// Waits until all running nodes name the same leaders and terms.
    async fn agree(&self, limit: Duration) {
        let began = Instant::now();
        loop {
            let mut views = Vec::new();
            for i in self.running() {
                let Some(status) = self.try_status(i).await else {
                    continue;
                };
                let mut view: Vec<_> = status
                    .groups
                    .iter()
                    .map(|g| (g.id, g.leader.clone(), g.term))
                    .collect();
                view.sort();
                views.push(view);
            }
            if views.len() == self.running().len() && views.windows(2).all(|w| w[0] == w[1]) {
                return;
            }
            assert!(
                began.elapsed() < limit.max(Duration::from_secs(1)),
                "the nodes do not agree on the leaders: {views:#?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A group in a status.
pub(super) fn group_of(status: &ClusterStatus, id: u32) -> Option<&ClusterGroup> {
    status.groups.iter().find(|g| g.id == id)
}

fn missing(status: &ClusterStatus, wanted: Convergence) -> Option<String> {
    if status.nodes.len() != wanted.members {
        return Some(format!("{} members", status.nodes.len()));
    }
    if !status.silent.is_empty() {
        return Some(format!("silent: {:?}", status.silent));
    }
    if let Some(node) = status.nodes.iter().find(|n| n.state != "active") {
        return Some(format!("{} is {}", node.name, node.state));
    }
    let Some(meta) = group_of(status, 0) else {
        return Some("no meta".into());
    };
    if meta.voters.len() != wanted.voters {
        return Some(format!("{} voters of meta", meta.voters.len()));
    }
    if status.groups.len() < 2 {
        return Some("no data groups".into());
    }
    for group in &status.groups {
        let stranger = group
            .voters
            .iter()
            .chain(&group.learners)
            .find(|id| status.nodes.iter().all(|n| n.id != **id));
        if let Some(id) = stranger {
            return Some(format!("{} still counts on {id}", group.name));
        }
        if group.leader.is_none() {
            return Some(format!("{} has no leader", group.name));
        }
        if group.applied < group.last {
            return Some(format!(
                "{} has applied {} of {}",
                group.name, group.applied, group.last
            ));
        }
        if group.id > 0 && group.voters.len() != wanted.members.min(3) {
            return Some(format!("{} has {} voters", group.name, group.voters.len()));
        }
    }
    None
}

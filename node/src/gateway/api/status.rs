//! `/health`, `/v1/version`, `/v1/status`: public, and cheap enough for probes.

use actix_web::HttpResponse;
use orama_cluster::Cluster;
use orama_proto::{ApiError, ErrorCode, NodeId, Timestamp};
use serde::Serialize;

use super::Api;
use crate::gateway::respond;

/// What the binary was built from; `build.rs` finds it.
const COMMIT: &str = env!("ORAMA_BUILD_COMMIT");

/// What the node tells about itself.
#[derive(Debug, Clone, Serialize)]
pub struct NodeFacts {
    /// Its identity.
    pub node_id: String,
    /// Its name, for people.
    pub node_name: String,
}

#[derive(Serialize)]
struct HealthBody {
    status: &'static str,
    server: ServerBody,
    /// Absent on a node without a mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterBody>,
}

/// How much of its cluster this node has contact with, itself included.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct ClusterBody {
    members: usize,
    linked: usize,
    /// Whether the linked ones are a majority of those who decide: without one
    /// nothing can be changed here, and invocations go on.
    majority: bool,
}

impl ClusterBody {
    fn of(cluster: &Cluster) -> Option<Self> {
        cluster.mesh()?;
        let own = cluster.node_id();
        let linked: Vec<NodeId> = cluster.linked().iter().map(|m| m.id).collect();
        let voters = cluster.voters();
        let here = |id: &NodeId| *id == own || linked.contains(id);
        Some(Self {
            members: cluster.others().len() + 1,
            linked: linked.len() + 1,
            majority: is_majority(voters.iter().filter(|id| here(id)).count(), voters.len()),
        })
    }
}

fn is_majority(part: usize, whole: usize) -> bool {
    part > whole / 2
}

#[derive(Serialize)]
struct StatusBody<'a> {
    server: ServerBody,
    network: &'a NodeFacts,
}

#[derive(Serialize)]
struct ServerBody {
    status: &'static str,
    started_at: Timestamp,
    uptime: String,
}

#[derive(Serialize)]
struct VersionBody {
    version: &'static str,
    commit: &'static str,
    build_time: &'static str,
    started_at: Timestamp,
    uptime: String,
}

impl Api {
    fn server(&self) -> ServerBody {
        ServerBody {
            status: self.health.word(),
            started_at: self.health.started_at(),
            uptime: self.health.uptime(),
        }
    }

    pub(super) fn health(&self) -> Result<HttpResponse, ApiError> {
        if !self.health.is_ready() {
            let message = self.health.sentence();
            return Err(ApiError::new(ErrorCode::ServiceUnavailable, message).after(5.0));
        }
        let cluster = ClusterBody::of(self.platform.cluster());
        // Still 200: cut off from a majority, the node runs functions as before,
        // and taking it out of a balancer would only make things worse.
        let degraded = cluster.as_ref().is_some_and(|c| !c.majority);
        respond::ok(&HealthBody {
            status: if degraded {
                "degraded"
            } else {
                self.health.word()
            },
            server: self.server(),
            cluster,
        })
    }

    pub(super) fn status(&self) -> Result<HttpResponse, ApiError> {
        respond::ok(&StatusBody {
            server: self.server(),
            network: &self.facts,
        })
    }

    pub(super) fn version(&self) -> Result<HttpResponse, ApiError> {
        respond::ok(&VersionBody {
            version: env!("CARGO_PKG_VERSION"),
            commit: COMMIT,
            // Never the clock of the build: two builds of one commit are alike.
            build_time: option_env!("ORAMA_BUILD_TIME").unwrap_or("unknown"),
            started_at: self.health.started_at(),
            uptime: self.health.uptime(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::{COMMIT, is_majority};

    /// What git says, in the repository of this workspace only.
    fn checked_out() -> Option<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
        let mut git = Command::new("git");
        git.current_dir(root).args(["rev-parse", "HEAD"]);
        let output = git.output().ok().filter(|output| output.status.success())?;
        let commit = String::from_utf8(output.stdout).ok()?;
        root.join(".git").exists().then(|| commit.trim().to_owned())
    }

    #[test]
    fn the_commit_is_the_one_that_was_built() {
        let Some(commit) = checked_out() else {
            return; // Sources without a repository: whatever the build was told.
        };
        assert_ne!(COMMIT, "unknown");
        // A name instead of an id is what the build's environment said.
        let is_id = COMMIT.len() == commit.len() && COMMIT.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(!is_id || COMMIT == commit, "{COMMIT}, not {commit}");
    }

    #[test]
    fn half_is_no_majority() {
        for (part, whole, majority) in [(1, 1, true), (1, 2, false), (2, 3, true), (2, 4, false)] {
            assert_eq!(is_majority(part, whole), majority, "{part} of {whole}");
        }
        assert!(!is_majority(0, 0));
    }
}

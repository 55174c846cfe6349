//! `/health`, `/v1/version`, `/v1/status`: public, and cheap enough for probes.

use actix_web::HttpResponse;
use orama_proto::{ApiError, ErrorCode, Timestamp};
use serde::Serialize;

use super::Api;
use crate::gateway::respond;

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
            let message = format!("the node is {}", self.health.word());
            return Err(ApiError::new(ErrorCode::ServiceUnavailable, message).after(5.0));
        }
        respond::ok(&HealthBody {
            status: self.health.word(),
            server: self.server(),
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
            commit: option_env!("ORAMA_BUILD_COMMIT").unwrap_or("unknown"),
            build_time: option_env!("ORAMA_BUILD_TIME").unwrap_or("unknown"),
            started_at: self.health.started_at(),
            uptime: self.health.uptime(),
        })
    }
}

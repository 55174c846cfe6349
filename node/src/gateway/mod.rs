//! HTTP: the only part of the program that knows it.
//!
//! A request goes through [`front`] (id, table, policy, envelope, metrics) to
//! [`api`] (what each endpoint does) and from there to the platform.

mod api;
mod body;
mod credential;
mod deploy;
mod front;
pub mod health;
mod metrics;
mod path;
mod respond;
mod routes;
#[cfg(test)]
mod socket_tests;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::http::KeepAlive;
use actix_web::{App, HttpRequest, HttpServer, web};
use orama_actors::Platform;
use prometheus::Registry;

pub use api::NodeFacts;
use front::{Backend, Front, FrontOptions};
use health::Health;

/// A head must have arrived after this long.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// An idle connection is kept this long.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a closing connection may take to say goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 2048;

/// Settings of the gateway.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// Where to listen.
    pub addr: SocketAddr,
    /// Threads.
    pub workers: usize,
    /// Connections of one thread.
    pub max_connections: usize,
    /// Hosts `ns-NAME.DOMAIN` select a namespace.
    pub base_domain: Option<String>,
    /// How long a stop may take.
    pub drain_timeout: Duration,
    /// What `/v1/status` tells.
    pub facts: NodeFacts,
}

/// A gateway that listens.
pub struct Gateway {
    /// Where, with the port that was picked.
    pub addr: SocketAddr,
    /// Stops it.
    pub handle: ServerHandle,
    /// Ends when it has stopped.
    pub server: Server,
}

/// The gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address cannot be had.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// Which.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A metric's name is taken.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// Listens and serves; needs a running actix system.
///
/// # Errors
/// See [`GatewayError`].
pub fn start(
    options: GatewayOptions,
    platform: Platform,
    health: Health,
    registry: &Registry,
) -> Result<Gateway, GatewayError> {
    let metrics = metrics::Metrics::register(registry)?;
    let api = api::Api::new(platform, options.facts.clone(), health.clone());
    let front_options = FrontOptions {
        base_domain: options.base_domain.clone(),
    };
    listen(&options, Front::new(front_options, api, health, metrics))
}

fn listen<B>(options: &GatewayOptions, front: Front<B>) -> Result<Gateway, GatewayError>
where
    B: Backend + Send + Sync,
{
    let front = Arc::new(front);
    let server = HttpServer::new(move || {
        let front = front.clone();
        App::new().default_service(web::to(move |request: HttpRequest, body: web::Payload| {
            let front = front.clone();
            async move { front.answer(request, body).await }
        }))
    })
    .workers(options.workers)
    .max_connections(options.max_connections)
    .backlog(BACKLOG)
    .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
    .client_request_timeout(HEAD_LIMIT)
    .client_disconnect_timeout(CLOSE_LIMIT)
    .shutdown_timeout(options.drain_timeout.as_secs().max(1))
    .disable_signals()
    .bind(options.addr)
    .map_err(|source| GatewayError::Listen {
        addr: options.addr,
        source,
    })?;
    let addr = server.addrs().first().copied().unwrap_or(options.addr);
    let server = server.run();
    Ok(Gateway {
        addr,
        handle: server.handle(),
        server,
    })
}

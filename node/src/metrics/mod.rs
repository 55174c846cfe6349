//! The operator's door: `/metrics`, `/livez`, `/readyz` on an address of its
//! own, so that probes and scrapes neither wait behind tenants nor are open to
//! them.

mod process;

use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use actix_web::http::{Method, StatusCode};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use orama_proto::error::ErrorEnvelope;
use orama_proto::{ApiError, ErrorCode, RequestId};
use prometheus::{Registry, TextEncoder};

use crate::gateway::health::Health;
use process::ProcessMetrics;

/// Connections at once: probes and a few scrapers.
const CONNECTIONS_MAX: usize = 64;

/// A metrics server that listens.
pub struct MetricsServer {
    /// Where, with the port that was picked.
    pub addr: SocketAddr,
    /// Stops it.
    pub handle: ServerHandle,
}

/// The metrics server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The address cannot be had.
    #[error("cannot listen for metrics on {addr}: {source}")]
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

struct State {
    health: Health,
    registry: Registry,
    process: ProcessMetrics,
}

/// Listens and serves; needs a running actix system.
///
/// # Errors
/// See [`MetricsError`].
pub fn start(
    addr: SocketAddr,
    health: Health,
    registry: &Registry,
) -> Result<MetricsServer, MetricsError> {
    let state = Arc::new(State {
        health,
        registry: registry.clone(),
        process: ProcessMetrics::register(registry)?,
    });
    let server = HttpServer::new(move || {
        let state = state.clone();
        App::new().default_service(web::to(move |request: HttpRequest| {
            let response = state.answer(&request);
            async move { response }
        }))
    })
    .workers(1)
    .max_connections(CONNECTIONS_MAX)
    .shutdown_timeout(1)
    .disable_signals()
    .bind(addr)
    .map_err(|source| MetricsError::Listen { addr, source })?;
    let addr = server.addrs().first().copied().unwrap_or(addr);
    let server = server.run();
    let handle = server.handle();
    actix::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the metrics server has stopped");
        }
    });
    Ok(MetricsServer { addr, handle })
}

impl State {
    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return refused(ApiError::new(
                ErrorCode::MethodNotAllowed,
                "Method not allowed: use GET",
            ));
        }
        match request.path() {
            "/metrics" => self.scrape(),
            "/livez" => HttpResponse::Ok().json(serde_json::json!({"status": "ok"})),
            "/readyz" if self.health.is_ready() => {
                HttpResponse::Ok().json(serde_json::json!({"status": "ok"}))
            }
            "/readyz" => refused(ApiError::new(
                ErrorCode::ServiceUnavailable,
                self.health.sentence(),
            )),
            _ => refused(ApiError::not_found("no such endpoint")),
        }
    }

    fn scrape(&self) -> HttpResponse {
        self.process.refresh();
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(text) => HttpResponse::Ok()
                .content_type("text/plain; version=0.0.4; charset=utf-8")
                .body(text),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                refused(ApiError::new(
                    ErrorCode::Internal,
                    "the metrics cannot be written",
                ))
            }
        }
    }
}

fn refused(mut error: ApiError) -> HttpResponse {
    let status =
        StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    error.request_id = Some(RequestId::random().to_string());
    HttpResponse::build(status).json(ErrorEnvelope::from(error))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn state() -> State {
        let registry = Registry::new();
        State {
            health: Health::starting(),
            process: ProcessMetrics::register(&registry).unwrap(),
            registry,
        }
    }

    fn get(state: &State, path: &str) -> u16 {
        let request = TestRequest::get().uri(path).to_http_request();
        state.answer(&request).status().as_u16()
    }

    #[test]
    fn readiness_follows_the_node() {
        let state = state();
        assert_eq!((get(&state, "/livez"), get(&state, "/readyz")), (200, 503));
        state.health.set_ready();
        assert_eq!(get(&state, "/readyz"), 200);
        state.health.set_draining();
        assert_eq!((get(&state, "/livez"), get(&state, "/readyz")), (200, 503));
        assert_eq!(get(&state, "/other"), 404);
    }

    #[actix_web::test]
    async fn the_process_is_measured() {
        let state = state();
        let body = state.scrape().into_body();
        let text = actix_web::body::to_bytes(body).await.unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        for name in [
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_threads",
        ] {
            let line = text
                .lines()
                .find(|l| l.starts_with(name))
                .unwrap_or_default();
            let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(value > 0.0, "{name}: {line}");
        }
        assert!(text.contains("process_cpu_seconds_total"));
    }
}

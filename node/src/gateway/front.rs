//! What happens to every request, whatever its route: an id, the table, the
//! policy, one shape of errors, the common headers, a count and a log line.
//!
//! Generic over what lies behind, so that all of it is tested without a node.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HOST, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use futures::FutureExt;
use orama_proto::invocation::Principal;
use orama_proto::{ApiError, ErrorCode, Namespace, RequestId};

use super::body;
use super::credential::{self, Credentials, forbidden, unauthorized};
use super::health::Health;
use super::metrics::Metrics;
use super::respond;
use super::routes::{Endpoint, Found, Policy, ROUTES, Table, UNMATCHED};

/// Longest request id of a client's that is written to the log.
const CLIENT_ID_LOGGED: usize = 64;

/// A request that may be answered: route found, caller known and allowed.
pub(crate) struct Call {
    /// What is to be done.
    pub(crate) endpoint: Endpoint,
    /// Decoded captures of the route, in order.
    pub(crate) captures: Vec<String>,
    /// The request; its headers were not trusted for anything but the credential.
    pub(crate) request: HttpRequest,
    /// The body, unread.
    pub(crate) body: web::Payload,
    /// Follows the request everywhere.
    pub(crate) request_id: RequestId,
    /// Who calls.
    pub(crate) principal: Arc<Principal>,
    /// The namespace that the host name selects; agrees with the principal's.
    pub(crate) host_namespace: Option<Namespace>,
}

impl Call {
    /// A capture of the route.
    pub(crate) fn capture(&self, index: usize) -> &str {
        self.captures.get(index).map_or("", String::as_str)
    }

    /// The namespace that the caller manages.
    ///
    /// # Errors
    /// 403 for a principal without one; the policy has refused it before.
    pub(crate) fn namespace(&self) -> Result<Namespace, ApiError> {
        self.principal
            .namespace()
            .cloned()
            .ok_or_else(|| forbidden("this credential belongs to no namespace"))
    }

    /// Reads the body whole.
    ///
    /// # Errors
    /// See [`body::read`].
    pub(crate) async fn read(
        &mut self,
        limit: usize,
        what: &str,
    ) -> Result<bytes::Bytes, ApiError> {
        body::read(self.request.headers(), &mut self.body, limit, what).await
    }
}

/// What lies behind the front.
pub(crate) trait Backend: 'static {
    /// Checks the text of a credential: local memory, no waiting.
    fn authenticate(&self, credential: &str) -> Result<Principal, ApiError>;
    /// The same for one that was refused: whether it is unknown everywhere.
    async fn authenticate_confirmed(&self, credential: &str) -> Result<Principal, ApiError> {
        self.authenticate(credential)
    }
    /// Answers a call.
    async fn call(&self, call: Call) -> Result<HttpResponse, ApiError>;
}

/// Settings of the front.
pub(crate) struct FrontOptions {
    /// Hosts `ns-NAME.DOMAIN` select a namespace.
    pub(crate) base_domain: Option<String>,
}

/// The front of a backend; one for all workers.
pub(crate) struct Front<B> {
    options: FrontOptions,
    table: Table,
    backend: B,
    health: Health,
    metrics: Metrics,
    anonymous: Arc<Principal>,
}

/// The request's place in the table, for its metric and its log line.
struct Place {
    route: Option<usize>,
    pattern: &'static str,
}

impl<B: Backend> Front<B> {
    /// Puts a front before a backend.
    pub(crate) fn new(options: FrontOptions, backend: B, health: Health, metrics: Metrics) -> Self {
        Self {
            options,
            table: Table::new(),
            backend,
            health,
            metrics,
            anonymous: Arc::new(Principal::Anonymous),
        }
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, request: HttpRequest, body: web::Payload) -> HttpResponse {
        let start = Instant::now();
        let _in_flight = InFlight::enter(&self.metrics);
        let request_id = RequestId::random();
        // The request's parts that are needed after it has been handed on.
        let head = request.clone();
        let mut place = Place {
            route: None,
            pattern: UNMATCHED,
        };
        let mut response = if request.method() == Method::OPTIONS {
            respond::preflight()
        } else {
            let routed = self.route(request, body, &request_id, &mut place);
            // A panic costs the request that met it an answer of its own, and nobody else anything.
            match AssertUnwindSafe(routed).catch_unwind().await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => respond::error(error, &request_id),
                Err(_) => respond::error(panicked(&request_id), &request_id),
            }
        };
        respond::finish(response.headers_mut(), &request_id, head.path());
        if self.health.is_draining() {
            response
                .head_mut()
                .set_connection_type(actix_web::http::ConnectionType::Close);
        }
        let took = start.elapsed();
        let status = response.status();
        self.metrics
            .answered(place.route, place.pattern, head.method(), status, took);
        if tracing::enabled!(tracing::Level::DEBUG) {
            log(&head, &request_id, place.pattern, status.as_u16(), took);
        }
        response
    }

    async fn route(
        &self,
        request: HttpRequest,
        mut body: web::Payload,
        request_id: &RequestId,
        place: &mut Place,
    ) -> Result<HttpResponse, ApiError> {
        let (index, captures) = match self.table.find(request.method(), request.uri().path()) {
            Found::Route(index, captures) => (index, captures),
            Found::Method(pattern, allow) => {
                place.pattern = pattern;
                let error = ApiError::new(
                    ErrorCode::MethodNotAllowed,
                    format!("Method not allowed: use {allow}"),
                );
                body::drain(&mut body).await;
                let mut response = respond::error(error, request_id);
                if let Ok(value) = HeaderValue::from_str(&allow) {
                    response.headers_mut().insert(ALLOW, value);
                }
                return Ok(response);
            }
            Found::Nothing => {
                body::drain(&mut body).await;
                return Err(ApiError::not_found("no such endpoint"));
            }
        };
        let route = &ROUTES[index];
        *place = Place {
            route: Some(index),
            pattern: route.pattern,
        };
        let admitted = self
            .admit(&request, route.policy)
            .await
            .and_then(|admitted| captures.map(|captures| (admitted, captures)));
        let ((principal, host_namespace), captures) = match admitted {
            Ok(found) => found,
            Err(error) => {
                body::drain(&mut body).await;
                return Err(error);
            }
        };
        let call = Call {
            endpoint: route.endpoint,
            captures,
            request,
            body,
            request_id: request_id.clone(),
            principal,
            host_namespace,
        };
        self.backend.call(call).await
    }

    /// Applies a policy.
    async fn admit(
        &self,
        request: &HttpRequest,
        policy: Policy,
    ) -> Result<(Arc<Principal>, Option<Namespace>), ApiError> {
        if policy == Policy::Public {
            return Ok((self.anonymous.clone(), None));
        }
        let headers = request.headers();
        let credentials = Credentials::find(headers)?;
        let found = match credential::identify(credentials, |text| self.backend.authenticate(text))
        {
            Err(error) if error.code == ErrorCode::Unauthorized => {
                self.identify_confirmed(credentials).await?
            }
            known => known?,
        };
        let principal = match found {
            Some(principal) => Arc::new(principal),
            None if policy == Policy::Optional => self.anonymous.clone(),
            None => {
                return Err(unauthorized(
                    "missing API key: send `Authorization: Bearer <key>`",
                ));
            }
        };
        match policy {
            Policy::Public | Policy::Optional => {}
            Policy::Owner => owner(&principal)?,
            Policy::Admin if *principal == Principal::Admin => {}
            Policy::Admin => return Err(forbidden("this needs the administrative token")),
        }
        let host = headers
            .get(HOST)
            .and_then(|value| value.to_str().ok())
            .or_else(|| request.uri().host())
            .unwrap_or_default();
        let selected = credential::host_namespace(host, self.options.base_domain.as_deref())?;
        if let (Some(host), Some(own)) = (&selected, principal.namespace())
            && host != own
        {
            return Err(forbidden(
                "the host name selects another namespace than the credential's",
            ));
        }
        Ok((principal, selected))
    }
}

impl<B: Backend> Front<B> {
    /// Checks credentials again, of which one was refused: it may have been made on
    /// another node a moment ago.
    async fn identify_confirmed(
        &self,
        credentials: Credentials<'_>,
    ) -> Result<Option<Principal>, ApiError> {
        let mut checked = Vec::with_capacity(2);
        for text in [credentials.first, credentials.second]
            .into_iter()
            .flatten()
        {
            let answer = self.backend.authenticate_confirmed(text).await?;
            checked.push((text, answer));
        }
        credential::identify(credentials, |text| {
            let found = checked.iter().find(|(known, _)| *known == text);
            found
                .map(|(_, principal)| principal.clone())
                .ok_or_else(|| unauthorized("invalid API key or token"))
        })
    }
}

fn panicked(request_id: &RequestId) -> ApiError {
    // The panic hook has told where and why.
    tracing::error!(%request_id, "a request was ended by a panic");
    ApiError::new(
        ErrorCode::Internal,
        "an internal error; the node's log has the cause",
    )
}

/// Whether the caller manages a namespace.
fn owner(principal: &Principal) -> Result<(), ApiError> {
    match principal {
        Principal::ApiKey { .. } => Ok(()),
        Principal::Jwt {
            namespace, subject, ..
        } if subject == namespace.as_str() => Ok(()),
        Principal::Jwt { .. } => Err(forbidden(
            "a token of an end user may invoke functions; managing them needs an API key",
        )),
        Principal::Admin => Err(forbidden(
            "the administrative token belongs to no namespace; use an API key of it",
        )),
        Principal::Anonymous | Principal::System => Err(unauthorized("missing API key")),
    }
}

/// Counts a request while it is answered, also when its client goes away.
struct InFlight<'a>(&'a Metrics);

impl<'a> InFlight<'a> {
    fn enter(metrics: &'a Metrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// The access line: no query, no header but a client's own request id, cut and escaped.
fn log(
    head: &HttpRequest,
    request_id: &RequestId,
    pattern: &str,
    status: u16,
    took: std::time::Duration,
) {
    let client_id: String = head
        .headers()
        .get(respond::X_REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .chars()
        .take(CLIENT_ID_LOGGED)
        .collect();
    tracing::debug!(
        method = %head.method(),
        route = pattern,
        status,
        request_id = %request_id,
        client_request_id = ?client_id,
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "request"
    );
}

//! The front, with a small backend in place of the node.

mod answers;
mod forms;
mod policy;

use std::rc::Rc;

use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, HttpRequest, HttpResponse, body::to_bytes, web};
use bytes::Bytes;
use orama_proto::error::ErrorEnvelope;
use orama_proto::invocation::Principal;
use orama_proto::limits::MIB;
use orama_proto::{ApiError, ErrorCode, Namespace};
use prometheus::Registry;

use super::credential::unauthorized;
use super::deploy::{self, UploadBudget};
use super::front::{Backend, Call, Front, FrontOptions};
use super::health::Health;
use super::metrics::Metrics;
use super::respond;
use super::routes::Endpoint;

/// Knows a few credentials by heart, reads deploy forms, and answers anything
/// else with who asked.
pub(super) struct Fake {
    uploads: UploadBudget,
    /// `whoami?wait` answers once this is notified.
    pub(super) gate: tokio::sync::Notify,
}

impl Fake {
    pub(super) fn new() -> Self {
        Self {
            uploads: UploadBudget::new(),
            gate: tokio::sync::Notify::new(),
        }
    }
}

fn ns(name: &str) -> Namespace {
    Namespace::parse(name).unwrap()
}

impl Backend for Fake {
    fn authenticate(&self, credential: &str) -> Result<Principal, ApiError> {
        let key = |name| Principal::ApiKey {
            namespace: ns(name),
            key_id: "k".into(),
        };
        let jwt = |subject: &str| Principal::Jwt {
            namespace: ns("shop"),
            subject: subject.into(),
            claims: Default::default(),
        };
        match credential {
            "key-shop" => Ok(key("shop")),
            "key-other" => Ok(key("other")),
            "user.jwt.shop" => Ok(jwt("0xabc")),
            "owner.jwt.shop" => Ok(jwt("shop")),
            "admin" => Ok(Principal::Admin),
            _ => Err(unauthorized("invalid API key")),
        }
    }

    async fn authenticate_confirmed(&self, credential: &str) -> Result<Principal, ApiError> {
        match credential {
            // Made on another node a moment ago.
            "new-shop" => self.authenticate("key-shop"),
            "no-leader" => Err(ApiError::new(ErrorCode::ServiceUnavailable, "no leader")),
            known => self.authenticate(known),
        }
    }

    async fn call(&self, mut call: Call) -> Result<HttpResponse, ApiError> {
        match call.endpoint {
            Endpoint::Deploy => {
                let namespace = call.namespace()?;
                let form =
                    deploy::read(&call.request, call.body, &namespace, &self.uploads).await?;
                respond::ok(&serde_json::json!({
                    "name": form.name.as_str(),
                    "memory": form.spec.memory_limit_mb,
                    "wasm": form.wasm.len(),
                }))
            }
            Endpoint::Invoke => {
                let body = call.read(MIB, "the request body").await?;
                respond::ok(&body.len())
            }
            Endpoint::WhoAmI if call.request.query_string() == "wait" => {
                tokio::time::timeout(std::time::Duration::from_secs(20), self.gate.notified())
                    .await
                    .map_err(|_| ApiError::not_found("nobody opened the gate"))?;
                respond::ok(&"waited")
            }
            Endpoint::WhoAmI if call.request.query_string() == "panic" => {
                panic!("a test makes the handler panic")
            }
            Endpoint::Actors => Err(ApiError::new(ErrorCode::RateLimited, "slow down").after(1.5)),
            _ => respond::ok(&format!("{:?} {:?}", call.principal, call.host_namespace)),
        }
    }
}

struct Answer {
    status: u16,
    headers: actix_web::http::header::HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
    /// The envelope, whose invariants hold for every error.
    fn error(&self) -> ApiError {
        let envelope: ErrorEnvelope =
            serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body));
        assert_eq!(self.header("content-type"), "application/json");
        assert!(!envelope.ok);
        assert_eq!(envelope.message, envelope.error.message);
        assert_eq!(envelope.error.code.status(), self.status);
        assert_eq!(
            envelope.error.request_id.as_deref(),
            Some(self.header("x-request-id"))
        );
        envelope.error
    }
}

async fn send(request: TestRequest) -> Answer {
    send_with(request, Health::starting()).await
}

async fn send_with(request: TestRequest, health: Health) -> Answer {
    let fake = Fake::new();
    let options = FrontOptions {
        base_domain: Some("example.com".into()),
    };
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let front = Rc::new(Front::new(options, fake, health, metrics));
    let app =
        App::new().default_service(web::to(move |request: HttpRequest, body: web::Payload| {
            let front = front.clone();
            async move { front.answer(request, body).await }
        }));
    let app = init_service(app).await;
    let response = call_service(&app, request.to_request()).await;
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let body = to_bytes(response.into_body()).await.unwrap();
    Answer {
        status,
        headers,
        body,
    }
}

fn with_key(request: TestRequest) -> TestRequest {
    request.insert_header(("authorization", "Bearer key-shop"))
}

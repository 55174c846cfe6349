//! The front, with a small backend in place of the node.

use std::rc::Rc;

use actix_web::http::{Method, StatusCode};
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, HttpRequest, HttpResponse, body::to_bytes, web};
use bytes::Bytes;
use orama_proto::error::ErrorEnvelope;
use orama_proto::invocation::Principal;
use orama_proto::limits::{MIB, WASM_MAX_BYTES};
use orama_proto::{ApiError, ErrorCode, Namespace};
use prometheus::Registry;

use super::credential::unauthorized;
use super::deploy::{self, UploadBudget};
use super::front::{Backend, Call, Front, FrontOptions};
use super::health::Health;
use super::metrics::Metrics;
use super::respond;
use super::routes::{Endpoint, Policy, ROUTES};

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

#[actix_web::test]
async fn unknown_paths_and_methods_get_the_envelope() {
    let answer = send(TestRequest::get().uri("/nothing/here")).await;
    assert_eq!(answer.error().code, ErrorCode::NotFound);
    let answer = send(TestRequest::patch().uri("/v1/functions")).await;
    assert_eq!(answer.error().code, ErrorCode::MethodNotAllowed);
    assert_eq!(answer.header("allow"), "GET, POST, HEAD, OPTIONS");
    let answer = send(TestRequest::get().uri("/v1/functions/echo/invoke")).await;
    assert_eq!(answer.header("allow"), "POST, OPTIONS");
    let answer = send(with_key(TestRequest::get().uri("/v1/functions/%zz"))).await;
    assert_eq!(answer.error().code, ErrorCode::ValidationFailed);
}

#[actix_web::test]
async fn every_answer_carries_the_common_headers() {
    for request in [
        TestRequest::get().uri("/v1/health"),
        TestRequest::get().uri("/v1/nothing"),
        TestRequest::get().uri("/v1/functions"),
        TestRequest::default()
            .method(Method::OPTIONS)
            .uri("/v1/functions"),
    ] {
        let request = request.insert_header(("x-request-id", "mine"));
        let answer = send(request).await;
        assert_eq!(answer.header("x-request-id").len(), 36);
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-frame-options"), "DENY");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
    }
}

#[actix_web::test]
async fn preflight_needs_no_credential() {
    let request = TestRequest::default()
        .method(Method::OPTIONS)
        .uri("/v1/admin/namespaces");
    let answer = send(request).await;
    assert_eq!(answer.status, 204);
    assert!(
        answer
            .header("access-control-allow-headers")
            .contains("X-API-Key")
    );
    assert_eq!(answer.header("access-control-max-age"), "600");
    assert!(answer.body.is_empty());
}

#[actix_web::test]
async fn every_route_holds_its_policy() {
    for route in ROUTES {
        let path = route
            .pattern
            .replace("{function}", "echo")
            .replace("{namespace}", "shop")
            .replace("{secret}", "KEY")
            .replace("{id}", "k1");
        let status = async |credential: Option<&str>| {
            let request = TestRequest::default()
                .method(route.method.clone())
                .uri(&path);
            let request = match credential {
                Some(text) => request.insert_header(("authorization", format!("Bearer {text}"))),
                None => request,
            };
            send(request).await.status
        };
        let refused = [401, 403];
        let none = status(None).await;
        let wrong = status(Some("wrong")).await;
        let key = status(Some("key-shop")).await;
        let user = status(Some("user.jwt.shop")).await;
        let owner = status(Some("owner.jwt.shop")).await;
        let admin = status(Some("admin")).await;
        let row = (none, wrong, key, user, owner, admin);
        let holds = match route.policy {
            Policy::Public => ![none, wrong, key, user, admin]
                .iter()
                .any(|s| refused.contains(s)),
            Policy::Optional => {
                wrong == 401 && ![none, key, user, admin].iter().any(|s| refused.contains(s))
            }
            Policy::Owner => {
                (none, wrong, user, admin) == (401, 401, 403, 403)
                    && ![key, owner].iter().any(|s| refused.contains(s))
            }
            Policy::Admin => {
                (none, wrong, key, user, owner) == (401, 401, 403, 403, 403)
                    && !refused.contains(&admin)
            }
        };
        assert!(holds, "{} {path}: {row:?}", route.method);
    }
}

#[actix_web::test]
async fn a_credential_from_another_node_is_looked_up_again() {
    let ask = async |headers: &[(&'static str, &'static str)]| {
        let request = TestRequest::get().uri("/v1/functions/f");
        let request = headers.iter().fold(request, |r, h| r.insert_header(*h));
        let answer = send(request).await;
        (answer.status, answer.body)
    };
    let known = ask(&[("x-api-key", "key-shop")]).await;
    assert_eq!(known.0, 200);
    assert_eq!(ask(&[("x-api-key", "new-shop")]).await, known);
    // Both are looked up, and they still have to agree.
    let both = [
        ("x-api-key", "new-shop"),
        ("authorization", "Bearer key-shop"),
    ];
    assert_eq!(ask(&both).await, known);
    let both = [
        ("x-api-key", "new-shop"),
        ("authorization", "Bearer key-other"),
    ];
    assert_eq!(ask(&both).await.0, 403);
    // Nobody is told that a credential is wrong while that is not known.
    assert_eq!(ask(&[("x-api-key", "no-leader")]).await.0, 503);
    assert_eq!(ask(&[("x-api-key", "wrong")]).await.0, 401);
}

#[actix_web::test]
async fn a_wrong_credential_is_401_with_a_challenge() {
    let request = TestRequest::post()
        .uri("/v1/functions/echo/invoke")
        .insert_header(("x-api-key", "ak_wrong:shop"));
    let answer = send(request).await;
    let error = answer.error();
    assert_eq!(error.code, ErrorCode::Unauthorized);
    assert!(!error.message.contains("ak_wrong"));
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
}

#[actix_web::test]
async fn the_host_must_agree_with_the_credential() {
    let request = || with_key(TestRequest::get().uri("/v1/functions"));
    let answer = send(request().insert_header(("host", "ns-shop.example.com:6001"))).await;
    assert_eq!(answer.status, 200);
    let answer = send(request().insert_header(("host", "ns-other.example.com"))).await;
    assert_eq!(answer.error().code, ErrorCode::Forbidden);
    let two = request().insert_header(("x-api-key", "key-other"));
    assert_eq!(send(two).await.error().code, ErrorCode::Forbidden);
}

#[actix_web::test]
async fn a_panic_gets_the_envelope() {
    let answer = send(TestRequest::get().uri("/v1/auth/whoami?panic")).await;
    assert_eq!(answer.error().code, ErrorCode::Internal);
}

#[actix_web::test]
async fn retry_after_is_mirrored_in_whole_seconds() {
    let request = TestRequest::get()
        .uri("/v1/admin/actors")
        .insert_header(("authorization", "admin"));
    let answer = send(request).await;
    let error = answer.error();
    assert!(error.retryable);
    assert_eq!(error.retry_after, Some(1.5));
    assert_eq!(answer.header("retry-after"), "2");
}

#[actix_web::test]
async fn invocation_bodies_have_an_exact_limit() {
    let invoke = |size: usize| {
        TestRequest::post()
            .uri("/v1/functions/echo/invoke")
            .set_payload(vec![b'x'; size])
    };
    assert_eq!(send(invoke(MIB)).await.body, "1048576");
    let error = send(invoke(MIB + 1)).await.error();
    assert_eq!(error.code, ErrorCode::PayloadTooLarge);
    assert!(error.message.contains("1 MiB"));
}

#[actix_web::test]
async fn a_draining_node_closes_connections() {
    let health = Health::starting();
    health.set_draining();
    // The header itself is written by the connection; here its intent is seen.
    let answer = send_with(TestRequest::get().uri("/v1/health"), health).await;
    assert_eq!(answer.status, StatusCode::OK.as_u16());
}

const BOUNDARY: &str = "xyzzy";

enum Part<'a> {
    Text(&'a str, &'a str),
    File(&'a str, usize),
}

fn form(parts: &[Part<'_>], closed: bool) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        body.extend_from_slice(format!("--{BOUNDARY}\r\n").as_bytes());
        match part {
            Part::Text(name, text) => body.extend_from_slice(
                format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
                    .as_bytes(),
            ),
            Part::File(name, size) => {
                body.extend_from_slice(
                    format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"function.wasm\"\r\nContent-Type: application/wasm\r\n\r\n").as_bytes(),
                );
                body.extend(std::iter::repeat_n(b'w', *size));
                body.extend_from_slice(b"\r\n");
            }
        }
    }
    if closed {
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    }
    body
}

async fn upload(body: Vec<u8>) -> Answer {
    upload_as(&format!("multipart/form-data; boundary={BOUNDARY}"), body).await
}

async fn upload_as(kind: &str, body: Vec<u8>) -> Answer {
    let request = with_key(TestRequest::post().uri("/v1/functions"))
        .insert_header(("content-type", kind))
        .set_payload(body);
    send(request).await
}

#[actix_web::test]
async fn a_form_is_read() {
    let answer = upload(form(
        &[
            Part::Text("name", "echo"),
            Part::Text("is_public", "false"),
            Part::Text("memory_limit_mb", "32"),
            Part::Text("metadata", r#"{"env_vars":{"A":"1"}}"#),
            Part::File("wasm", 200_000),
        ],
        true,
    ))
    .await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"name": "echo", "memory": 32, "wasm": 200_000})
    );
}

#[actix_web::test]
async fn hostile_forms_are_refused_by_name() {
    let name = || Part::Text("name", "echo");
    let long = "x".repeat(300_000);
    for (parts, status, expected) in [
        (vec![name()], 400, "WASM file required"),
        (
            vec![name(), Part::File("wasm", 0)],
            400,
            "WASM file required",
        ),
        (vec![Part::File("wasm", 9)], 400, "Function name required"),
        (
            vec![name(), Part::File("wasm", 9), Part::File("wasm", 9)],
            400,
            "'wasm' is given twice",
        ),
        (
            vec![name(), name(), Part::File("wasm", 9)],
            400,
            "'name' is given twice",
        ),
        (
            vec![name(), Part::File("wsam", 9)],
            400,
            "unknown part \"wsam\"",
        ),
        (
            vec![name(), Part::Text("memory", "3")],
            400,
            "unknown part \"memory\"",
        ),
        (
            vec![Part::Text("name", "🚀"), Part::File("wasm", 9)],
            400,
            "function name",
        ),
        (
            vec![
                name(),
                Part::Text("namespace", "other"),
                Part::File("wasm", 9),
            ],
            403,
            "another namespace",
        ),
        (
            vec![name(), Part::Text("metadata", &long)],
            413,
            "the part 'metadata' is too large",
        ),
        (
            vec![
                name(),
                Part::Text("memory_limit_mb", "0"),
                Part::File("wasm", 9),
            ],
            400,
            "memory_limit_mb must be between 1 and 256 MB (got 0)",
        ),
        (
            vec![name(), Part::File("wasm", WASM_MAX_BYTES + 1)],
            413,
            "32 MiB",
        ),
    ] {
        let answer = upload(form(&parts, true)).await;
        let message = answer.error().message;
        assert_eq!(answer.status, status, "{message}");
        assert!(message.contains(expected), "{message} / {expected}");
    }
    let answer = upload(form(&[name(), Part::File("wasm", WASM_MAX_BYTES)], true)).await;
    assert_eq!(answer.status, 200);
}

#[actix_web::test]
async fn a_form_cut_anywhere_is_refused() {
    let whole = form(&[Part::Text("name", "echo"), Part::File("wasm", 50)], true);
    // The last line end may be missing.
    for length in 0..whole.len() - 2 {
        let answer = upload(whole[..length].to_vec()).await;
        assert_eq!(answer.status, 400, "{length}: {:?}", answer.body);
        answer.error();
    }
    assert_eq!(upload(whole[..whole.len() - 2].to_vec()).await.status, 200);
}

#[actix_web::test]
async fn a_part_with_its_own_length_does_not_hide_a_cut() {
    let body = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"name\"\r\nContent-Length: 4\r\n\r\necho\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"wasm\"; filename=\"f\"\r\nContent-Length: 3\r\n\r\nwww\r\n"
    );
    let answer = upload(body.clone().into_bytes()).await;
    assert!(answer.error().message.contains("ends early"));
    let answer = upload(format!("{body}--{BOUNDARY}--").into_bytes()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
}

#[actix_web::test]
async fn other_bodies_get_upstreams_words() {
    let message = async |kind: &str, body: &str| upload_as(kind, body.into()).await.error().message;
    let json = "application/json";
    assert!(
        message(json, r#"{"name":"x","wasm_base64":"AGFzbQ=="}"#)
            .await
            .contains("Base64 WASM upload not supported, use multipart/form-data")
    );
    assert!(message(json, "{}").await.contains("WASM bytecode required"));
    assert!(
        message("text/plain", "hello")
            .await
            .contains("Failed to parse form")
    );
    assert!(
        message("multipart/form-data", "x")
            .await
            .contains("boundary")
    );
    assert!(
        message("multipart/form-data; boundary=", "x")
            .await
            .contains("boundary")
    );
    let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
    assert!(message(&long, "x").await.contains("boundary"));
    assert!(
        message("nonsense", "x")
            .await
            .contains("Failed to parse form")
    );
}

#[actix_web::test]
async fn compressed_forms_are_refused() {
    let request = with_key(TestRequest::post().uri("/v1/functions"))
        .insert_header((
            "content-type",
            format!("multipart/form-data; boundary={BOUNDARY}"),
        ))
        .insert_header(("content-encoding", "gzip"))
        .set_payload(form(&[Part::Text("name", "echo")], true));
    assert!(
        send(request)
            .await
            .error()
            .message
            .contains("Content-Encoding")
    );
}

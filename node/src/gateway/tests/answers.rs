//! What every answer has: the envelope, the common headers, limits of bodies.

use actix_web::http::{Method, StatusCode};
use actix_web::test::TestRequest;
use orama_proto::ErrorCode;
use orama_proto::limits::MIB;

use super::{send, send_with, with_key};
use crate::gateway::health::Health;

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

//! How answers are written: JSON, the error envelope, and the headers that
//! every answer carries (CONTRACT 2.1, 2.2).

use std::convert::Infallible;

use actix_web::HttpResponse;
use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    self, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use bytes::Bytes;
use futures::stream;
use orama_proto::error::ErrorEnvelope;
use orama_proto::limits::KIB;
use orama_proto::{ApiError, ErrorCode, RequestId};
use serde::Serialize;

/// Header with the request's id.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Header with an invocation's milliseconds.
pub(crate) const X_DURATION_MS: HeaderName = HeaderName::from_static("x-duration-ms");

/// Pieces of an answer that have so many bytes together are copied into one.
const COPIED_BYTES: usize = 64 * KIB;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A JSON answer.
///
/// # Errors
/// 500 when the value cannot be written, which is a fault of this program.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Result<HttpResponse, ApiError> {
    match serde_json::to_vec(value) {
        Ok(body) => Ok(json_bytes(status, body.into())),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            Err(ApiError::new(
                ErrorCode::Internal,
                "the answer cannot be written",
            ))
        }
    }
}

/// A 200 with JSON.
///
/// # Errors
/// As [`json`].
pub(crate) fn ok(value: &impl Serialize) -> Result<HttpResponse, ApiError> {
    json(StatusCode::OK, value)
}

/// An answer of bytes that are JSON already; they are not copied.
pub(crate) fn json_bytes(status: StatusCode, body: Bytes) -> HttpResponse {
    let mut response = HttpResponse::new(status)
        .set_body(body)
        .map_into_boxed_body();
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// An answer whose JSON comes in pieces; large ones are not copied together.
pub(crate) fn json_parts(status: StatusCode, parts: Vec<Bytes>) -> HttpResponse {
    let length: usize = parts.iter().map(Bytes::len).sum();
    if length <= COPIED_BYTES {
        return json_bytes(status, parts.concat().into());
    }
    let parts = stream::iter(parts.into_iter().map(Ok::<_, Infallible>));
    let body = SizedStream::new(length as u64, parts);
    let mut response = HttpResponse::new(status)
        .set_body(body)
        .map_into_boxed_body();
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// The envelope of an error, as the answer to the request with this id.
pub(crate) fn error(mut error: ApiError, request_id: &RequestId) -> HttpResponse {
    let status =
        StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    error.request_id = Some(request_id.to_string());
    let code = error.code;
    let retry_after = error.retry_after;
    let body = serde_json::to_vec(&ErrorEnvelope::from(error)).unwrap_or_default();
    let mut response = json_bytes(status, body.into());
    let headers = response.headers_mut();
    if let Some(seconds) = retry_after {
        // The header takes whole seconds only.
        headers.insert(
            RETRY_AFTER,
            HeaderValue::from(seconds.ceil().clamp(0.0, 86_400.0) as u64),
        );
    }
    if code == ErrorCode::Unauthorized {
        headers.insert(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"gateway\", charset=\"UTF-8\""),
        );
    }
    response
}

/// The answer to a preflight request.
pub(crate) fn preflight() -> HttpResponse {
    let mut response = HttpResponse::new(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, PUT, POST, DELETE, OPTIONS"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Content-Type, Authorization, X-API-Key"),
    );
    headers.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static("600"),
    );
    response
}

/// Adds what every answer carries.
pub(crate) fn finish(headers: &mut HeaderMap, request_id: &RequestId, path: &str) {
    if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
        headers.insert(X_REQUEST_ID, value);
    }
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("X-Request-ID, X-Duration-Ms, Retry-After"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    if path.starts_with("/v1/") {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

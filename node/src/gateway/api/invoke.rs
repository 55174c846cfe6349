//! Invoking a function (CONTRACT 2.5). The hot path: input and output are
//! handed on without a copy.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use orama_actors::platform::Invoke;
use orama_proto::api::InvokeText;
use orama_proto::invocation::Trigger;
use orama_proto::limits::INVOKE_BODY_MAX_BYTES;
use orama_proto::{ApiError, Namespace, RequestId};
use serde::de::IgnoredAny;

use super::Api;
use crate::gateway::body;
use crate::gateway::credential::forbidden;
use crate::gateway::front::Call;
use crate::gateway::path::{self, FunctionRef};
use crate::gateway::respond;
use crate::gateway::routes::Endpoint;

/// Header with the name of the node that ran the function.
const X_ORAMA_NODE: HeaderName = HeaderName::from_static("x-orama-node");
/// Header by which a client says that running the request twice does no harm.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Whether the client gave a key. Its value is the function's business: the
/// platform remembers no answers, it only may run the request a second time
/// when the node that ran it is lost.
fn is_repeatable(headers: &HeaderMap) -> bool {
    headers
        .get(IDEMPOTENCY_KEY)
        .is_some_and(|key| !key.is_empty())
}

impl Api {
    pub(super) async fn invoke(&self, mut call: Call) -> Result<HttpResponse, ApiError> {
        let target = match target(&call) {
            Ok(target) => target,
            Err(error) => {
                body::drain(&mut call.body).await;
                return Err(error);
            }
        };
        let (namespace, function) = target;
        let _share = match body::expected(call.request.headers(), INVOKE_BODY_MAX_BYTES) {
            0..=body::UNCOUNTED_BYTES => None,
            size => {
                // Room for large bodies is for those who may send one.
                let allowed = self.platform.may_invoke(
                    &call.principal,
                    &namespace,
                    &function.name,
                    function.version,
                );
                if let Err(error) = allowed.await {
                    body::drain(&mut call.body).await;
                    return Err(error);
                }
                Some(self.bodies.take(size).await?)
            }
        };
        let repeatable = is_repeatable(call.request.headers());
        let input = call.read(INVOKE_BODY_MAX_BYTES, "the request body").await?;
        let completed = self
            .platform
            .invoke(Invoke {
                request_id: call.request_id.clone(),
                namespace,
                name: function.name,
                version: function.version,
                principal: call.principal,
                trigger: Trigger::Http,
                input,
                repeatable,
            })
            .await?;
        let mut response = answer(completed.output, completed.duration_ms, &call.request_id)?;
        response.headers_mut().insert(
            respond::X_DURATION_MS,
            HeaderValue::from(completed.duration_ms),
        );
        // A name that is no header value is left out: the answer matters more.
        if let Ok(node) = HeaderValue::from_bytes(completed.node.as_bytes()) {
            response.headers_mut().insert(X_ORAMA_NODE, node);
        }
        Ok(response)
    }
}

/// Whose function, and which. The namespace is the path's, else the
/// credential's, the host's or the query's, which must not contradict each other.
fn target(call: &Call) -> Result<(Namespace, FunctionRef), ApiError> {
    if call.endpoint == Endpoint::InvokeIn {
        let namespace = Namespace::parse(call.capture(0))?;
        let function = FunctionRef::parse(call.capture(1))?;
        if call
            .host_namespace
            .as_ref()
            .is_some_and(|host| *host != namespace)
        {
            return Err(forbidden(
                "the host name selects another namespace than the path",
            ));
        }
        return Ok((namespace, function));
    }
    let function = FunctionRef::parse(call.capture(0))?;
    let own = call.principal.namespace().or(call.host_namespace.as_ref());
    let asked = match path::query(call.request.query_string(), "namespace")? {
        None => None,
        Some(text) => Some(Namespace::parse(&text)?),
    };
    match (own, asked) {
        (Some(own), Some(asked)) if *own != asked => Err(forbidden(
            "?namespace= names another namespace than the credential or the host name",
        )),
        (Some(own), _) => Ok((own.clone(), function)),
        (None, Some(asked)) => Ok((asked, function)),
        (None, None) => Err(ApiError::validation(
            "Namespace required: send a credential, ?namespace=NAME, or use /v1/invoke/{namespace}/{name}",
        )),
    }
}

/// JSON goes out as it is, anything else in a wrapper.
fn answer(
    output: Bytes,
    duration_ms: u64,
    request_id: &RequestId,
) -> Result<HttpResponse, ApiError> {
    let text = std::str::from_utf8(&output);
    if let Ok(text) = text
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
    {
        return Ok(respond::json_bytes(StatusCode::OK, output));
    }
    respond::ok(&InvokeText {
        request_id: request_id.to_string(),
        output_base64: text.is_err().then(|| STANDARD.encode(&output)),
        output: String::from_utf8_lossy(&output).into_owned(),
        status: "success".into(),
        duration_ms,
    })
}

#[cfg(test)]
mod tests {
    use actix_web::body::{MessageBody, to_bytes};

    use super::*;

    async fn body_of(output: &'static [u8]) -> Bytes {
        let response = answer(Bytes::from_static(output), 3, &RequestId::from("r")).unwrap();
        assert_eq!(
            response.headers().get("content-type").unwrap(),
            "application/json"
        );
        to_bytes(response.into_body()).await.unwrap()
    }

    #[actix_web::test]
    async fn json_passes_unchanged() {
        for output in ["{ \"a\" : 1 }", "42", "null", "\"é\"", " [1]\n", "1e9"] {
            assert_eq!(body_of(output.as_bytes()).await, output);
        }
        let output = Bytes::from_static(b"{}");
        let address = output.as_ptr();
        let response = answer(output, 0, &RequestId::from("r")).unwrap();
        let body = response.into_body().try_into_bytes().unwrap();
        assert_eq!(body.as_ptr(), address);
    }

    #[actix_web::test]
    async fn anything_else_is_wrapped() {
        for output in ["", "hello", "{broken", "{} {}", "01", "\u{feff}{}", "NaN"] {
            let body: InvokeText =
                serde_json::from_slice(&body_of(output.as_bytes()).await).unwrap();
            assert_eq!((body.output.as_str(), body.duration_ms), (output, 3));
            assert_eq!(body.output_base64, None);
            assert_eq!(body.status, "success");
        }
        for output in [&b"\xff\x00"[..], b"\"\xff\""] {
            let body: InvokeText = serde_json::from_slice(&body_of(output).await).unwrap();
            assert!(body.output.contains('\u{fffd}'));
            assert_eq!(body.output_base64, Some(STANDARD.encode(output)));
        }
    }

    #[test]
    fn an_idempotency_key_makes_a_request_repeatable() {
        let mut headers = HeaderMap::new();
        assert!(!is_repeatable(&headers));
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static(""));
        assert!(!is_repeatable(&headers));
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static("order-17"));
        assert!(is_repeatable(&headers));
    }

    #[actix_web::test]
    async fn deep_json_does_not_overflow_the_stack() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let response = answer(Bytes::from(deep.clone()), 0, &RequestId::from("r")).unwrap();
        assert_eq!(to_bytes(response.into_body()).await.unwrap(), deep);
    }
}

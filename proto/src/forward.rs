//! An invocation that one node hands to another, and its answer.
//!
//! On the wire: the length of the head (4 bytes, little endian), the head as a
//! versioned [`record`], then input or output as they are, so that neither
//! side copies them to read them.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::invocation::{Principal, Trigger};
use crate::record::{self, RecordError};
use crate::{ApiError, ContentId, ErrorCode, FunctionName, Namespace, RequestId};

/// Version of [`ForwardedInvoke`] and [`ForwardReply`] on the wire.
const FORWARD_VERSION: u8 = 1;
/// How often an invocation may change nodes. The second node runs it or
/// declines; a ring of nodes that all believe another to be idle cannot form.
pub const FORWARD_HOPS_MAX: u8 = 1;
/// Longest input that is forwarded, bytes: 16 MiB with the head.
pub const FORWARD_INPUT_MAX: usize = (16 << 20) - (64 << 10);

/// Bytes of the head's length.
const LENGTH: usize = 4;

/// What the other node needs to run it as this node would have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardedInvoke {
    /// The request, on every node it meets.
    pub request_id: RequestId,
    /// The tenant.
    pub namespace: Namespace,
    /// The function.
    pub function: FunctionName,
    /// See [`crate::function::FunctionVersion::function_id`]: tells a function
    /// from an earlier one of the same name in a namespace that was made anew.
    pub function_id: String,
    /// The version that the first node resolved. The other one runs this or none.
    pub version: u64,
    /// Its module.
    pub wasm_cid: ContentId,
    /// Whom the guest sees. Authorized by the first node.
    pub principal: Principal,
    /// What set it off.
    pub trigger: Trigger,
    /// Nodes it was forwarded to, the receiver included.
    pub hops: u8,
}

impl ForwardedInvoke {
    /// The call's body.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn encode(&self, input: &[u8]) -> Result<Vec<u8>, RecordError> {
        encode(self, input)
    }

    /// Reads a call's body; answers also where the input begins.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn decode(body: &[u8]) -> Result<(Self, usize), RecordError> {
        decode(body)
    }
}

/// Why a node did not start a forwarded invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotTaken {
    /// It has no free place.
    Busy,
    /// The namespace has as many places there as it may have.
    NamespaceBusy,
    /// It does not know the version yet, or its module is not loaded; it begins to load it.
    NotReady,
    /// It drains or leaves.
    Draining,
}

/// The answer to a [`ForwardedInvoke`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ForwardReply {
    /// The guest succeeded; its output follows the head.
    Done {
        /// Milliseconds of the last attempt.
        duration_ms: u64,
    },
    /// It ran, or was to run, and this is what the client is to see.
    Failed(WireError),
    /// Nothing was started.
    NotTaken(NotTaken),
}

impl ForwardReply {
    /// The answer's body. Only [`ForwardReply::Done`] has output.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn encode(&self, output: &[u8]) -> Result<Vec<u8>, RecordError> {
        encode(self, output)
    }

    /// Reads an answer's body; answers also where the output begins.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn decode(body: &[u8]) -> Result<(Self, usize), RecordError> {
        decode(body)
    }
}

/// An [`ApiError`] between nodes. The request id is the call's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireError {
    /// What kind.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Seconds to wait before the next try.
    pub retry_after: Option<f64>,
}

impl From<ApiError> for WireError {
    fn from(error: ApiError) -> Self {
        Self {
            code: error.code,
            message: error.message,
            retryable: error.retryable,
            retry_after: error.retry_after,
        }
    }
}

impl From<WireError> for ApiError {
    fn from(error: WireError) -> Self {
        Self {
            code: error.code,
            message: error.message,
            retryable: error.retryable,
            request_id: None,
            retry_after: error.retry_after,
        }
    }
}

fn encode<T: Serialize>(head: &T, rest: &[u8]) -> Result<Vec<u8>, RecordError> {
    let head = record::encode(FORWARD_VERSION, head)?;
    let length = u32::try_from(head.len()).map_err(|e| RecordError::Encode(e.to_string()))?;
    let mut body = Vec::with_capacity(LENGTH + head.len() + rest.len());
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(&head);
    body.extend_from_slice(rest);
    Ok(body)
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<(T, usize), RecordError> {
    let (length, rest) = body
        .split_first_chunk::<LENGTH>()
        .ok_or(RecordError::Empty)?;
    let length = u32::from_le_bytes(*length) as usize;
    let head = rest.get(..length).ok_or_else(|| {
        RecordError::Decode(format!(
            "a head of {length} bytes is announced, {} follow",
            rest.len()
        ))
    })?;
    Ok((record::decode(FORWARD_VERSION, head)?, LENGTH + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invoke() -> ForwardedInvoke {
        ForwardedInvoke {
            request_id: RequestId::from("r-1"),
            namespace: Namespace::parse("default").unwrap(),
            function: FunctionName::parse("hello").unwrap(),
            function_id: "f-1".into(),
            version: 7,
            wasm_cid: ContentId::of(b"wasm"),
            principal: Principal::Jwt {
                namespace: Namespace::parse("default").unwrap(),
                subject: "0xabc".into(),
                claims: [("role".to_owned(), "admin".to_owned())].into(),
            },
            trigger: Trigger::Http,
            hops: 1,
        }
    }

    #[test]
    fn head_and_bytes_come_back_as_they_were() {
        let body = invoke().encode(b"input").unwrap();
        let (head, at) = ForwardedInvoke::decode(&body).unwrap();
        assert_eq!((head, &body[at..]), (invoke(), &b"input"[..]));
        let done = ForwardReply::Done { duration_ms: 3 };
        let body = done.encode(b"").unwrap();
        let (head, at) = ForwardReply::decode(&body).unwrap();
        assert_eq!((head, at), (done, body.len()));
    }

    #[test]
    fn an_error_is_the_same_on_the_other_side() {
        let mut error = ApiError::new(ErrorCode::RateLimited, "wait").after(1.5);
        error.retryable = false;
        let reply = ForwardReply::Failed(error.clone().into());
        let body = reply.encode(b"").unwrap();
        let (ForwardReply::Failed(wire), _) = ForwardReply::decode(&body).unwrap() else {
            panic!("another kind of answer");
        };
        assert_eq!(ApiError::from(wire), error);
    }

    #[test]
    fn other_versions_and_short_bodies_are_refused() {
        let mut body = invoke().encode(b"x").unwrap();
        assert!(ForwardedInvoke::decode(&body[..40]).is_err());
        assert!(ForwardedInvoke::decode(&[]).is_err());
        assert!(ForwardedInvoke::decode(&[255; 64]).is_err());
        body[LENGTH] = 9;
        assert!(matches!(
            ForwardedInvoke::decode(&body),
            Err(RecordError::Version { found: 9, known: 1 })
        ));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused_or_decoded_without_panic(bytes: Vec<u8>) {
            let _ = ForwardedInvoke::decode(&bytes);
            let _ = ForwardReply::decode(&bytes);
        }
    }
}

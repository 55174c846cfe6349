//! Reading request bodies: never more than a limit, never longer than a time,
//! never more memory over all requests than a budget.

use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use orama_proto::limits::{KIB, MIB};
use orama_proto::{ApiError, ErrorCode};
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// How long a body may take to arrive.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// What is read and thrown away of a body that was refused, so that the client
/// reads the answer instead of a reset connection.
const DRAIN_MAX_BYTES: usize = 64 * 1024 * KIB;
/// How long that may take.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How long a request may wait for a share of the budget.
const BUDGET_WAIT: Duration = Duration::from_secs(10);
/// Bodies up to this size are not counted: the number of connections bounds them.
pub(crate) const UNCOUNTED_BYTES: usize = 16 * KIB;

/// Memory that request bodies may take together.
pub(crate) struct Budget {
    shares: Semaphore,
    total_kib: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let total_kib = bytes / KIB;
        Self {
            shares: Semaphore::new(total_kib),
            total_kib,
        }
    }

    /// Takes a share, waiting a bounded time. Hold it as long as the body.
    ///
    /// # Errors
    /// 503 when none became free.
    pub(crate) async fn take(&self, bytes: usize) -> Result<SemaphorePermit<'_>, ApiError> {
        let kib = u32::try_from(bytes.div_ceil(KIB).min(self.total_kib)).unwrap_or(u32::MAX);
        match timeout(BUDGET_WAIT, self.shares.acquire_many(kib)).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(ApiError::new(
                ErrorCode::ServiceUnavailable,
                "too many large requests at once; try again",
            )
            .after(5.0)),
        }
    }
}

/// What `Content-Length` announces.
pub(crate) fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The most bytes a body may turn out to have.
pub(crate) fn expected(headers: &HeaderMap, limit: usize) -> usize {
    match announced(headers) {
        Some(bytes) => bytes.min(limit),
        None if headers.contains_key(TRANSFER_ENCODING) => limit,
        // Neither length nor chunks: there is no body.
        None => 0,
    }
}

/// Reads a body of at most `limit` bytes. A body that came in one piece is handed on as it is.
///
/// # Errors
/// 413 naming the limit, 400 when the body does not arrive.
pub(crate) async fn read<S>(
    headers: &HeaderMap,
    body: &mut S,
    limit: usize,
    what: &str,
) -> Result<Bytes, ApiError>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    let announced = announced(headers);
    if announced.is_some_and(|n| n > limit) {
        drain(body).await;
        return Err(too_large(what, limit));
    }
    match timeout(READ_LIMIT, collect(body, limit, announced)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => {
            drain(body).await;
            Err(too_large(what, limit))
        }
        Ok(Err(error)) => Err(broken(&error)),
        Err(_) => Err(ApiError::validation(format!(
            "the request body did not arrive within {} seconds",
            READ_LIMIT.as_secs()
        ))),
    }
}

async fn collect<S>(
    body: &mut S,
    limit: usize,
    announced: Option<usize>,
) -> Result<Option<Bytes>, PayloadError>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    let Some(first) = body.next().await.transpose()? else {
        return Ok(Some(Bytes::new()));
    };
    if first.len() > limit {
        return Ok(None);
    }
    let Some(second) = body.next().await.transpose()? else {
        return Ok(Some(first));
    };
    let expected = announced.unwrap_or(first.len() + second.len()).min(limit);
    let mut all = BytesMut::with_capacity(expected);
    all.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(chunk) = next {
        if all.len() + chunk.len() > limit {
            return Ok(None);
        }
        all.extend_from_slice(&chunk);
        next = body.next().await.transpose()?;
    }
    Ok(Some(all.freeze()))
}

/// Throws the rest of a refused body away, up to a limit.
pub(crate) async fn drain<S>(body: &mut S)
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    let rest = async {
        let mut seen = 0;
        while let Some(Ok(chunk)) = body.next().await {
            seen += chunk.len();
            if seen > DRAIN_MAX_BYTES {
                break;
            }
        }
    };
    // Whether it came to an end or not, the answer is sent now.
    let _ = timeout(DRAIN_LIMIT, rest).await;
}

/// The error of a body over its limit.
pub(crate) fn too_large(what: &str, limit: usize) -> ApiError {
    ApiError::new(
        ErrorCode::PayloadTooLarge,
        format!("{what} is too large: the limit is {}", size(limit)),
    )
}

/// A size in the largest unit that divides it.
fn size(bytes: usize) -> String {
    match bytes {
        _ if bytes >= MIB && bytes.is_multiple_of(MIB) => {
            format!("{} MiB ({bytes} bytes)", bytes / MIB)
        }
        _ if bytes >= KIB && bytes.is_multiple_of(KIB) => {
            format!("{} KiB ({bytes} bytes)", bytes / KIB)
        }
        _ => format!("{bytes} bytes"),
    }
}

/// The error of a body that did not arrive whole.
pub(crate) fn broken(error: &PayloadError) -> ApiError {
    ApiError::validation(match error {
        PayloadError::Incomplete(_) => "the request body ends early".to_owned(),
        other => format!("the request body cannot be read: {other}"),
    })
}

/// Refuses a compressed body where its bytes are to be understood.
///
/// # Errors
/// 400.
pub(crate) fn refuse_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(CONTENT_ENCODING).map(|v| v.as_bytes()) {
        None | Some(b"identity") => Ok(()),
        Some(_) => Err(ApiError::validation(
            "Content-Encoding is not supported here: send the body as it is",
        )),
    }
}

/// Reads JSON strictly; errors name the field.
///
/// # Errors
/// 400.
pub(crate) fn parse_json<'de, T: Deserialize<'de>>(
    what: &str,
    body: &'de [u8],
) -> Result<T, ApiError> {
    let wrong = |problem: String| ApiError::validation(format!("Invalid {what} JSON: {problem}"));
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(wrong("the body is empty".into()));
    }
    // A list would be taken for the fields in the order of our source.
    if body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[') {
        return Err(wrong("an object is expected, not a list".into()));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let problem: String = error.into_inner().to_string().chars().take(300).collect();
        if path == "." {
            wrong(problem)
        } else {
            wrong(format!("{path}: {problem}"))
        }
    })?;
    reader.end().map_err(|error| wrong(error.to_string()))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use orama_proto::api::{CreateTokenRequest, DeployMetadata};

    use super::*;

    fn chunks(parts: &[usize]) -> impl Stream<Item = Result<Bytes, PayloadError>> + Unpin {
        let parts: Vec<_> = parts.iter().map(|n| Ok(Bytes::from(vec![7; *n]))).collect();
        stream::iter(parts)
    }

    #[actix_web::test]
    async fn limits_are_exact() {
        let headers = HeaderMap::new();
        for parts in [&[10][..], &[4, 6], &[1, 1, 8], &[]] {
            let total: usize = parts.iter().sum();
            let bytes = read(&headers, &mut chunks(parts), 10, "x").await.unwrap();
            assert_eq!(bytes.len(), total);
        }
        for parts in [&[11][..], &[4, 7], &[5, 5, 1]] {
            let error = read(&headers, &mut chunks(parts), 10, "the body")
                .await
                .unwrap_err();
            assert_eq!(error.code, ErrorCode::PayloadTooLarge);
            assert!(error.message.contains("10 bytes"));
        }
    }

    #[actix_web::test]
    async fn one_piece_is_not_copied() {
        let piece = Bytes::from_static(b"whole");
        let address = piece.as_ptr();
        let mut body = stream::iter(vec![Ok(piece)]);
        let bytes = read(&HeaderMap::new(), &mut body, 10, "x").await.unwrap();
        assert_eq!(bytes.as_ptr(), address);
    }

    #[actix_web::test]
    async fn a_cut_body_is_refused() {
        let mut body = stream::iter(vec![
            Ok(Bytes::from_static(b"half")),
            Err(PayloadError::Incomplete(None)),
        ]);
        let error = read(&HeaderMap::new(), &mut body, 10, "x")
            .await
            .unwrap_err();
        assert_eq!(error.message, "the request body ends early");
    }

    #[actix_web::test]
    async fn the_budget_bounds_large_bodies() {
        let budget = Budget::new(64 * KIB);
        let held = budget.take(60 * KIB).await.unwrap();
        assert!(budget.shares.try_acquire_many(5).is_err());
        drop(held);
        // More than the whole budget is as much as the whole budget.
        assert!(budget.take(1024 * KIB).await.is_ok());
    }

    #[test]
    fn json_errors_name_the_field() {
        let problem = |body: &str| {
            parse_json::<DeployMetadata>("metadata", body.as_bytes())
                .map(|_| ())
                .unwrap_err()
                .message
        };
        assert!(problem(r#"{"memory_limit_mb":"64MB"}"#).contains("memory_limit_mb: invalid type"));
        assert!(problem(r#"{"env_vars":{"A":1}}"#).contains("env_vars.A"));
        assert!(problem(r#"{"nme":"x"}"#).contains("nme"));
        assert!(problem("{} x").contains("trailing"));
        assert!(problem(" ").contains("empty"));
        let token = parse_json::<CreateTokenRequest>("token", b"{}").unwrap_err();
        assert!(token.message.contains("subject"));
    }
}

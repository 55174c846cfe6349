//! Reading the multipart body.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_multipart::{Field, Multipart, MultipartError};
use actix_web::error::PayloadError;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpMessage, HttpRequest};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt};
use orama_proto::function::FunctionSpec;
use orama_proto::limits::{
    DEPLOY_FIELD_MAX_BYTES, INVOKE_BODY_MAX_BYTES, KIB, MIB, WASM_MAX_BYTES,
};
use orama_proto::{ApiError, FunctionName, Namespace};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::fields::Fields;
use crate::gateway::body::{self, Budget};

/// Memory that uploads may take together.
const UPLOADS_MAX_BYTES: usize = 256 * MIB;
/// What all parts together may have besides the module.
const REST_MAX_BYTES: usize = 2 * MIB;
/// How long an upload may take.
const UPLOAD_LIMIT: Duration = Duration::from_secs(300);
/// How long it may stand still.
const STALL_LIMIT: Duration = Duration::from_secs(30);
/// Longest boundary (RFC 2046).
const BOUNDARY_MAX: usize = 70;

/// Bounds the memory of concurrent uploads.
pub(crate) struct UploadBudget(Budget);

impl UploadBudget {
    /// The default budget.
    pub(crate) fn new() -> Self {
        Self(Budget::new(UPLOADS_MAX_BYTES))
    }
}

/// A form that can be deployed.
pub(crate) struct Form<'a> {
    /// The function.
    pub(crate) name: FunctionName,
    /// Its settings, valid.
    pub(crate) spec: FunctionSpec,
    /// The module's bytes, not looked into.
    pub(crate) wasm: Bytes,
    /// Held as long as the bytes.
    pub(crate) _share: SemaphorePermit<'a>,
}

/// Reads a deploy form for a namespace.
///
/// # Errors
/// 400, 403 or 413 naming the part, 503 when too many uploads are under way.
pub(crate) async fn read<'a, S>(
    request: &HttpRequest,
    stream: S,
    namespace: &Namespace,
    budget: &'a UploadBudget,
) -> Result<Form<'a>, ApiError>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin + 'static,
{
    let mut source = Source::new(stream);
    let read = read_all(request, &source, namespace, budget);
    let result = timeout(UPLOAD_LIMIT, read).await.unwrap_or_else(|_| {
        Err(ApiError::validation(format!(
            "Failed to parse form: it did not arrive within {} seconds",
            UPLOAD_LIMIT.as_secs()
        )))
    });
    // What follows the form, or is left of a refused one.
    body::drain(&mut source).await;
    result
}

async fn read_all<'a, S>(
    request: &HttpRequest,
    source: &Source<S>,
    namespace: &Namespace,
    budget: &'a UploadBudget,
) -> Result<Form<'a>, ApiError>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin + 'static,
{
    if !is_form(request)? {
        return Err(not_multipart(request, source.clone()).await);
    }
    body::refuse_encoding(request.headers())?;
    let announced = body::announced(request.headers());
    let size = announced
        .unwrap_or(usize::MAX)
        .min(WASM_MAX_BYTES + REST_MAX_BYTES);
    let share = budget.0.take(size).await?;

    let mut parts = Multipart::new(request.headers(), source.clone());
    let mut fields = Fields::default();
    let mut wasm = None;
    while let Some(field) = step(parts.try_next()).await? {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "wasm" {
            if wasm.is_some() {
                return Err(ApiError::validation(
                    "Failed to parse form: the part 'wasm' is given twice",
                ));
            }
            let what = "the WebAssembly module (part 'wasm')";
            wasm = Some(part(field, what, WASM_MAX_BYTES, announced).await?);
        } else {
            let known = fields.admit(&name)?;
            let what = format!("the part '{known}'");
            let text = part(field, &what, DEPLOY_FIELD_MAX_BYTES, None).await?;
            fields.set(known, &text)?;
        }
    }
    let settings = fields.finish(namespace)?;
    let wasm = wasm.ok_or_else(|| ApiError::validation("WASM file required"))?;
    if wasm.is_empty() {
        return Err(ApiError::validation(
            "WASM file required: the part 'wasm' is empty",
        ));
    }
    Ok(Form {
        name: settings.name,
        spec: settings.spec,
        wasm,
        _share: share,
    })
}

/// Whether the body claims to be a multipart form, with a boundary of the allowed length.
fn is_form(request: &HttpRequest) -> Result<bool, ApiError> {
    let wrong = |problem: &str| ApiError::validation(format!("Failed to parse form: {problem}"));
    let Some(kind) = request
        .mime_type()
        .map_err(|_| wrong("the Content-Type cannot be read"))?
    else {
        return Ok(false);
    };
    if kind.essence_str() != "multipart/form-data" {
        return Ok(false);
    }
    let boundary = kind.get_param("boundary");
    match boundary.map(|text| text.as_str().len()) {
        Some(1..=BOUNDARY_MAX) => Ok(true),
        _ => Err(wrong("the Content-Type has no valid boundary")),
    }
}

/// The error for a body that is no form, in upstream's words.
async fn not_multipart<S>(request: &HttpRequest, mut source: Source<S>) -> ApiError
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin + 'static,
{
    let json = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.to_ascii_lowercase().contains("json"));
    // Enough to see the key, which upstream's clients write before the payload
    // or after a few short ones.
    let mut start = Vec::new();
    while start.len() < INVOKE_BODY_MAX_BYTES {
        match timeout(STALL_LIMIT, source.next()).await {
            Ok(Some(Ok(chunk))) => start.extend_from_slice(&chunk),
            _ => break,
        }
    }
    let base64 = b"\"wasm_base64\"";
    ApiError::validation(if start.windows(base64.len()).any(|w| w == base64) {
        "Base64 WASM upload not supported, use multipart/form-data"
    } else if json || start.is_empty() {
        "WASM bytecode required: send multipart/form-data with a part 'wasm'"
    } else {
        "Failed to parse form: the Content-Type must be multipart/form-data with a part 'wasm'"
    })
}

/// Reads a part of at most `limit` bytes.
async fn part(
    mut field: Field,
    what: &str,
    limit: usize,
    announced: Option<usize>,
) -> Result<Bytes, ApiError> {
    // The announced size bounds the module's, so that it is allocated once.
    let mut all = BytesMut::with_capacity(announced.unwrap_or(4 * KIB).min(limit));
    while let Some(chunk) = step(field.try_next()).await? {
        if all.len() + chunk.len() > limit {
            return Err(body::too_large(what, limit));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.freeze())
}

/// Waits for the next piece of the form, but not for ever.
async fn step<T>(
    next: impl Future<Output = Result<Option<T>, MultipartError>>,
) -> Result<Option<T>, ApiError> {
    match timeout(STALL_LIMIT, next).await {
        Ok(result) => result.map_err(|error| malformed(&error)),
        Err(_) => Err(ApiError::validation(format!(
            "Failed to parse form: nothing arrived for {} seconds",
            STALL_LIMIT.as_secs()
        ))),
    }
}

fn malformed(error: &MultipartError) -> ApiError {
    let problem = match error {
        MultipartError::Incomplete | MultipartError::Payload(PayloadError::Incomplete(_)) => {
            "it ends early".to_owned()
        }
        MultipartError::BoundaryMissing => {
            "a boundary is missing, so it ends early or is no multipart form".to_owned()
        }
        MultipartError::Payload(PayloadError::Overflow) => {
            return body::too_large("the form", WASM_MAX_BYTES + REST_MAX_BYTES);
        }
        MultipartError::Payload(error) => error.to_string(),
        other => other.to_string(),
    };
    ApiError::validation(format!("Failed to parse form: {problem}"))
}

/// The body, shared between the form's reader and whoever drains what is left of it.
struct Source<S>(Rc<RefCell<S>>);

impl<S> Clone for Source<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> Source<S> {
    fn new(stream: S) -> Self {
        Self(Rc::new(RefCell::new(stream)))
    }
}

impl<S> Stream for Source<S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll_next_unpin(context)
    }
}

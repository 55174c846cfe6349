//! HTTP to a gateway: one request, one answer, errors in one shape. Redirects
//! are not followed, so a credential goes where it belongs and nowhere else.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::multipart::Form;
use reqwest::{Method, Response, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::environments::key_of;
use super::error::{ApiFailure, CliError};
use super::target::Token;

const CONNECT: Duration = Duration::from_secs(10);
/// A call that only reads or changes metadata.
const CALL: Duration = Duration::from_secs(60);
/// Largest answer that is read; a function's output is at most 8 MiB, and JSON
/// may spell a byte with six.
const ANSWER_MAX_BYTES: usize = 64 * 1024 * 1024;
/// How much of an answer that is no envelope is shown.
const SHOWN_BYTES: usize = 500;

/// A successful answer.
pub struct Answer {
    status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    url: String,
}

impl Answer {
    /// Whether the work goes on behind the answer (202).
    pub fn accepted(&self) -> bool {
        self.status == 202
    }

    /// The body as a type of the API.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        serde_json::from_slice(&self.body).map_err(|e| CliError::BadAnswer {
            url: self.url.clone(),
            reason: e.to_string(),
        })
    }

    /// The same without a copy of what is in it.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse_borrowed<'a, T: Deserialize<'a>>(&'a self) -> Result<T, CliError> {
        serde_json::from_slice(&self.body).map_err(|e| CliError::BadAnswer {
            url: self.url.clone(),
            reason: e.to_string(),
        })
    }

    /// A header as text, empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
    }
}

/// A connection to one gateway with one credential.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<Token>,
}

impl Client {
    /// Prepares; connects with the first call.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(base: Url, token: Option<Token>) -> Result<Self, CliError> {
        // Fails only when a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("orama-cli/", env!("CARGO_PKG_VERSION")));
        if base.scheme() == "http" {
            // Spares plain HTTP the reading of the system's certificates, and
            // a machine without any the failure to find them.
            builder = builder.tls_certs_only([]);
        }
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|e| CliError::Failed(format!("cannot set up HTTP: {}", innermost(&e))))?;
        Ok(Self { http, base, token })
    }

    /// Where it talks to.
    pub fn url(&self) -> String {
        key_of(&self.base)
    }

    /// GET.
    ///
    /// # Errors
    /// See [`CliError`].
    pub async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Answer, CliError> {
        let mut url = self.path(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.send(self.request(Method::GET, url, CALL)).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// See [`CliError`].
    pub async fn delete(&self, path: &[&str]) -> Result<Answer, CliError> {
        let url = self.path(path)?;
        self.send(self.request(Method::DELETE, url, CALL)).await
    }

    /// POST or PUT of a JSON body.
    ///
    /// # Errors
    /// See [`CliError`].
    pub async fn json<T: Serialize>(
        &self,
        method: Method,
        path: &[&str],
        body: &T,
    ) -> Result<Answer, CliError> {
        self.json_within(method, path, body, CALL).await
    }

    /// POST or PUT of a JSON body that may take long to answer.
    ///
    /// # Errors
    /// See [`CliError`].
    pub async fn json_within<T: Serialize>(
        &self,
        method: Method,
        path: &[&str],
        body: &T,
        limit: Duration,
    ) -> Result<Answer, CliError> {
        let url = self.path(path)?;
        self.send(self.request(method, url, limit).json(body)).await
    }

    /// POST of a form.
    ///
    /// # Errors
    /// See [`CliError`].
    pub async fn form(
        &self,
        path: &[&str],
        form: Form,
        limit: Duration,
    ) -> Result<Answer, CliError> {
        let url = self.path(path)?;
        self.send(self.request(Method::POST, url, limit).multipart(form))
            .await
    }

    /// POST of raw bytes.
    ///
    /// # Errors
    /// See [`CliError`].
    pub async fn bytes(
        &self,
        path: &[&str],
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Answer, CliError> {
        let url = self.path(path)?;
        let request = self
            .request(Method::POST, url, limit)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body);
        self.send(request).await
    }

    /// GET of an answer of any length, piece by piece into a file. Answers how
    /// many bytes it had.
    ///
    /// # Errors
    /// See [`CliError`]; an answer that is shorter than announced is one.
    pub async fn download(
        &self,
        path: &[&str],
        to: &mut (impl std::io::Write + ?Sized),
        name: &std::path::Path,
        limit: Duration,
    ) -> Result<u64, CliError> {
        let url = self.path(path)?;
        let request = self.request(Method::GET, url, limit);
        let mut response = request.send().await.map_err(|e| self.unreachable(&e))?;
        let status = response.status();
        if !status.is_success() {
            let headers = response.headers().clone();
            let body = self.read(response).await?;
            return Err(CliError::Api(failure(status.as_u16(), &body, &headers)));
        }
        let announced = response.content_length();
        let mut bytes = 0;
        while let Some(chunk) = response.chunk().await.map_err(|e| self.broke_off(&e))? {
            bytes += chunk.len() as u64;
            to.write_all(&chunk)
                .map_err(CliError::file("cannot write", name))?;
        }
        match announced {
            Some(announced) if announced != bytes => Err(CliError::BadAnswer {
                url: self.url(),
                reason: format!("it has {bytes} bytes of {announced}"),
            }),
            _ => Ok(bytes),
        }
    }

    /// The URL of these path segments, each percent-encoded.
    fn path(&self, segments: &[&str]) -> Result<Url, CliError> {
        // `Url` drops `.` and `..`, which would address something else.
        if segments.iter().any(|s| matches!(*s, "" | "." | "..")) {
            return Err(CliError::Usage("a name is empty, '.' or '..'".into()));
        }
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut path) => {
                path.pop_if_empty().push("v1").extend(segments);
            }
            Err(()) => return Err(CliError::Usage(format!("{} has no path", self.base))),
        }
        Ok(url)
    }

    fn request(&self, method: Method, url: Url, limit: Duration) -> reqwest::RequestBuilder {
        let request = self.http.request(method, url).timeout(limit);
        match &self.token {
            Some(token) => request.bearer_auth(token.as_str()),
            None => request,
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, CliError> {
        let response = request.send().await.map_err(|e| {
            if e.is_builder() {
                CliError::Usage(format!("the request cannot be made: {}", innermost(&e)))
            } else {
                self.unreachable(&e)
            }
        })?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = self.read(response).await?;
        if status.is_success() {
            return Ok(Answer {
                status: status.as_u16(),
                headers,
                body,
                url: self.url(),
            });
        }
        Err(CliError::Api(failure(status.as_u16(), &body, &headers)))
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        CliError::Unreachable {
            url: self.url(),
            reason: innermost(error),
        }
    }

    fn broke_off(&self, error: &reqwest::Error) -> CliError {
        CliError::Unreachable {
            url: self.url(),
            reason: format!("the answer broke off: {}", innermost(error)),
        }
    }

    async fn read(&self, mut response: Response) -> Result<Bytes, CliError> {
        let mut body = Vec::new();
        loop {
            let chunk = response.chunk().await.map_err(|e| self.broke_off(&e))?;
            let Some(chunk) = chunk else {
                return Ok(Bytes::from(body));
            };
            if body.len() + chunk.len() > ANSWER_MAX_BYTES {
                return Err(CliError::BadAnswer {
                    url: self.url(),
                    reason: format!("it is longer than {ANSWER_MAX_BYTES} bytes"),
                });
            }
            body.extend_from_slice(&chunk);
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}

/// Reads an error answer: our envelope, or what other gateways send.
fn failure(status: u16, body: &[u8], headers: &HeaderMap) -> ApiFailure {
    let header_id = headers.get("x-request-id").and_then(|v| v.to_str().ok());
    let parsed: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let error = parsed.get("error");
    let inner = |key: &str| text(error.and_then(|e| e.get(key)));
    let message = inner("message")
        .or_else(|| text(error))
        .or_else(|| text(parsed.get("message")))
        .unwrap_or_else(|| {
            let cut = &body[..body.len().min(SHOWN_BYTES)];
            match String::from_utf8_lossy(cut).trim() {
                "" => "the answer has no body".to_owned(),
                text => text.to_owned(),
            }
        });
    ApiFailure {
        status,
        code: inner("code")
            .or_else(|| text(parsed.get("code")))
            .unwrap_or_default(),
        message,
        request_id: inner("request_id")
            .or_else(|| text(parsed.get("request_id")))
            .or_else(|| header_id.map(str::to_owned)),
        advice: None,
        failed_index: parsed
            .get("failed_index")
            .and_then(Value::as_u64)
            .and_then(|index| index.try_into().ok()),
        retryable: error
            .and_then(|e| e.get("retryable"))
            .or_else(|| parsed.get("retryable"))
            .and_then(Value::as_bool),
    }
}

/// The cause at the bottom: the layers above only say that something failed.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;

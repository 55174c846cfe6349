//! What a tenant does over HTTP, with every answer's common rules checked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use orama_proto::api::{
    DeployResponse, FunctionList, LogsResponse, SecretList, VersionList, WhoAmI,
};
use orama_proto::error::{ApiError, ErrorCode, ErrorEnvelope};
use orama_proto::function::FunctionInfo;
use parking_lot::Mutex;
use reqwest::Method;
use reqwest::header::HeaderMap;
use reqwest::multipart::{Form, Part};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A client without proxies and without redirects, for plain HTTP.
pub fn http_client() -> reqwest::Client {
    // reqwest is built without a crypto provider of its own and refuses to be made without one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(256)
        .timeout(Duration::from_secs(120))
        .build()
        .expect("an HTTP client")
}

/// Sends and collects; a transport failure fails the test.
pub(crate) async fn send(request: reqwest::RequestBuilder) -> Reply {
    try_send(request)
        .await
        .unwrap_or_else(|e| panic!("no answer: {e:?}"))
}

pub(crate) async fn try_send(request: reqwest::RequestBuilder) -> Result<Reply, reqwest::Error> {
    let answer = request.send().await?;
    Ok(Reply {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        body: answer.bytes().await?.to_vec(),
    })
}

/// An HTTP answer.
#[derive(Clone)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        let shown: String = body.chars().take(1_000).collect();
        write!(f, "{} {shown}", self.status)
    }
}

impl Reply {
    /// Fails the test unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
    /// A header's text, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |v| v.to_str().expect("a header of plain text"))
    }
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {self:?}"))
    }
    /// The body as a type of the API.
    #[track_caller]
    pub fn parse<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("not the expected body ({e}): {self:?}"))
    }
    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of UTF-8")
    }
    /// The `X-Request-ID`, which every answer of the API carries as a UUID.
    #[track_caller]
    pub fn request_id(&self) -> String {
        let id = self.header("x-request-id");
        assert!(
            uuid::Uuid::parse_str(id).is_ok(),
            "X-Request-ID is not a UUID: {id:?} {self:?}"
        );
        id.to_owned()
    }

    /// Checks a successful invocation's head; answers the guest's bytes.
    #[track_caller]
    pub fn output(&self) -> Vec<u8> {
        assert_eq!(self.status, 200, "{self:?}");
        assert!(self.header("content-type").starts_with("application/json"));
        let duration: u64 = self
            .header("x-duration-ms")
            .parse()
            .unwrap_or_else(|_| panic!("X-Duration-Ms is not a number: {:?}", self.headers));
        assert!(duration < 400_000);
        self.request_id();
        self.body.clone()
    }

    /// Checks that this is an error of this kind in the one envelope
    /// (CONTRACT 2.1), whose message contains every one of `words`.
    #[track_caller]
    pub fn expect_error(&self, code: ErrorCode, words: &[&str]) -> ApiError {
        assert_eq!(self.status, code.status(), "expected {code}, got {self:?}");
        assert!(
            self.header("content-type").starts_with("application/json"),
            "an error must be JSON: {:?} {self:?}",
            self.headers
        );
        let envelope: ErrorEnvelope = self.parse();
        let error = envelope.error;
        assert!(!envelope.ok, "{self:?}");
        assert_eq!(error.code, code, "{self:?}");
        assert_eq!(error.retryable, code.retryable(), "{self:?}");
        assert_eq!(envelope.message, error.message, "{self:?}");
        assert_eq!(
            error.request_id.as_deref(),
            Some(self.request_id().as_str()),
            "error.request_id must be the X-Request-ID: {self:?}"
        );
        assert_eq!(envelope.request_id, error.request_id, "{self:?}");
        if error.retry_after.is_some() {
            assert!(!self.header("retry-after").is_empty(), "{self:?}");
        }
        let message = error.message.to_lowercase();
        for word in words {
            assert!(
                message.contains(&word.to_lowercase()),
                "the message should say {word:?}: {}",
                error.message
            );
        }
        error
    }
}

/// A deploy form.
#[derive(Debug, Clone)]
pub struct Deploy {
    name: String,
    wasm: Vec<u8>,
    fields: Vec<(String, String)>,
    metadata: serde_json::Map<String, Value>,
}

impl Deploy {
    /// Of these bytes under this name, with default settings.
    pub fn new(name: &str, wasm: &[u8]) -> Self {
        Self {
            name: name.into(),
            wasm: wasm.to_vec(),
            fields: Vec::new(),
            metadata: serde_json::Map::new(),
        }
    }
    /// Sets a form field such as `memory_limit_mb`.
    pub fn field(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.fields.push((name.into(), value.to_string()));
        self
    }
    /// Sets a key of the metadata part.
    pub fn metadata(mut self, key: &str, value: Value) -> Self {
        self.metadata.insert(key.into(), value);
        self
    }
    /// Seconds.
    pub fn timeout(self, seconds: u32) -> Self {
        self.field("timeout_seconds", seconds)
    }
    /// MiB.
    pub fn memory(self, mib: u32) -> Self {
        self.field("memory_limit_mb", mib)
    }
    /// Anyone may invoke it.
    pub fn public(self) -> Self {
        self.field("is_public", true)
    }
    /// Sets one environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        let vars = self.metadata.entry("env_vars").or_insert_with(|| json!({}));
        vars[name] = json!(value);
        self
    }

    /// The form, its parts in the order of CONTRACT 2.4.
    fn form(self) -> Form {
        let mut form = Form::new().text("name", self.name);
        for (name, value) in self.fields {
            form = form.text(name, value);
        }
        if !self.metadata.is_empty() {
            form = form.text("metadata", Value::Object(self.metadata).to_string());
        }
        let wasm = Part::bytes(self.wasm)
            .file_name("function.wasm")
            .mime_str("application/wasm")
            .expect("a MIME type");
        form.part("wasm", wasm)
    }
}

/// A namespace and a credential of it. Follows the node over restarts.
#[derive(Clone)]
pub struct Tenant {
    /// The namespace.
    pub namespace: String,
    /// The API key or token.
    pub credential: String,
    /// The namespace's own key, with which logs are read for any of its users.
    owner: String,
    base: Arc<Mutex<String>>,
    http: reqwest::Client,
}

impl Tenant {
    pub(crate) fn new(
        base: Arc<Mutex<String>>,
        http: reqwest::Client,
        namespace: &str,
        credential: &str,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            credential: credential.into(),
            owner: credential.into(),
            base,
            http,
        }
    }
    /// The same namespace through another credential.
    pub fn with_credential(&self, credential: &str) -> Self {
        Self {
            credential: credential.into(),
            ..self.clone()
        }
    }
    /// The same tenant with connections of its own.
    pub fn with_own_connections(&self) -> Self {
        Self {
            http: http_client(),
            ..self.clone()
        }
    }
    /// The gateway's URL, as it is now.
    pub fn url(&self) -> String {
        self.base.lock().clone()
    }
    /// A request with the credential, not yet sent.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url()))
            .bearer_auth(&self.credential)
    }
    /// A request with the credential and a body.
    pub async fn call(&self, method: Method, path: &str, body: impl Into<Vec<u8>>) -> Reply {
        send(self.request(method, path).body(body.into())).await
    }
    /// A request without a body.
    pub async fn get(&self, path: &str) -> Reply {
        send(self.request(Method::GET, path)).await
    }
    /// A request with a JSON body.
    pub async fn json(&self, method: Method, path: &str, body: &Value) -> Reply {
        send(self.request(method, path).json(body)).await
    }

    /// Deploys; any answer.
    pub async fn try_deploy(&self, deploy: Deploy) -> Reply {
        send(
            self.request(Method::POST, "/v1/functions")
                .multipart(deploy.form()),
        )
        .await
    }
    /// Deploys; `None` when the node was gone before it answered.
    pub async fn deploy_or_die(&self, deploy: Deploy) -> Option<Reply> {
        try_send(
            self.request(Method::POST, "/v1/functions")
                .multipart(deploy.form()),
        )
        .await
        .ok()
    }
    /// Deploys; must succeed.
    pub async fn deploy(&self, deploy: Deploy) -> FunctionInfo {
        let reply = self.try_deploy(deploy).await.expect(201);
        let answer: DeployResponse = reply.parse();
        assert_eq!(answer.message, "Function deployed successfully");
        assert_eq!(answer.function.namespace, self.namespace);
        answer.function
    }

    /// Invokes; any answer.
    pub async fn invoke(&self, name: &str, input: impl Into<Vec<u8>>) -> Reply {
        self.call(Method::POST, &format!("/v1/functions/{name}/invoke"), input)
            .await
    }
    /// Invokes; `None` when the node was gone before it answered.
    pub async fn invoke_or_die(&self, name: &str, input: impl Into<Vec<u8>>) -> Option<Reply> {
        let path = format!("/v1/functions/{name}/invoke");
        try_send(self.request(Method::POST, &path).body(input.into()))
            .await
            .ok()
    }

    /// The latest version of each function.
    pub async fn functions(&self) -> Vec<FunctionInfo> {
        let list: FunctionList = self.get("/v1/functions").await.expect(200).parse();
        assert_eq!(list.count, list.functions.len());
        assert!(list.functions.windows(2).all(|w| w[0].name < w[1].name));
        list.functions
    }
    /// All versions of a function, newest first.
    pub async fn versions(&self, name: &str) -> Vec<FunctionInfo> {
        let reply = self.get(&format!("/v1/functions/{name}/versions")).await;
        let list: VersionList = reply.expect(200).parse();
        assert_eq!(list.count, list.versions.len());
        assert!(
            list.versions
                .windows(2)
                .all(|w| w[0].version > w[1].version)
        );
        list.versions
    }
    /// The newest records of a function, as many as the API gives.
    pub async fn logs(&self, name: &str) -> LogsResponse {
        let owner = self.with_credential(&self.owner);
        let reply = owner
            .get(&format!("/v1/functions/{name}/logs?limit=500"))
            .await;
        let logs: LogsResponse = reply.expect(200).parse();
        assert_eq!(logs.namespace, self.namespace);
        assert_eq!(logs.count, logs.invocations.len());
        logs
    }

    /// Sets a secret; any answer, `None` when the node was gone before it answered.
    pub async fn set_secret_or_die(&self, name: &str, value: &str) -> Option<Reply> {
        let body = json!({ "name": name, "value": value });
        try_send(
            self.request(Method::PUT, "/v1/functions/secrets")
                .json(&body),
        )
        .await
        .ok()
    }
    /// Sets a secret; must succeed.
    pub async fn set_secret(&self, name: &str, value: &str) {
        let reply = self
            .set_secret_or_die(name, value)
            .await
            .expect("an answer")
            .expect(200);
        assert_eq!(
            reply.json(),
            json!({ "message": "Secret set", "name": name, "namespace": self.namespace })
        );
    }
    /// Deletes a secret; any answer, `None` when the node was gone before it answered.
    pub async fn delete_secret_or_die(&self, name: &str) -> Option<Reply> {
        let path = format!("/v1/functions/secrets/{name}");
        try_send(self.request(Method::DELETE, &path)).await.ok()
    }
    /// The names of the secrets.
    pub async fn secrets(&self) -> Vec<String> {
        let list: SecretList = self.get("/v1/functions/secrets").await.expect(200).parse();
        assert_eq!(list.count, list.secrets.len());
        list.secrets
    }
    /// Who this credential is.
    pub async fn whoami(&self) -> WhoAmI {
        self.get("/v1/auth/whoami").await.expect(200).parse()
    }
}

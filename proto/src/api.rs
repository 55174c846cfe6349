//! Bodies of the HTTP API, shared by the gateway that writes them and the
//! command line that reads them (CONTRACT 2, 14.2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::function::FunctionInfo;
use crate::invocation::{InvocationRecord, LogLine};

/// The `metadata` part of a deploy form (CONTRACT 2.4). Every field may also
/// come as a form field of its own, which then wins.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployMetadata {
    /// The function's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Must be the credential's when given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// MiB; the default when absent, and 0 is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_mb: Option<u32>,
    /// Seconds; 0 or absent is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Anyone may invoke it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_public: Option<bool>,
    /// Only functions may invoke it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_internal: Option<bool>,
    /// Further attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_count: Option<u32>,
    /// Seconds; 0 or absent is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_delay_seconds: Option<u32>,
    /// What `get_env` answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
}

/// Answer of a deploy or a rollback.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeployResponse {
    /// For people.
    pub message: String,
    /// The new version.
    pub function: FunctionInfo,
}

/// Answer of `GET /v1/functions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FunctionList {
    /// Latest version of each, by name.
    pub functions: Vec<FunctionInfo>,
    /// How many.
    pub count: usize,
}

/// Answer of `GET /v1/functions/{name}/versions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VersionList {
    /// Newest first.
    pub versions: Vec<FunctionInfo>,
    /// How many.
    pub count: usize,
}

/// Answer of `GET /v1/functions/{name}/logs`: both shapes in one body, so that
/// clients of either generation read it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogsResponse {
    /// The function.
    pub name: String,
    /// The tenant.
    pub namespace: String,
    /// Newest first.
    #[serde(default)]
    pub invocations: Vec<InvocationRecord>,
    /// Their log lines, newest first.
    #[serde(default)]
    pub logs: Vec<LogLine>,
    /// Length of `invocations`, or of `logs` with `?wasm_only=1`.
    pub count: usize,
    /// Nodes, by name, that did not answer: their invocations are missing here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<String>,
}

/// A successful invocation whose output is not JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InvokeText {
    /// The request.
    pub request_id: String,
    /// The output, with U+FFFD where it is not UTF-8.
    pub output: String,
    /// The same bytes, when they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_base64: Option<String>,
    /// Always `success`.
    pub status: String,
    /// Milliseconds.
    pub duration_ms: u64,
}

/// Body of `PUT /v1/functions/secrets`.
#[derive(Clone, Serialize, Deserialize)]
pub struct SetSecretRequest {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

/// Answer of `GET /v1/functions/secrets`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretList {
    /// Names, sorted.
    pub secrets: Vec<String>,
    /// How many.
    pub count: usize,
}

/// Any answer that is only a sentence.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    /// For people.
    pub message: String,
}

/// Answer of `enable` and `disable`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnabledResponse {
    /// Always `ok`.
    pub status: String,
    /// The function.
    pub function: String,
    /// The new state.
    pub enabled: bool,
}

/// Body of `POST /v1/functions/{name}/rollback`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// The version to copy.
    pub version: u64,
}

/// Body of `POST /v1/admin/namespaces`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateNamespaceRequest {
    /// Its name.
    pub name: String,
}

/// Answer of `POST /v1/admin/namespaces`.
#[derive(Clone, Serialize, Deserialize)]
pub struct CreateNamespaceResponse {
    /// Its name.
    pub namespace: String,
    /// Its first key, shown this once.
    pub api_key: String,
}

/// A namespace in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NamespaceInfo {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Functions in it.
    pub functions: u64,
    /// Secrets in it.
    pub secrets: u64,
    /// API keys of it.
    pub api_keys: u64,
}

/// Answer of `GET /v1/admin/namespaces`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NamespaceList {
    /// By name.
    pub namespaces: Vec<NamespaceInfo>,
    /// How many.
    pub count: usize,
}

/// Body of `POST /v1/admin/namespaces/{ns}/keys`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CreateKeyRequest {
    /// For people.
    #[serde(default)]
    pub label: String,
}

/// Answer of `POST /v1/admin/namespaces/{ns}/keys`.
#[derive(Clone, Serialize, Deserialize)]
pub struct CreateKeyResponse {
    /// Public identifier.
    pub id: String,
    /// The tenant.
    pub namespace: String,
    /// The key, shown this once.
    pub api_key: String,
}

/// A key in a list; never the key itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyInfo {
    /// Public identifier.
    pub id: String,
    /// For people.
    pub label: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Answer of `GET /v1/admin/namespaces/{ns}/keys`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyList {
    /// Oldest first.
    pub keys: Vec<KeyInfo>,
    /// How many.
    pub count: usize,
}

/// Body of `POST /v1/admin/namespaces/{ns}/tokens`: a signed token for an end
/// user of the tenant, for back ends that authenticate users themselves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateTokenRequest {
    /// The `sub` claim: the wallet.
    pub subject: String,
    /// The `custom` claims.
    #[serde(default)]
    pub custom: BTreeMap<String, String>,
    /// Life in seconds; 900 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

/// Answer with a token.
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenResponse {
    /// The JWT.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: String,
    /// Seconds.
    pub expires_in: u64,
    /// The tenant.
    pub namespace: String,
}

/// Answer of `POST /v1/admin/master-key/rotate` and of its `GET`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MasterKeyStatus {
    /// The key that wraps from now on.
    pub active: String,
    /// How many wrapped keys each master key still opens.
    pub wrapped_by: BTreeMap<String, u64>,
    /// How many this call re-wrapped.
    #[serde(default)]
    pub rewrapped: u64,
}

/// Answer of `GET /v1/auth/whoami` (CONTRACT 6.2).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct WhoAmI {
    /// Whether a credential was given.
    pub authenticated: bool,
    /// `api_key`, `jwt`, `admin` or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The key, masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// The token's `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The token's `iss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The token's `aud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// When the token was made, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<u64>,
    /// The token's beginning, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<u64>,
    /// The token's end, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

/// State of a long-lived actor, for `GET /v1/admin/actors`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ActorInfo {
    /// Its name, such as `worker-0` or `vault/default`.
    pub name: String,
    /// running, idle or stopped.
    pub state: String,
    /// Messages waiting.
    pub mailbox: u64,
    /// Messages handled.
    pub handled: u64,
    /// Times it was restarted.
    pub restarts: u64,
}

/// Answer of `GET /v1/admin/cluster` (CONTRACT 14.2).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's id, hexadecimal; empty for a node that runs without a mesh.
    pub cluster_id: String,
    /// The topology's epoch.
    pub epoch: u64,
    /// The node that answered.
    pub answered_by: String,
    /// Members, by name.
    pub nodes: Vec<ClusterNode>,
    /// Groups, `meta` first.
    pub groups: Vec<ClusterGroup>,
    /// Members, by name, that did not answer in time; what is said about them may be old.
    pub silent: Vec<String>,
}

/// A member, for [`ClusterStatus`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClusterNode {
    /// Hexadecimal.
    pub id: String,
    /// For people.
    pub name: String,
    /// Multiaddresses.
    pub addresses: Vec<String>,
    /// `voter` or `learner` of the metadata group, `leader` when it leads it.
    pub role: String,
    /// `active`, `draining`, `leaving`, or `unreachable`.
    pub state: String,
    /// The program's version.
    pub version: String,
    /// How busy it is, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<crate::load::LoadReport>,
}

/// A group, for [`ClusterStatus`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClusterGroup {
    /// `0` for `meta`.
    pub id: u32,
    /// `meta` or `data-N`.
    pub name: String,
    /// Hexadecimal; `None` when there is none or it is not known.
    #[serde(default)]
    pub leader: Option<String>,
    /// The leader's term.
    pub term: u64,
    /// Index of the newest entry.
    pub last: u64,
    /// Index of the newest applied entry, on the replica that was asked.
    pub applied: u64,
    /// Hexadecimal.
    pub voters: Vec<String>,
    /// Hexadecimal.
    pub learners: Vec<String>,
}

/// Answer of `POST /v1/admin/cluster/nodes/{node}/leave`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LeaveResponse {
    /// For people.
    pub message: String,
    /// Id of the node that was meant, hexadecimal: what it was called may be the
    /// name or the beginning of an id of another one later.
    #[serde(default)]
    pub id: String,
    /// Whether it is gone; else the cluster goes on by itself.
    #[serde(default)]
    pub gone: bool,
    /// Id of the node that answered: it may be the one that leaves.
    #[serde(default)]
    pub answered_by: String,
}

/// Body of `POST /v1/admin/cluster/groups/{g}/transfer`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TransferRequest {
    /// Id or name of the node that is to lead.
    pub node: String,
}

/// Body of `PUT /v1/admin/cluster/groups/{g}/registers/{key}`, and answer of GET:
/// a linearizable register in a data group, for checking a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterValue {
    /// The value; `None` when it was never set.
    #[serde(default)]
    pub value: Option<String>,
    /// PUT: set only if the present value is this (`Some(None)` cannot be said: use `if_absent`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_value: Option<String>,
    /// PUT: set only if there is no value.
    #[serde(default)]
    pub if_absent: bool,
}

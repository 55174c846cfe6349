//! The platform as the gateway and the command line see it: one cheap handle
//! with typed methods in front of the actors.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orama_cluster::{BlobStore, JournalQuery, JournalStore, MetaStore};
use orama_proto::api::{ActorInfo, MasterKeyStatus};
use orama_proto::command::ApiKeyRecord;
use orama_proto::function::{FunctionSpec, FunctionVersion};
use orama_proto::invocation::{InvocationRecord, Principal, Trigger};
use orama_proto::{ApiError, FunctionName, Namespace, RequestId, SecretName};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Settings of the platform.
#[derive(Clone)]
pub struct PlatformOptions {
    /// Where compiled modules are kept.
    pub compiled_dir: std::path::PathBuf,
    /// Master keys, the active one first: id and 32 bytes. Parsed by [`crate::vault::MasterKeys::parse`].
    pub master_keys: crate::vault::MasterKeys,
    /// Bearer token of the administrative API.
    pub admin_token: Zeroizing<String>,
    /// Guests that may run at once on this node.
    pub max_running: usize,
    /// Guests of one namespace that may run at once on this node.
    pub max_running_per_namespace: usize,
    /// Invocations of one namespace that may wait for a place.
    pub max_queued_per_namespace: usize,
    /// How long an invocation may wait for a place.
    pub max_queue_wait: Duration,
}

/// A module to be deployed.
pub struct Deploy {
    /// The tenant.
    pub namespace: Namespace,
    /// The function.
    pub name: FunctionName,
    /// Its settings, valid.
    pub spec: FunctionSpec,
    /// The module.
    pub wasm: Bytes,
    /// Who deploys.
    pub created_by: String,
}

/// An invocation to be run.
pub struct Invoke {
    /// The request.
    pub request_id: RequestId,
    /// The tenant.
    pub namespace: Namespace,
    /// The function.
    pub name: FunctionName,
    /// A version, or the latest active one.
    pub version: Option<u64>,
    /// Who calls.
    pub principal: Arc<Principal>,
    /// What set it off.
    pub trigger: Trigger,
    /// stdin.
    pub input: Bytes,
}

/// An invocation that succeeded.
pub struct Completed {
    /// stdout.
    pub output: Bytes,
    /// Milliseconds of the last attempt.
    pub duration_ms: u64,
}

/// Handle of everything a node does. Cheap to clone.
#[derive(Clone)]
pub struct Platform {}

impl Platform {
    /// Starts the actors on the current actix system; opens what is sealed.
    ///
    /// # Errors
    /// A text for the operator: a missing or wrong master key (named by id), an engine that cannot start.
    pub async fn start(
        options: PlatformOptions,
        meta: MetaStore,
        blobs: BlobStore,
        journal: JournalStore,
        registry: &prometheus::Registry,
    ) -> Result<Self, StartError> {
        todo!()
    }

    /// The metadata, for reading.
    pub fn meta(&self) -> &MetaStore {
        todo!()
    }

    /// Checks the text of a credential: admin token, API key or JWT.
    ///
    /// # Errors
    /// `UNAUTHORIZED` when it is none of these.
    pub fn authenticate(&self, credential: &str) -> Result<Principal, ApiError> {
        todo!()
    }
    /// Validates, compiles, stores and publishes a module as the next version.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn deploy(
        &self,
        request_id: &RequestId,
        deploy: Deploy,
    ) -> Result<FunctionVersion, ApiError> {
        todo!()
    }
    /// Publishes a copy of version `to` as the next version.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn rollback(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
        name: &FunctionName,
        to: u64,
        created_by: &str,
    ) -> Result<FunctionVersion, ApiError> {
        todo!()
    }
    /// Enables or disables a function.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn set_enabled(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
        name: &FunctionName,
        enabled: bool,
    ) -> Result<(), ApiError> {
        todo!()
    }
    /// Deletes a function or one version.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn delete_function(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u64>,
    ) -> Result<(), ApiError> {
        todo!()
    }
    /// Runs a function on this thread, with its retries. Checks that the principal may invoke it.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn invoke(&self, invoke: Invoke) -> Result<Completed, ApiError> {
        todo!()
    }
    /// Sets a secret.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn set_secret(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
        name: &SecretName,
        value: Zeroizing<Vec<u8>>,
    ) -> Result<(), ApiError> {
        todo!()
    }
    /// Deletes a secret.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn delete_secret(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
        name: &SecretName,
    ) -> Result<(), ApiError> {
        todo!()
    }
    /// Makes a namespace and its first API key, which is answered.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn create_namespace(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
    ) -> Result<Zeroizing<String>, ApiError> {
        todo!()
    }
    /// Deletes a namespace with everything in it.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn delete_namespace(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
    ) -> Result<(), ApiError> {
        todo!()
    }
    /// Makes an API key; answers the record and the key.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn create_key(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
        label: &str,
    ) -> Result<(ApiKeyRecord, Zeroizing<String>), ApiError> {
        todo!()
    }
    /// Revokes an API key.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn revoke_key(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
        key_id: &str,
    ) -> Result<(), ApiError> {
        todo!()
    }
    /// Signs a token for an end user of the namespace.
    ///
    /// # Errors
    /// What the client should see.
    pub fn mint_token(
        &self,
        namespace: &Namespace,
        subject: &str,
        custom: BTreeMap<String, String>,
        expires_in: Duration,
    ) -> Result<Zeroizing<String>, ApiError> {
        todo!()
    }
    /// The public key as a JWK set.
    pub fn jwks(&self) -> serde_json::Value {
        todo!()
    }
    /// The `exp` claim of a valid token, Unix seconds, for whoami.
    pub fn token_expiry(&self, token: &str) -> Option<u64> {
        todo!()
    }
    /// Re-wraps every data key under the active master key.
    ///
    /// # Errors
    /// What the client should see; may be called again to go on.
    pub async fn rotate_master_key(
        &self,
        request_id: &RequestId,
    ) -> Result<MasterKeyStatus, ApiError> {
        todo!()
    }
    /// Which master keys are still in use.
    pub fn master_key_status(&self) -> MasterKeyStatus {
        todo!()
    }
    /// Invocation records.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn logs(&self, query: JournalQuery) -> Result<Vec<InvocationRecord>, ApiError> {
        todo!()
    }
    /// State of the long-lived actors.
    pub async fn actors(&self) -> Vec<ActorInfo> {
        todo!()
    }
    /// Refuses new invocations, waits for running ones up to `limit`, writes
    /// the journal out, stops the actors and the metadata group. Answers how
    /// many invocations were still running at the end.
    pub async fn drain(&self, limit: Duration) -> usize {
        todo!()
    }
}

/// The platform cannot start; the text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The engine.
    #[error(transparent)]
    Runtime(#[from] crate::runtime::RuntimeError),
    /// Master keys.
    #[error(transparent)]
    Vault(#[from] crate::vault::VaultError),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

//! The platform as the gateway and the command line see it: one cheap handle
//! with typed methods in front of the actors.

mod deploy;
mod fresh;
mod functions;
mod master_keys;
mod members;
mod prefetch;
mod requests;
mod secrets;
mod services;
mod start;
mod status;
mod tenants;
mod upkeep;
mod visible;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use orama_cluster::membership::Departure;
use orama_cluster::{
    BlobNet, BlobStore, Cluster, DatabaseStatus, JournalQuery, JournalStore, MetaStore,
};
use orama_proto::api::{ActorInfo, ClusterStatus, MasterKeyStatus, RegisterValue, WhoAmI};
use orama_proto::command::ApiKeyRecord;
use orama_proto::function::FunctionVersion;
use orama_proto::invocation::Principal;
use orama_proto::{ApiError, FunctionName, GroupId, Namespace, RequestId, SecretName};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

pub use requests::{Completed, Deploy, Invoke, Logs, PlatformOptions, StartError};

use crate::identity::Identity;
use crate::journal::{Gather, Journal};
use crate::router::Router;
use crate::runtime::Runtime;
use crate::sql::Sql;
use crate::vault::Vaults;
use crate::worker::{Invoker, Modules, OneAtATime};

/// What the handle points to.
struct Inner {
    cluster: Cluster,
    meta: MetaStore,
    blobs: BlobNet,
    journal: Journal,
    journal_store: JournalStore,
    gather: Arc<Gather>,
    visible: visible::Visible,
    runtime: Runtime,
    modules: Arc<Modules>,
    vaults: Vaults,
    sql: Sql,
    identity: Identity,
    invoker: Arc<Invoker>,
    router: Router,
    /// Deploys at once; the sweep of unused modules takes all of them.
    deploys: Semaphore,
    deploying: OneAtATime<Namespace>,
    /// One rotation at once.
    rotation: Semaphore,
    metrics: start::Metrics,
    /// Background work, ended by a drain.
    upkeep: parking_lot::Mutex<Vec<tokio::task::AbortHandle>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in self.upkeep.lock().drain(..) {
            task.abort();
        }
    }
}

/// Handle of everything a node does. Cheap to clone.
#[derive(Clone)]
pub struct Platform {
    inner: Arc<Inner>,
}

impl Platform {
    /// Starts the actors on the current actix system; opens what is sealed.
    ///
    /// # Errors
    /// A text for the operator: a missing or wrong master key (named by id), an engine that cannot start.
    pub async fn start(
        options: PlatformOptions,
        cluster: Cluster,
        blobs: BlobStore,
        journal: JournalStore,
        registry: &prometheus::Registry,
    ) -> Result<Self, StartError> {
        start::start(options, cluster, blobs, journal, registry).await
    }

    /// The metadata, for reading.
    pub fn meta(&self) -> &MetaStore {
        &self.inner.meta
    }

    /// The SQL databases of the namespaces.
    pub fn sql(&self) -> &Sql {
        &self.inner.sql
    }

    /// Checks the text of a credential: admin token, API key or JWT. Local memory only:
    /// a key made on another node a moment ago may be unknown here; ask
    /// [`Self::authenticate_confirmed`] before refusing it.
    ///
    /// # Errors
    /// `UNAUTHORIZED` when it is none of these.
    pub fn authenticate(&self, credential: &str) -> Result<Principal, ApiError> {
        self.inner
            .identity
            .authenticate(&self.inner.meta, credential)
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
        self.inner.deploy(request_id, deploy).await
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
        self.inner
            .rollback(request_id, namespace, name, to, created_by)
            .await
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
        self.inner
            .set_enabled(request_id, namespace, name, enabled)
            .await
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
        self.inner
            .delete_function(request_id, namespace, name, version)
            .await
    }

    /// Runs a function with its retries: on this thread, or on another node
    /// when there is no place here. Checks that the principal may invoke it.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn invoke(&self, invoke: Invoke) -> Result<Completed, ApiError> {
        self.inner.invoker.invoke(invoke).await
    }

    /// Whether there is such a function and the principal may invoke it now.
    /// [`Self::invoke`] asks again.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn may_invoke(
        &self,
        principal: &Principal,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u64>,
    ) -> Result<(), ApiError> {
        self.inner
            .invoker
            .target(principal, namespace, name, version)
            .await
            .map(drop)
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
        self.inner
            .set_secret(request_id, namespace, name, value)
            .await
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
        self.inner.delete_secret(request_id, namespace, name).await
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
        self.inner.create_namespace(request_id, namespace).await
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
        self.inner.delete_namespace(request_id, namespace).await
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
        self.inner.create_key(request_id, namespace, label).await
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
        self.inner.revoke_key(request_id, namespace, key_id).await
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
        self.inner.namespace(namespace)?;
        self.inner
            .identity
            .mint(namespace, subject, custom, expires_in)
    }

    /// The public key as a JWK set.
    pub fn jwks(&self) -> serde_json::Value {
        self.inner.identity.jwks()
    }

    /// What a valid token says about itself, for whoami.
    pub fn token_facts(&self, token: &str) -> Option<WhoAmI> {
        self.inner.identity.token_facts(token)
    }

    /// Re-wraps every data key under the active master key.
    ///
    /// # Errors
    /// What the client should see; may be called again to go on.
    pub async fn rotate_master_key(
        &self,
        request_id: &RequestId,
    ) -> Result<MasterKeyStatus, ApiError> {
        self.inner.rotate_master_key(request_id).await
    }

    /// Which master keys are still in use.
    pub fn master_key_status(&self) -> MasterKeyStatus {
        self.inner.master_key_status(0)
    }

    /// As [`Self::authenticate`], and an API key that is not known here is looked up
    /// again once the metadata is confirmed to be up to date.
    ///
    /// # Errors
    /// `UNAUTHORIZED`; `SERVICE_UNAVAILABLE` when an unknown key could not be looked up again.
    pub async fn authenticate_confirmed(&self, credential: &str) -> Result<Principal, ApiError> {
        self.inner.authenticate_confirmed(credential).await
    }

    /// Waits until everything acknowledged anywhere in the cluster before this call is
    /// visible here. For reads of the management API.
    ///
    /// # Errors
    /// `SERVICE_UNAVAILABLE` when no leader can be reached.
    pub async fn confirm(&self) -> Result<(), ApiError> {
        self.inner.confirm().await
    }

    /// This node's part in the cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.inner.cluster
    }

    /// Members, groups and loads.
    pub async fn cluster_status(&self) -> ClusterStatus {
        self.inner.cluster_status().await
    }

    /// Stops a member from leading and taking forwarded work, or undoes that.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn drain_member(
        &self,
        request_id: &RequestId,
        node: &str,
        undo: bool,
    ) -> Result<(), ApiError> {
        self.inner.drain_member(request_id, node, undo).await
    }

    /// Moves everything away from a member and removes it. Answers which member that
    /// was, as confirmed topology has it, and whether it is gone already.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn remove_member(
        &self,
        request_id: &RequestId,
        node: &str,
    ) -> Result<Departure, ApiError> {
        self.inner.remove_member(request_id, node).await
    }

    /// Makes a node lead a group.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn transfer(
        &self,
        request_id: &RequestId,
        group: GroupId,
        node: &str,
    ) -> Result<(), ApiError> {
        self.inner.transfer(request_id, group, node).await
    }

    /// The databases of a data group on every replica that answers.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn databases(&self, group: GroupId) -> Result<Vec<DatabaseStatus>, ApiError> {
        self.inner.databases(group).await
    }

    /// Reads a register of a data group, linearizably.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn register(&self, group: GroupId, key: &str) -> Result<RegisterValue, ApiError> {
        self.inner.register(group, key).await
    }

    /// Sets a register of a data group.
    ///
    /// # Errors
    /// What the client should see; `CONFLICT` when the present value is not the expected one.
    pub async fn set_register(
        &self,
        group: GroupId,
        key: &str,
        value: RegisterValue,
    ) -> Result<(), ApiError> {
        self.inner.set_register(group, key, value).await
    }

    /// Invocation records of every member. Shows every invocation that was answered
    /// before the call, but for those of silent members.
    ///
    /// # Errors
    /// What the client should see.
    pub async fn logs(&self, query: JournalQuery) -> Result<Logs, ApiError> {
        self.inner.logs(query).await
    }

    /// State of the long-lived actors.
    pub async fn actors(&self) -> Vec<ActorInfo> {
        self.inner.actors()
    }

    /// The first half of a stop: takes no more work of other nodes and hands over what this
    /// node leads. What arrives here is still served.
    pub async fn step_down(&self) {
        self.inner.step_down().await;
    }

    /// Refuses new invocations and deploys, waits for running ones up to
    /// `limit`, writes the journal out, stops the actors, hands over what this
    /// node leads and leaves the mesh. Answers how many were still running at the end.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.inner.drain(limit).await
    }
}

//! Reads that must not miss what was acknowledged elsewhere. Local memory is
//! asked first; only what it does not know is worth asking the leader for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_cluster::NamespaceEntry;
use orama_proto::invocation::Principal;
use orama_proto::{ApiError, Namespace};

use super::Inner;
use crate::errors;

/// How long a reader waits for the leader's word.
pub(super) const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

impl Inner {
    /// Waits until everything acknowledged anywhere before this call is visible here.
    ///
    /// # Errors
    /// `SERVICE_UNAVAILABLE`.
    pub(super) async fn confirm(&self) -> Result<(), ApiError> {
        let confirmed = self.meta.confirm(Instant::now() + CONFIRM_WITHIN).await;
        confirmed.map_err(|error| errors::confirm(&error))
    }

    pub(super) async fn authenticate_confirmed(
        &self,
        credential: &str,
    ) -> Result<Principal, ApiError> {
        self.identity
            .authenticate_confirmed(&self.meta, credential, || self.confirm())
            .await
    }

    /// A namespace that exists, here or, as the leader knows, by now.
    ///
    /// # Errors
    /// `NOT_FOUND`, `SERVICE_UNAVAILABLE`.
    pub(super) async fn namespace_confirmed(
        &self,
        namespace: &Namespace,
    ) -> Result<Arc<NamespaceEntry>, ApiError> {
        if let Some(entry) = self.meta.namespace(namespace) {
            return Ok(entry);
        }
        self.confirm().await?;
        self.namespace(namespace)
    }
}

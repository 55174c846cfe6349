//! Namespaces and their API keys (CONTRACT 14.2).

use std::sync::Arc;

use orama_cluster::NamespaceEntry;
use orama_proto::command::{ApiKeyRecord, MetaCommand};
use orama_proto::{ApiError, Namespace, RequestId, Timestamp};
use zeroize::Zeroizing;

use super::Inner;
use crate::errors;
use crate::identity::{new_key, new_key_id};
use crate::journal::FLUSH_WITHIN;
use crate::vault::{Purpose, new_data_key, wrap};

/// Label of the key that comes with a namespace.
const FIRST_KEY_LABEL: &str = "first key";
/// Longest label of an API key, characters.
const LABEL_MAX_CHARS: usize = 128;

impl Inner {
    /// A namespace that exists.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(super) fn namespace(&self, namespace: &Namespace) -> Result<Arc<NamespaceEntry>, ApiError> {
        self.meta
            .namespace(namespace)
            .ok_or_else(|| errors::not_found("namespace", namespace.as_str()))
    }

    /// A change whose answer says nothing further.
    pub(super) async fn change(
        &self,
        request_id: &RequestId,
        command: MetaCommand,
    ) -> Result<(), ApiError> {
        match self.propose(request_id, command).await {
            Ok(_) => Ok(()),
            Err(error) => Err(errors::propose(error)),
        }
    }

    pub(super) async fn create_namespace(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
    ) -> Result<Zeroizing<String>, ApiError> {
        let key = new_data_key();
        let purpose = Purpose::DataKey(namespace);
        let data_key = wrap(self.vaults.masters(), purpose, key.as_slice());
        drop(key);
        let command = MetaCommand::CreateNamespace {
            namespace: namespace.clone(),
            data_key: data_key.map_err(|e| errors::vault(&e))?,
        };
        // Visible everywhere when its key is, which comes after it.
        let made = self.meta.propose(request_id, command).await;
        made.map_err(errors::propose)?;
        let (_, api_key) = self
            .create_key(request_id, namespace, FIRST_KEY_LABEL)
            .await?;
        Ok(api_key)
    }

    pub(super) async fn delete_namespace(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
    ) -> Result<(), ApiError> {
        let command = MetaCommand::DeleteNamespace {
            namespace: namespace.clone(),
        };
        self.change(request_id, command).await?;
        tracing::info!(%request_id, %namespace, "namespace deleted");
        self.forget(namespace).await;
        Ok(())
    }

    /// Removes what this node keeps of a namespace that is gone. What is left of
    /// its history is no failure: retention removes what this misses.
    pub(super) async fn forget(&self, namespace: &Namespace) {
        self.vaults.close(namespace);
        self.journal.flush(FLUSH_WITHIN).await;
        let (store, name) = (self.journal_store.clone(), namespace.clone());
        let removed = tokio::task::spawn_blocking(move || store.delete_namespace(&name)).await;
        match removed {
            Ok(Ok(records)) => {
                tracing::debug!(%namespace, records, "records of a deleted namespace removed");
            }
            Ok(Err(error)) => {
                tracing::warn!(%namespace, %error, "the records of a deleted namespace are still there");
            }
            Err(error) => {
                tracing::error!(%namespace, %error, "removing a namespace's records was interrupted");
            }
        }
    }

    pub(super) async fn create_key(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
        label: &str,
    ) -> Result<(ApiKeyRecord, Zeroizing<String>), ApiError> {
        check_label(label)?;
        let api_key = new_key(namespace);
        let key = ApiKeyRecord {
            id: new_key_id(),
            namespace: namespace.clone(),
            hash: self.identity.hash(&api_key),
            label: label.to_owned(),
            created_at: Timestamp::now(),
        };
        let command = MetaCommand::CreateApiKey { key: key.clone() };
        self.change(request_id, command).await?;
        Ok((key, api_key))
    }

    pub(super) async fn revoke_key(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
        key_id: &str,
    ) -> Result<(), ApiError> {
        let command = MetaCommand::RevokeApiKey {
            namespace: namespace.clone(),
            key_id: key_id.to_owned(),
        };
        self.change(request_id, command).await
    }
}

fn check_label(label: &str) -> Result<(), ApiError> {
    let chars = label.chars().count();
    if chars > LABEL_MAX_CHARS || label.chars().any(char::is_control) {
        return Err(ApiError::validation(format!(
            "label must have at most {LABEL_MAX_CHARS} characters and no control characters (got {chars})"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_and_plain() {
        assert!(check_label("").is_ok() && check_label(&"é".repeat(128)).is_ok());
        assert!(check_label(&"x".repeat(129)).is_err() && check_label("a\nb").is_err());
    }
}

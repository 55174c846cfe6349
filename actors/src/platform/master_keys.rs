//! Master keys over everything they wrap: the check at start, rotation, status.

use std::collections::BTreeMap;
use std::sync::Arc;

use orama_cluster::{NamespaceEntry, ProposeError};
use orama_proto::api::MasterKeyStatus;
use orama_proto::command::{MetaCommand, MetaRefusal};
use orama_proto::sealed::WrappedKey;
use orama_proto::{ApiError, ErrorCode, RequestId};

use super::Inner;
use crate::errors;
use crate::identity::PlatformKeys;
use crate::vault::{KEY_BYTES, MasterKeys, Purpose, VaultError, unwrap_key, wrap};

/// Checks that the given master keys open everything that is wrapped.
///
/// # Errors
/// The first that does not open, naming the master key's id.
pub(super) fn check(
    masters: &MasterKeys,
    namespaces: &[Arc<NamespaceEntry>],
    platform: Option<&WrappedKey>,
) -> Result<(), VaultError> {
    if let Some(wrapped) = platform {
        PlatformKeys::unwrap(masters, wrapped)?;
    }
    for entry in namespaces {
        unwrap_key::<KEY_BYTES>(masters, Purpose::DataKey(&entry.name), &entry.data_key)?;
    }
    Ok(())
}

/// Counts what is wrapped by each master key.
fn wrapped_by<'a>(wrapped: impl Iterator<Item = &'a WrappedKey>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for key in wrapped {
        *counts.entry(key.master_key_id.clone()).or_default() += 1;
    }
    counts
}

/// The wrapping to replace `old` with; `None` when the active key wraps it already.
fn rewrapped<const N: usize>(
    masters: &MasterKeys,
    purpose: Purpose<'_>,
    old: &WrappedKey,
) -> Result<Option<WrappedKey>, VaultError> {
    if old.master_key_id == masters.active().id {
        return Ok(None);
    }
    let plain = unwrap_key::<N>(masters, purpose, old)?;
    wrap(masters, purpose, plain.as_slice()).map(Some)
}

impl Inner {
    pub(super) fn master_key_status(&self, rewrapped: u64) -> MasterKeyStatus {
        let entries = self.meta.namespace_entries();
        let platform = self.meta.platform_keys();
        let all = entries.iter().map(|e| &e.data_key);
        MasterKeyStatus {
            active: self.vaults.masters().active().id.clone(),
            wrapped_by: wrapped_by(all.chain(platform.as_deref())),
            rewrapped,
        }
    }

    /// Re-wraps what the active key does not wrap, one command each. What was
    /// done stays done when this is interrupted; calling it again goes on.
    pub(super) async fn rotate_master_key(
        &self,
        request_id: &RequestId,
    ) -> Result<MasterKeyStatus, ApiError> {
        let Ok(_only) = self.rotation.try_acquire() else {
            let text = "a rotation of the master key is running already";
            return Err(ApiError::new(ErrorCode::Conflict, text));
        };
        let masters = self.vaults.masters();
        let mut count = 0;
        if let Some(old) = self.meta.platform_keys() {
            // Pepper and seed together.
            const BOTH: usize = 2 * KEY_BYTES;
            let new = rewrapped::<BOTH>(masters, Purpose::Platform, &old);
            if let Some(sealed) = new.map_err(|e| errors::vault(&e))? {
                let replaces = (*old).clone();
                let command = MetaCommand::RewrapPlatformKeys { replaces, sealed };
                count += self.rewrap(request_id, command).await?;
            }
        }
        for entry in self.meta.namespace_entries() {
            let purpose = Purpose::DataKey(&entry.name);
            let new = rewrapped::<KEY_BYTES>(masters, purpose, &entry.data_key);
            if let Some(data_key) = new.map_err(|e| errors::vault(&e))? {
                let command = MetaCommand::RewrapDataKey {
                    namespace: entry.name.clone(),
                    replaces: entry.data_key.clone(),
                    data_key,
                };
                count += self.rewrap(request_id, command).await?;
            }
        }
        let status = self.master_key_status(count);
        tracing::info!(
            active = status.active,
            rewrapped = count,
            "master key rotated"
        );
        Ok(status)
    }

    /// Answers how many keys that re-wrapped: 0 when somebody else was faster
    /// or what was to be re-wrapped is gone.
    async fn rewrap(&self, request_id: &RequestId, command: MetaCommand) -> Result<u64, ApiError> {
        match self.meta.propose(request_id, command).await {
            Ok(_) => {
                self.metrics.rewrapped.inc();
                Ok(1)
            }
            Err(ProposeError::Refused(
                MetaRefusal::Conflict { .. } | MetaRefusal::Missing { .. },
            )) => Ok(0),
            Err(error) => Err(errors::propose(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_proto::{Namespace, Timestamp};

    fn masters(ids: &[(&str, &str)]) -> MasterKeys {
        let pairs: Vec<_> = ids.iter().map(|(id, key)| format!("{id}:{key}")).collect();
        MasterKeys::parse(&pairs.join(",")).unwrap()
    }

    fn entry(masters: &MasterKeys, name: &str) -> Arc<NamespaceEntry> {
        let name = Namespace::parse(name).unwrap();
        let data_key = wrap(masters, Purpose::DataKey(&name), &[7; 32]).unwrap();
        Arc::new(NamespaceEntry {
            name,
            data_key,
            created_at: Timestamp::now(),
        })
    }

    #[test]
    fn a_missing_or_wrong_master_key_is_named() {
        let (one, two) = (MasterKeys::generate(), MasterKeys::generate());
        let old = masters(&[("old", &one)]);
        let entries = [entry(&old, "aa"), entry(&old, "bb")];
        let platform = PlatformKeys::generate().wrap(&old).unwrap();
        assert_eq!(check(&old, &entries, Some(&platform)), Ok(()));
        let both = masters(&[("new", &two), ("old", &one)]);
        assert_eq!(check(&both, &entries, Some(&platform)), Ok(()));
        let new = masters(&[("new", &two)]);
        let error = check(&new, &entries, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the data key of namespace \"aa\" is sealed with master key \"old\", which was not given; add it to ORAMA_MASTER_KEY"
        );
        let error = check(&new, &[], Some(&platform)).unwrap_err();
        assert!(error.to_string().contains("the cluster's own key record"));
        let wrong = masters(&[("old", &two)]);
        let error = check(&wrong, &entries, None).unwrap_err();
        assert!(matches!(error, VaultError::WrongMasterKey { key_id, .. } if key_id == "old"));
    }

    #[test]
    fn re_wrapping_keeps_the_key_and_is_done_once() {
        let (one, two) = (MasterKeys::generate(), MasterKeys::generate());
        let old = entry(&masters(&[("old", &one)]), "aa");
        let both = masters(&[("new", &two), ("old", &one)]);
        let purpose = Purpose::DataKey(&old.name);
        let new = rewrapped::<32>(&both, purpose, &old.data_key)
            .unwrap()
            .unwrap();
        assert_eq!(new.master_key_id, "new");
        assert_eq!(rewrapped::<32>(&both, purpose, &new), Ok(None));
        let only_new = masters(&[("new", &two)]);
        let opened = unwrap_key::<32>(&only_new, purpose, &new).unwrap();
        assert_eq!(*opened, [7; 32]);
        let counts = wrapped_by([&old.data_key, &new, &new].into_iter());
        assert_eq!(
            counts,
            BTreeMap::from([("old".into(), 1), ("new".into(), 2)])
        );
    }
}

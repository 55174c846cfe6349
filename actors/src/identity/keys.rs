//! The cluster's own keys: made once, replicated under the master key.

use orama_proto::sealed::WrappedKey;
use zeroize::Zeroizing;

use crate::vault::{KEY_BYTES, MasterKeys, Purpose, VaultError, random, unwrap_key, wrap};

const RECORD_BYTES: usize = 2 * KEY_BYTES;

/// Pepper of credential hashes and seed of the token signing key. No `Debug`.
pub(crate) struct PlatformKeys(Zeroizing<[u8; RECORD_BYTES]>);

impl PlatformKeys {
    /// New random ones.
    pub(crate) fn generate() -> Self {
        Self(Zeroizing::new(random::bytes()))
    }
    /// As they are replicated.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`].
    pub(crate) fn wrap(&self, masters: &MasterKeys) -> Result<WrappedKey, VaultError> {
        wrap(masters, Purpose::Platform, self.0.as_slice())
    }
    /// Opens what [`Self::wrap`] made.
    ///
    /// # Errors
    /// [`VaultError::MissingMasterKey`], [`VaultError::WrongMasterKey`].
    pub(crate) fn unwrap(masters: &MasterKeys, wrapped: &WrappedKey) -> Result<Self, VaultError> {
        unwrap_key(masters, Purpose::Platform, wrapped).map(Self)
    }
    /// 32 bytes.
    pub(crate) fn pepper(&self) -> &[u8] {
        &self.0[..KEY_BYTES]
    }
    /// 32 bytes, the seed of an Ed25519 key.
    pub(crate) fn seed(&self) -> &[u8] {
        &self.0[KEY_BYTES..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_back_under_the_same_master_key_only() {
        let masters = MasterKeys::parse(&MasterKeys::generate()).unwrap();
        let keys = PlatformKeys::generate();
        let wrapped = keys.wrap(&masters).unwrap();
        let back = PlatformKeys::unwrap(&masters, &wrapped).unwrap();
        assert_eq!((back.pepper(), back.seed()), (keys.pepper(), keys.seed()));
        assert_ne!(keys.pepper(), keys.seed());
        let others = MasterKeys::parse(&MasterKeys::generate()).unwrap();
        assert!(PlatformKeys::unwrap(&others, &wrapped).is_err());
    }
}

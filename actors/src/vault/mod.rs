//! Secrets: master keys, per-namespace data keys, sealed values.

use zeroize::Zeroizing;

/// What the vault cannot do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The text of the master keys is wrong; never contains key material.
    #[error("ORAMA_MASTER_KEY: {0}")]
    MasterKeyFormat(String),
    /// Something is sealed with a master key that was not given.
    #[error(
        "{what} is sealed with master key {key_id:?}, which was not given; add it to ORAMA_MASTER_KEY"
    )]
    MissingMasterKey {
        /// What cannot be opened.
        what: String,
        /// The key's id.
        key_id: String,
    },
    /// A key of the right id does not open it.
    #[error(
        "{what} cannot be opened with master key {key_id:?}: the key is wrong or the data is damaged"
    )]
    WrongMasterKey {
        /// What cannot be opened.
        what: String,
        /// The key's id.
        key_id: String,
    },
    /// A sealed value does not open under its data key.
    #[error("{0} cannot be opened: the data is damaged")]
    Damaged(String),
}

/// The master keys, the active one first. Zeroized when dropped; `Debug` shows ids only.
#[derive(Clone)]
pub struct MasterKeys {}

impl MasterKeys {
    /// Reads `id:base64[,id:base64…]`, or one bare base64 key, whose id is
    /// derived from it. Every key must be 32 bytes, every id unique.
    ///
    /// # Errors
    /// [`VaultError::MasterKeyFormat`].
    pub fn parse(text: &str) -> Result<Self, VaultError> {
        todo!()
    }
    /// A new random key in the form [`Self::parse`] reads.
    pub fn generate() -> Zeroizing<String> {
        todo!()
    }
}

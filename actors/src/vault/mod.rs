//! Secrets: master keys, per-namespace data keys, sealed values. See `OVERVIEW.md`.

mod actor;
mod envelope;
#[cfg(test)]
mod golden_tests;
mod handle;
mod master;
pub(crate) mod random;

pub use master::MasterKeys;

pub(crate) use envelope::{Purpose, new_data_key, unwrap_key, wrap};
pub(crate) use handle::{VaultOptions, Vaults};
pub(crate) use master::{KEY_BYTES, hex};

/// What the vault cannot do. No text of it ever holds key material or a value.
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
    /// The vault does not answer, or cannot seal; try again.
    #[error("{0}")]
    Unavailable(String),
}

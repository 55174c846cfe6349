//! Encrypted values as they are replicated and stored (DESIGN §8).
//!
//! Only ciphertext and what is needed to find the right key; who may open it
//! is the vault's business.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A namespace's data key, or the platform's keys, wrapped by a master key
/// with XChaCha20-Poly1305.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// Which master key wrapped it.
    pub master_key_id: String,
    /// 24 bytes.
    #[serde(with = "serde_bytes")]
    pub nonce: Vec<u8>,
    /// Key and tag.
    #[serde(with = "serde_bytes")]
    pub ciphertext: Vec<u8>,
}

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappedKey(by {})", self.master_key_id)
    }
}

/// A secret value, sealed with AES-256-GCM under its namespace's data key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedValue {
    /// Drawn anew for each value and bound into the seal, so that an old
    /// ciphertext cannot be passed off as the present one of another write.
    pub version: u64,
    /// 12 bytes.
    #[serde(with = "serde_bytes")]
    pub nonce: Vec<u8>,
    /// Value and tag.
    #[serde(with = "serde_bytes")]
    pub ciphertext: Vec<u8>,
}

impl fmt::Debug for SealedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedValue({} bytes)", self.ciphertext.len())
    }
}

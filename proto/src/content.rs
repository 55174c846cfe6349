//! Content addresses: CIDv1, raw codec, sha2-256, base32 (`bafkrei…`), the
//! same text IPFS gives the same bytes.

use std::fmt;

use cid::Cid;
use multihash_codetable::{Code, MultihashDigest};
use serde::{Deserialize, Serialize};

/// Multicodec `raw`.
const RAW: u64 = 0x55;
/// Multihash code of sha2-256.
const SHA2_256: u64 = 0x12;

/// A text that is no content id of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a CIDv1 (raw, sha2-256, base32)")]
pub struct ContentIdError(pub String);

/// The address of a blob.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentId([u8; 32]);

impl ContentId {
    /// The address of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let hash = Code::Sha2_256.digest(bytes);
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.digest());
        Self(digest)
    }

    /// The raw sha2-256 digest.
    pub fn digest(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`ContentIdError`] for anything but CIDv1, raw, sha2-256, in base32.
    pub fn parse(text: &str) -> Result<Self, ContentIdError> {
        let wrong = || ContentIdError(text.chars().take(100).collect());
        let cid = Cid::try_from(text).map_err(|_| wrong())?;
        if cid.codec() != RAW || cid.hash().code() != SHA2_256 {
            return Err(wrong());
        }
        let digest = <[u8; 32]>::try_from(cid.hash().digest()).map_err(|_| wrong())?;
        let id = Self(digest);
        // One spelling only, so that a file name and a key cannot differ from the id.
        if id.to_string() != text {
            Err(wrong())
        } else {
            Ok(id)
        }
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match cid::multihash::Multihash::<64>::wrap(SHA2_256, &self.0) {
            Ok(hash) => fmt::Display::fmt(&Cid::new_v1(RAW, hash), f),
            // A 32-byte digest always fits a 64-byte multihash.
            Err(_) => Err(fmt::Error),
        }
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for ContentId {
    type Error = ContentIdError;
    fn try_from(text: String) -> Result<Self, ContentIdError> {
        Self::parse(&text)
    }
}

impl From<ContentId> for String {
    fn from(id: ContentId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_spells_what_ipfs_spells() {
        // base32 of 01 55 12 20 and the sha2-256 digest, worked out by hand.
        let id = ContentId::of(b"hello world");
        let text = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
        assert_eq!(id.to_string(), text);
        assert_eq!(ContentId::parse(text), Ok(id));
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [
            "",
            "bafk",
            "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
            "../../etc/passwd",
        ] {
            assert!(ContentId::parse(bad).is_err(), "{bad}");
        }
    }
}

//! Stored and wire records: one version byte, then bincode.
//!
//! bincode cannot skip unknown fields or fill missing ones, so a changed type
//! gets a new version and a conversion from the old one; nothing is ever read
//! under a version it was not written with. Decoding is bounded: a hostile
//! length cannot make it allocate more than [`DECODE_LIMIT`].

use serde::{Serialize, de::DeserializeOwned};

/// No single record is larger; decoding stops before it allocates more.
pub const DECODE_LIMIT: usize = 64 * 1024 * 1024;

/// A record that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The record has no bytes at all.
    #[error("the record is empty")]
    Empty,
    /// The record was written by a version of this program that is not known here.
    #[error("the record has version {found}, this program reads version {known}")]
    Version {
        /// The version in front of the record.
        found: u8,
        /// The version that was expected.
        known: u8,
    },
    /// The bytes do not decode.
    #[error("the record cannot be decoded: {0}")]
    Decode(String),
    /// The value cannot be encoded.
    #[error("the record cannot be encoded: {0}")]
    Encode(String),
    /// The record decodes, and bytes are left over.
    #[error("the record has {0} bytes after its end")]
    Trailing(usize),
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<DECODE_LIMIT>()
}

/// Writes `value` behind the byte `version`.
///
/// # Errors
/// [`RecordError::Encode`] when serde refuses the value.
pub fn encode<T: Serialize>(version: u8, value: &T) -> Result<Vec<u8>, RecordError> {
    let mut out = vec![version];
    bincode::serde::encode_into_std_write(value, &mut out, config())
        .map_err(|e| RecordError::Encode(e.to_string()))?;
    Ok(out)
}

/// Reads a value that [`encode`] wrote with the same `version`.
///
/// # Errors
/// See [`RecordError`].
pub fn decode<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, RecordError> {
    let (&found, body) = bytes.split_first().ok_or(RecordError::Empty)?;
    if found != version {
        return Err(RecordError::Version {
            found,
            known: version,
        });
    }
    let (value, used) = bincode::serde::decode_from_slice(body, config())
        .map_err(|e| RecordError::Decode(e.to_string()))?;
    match body.len() - used {
        0 => Ok(value),
        left => Err(RecordError::Trailing(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_rest_are_checked() {
        let bytes = encode(3, &("a", 7u64)).unwrap();
        assert_eq!(decode::<(String, u64)>(3, &bytes).unwrap(), ("a".into(), 7));
        assert!(matches!(
            decode::<(String, u64)>(4, &bytes),
            Err(RecordError::Version { found: 3, known: 4 })
        ));
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(
            decode::<(String, u64)>(3, &longer),
            Err(RecordError::Trailing(1))
        ));
        assert!(matches!(decode::<u8>(1, &[]), Err(RecordError::Empty)));
    }

    #[test]
    fn a_hostile_length_does_not_allocate() {
        // Varint marker 253 announces a u64 length of 2^63-1.
        let bytes = [1, 253, 255, 255, 255, 255, 255, 255, 255, 127];
        assert!(decode::<serde_bytes::ByteBuf>(1, &bytes).is_err());
        assert!(decode::<Vec<u64>>(1, &bytes).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused_or_decoded_without_panic(bytes: Vec<u8>) {
            let _ = decode::<Vec<(String, Option<u64>)>>(1, &bytes);
        }
    }
}

//! A checksummed record: eight bytes of xxh3 over key and record, then the
//! record with its version byte. A cell that does not match its checksum is
//! never decoded.

use orama_proto::record::{self, RecordError};
use serde::{Serialize, de::DeserializeOwned};
use xxhash_rust::xxh3::Xxh3;

const SUM: usize = 8;

/// A cell that cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CellError {
    /// Bytes changed since they were written, or belong to another key.
    #[error("its checksum does not match")]
    Checksum,
    /// The checksum matches, and this program does not know the contents.
    #[error(transparent)]
    Record(#[from] RecordError),
}

fn sum(key: &[u8], record: &[u8]) -> [u8; SUM] {
    let mut hash = Xxh3::new();
    hash.update(&(key.len() as u64).to_be_bytes());
    hash.update(key);
    hash.update(record);
    hash.digest().to_be_bytes()
}

/// The cell of `value` under `key`.
pub(crate) fn seal<T: Serialize>(
    key: &[u8],
    version: u8,
    value: &T,
) -> Result<Vec<u8>, RecordError> {
    let record = record::encode(version, value)?;
    let mut cell = Vec::with_capacity(SUM + record.len());
    cell.extend_from_slice(&sum(key, &record));
    cell.extend_from_slice(&record);
    Ok(cell)
}

/// Reads back what [`seal`] wrote under the same key and version.
pub(crate) fn open<T: DeserializeOwned>(
    key: &[u8],
    version: u8,
    cell: &[u8],
) -> Result<T, CellError> {
    let (found, record) = cell.split_at_checked(SUM).ok_or(CellError::Checksum)?;
    if found != sum(key, record) {
        return Err(CellError::Checksum);
    }
    Ok(record::decode(version, record)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_a_foreign_key_are_noticed() {
        let cell = seal(b"key", 1, &("value", 7u64)).unwrap();
        assert_eq!(open::<(String, u64)>(b"key", 1, &cell).unwrap().1, 7);
        for at in 0..cell.len() * 8 {
            let mut bad = cell.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(matches!(
                open::<(String, u64)>(b"key", 1, &bad),
                Err(CellError::Checksum)
            ));
        }
        assert!(open::<(String, u64)>(b"kez", 1, &cell).is_err());
        assert!(open::<(String, u64)>(b"key", 1, &cell[..5]).is_err());
        assert!(matches!(
            open::<(String, u64)>(b"key", 2, &cell),
            Err(CellError::Record(RecordError::Version { .. }))
        ));
    }
}

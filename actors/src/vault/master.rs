//! Master keys: the roots that the operator keeps outside the data volume.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::VaultError;
use super::random;

/// Length of every symmetric key here, bytes.
pub(crate) const KEY_BYTES: usize = 32;
/// Master keys that may be given at once; a rotation needs two.
const MASTER_KEYS_MAX: usize = 16;
/// Longest id of a master key, characters.
const ID_MAX_CHARS: usize = 32;

/// Reads base64 with or without its padding: tools differ in whether they write it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One master key. No `Debug`: nothing may print it.
pub(crate) struct MasterKey {
    pub(crate) id: String,
    pub(crate) key: Zeroizing<[u8; KEY_BYTES]>,
}

/// The master keys, the active one first. Zeroized when the last clone is
/// dropped; `Debug` shows ids only.
#[derive(Clone)]
pub struct MasterKeys {
    active: Arc<MasterKey>,
    older: Arc<[MasterKey]>,
}

impl MasterKeys {
    /// Reads `id:base64[,id:base64…]`. An entry may also be a bare base64 key,
    /// whose id is derived from it: the first 8 hex digits of its SHA-256.
    /// Every key must be 32 bytes, every id unique. The first is active.
    ///
    /// # Errors
    /// [`VaultError::MasterKeyFormat`], which names the entry by its place and never quotes it.
    pub fn parse(text: &str) -> Result<Self, VaultError> {
        let wrong = |place: usize, why: &str| {
            VaultError::MasterKeyFormat(format!("key {} {why}", place + 1))
        };
        let mut keys: Vec<MasterKey> = Vec::new();
        for (place, entry) in text.trim().split(',').map(str::trim).enumerate() {
            if entry.is_empty() {
                return Err(wrong(place, "is empty"));
            }
            if place == MASTER_KEYS_MAX {
                return Err(VaultError::MasterKeyFormat(format!(
                    "more than {MASTER_KEYS_MAX} keys"
                )));
            }
            let (id, encoded) = match entry.split_once(':') {
                Some((id, encoded)) => (Some(id.trim()), encoded.trim()),
                None => (None, entry),
            };
            let bytes = BASE64
                .decode(encoded)
                .map(Zeroizing::new)
                .map_err(|_| wrong(place, "is not base64"))?;
            let Ok(array) = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()) else {
                let why = format!("has {} bytes, it must have {KEY_BYTES}", bytes.len());
                return Err(wrong(place, &why));
            };
            let key = Zeroizing::new(array);
            let id = match id {
                Some(id) if valid_id(id) => id.to_owned(),
                Some(_) => {
                    let why = format!(
                        "has an id that is not 1 to {ID_MAX_CHARS} letters, digits, '_', '.' or '-'"
                    );
                    return Err(wrong(place, &why));
                }
                None => derived_id(key.as_slice()),
            };
            if keys.iter().any(|k| k.id == id) {
                return Err(wrong(place, &format!("has the id {id:?} of another one")));
            }
            keys.push(MasterKey { id, key });
        }
        let mut keys = keys.into_iter();
        match keys.next() {
            Some(active) => Ok(Self {
                active: Arc::new(active),
                older: keys.collect(),
            }),
            None => Err(VaultError::MasterKeyFormat("no key was given".into())),
        }
    }

    /// A new random key in the form [`Self::parse`] reads: one bare base64 key.
    pub fn generate() -> Zeroizing<String> {
        let key = Zeroizing::new(random::bytes::<KEY_BYTES>());
        Zeroizing::new(BASE64.encode(key.as_slice()))
    }

    /// The key that wraps from now on.
    pub(crate) fn active(&self) -> &MasterKey {
        &self.active
    }

    /// The key with this id.
    pub(crate) fn get(&self, id: &str) -> Option<&MasterKey> {
        std::iter::once(&*self.active)
            .chain(self.older.iter())
            .find(|key| key.id == id)
    }
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKeys")?;
        f.debug_list()
            .entry(&self.active.id)
            .entries(self.older.iter().map(|key| &key.id))
            .finish()
    }
}

fn valid_id(id: &str) -> bool {
    (1..=ID_MAX_CHARS).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn derived_id(key: &[u8]) -> String {
    hex(&ring::digest::digest(&ring::digest::SHA256, key).as_ref()[..4])
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut out, b| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{b:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const ONES: &str = "/////////////////////////////////////////w8=";

    #[test]
    fn pairs_are_read_and_the_first_is_active() {
        let keys = MasterKeys::parse(&format!(" new:{ONES} , old:{ZERO}\n")).unwrap();
        assert_eq!(keys.active().id, "new");
        assert_eq!(*keys.get("old").unwrap().key, [0; 32]);
        assert!(keys.get("other").is_none());
        assert_eq!(format!("{keys:?}"), r#"MasterKeys["new", "old"]"#);
    }

    #[test]
    fn a_bare_key_is_named_after_itself() {
        // sha256 of 32 zero bytes begins 66687aad.
        for text in [ZERO, ZERO.trim_end_matches('=')] {
            assert_eq!(MasterKeys::parse(text).unwrap().active().id, "66687aad");
        }
        let mixed = MasterKeys::parse(&format!("k2:{ONES},{ZERO}")).unwrap();
        assert!(mixed.get("66687aad").is_some());
    }

    #[test]
    fn a_generated_key_reads_back_and_differs_each_time() {
        let (a, b) = (MasterKeys::generate(), MasterKeys::generate());
        assert_ne!(*a, *b);
        assert!(MasterKeys::parse(&a).is_ok());
    }

    #[test]
    fn bad_texts_are_refused_without_quoting_them() {
        let many = (0..17)
            .map(|i| format!("k{i}:{ZERO}"))
            .collect::<Vec<_>>()
            .join(",");
        for (text, says) in [
            ("", "empty"),
            ("a:", "0 bytes"),
            ("c2VjcmV0", "6 bytes"),
            ("se cret", "not base64"),
            (&format!("a:{ZERO},a:{ONES}"), "of another one"),
            (&format!("a:{ZERO},"), "key 2 is empty"),
            (&format!(":{ZERO}"), "has an id"),
            (&format!("{}:{ZERO}", "x".repeat(33)), "has an id"),
            (&format!("a/b:{ZERO}"), "has an id"),
            (&many, "more than 16"),
        ] {
            let error = MasterKeys::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains("c2VjcmV0") && !error.contains("se cret"));
        }
    }
}

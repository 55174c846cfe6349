//! The envelope: master keys wrap data keys, data keys seal values.
//!
//! Everything a ciphertext belongs to is bound into it as associated data,
//! each part with its length in front, so that a ciphertext moved to another
//! namespace, name or version does not open.

use aes_gcm::Aes256Gcm;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use orama_proto::sealed::{SealedValue, WrappedKey};
use orama_proto::{Namespace, SecretName};
use zeroize::Zeroizing;

use super::VaultError;
use super::master::{KEY_BYTES, MasterKeys};
use super::random;

const XNONCE_BYTES: usize = 24;
const NONCE_BYTES: usize = 12;

/// A namespace's data key in the clear.
pub(crate) type DataKey = Zeroizing<[u8; KEY_BYTES]>;

/// A new data key.
pub(crate) fn new_data_key() -> DataKey {
    Zeroizing::new(random::bytes())
}

/// What a wrapped key is for; part of its associated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose<'a> {
    /// The data key of a namespace.
    DataKey(&'a Namespace),
    /// The cluster's own keys.
    Platform,
}

impl Purpose<'_> {
    fn associated(self) -> Vec<u8> {
        match self {
            Self::DataKey(namespace) => bind(&[b"data-key", namespace.as_str().as_bytes()]),
            Self::Platform => bind(&[b"platform-keys", b""]),
        }
    }
    /// As it is named to the operator.
    pub(crate) fn what(self) -> String {
        match self {
            Self::DataKey(namespace) => format!("the data key of namespace {namespace:?}"),
            Self::Platform => "the cluster's own key record".to_owned(),
        }
    }
}

fn bind(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = b"orama/1".to_vec();
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Wraps key material under the active master key.
///
/// # Errors
/// [`VaultError::Unavailable`] when the cipher refuses, which it does for absurd lengths only.
pub(crate) fn wrap(
    masters: &MasterKeys,
    purpose: Purpose<'_>,
    plain: &[u8],
) -> Result<WrappedKey, VaultError> {
    let master = masters.active();
    let nonce = random::bytes::<XNONCE_BYTES>();
    let ciphertext = XChaCha20Poly1305::new(&(*master.key).into())
        .encrypt(
            &nonce.into(),
            Payload {
                msg: plain,
                aad: &purpose.associated(),
            },
        )
        .map_err(|_| VaultError::Unavailable(format!("{} cannot be wrapped", purpose.what())))?;
    Ok(WrappedKey {
        master_key_id: master.id.clone(),
        nonce: nonce.to_vec(),
        ciphertext,
    })
}

/// Opens what [`wrap`] made, with whichever master key it names.
///
/// # Errors
/// [`VaultError::MissingMasterKey`], [`VaultError::WrongMasterKey`].
pub(crate) fn unwrap_key<const N: usize>(
    masters: &MasterKeys,
    purpose: Purpose<'_>,
    wrapped: &WrappedKey,
) -> Result<Zeroizing<[u8; N]>, VaultError> {
    let Some(master) = masters.get(&wrapped.master_key_id) else {
        return Err(VaultError::MissingMasterKey {
            what: purpose.what(),
            key_id: wrapped.master_key_id.clone(),
        });
    };
    let wrong = || VaultError::WrongMasterKey {
        what: purpose.what(),
        key_id: wrapped.master_key_id.clone(),
    };
    let nonce = <[u8; XNONCE_BYTES]>::try_from(wrapped.nonce.as_slice()).map_err(|_| wrong())?;
    let plain = XChaCha20Poly1305::new(&(*master.key).into())
        .decrypt(
            &nonce.into(),
            Payload {
                msg: &wrapped.ciphertext,
                aad: &purpose.associated(),
            },
        )
        .map(Zeroizing::new)
        .map_err(|_| wrong())?;
    <[u8; N]>::try_from(plain.as_slice())
        .map(Zeroizing::new)
        .map_err(|_| wrong())
}

fn value_bound(namespace: &Namespace, name: &SecretName, version: u64) -> Vec<u8> {
    bind(&[
        b"secret",
        namespace.as_str().as_bytes(),
        name.as_str().as_bytes(),
        &version.to_le_bytes(),
    ])
}

/// Seals a secret's value under its namespace's data key.
///
/// # Errors
/// [`VaultError::Unavailable`] when the cipher refuses, which it does for absurd lengths only.
pub(crate) fn seal(
    key: &DataKey,
    namespace: &Namespace,
    name: &SecretName,
    value: &[u8],
) -> Result<SealedValue, VaultError> {
    let version = random::number();
    let nonce = random::bytes::<NONCE_BYTES>();
    let ciphertext = Aes256Gcm::new(&(**key).into())
        .encrypt(
            &nonce.into(),
            Payload {
                msg: value,
                aad: &value_bound(namespace, name, version),
            },
        )
        .map_err(|_| VaultError::Unavailable(format!("secret {name:?} cannot be sealed")))?;
    Ok(SealedValue {
        version,
        nonce: nonce.to_vec(),
        ciphertext,
    })
}

/// Opens what [`seal`] made.
///
/// # Errors
/// [`VaultError::Damaged`] when it was sealed for another place, under another key, or changed.
pub(crate) fn open(
    key: &DataKey,
    namespace: &Namespace,
    name: &SecretName,
    sealed: &SealedValue,
) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let damaged = || VaultError::Damaged(format!("secret {name:?} of namespace {namespace:?}"));
    let nonce = <[u8; NONCE_BYTES]>::try_from(sealed.nonce.as_slice()).map_err(|_| damaged())?;
    Aes256Gcm::new(&(**key).into())
        .decrypt(
            &nonce.into(),
            Payload {
                msg: &sealed.ciphertext,
                aad: &value_bound(namespace, name, sealed.version),
            },
        )
        .map(Zeroizing::new)
        .map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(text: &str) -> Namespace {
        Namespace::parse(text).unwrap()
    }
    fn name(text: &str) -> SecretName {
        SecretName::parse(text).unwrap()
    }
    fn masters(id: &str) -> MasterKeys {
        MasterKeys::parse(&format!("{id}:{}", *MasterKeys::generate())).unwrap()
    }

    #[test]
    fn a_value_opens_only_where_it_was_sealed() {
        let key = new_data_key();
        let (ns_a, ns_b) = (ns("aa"), ns("ab"));
        let sealed = seal(&key, &ns_a, &name("TOKEN"), b"value").unwrap();
        let opened = open(&key, &ns_a, &name("TOKEN"), &sealed).unwrap();
        assert_eq!(opened.as_slice(), b"value");
        assert!(open(&key, &ns_b, &name("TOKEN"), &sealed).is_err());
        assert!(open(&key, &ns_a, &name("TOKEM"), &sealed).is_err());
        assert!(open(&new_data_key(), &ns_a, &name("TOKEN"), &sealed).is_err());
        let mut other = sealed.clone();
        other.version ^= 1;
        assert!(open(&key, &ns_a, &name("TOKEN"), &other).is_err());
        let mut short = sealed.clone();
        short.nonce.pop();
        assert!(open(&key, &ns_a, &name("TOKEN"), &short).is_err());
        let error = open(&key, &ns_b, &name("TOKEN"), &sealed).unwrap_err();
        assert_eq!(
            error.to_string(),
            "secret \"TOKEN\" of namespace \"ab\" cannot be opened: the data is damaged"
        );
    }

    #[test]
    fn parts_cannot_slide_into_each_other() {
        assert_ne!(bind(&[b"ab", b"c"]), bind(&[b"a", b"bc"]));
        let key = new_data_key();
        let sealed = seal(&key, &ns("ab"), &name("cd"), b"v").unwrap();
        assert!(open(&key, &ns("abc"), &name("d"), &sealed).is_err());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let key = new_data_key();
        let sealed = seal(&key, &ns("aa"), &name("K"), b"0123456789").unwrap();
        for byte in 0..sealed.ciphertext.len() {
            for bit in 0..8 {
                let mut bad = sealed.clone();
                bad.ciphertext[byte] ^= 1 << bit;
                assert!(open(&key, &ns("aa"), &name("K"), &bad).is_err());
            }
        }
        for byte in 0..NONCE_BYTES {
            let mut bad = sealed.clone();
            bad.nonce[byte] ^= 1;
            assert!(open(&key, &ns("aa"), &name("K"), &bad).is_err());
        }
    }

    #[test]
    fn two_seals_of_one_value_differ() {
        let key = new_data_key();
        let a = seal(&key, &ns("aa"), &name("K"), b"v").unwrap();
        let b = seal(&key, &ns("aa"), &name("K"), b"v").unwrap();
        assert!(a.nonce != b.nonce && a.ciphertext != b.ciphertext && a.version != b.version);
    }

    #[test]
    fn a_wrapped_key_is_bound_to_purpose_namespace_and_master() {
        let (masters_a, masters_b) = (masters("a"), masters("b"));
        let (ns_a, ns_b) = (ns("aa"), ns("ab"));
        let key = new_data_key();
        let wrapped = wrap(&masters_a, Purpose::DataKey(&ns_a), key.as_slice()).unwrap();
        let opened = unwrap_key(&masters_a, Purpose::DataKey(&ns_a), &wrapped);
        assert_eq!(opened, Ok(key));
        for purpose in [Purpose::DataKey(&ns_b), Purpose::Platform] {
            assert!(matches!(
                unwrap_key::<32>(&masters_a, purpose, &wrapped),
                Err(VaultError::WrongMasterKey { key_id, .. }) if key_id == "a"
            ));
        }
        assert!(matches!(
            unwrap_key::<32>(&masters_b, Purpose::DataKey(&ns_a), &wrapped),
            Err(VaultError::MissingMasterKey { key_id, .. }) if key_id == "a"
        ));
        assert!(matches!(
            unwrap_key::<32>(&masters("a"), Purpose::DataKey(&ns_a), &wrapped),
            Err(VaultError::WrongMasterKey { .. })
        ));
        // Of the wrong length: a record of another kind.
        assert!(unwrap_key::<64>(&masters_a, Purpose::DataKey(&ns_a), &wrapped).is_err());
        let mut flipped = wrapped.clone();
        flipped.ciphertext[0] ^= 1;
        assert!(unwrap_key::<32>(&masters_a, Purpose::DataKey(&ns_a), &flipped).is_err());
    }
}

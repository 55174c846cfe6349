//! API keys: `ak_`, 18 random bytes as base64url, `:`, the namespace (CONTRACT 6.1).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use orama_proto::Namespace;
use zeroize::Zeroizing;

use crate::vault::{hex, random};

const PREFIX: &str = "ak_";
const KEY_RANDOM_BYTES: usize = 18;
const ID_RANDOM_BYTES: usize = 6;

/// A new key of the namespace.
pub(crate) fn new_key(namespace: &Namespace) -> Zeroizing<String> {
    let secret = Zeroizing::new(random::bytes::<KEY_RANDOM_BYTES>());
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(secret.as_slice()));
    Zeroizing::new(format!("{PREFIX}{}:{namespace}", *text))
}

/// A new public identifier: `key_` and 12 hex digits.
pub(crate) fn new_key_id() -> String {
    format!("key_{}", hex(&random::bytes::<ID_RANDOM_BYTES>()))
}

/// Whether a text has the form of a key that [`new_key`] makes.
pub(crate) fn is_well_formed(credential: &str) -> bool {
    let Some((secret, namespace)) = credential
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once(':'))
    else {
        return false;
    };
    let decoded = URL_SAFE_NO_PAD.decode(secret).map(Zeroizing::new);
    decoded.is_ok_and(|bytes| bytes.len() == KEY_RANDOM_BYTES)
        && Namespace::parse(namespace).is_ok()
}

/// An API key as it may be shown again: `ak_…last4:namespace`. Anything that
/// is not of that form is hidden whole.
pub fn mask_key(key: &str) -> String {
    let shown = key
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once(':'))
        .filter(|(secret, _)| secret.is_ascii() && secret.len() >= 16)
        .and_then(|(secret, namespace)| {
            let last = secret.get(secret.len() - 4..)?;
            Some(format!("{PREFIX}…{last}:{namespace}"))
        });
    shown.unwrap_or_else(|| "…".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_documented_form() {
        let ns = Namespace::parse("my-app").unwrap();
        let key = new_key(&ns);
        let (secret, namespace) = key[3..].split_once(':').unwrap();
        assert!(key.starts_with("ak_") && namespace == "my-app");
        assert_eq!(URL_SAFE_NO_PAD.decode(secret).unwrap().len(), 18);
        assert_eq!(secret.len(), 24);
        assert_ne!(*key, *new_key(&ns));
        assert!(is_well_formed(&key));
        let spoilt = [&key[1..], &key[..20], "ak_", "ak_x:default", "operator"];
        assert!(spoilt.iter().all(|text| !is_well_formed(text)));
        let id = new_key_id();
        assert!(id.len() == 16 && id[4..].bytes().all(|b| b.is_ascii_hexdigit()));
    }

    #[test]
    fn a_masked_key_shows_four_characters() {
        assert_eq!(
            mask_key("ak_ABCDEFGHIJKLMNOPQRSTUVWX:default"),
            "ak_…UVWX:default"
        );
        for other in [
            "",
            "operator-token",
            "ak_abcd:default",
            "ak_no-namespace",
            "ak_ééééééééé:x",
        ] {
            assert_eq!(mask_key(other), "…");
        }
    }
}

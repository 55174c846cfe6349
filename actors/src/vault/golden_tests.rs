//! Keys that were wrapped and secrets that were sealed by an earlier build open.

use orama_proto::sealed::{SealedValue, WrappedKey};
use orama_proto::{Namespace, SecretName, record};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::MasterKeys;
use super::envelope::{self, Purpose};
use crate::golden::Golden;

/// The version of the metadata's records; it is not what is tested here.
const VERSION: u8 = 1;

/// What is stored under a name. Nonces are drawn: nothing is written twice alike.
fn stored<T: Serialize + DeserializeOwned>(
    golden: &mut Golden,
    sample: &str,
    make: impl FnOnce() -> T,
) -> T {
    let bytes = golden.stored(sample, || record::encode(VERSION, &make()).unwrap());
    record::decode(VERSION, &bytes).unwrap()
}

#[test]
fn golden_envelopes_open() {
    let golden = &mut Golden::open("envelopes");
    // 32 bytes of 7, for this test alone.
    let masters = MasterKeys::parse("k1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").unwrap();
    let namespace = Namespace::parse("acme").unwrap();
    let name = SecretName::parse("KEY").unwrap();
    let key = Zeroizing::new([8; 32]);

    let purpose = Purpose::DataKey(&namespace);
    let wrapped: WrappedKey = stored(golden, "data-key", || {
        envelope::wrap(&masters, purpose, &*key).unwrap()
    });
    assert_eq!(
        envelope::unwrap_key(&masters, purpose, &wrapped).unwrap(),
        key
    );

    let wrapped: WrappedKey = stored(golden, "platform-keys", || {
        envelope::wrap(&masters, Purpose::Platform, &[9; 64]).unwrap()
    });
    let keys = envelope::unwrap_key::<64>(&masters, Purpose::Platform, &wrapped).unwrap();
    assert_eq!(*keys, [9; 64]);

    let sealed: SealedValue = stored(golden, "secret", || {
        envelope::seal(&key, &namespace, &name, b"a value").unwrap()
    });
    let value = envelope::open(&key, &namespace, &name, &sealed).unwrap();
    assert_eq!(value.as_slice(), b"a value");
}

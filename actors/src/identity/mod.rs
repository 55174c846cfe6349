//! Who calls: API keys, tokens of end users, the operator's token (CONTRACT 6.1).
//!
//! Everything that proves identity hangs on the platform's own keys: a pepper
//! under which credentials are hashed, and the seed of the signing key. They
//! are replicated, wrapped by the master key, so that every node of a cluster
//! accepts the same credentials.

mod api_key;
mod jwt;
mod keys;

pub use api_key::mask_key;

pub(crate) use api_key::{new_key, new_key_id};
pub(crate) use keys::PlatformKeys;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use orama_proto::api::WhoAmI;
use orama_proto::command::ApiKeyRecord;
use orama_proto::invocation::Principal;
use orama_proto::{ApiError, ErrorCode, Namespace, Timestamp};
use ring::hmac;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use jwt::Tokens;

/// Longest credential that is looked at, bytes.
pub(crate) const CREDENTIAL_MAX_BYTES: usize = 8 * 1024;

/// What checking a credential needs from the metadata.
pub(crate) trait Directory {
    /// The API key with this hash.
    fn api_key(&self, hash: &[u8; 32]) -> Option<Arc<ApiKeyRecord>>;
    /// When the namespace was made, if it exists now.
    fn created_at(&self, namespace: &Namespace) -> Option<Timestamp>;
}

impl Directory for orama_cluster::MetaStore {
    fn api_key(&self, hash: &[u8; 32]) -> Option<Arc<ApiKeyRecord>> {
        orama_cluster::MetaStore::api_key(self, hash)
    }
    fn created_at(&self, namespace: &Namespace) -> Option<Timestamp> {
        self.namespace(namespace).map(|entry| entry.created_at)
    }
}

/// Checks and makes credentials.
pub(crate) struct Identity {
    pepper: hmac::Key,
    admin: [u8; 32],
    tokens: Tokens,
}

impl Identity {
    /// From the platform's keys and the operator's token.
    ///
    /// # Errors
    /// A text for the operator.
    pub(crate) fn new(keys: &PlatformKeys, admin_token: &str) -> Result<Self, String> {
        if admin_token.is_empty() || admin_token.len() > CREDENTIAL_MAX_BYTES {
            return Err(format!(
                "ORAMA_ADMIN_TOKEN must have 1 to {CREDENTIAL_MAX_BYTES} bytes"
            ));
        }
        let pepper = hmac::Key::new(hmac::HMAC_SHA256, keys.pepper());
        let admin = keyed_hash(&pepper, admin_token);
        Ok(Self {
            admin,
            pepper,
            tokens: Tokens::new(keys.seed())?,
        })
    }

    /// Checks the text of a credential. Exactly two dots make a token, which
    /// then decides; anything else is the operator's token or an API key.
    ///
    /// # Errors
    /// `UNAUTHORIZED`, the same for every reason.
    pub(crate) fn authenticate(
        &self,
        directory: &impl Directory,
        credential: &str,
    ) -> Result<Principal, ApiError> {
        if credential.is_empty() || credential.len() > CREDENTIAL_MAX_BYTES {
            return Err(unauthorized());
        }
        if looks_like_token(credential)
            && let Some(claims) = self.tokens.verify(credential)
        {
            let namespace = Namespace::parse(&claims.namespace).map_err(|_| unauthorized())?;
            // A token outlives neither its namespace nor passes to another
            // that is given the same name later.
            match directory.created_at(&namespace) {
                Some(since) if claims.iat + jwt::LEEWAY_SECS >= since.secs() => {}
                _ => return Err(unauthorized()),
            }
            return Ok(Principal::Jwt {
                namespace,
                subject: claims.sub,
                claims: claims.custom,
            });
        }
        // One keyed hash serves both comparisons, and comparing hashes gives
        // away neither the length of the operator's token nor where it differs.
        let hash = self.hash(credential);
        if bool::from(hash.ct_eq(&self.admin)) {
            return Ok(Principal::Admin);
        }
        match directory.api_key(&hash) {
            Some(key) => Ok(Principal::ApiKey {
                namespace: key.namespace.clone(),
                key_id: key.id.clone(),
            }),
            None => Err(unauthorized()),
        }
    }

    /// As [`Self::authenticate`]; a credential that would be good if a change made
    /// elsewhere were known here is checked again after `confirm`.
    ///
    /// # Errors
    /// `UNAUTHORIZED`, or what `confirm` answers.
    pub(crate) async fn authenticate_confirmed<F>(
        &self,
        directory: &impl Directory,
        credential: &str,
        confirm: impl FnOnce() -> F,
    ) -> Result<Principal, ApiError>
    where
        F: Future<Output = Result<(), ApiError>>,
    {
        match self.authenticate(directory, credential) {
            Err(_) if self.may_be_new(directory, credential) => {
                confirm().await?;
                self.authenticate(directory, credential)
            }
            known => known,
        }
    }

    /// Whether a refused credential may belong to a key or namespace of which this
    /// node has not heard yet. What is malformed, badly signed or a wrong
    /// operator's token never does: guessing must not cost the leader anything.
    fn may_be_new(&self, directory: &impl Directory, credential: &str) -> bool {
        if credential.len() > CREDENTIAL_MAX_BYTES {
            return false;
        }
        if !looks_like_token(credential) {
            return api_key::is_well_formed(credential);
        }
        let claims = self.tokens.verify(credential);
        claims
            .and_then(|claims| Namespace::parse(&claims.namespace).ok())
            .is_some_and(|namespace| directory.created_at(&namespace).is_none())
    }

    /// The keyed hash under which an API key is stored.
    pub(crate) fn hash(&self, credential: &str) -> [u8; 32] {
        keyed_hash(&self.pepper, credential)
    }

    /// Signs a token for an end user of the namespace.
    ///
    /// # Errors
    /// `VALIDATION_FAILED` naming the limit that is broken.
    pub(crate) fn mint(
        &self,
        namespace: &Namespace,
        subject: &str,
        custom: BTreeMap<String, String>,
        life: Duration,
    ) -> Result<Zeroizing<String>, ApiError> {
        self.tokens.mint(namespace, subject, custom, life)
    }

    /// The public key as a JWK set.
    pub(crate) fn jwks(&self) -> serde_json::Value {
        self.tokens.jwks()
    }

    /// What a valid token says about itself, for its bearer.
    pub(crate) fn token_facts(&self, token: &str) -> Option<WhoAmI> {
        if token.len() > CREDENTIAL_MAX_BYTES {
            return None;
        }
        let claims = self.tokens.verify(token)?;
        Some(WhoAmI {
            authenticated: true,
            method: "jwt".to_owned(),
            namespace: Some(claims.namespace),
            subject: Some(claims.sub),
            issuer: Some(claims.iss),
            audience: Some(claims.aud),
            issued_at: Some(claims.iat),
            not_before: Some(claims.nbf),
            expires_at: Some(claims.exp),
            ..WhoAmI::default()
        })
    }
}

fn keyed_hash(pepper: &hmac::Key, text: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(hmac::sign(pepper, text.as_bytes()).as_ref());
    out
}

fn looks_like_token(credential: &str) -> bool {
    credential.bytes().filter(|b| *b == b'.').count() == 2
}

fn unauthorized() -> ApiError {
    ApiError::new(ErrorCode::Unauthorized, "invalid API key or token")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Book(Vec<Arc<ApiKeyRecord>>, Vec<(Namespace, Timestamp)>);
    impl Directory for Book {
        fn api_key(&self, hash: &[u8; 32]) -> Option<Arc<ApiKeyRecord>> {
            self.0.iter().find(|k| k.hash == *hash).cloned()
        }
        fn created_at(&self, namespace: &Namespace) -> Option<Timestamp> {
            let entry = self.1.iter().find(|(name, _)| name == namespace)?;
            Some(entry.1)
        }
    }

    fn identity(admin: &str) -> Identity {
        Identity::new(&PlatformKeys::generate(), admin).unwrap()
    }

    /// A record under which this key is known.
    fn known(identity: &Identity, ns: &Namespace, key: &str) -> Arc<ApiKeyRecord> {
        Arc::new(ApiKeyRecord {
            id: new_key_id(),
            namespace: ns.clone(),
            hash: identity.hash(key),
            label: String::new(),
            created_at: Timestamp::now(),
        })
    }

    #[test]
    fn each_credential_is_told_apart() {
        let identity = identity("operator");
        let ns = Namespace::parse("default").unwrap();
        let key = new_key(&ns);
        let record = known(&identity, &ns, &key);
        let book = Book(
            vec![Arc::clone(&record)],
            vec![(ns.clone(), Timestamp::now())],
        );
        let check = |text: &str| identity.authenticate(&book, text);
        assert_eq!(check("operator"), Ok(Principal::Admin));
        let by_key = Principal::ApiKey {
            namespace: ns.clone(),
            key_id: record.id.clone(),
        };
        assert_eq!(check(&key), Ok(by_key));
        let custom = BTreeMap::from([("role".to_owned(), "x".to_owned())]);
        let life = Duration::from_secs(60);
        let token = identity.mint(&ns, "0xabc", custom.clone(), life).unwrap();
        let by_token = Principal::Jwt {
            namespace: ns.clone(),
            subject: "0xabc".into(),
            claims: custom,
        };
        assert_eq!(check(&token), Ok(by_token));
        let facts = identity.token_facts(&token).unwrap();
        assert_eq!(facts.issuer.as_deref(), Some("orama-gateway"));
        assert_eq!(facts.subject.as_deref(), Some("0xabc"));
        let long = "x".repeat(CREDENTIAL_MAX_BYTES + 1);
        let other_ns = key.replace(":default", ":other");
        for bad in ["", "operatoR", "a.b.c", &long, "ak_x:default", &other_ns] {
            assert_eq!(check(bad).unwrap_err().code, ErrorCode::Unauthorized);
        }
        // A token outlives its namespace and is worth nothing then.
        let empty = Book(vec![], vec![]);
        assert!(identity.authenticate(&empty, &token).is_err());
        // Nor in a namespace that was made later and has its name.
        let later = Timestamp(Timestamp::now().0 + 120 * 1_000_000);
        let anew = Book(vec![], vec![(ns, later)]);
        assert!(identity.authenticate(&anew, &token).is_err());
    }

    /// A directory that learns of everything when it is confirmed.
    struct Behind(parking_lot::Mutex<Book>);
    impl Directory for Behind {
        fn api_key(&self, hash: &[u8; 32]) -> Option<Arc<ApiKeyRecord>> {
            self.0.lock().api_key(hash)
        }
        fn created_at(&self, namespace: &Namespace) -> Option<Timestamp> {
            self.0.lock().created_at(namespace)
        }
    }

    #[tokio::test]
    async fn only_what_may_be_new_is_asked_for_again() {
        let identity = identity("operator");
        let ns = Namespace::parse("default").unwrap();
        let key = new_key(&ns);
        let record = known(&identity, &ns, &key);
        let life = Duration::from_secs(60);
        let token = identity.mint(&ns, "0xabc", BTreeMap::new(), life).unwrap();
        let made = (ns.clone(), Timestamp::now());
        let asked = std::cell::Cell::new(0);
        let behind = Behind(parking_lot::Mutex::new(Book(vec![], vec![])));
        let check = async |text: &str| {
            asked.set(0);
            let confirm = || {
                asked.set(1);
                let mut book = behind.0.lock();
                *book = Book(vec![Arc::clone(&record)], vec![made.clone()]);
                std::future::ready(Ok(()))
            };
            let answer = identity
                .authenticate_confirmed(&behind, text, confirm)
                .await;
            (answer.is_ok(), asked.get())
        };
        let (short, other_ns) = ("ak_short:default", key.replace(":default", ":Not A Name"));
        let bad_signature = format!("{}x", *token);
        for bad in ["", "operatoR", "a.b.c", short, &other_ns, &bad_signature] {
            assert_eq!(check(bad).await, (false, 0), "{bad}");
        }
        assert_eq!(check("operator").await, (true, 0));
        assert_eq!(check(&key).await, (true, 1));
        assert_eq!(check(&key).await, (true, 0));
        assert_eq!(check(&token).await, (true, 0));
        // One that nobody made costs a question, and is refused.
        assert_eq!(check(&new_key(&ns)).await, (false, 1));
        // A token of a namespace that was just made.
        *behind.0.lock() = Book(vec![], vec![]);
        assert_eq!(check(&token).await, (true, 1));
        // Without an answer there is no verdict.
        let none = Behind(parking_lot::Mutex::new(Book(vec![], vec![])));
        let unavailable =
            || std::future::ready(Err(ApiError::new(ErrorCode::ServiceUnavailable, "")));
        let answer = identity
            .authenticate_confirmed(&none, &key, unavailable)
            .await;
        assert_eq!(answer.unwrap_err().code, ErrorCode::ServiceUnavailable);
    }

    #[test]
    fn an_operators_token_may_contain_dots_and_not_be_empty() {
        let book = Book(vec![], vec![]);
        let dotted = identity("a.b.c");
        assert_eq!(dotted.authenticate(&book, "a.b.c"), Ok(Principal::Admin));
        assert!(Identity::new(&PlatformKeys::generate(), "").is_err());
    }

    #[test]
    fn hashes_depend_on_the_pepper() {
        assert_ne!(identity("a").hash("k"), identity("a").hash("k"));
    }
}

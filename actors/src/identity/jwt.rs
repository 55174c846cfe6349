//! Tokens of end users: JWT, EdDSA only, signed by the cluster's own key (CONTRACT 6.1).

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use orama_proto::{ApiError, ErrorCode, Namespace, Timestamp};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::vault::hex;

const ISSUER: &str = "orama-gateway";
const AUDIENCE: &str = "gateway";
/// Seconds by which clocks may differ.
pub(super) const LEEWAY_SECS: u64 = 60;
/// Longest subject, characters.
const SUBJECT_MAX_CHARS: usize = 256;
/// Custom claims of one token.
const CUSTOM_MAX: usize = 16;
/// Bytes of names and values of the custom claims of one token.
const CUSTOM_MAX_BYTES: usize = 4_096;
/// Longest life of a token.
const LIFE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) sub: String,
    pub(super) aud: String,
    pub(super) iat: u64,
    pub(super) nbf: u64,
    pub(super) exp: u64,
    pub(super) namespace: String,
    pub(super) jti: String,
    #[serde(default)]
    pub(super) custom: BTreeMap<String, String>,
}

/// Signs and verifies tokens.
pub(super) struct Tokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    public: Vec<u8>,
    kid: String,
}

impl Tokens {
    /// From the 32-byte seed of the signing key.
    ///
    /// # Errors
    /// A text for the operator when the seed is no key.
    pub(super) fn new(seed: &[u8]) -> Result<Self, String> {
        // Another component may have installed one of its own first; that is
        // noticed by the check below, not here.
        let _ = PROVIDER.install_default();
        let pair = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| "the cluster's signing key is not usable".to_owned())?;
        let public = pair.public_key().as_ref().to_vec();
        let digest = ring::digest::digest(&ring::digest::SHA256, &public);
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = LEEWAY_SECS;
        validation.validate_nbf = true;
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
        Ok(Self {
            signing: EncodingKey::from_ed_der(seed),
            verifying: DecodingKey::from_ed_der(&public),
            validation,
            kid: hex(&digest.as_ref()[..8]),
            public,
        })
    }

    pub(super) fn mint(
        &self,
        namespace: &Namespace,
        subject: &str,
        custom: BTreeMap<String, String>,
        life: Duration,
    ) -> Result<Zeroizing<String>, ApiError> {
        check(subject, &custom, life)?;
        let now = Timestamp::now().secs();
        self.sign(&Claims {
            iss: ISSUER.to_owned(),
            sub: subject.to_owned(),
            aud: AUDIENCE.to_owned(),
            iat: now,
            nbf: now,
            exp: now.saturating_add(life.as_secs()),
            namespace: namespace.to_string(),
            jti: uuid::Uuid::new_v4().to_string(),
            custom,
        })
    }

    fn sign(&self, claims: &Claims) -> Result<Zeroizing<String>, ApiError> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.signing)
            .map(Zeroizing::new)
            .map_err(|error| {
                tracing::error!(%error, "a token could not be signed");
                ApiError::new(ErrorCode::Internal, "the token could not be signed")
            })
    }

    /// The claims of a token of ours that is valid now.
    pub(super) fn verify(&self, token: &str) -> Option<Claims> {
        let data = jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation).ok()?;
        (data.header.kid.as_deref() == Some(&*self.kid)).then_some(data.claims)
    }

    pub(super) fn jwks(&self) -> serde_json::Value {
        serde_json::json!({ "keys": [{
            "kty": "OKP",
            "crv": "Ed25519",
            "use": "sig",
            "alg": "EdDSA",
            "kid": self.kid,
            "x": URL_SAFE_NO_PAD.encode(&self.public),
        }]})
    }
}

fn check(subject: &str, custom: &BTreeMap<String, String>, life: Duration) -> Result<(), ApiError> {
    let chars = subject.chars().count();
    if !(1..=SUBJECT_MAX_CHARS).contains(&chars) {
        return Err(ApiError::validation(format!(
            "subject must have 1 to {SUBJECT_MAX_CHARS} characters (got {chars})"
        )));
    }
    // Such a subject would be taken for an API key and hidden from guests (CONTRACT 1.6).
    if subject.starts_with("ak_") || subject.contains(':') {
        return Err(ApiError::validation(
            "subject must not look like an API key: it may not start with \"ak_\" nor contain ':'",
        ));
    }
    if custom.len() > CUSTOM_MAX {
        return Err(ApiError::validation(format!(
            "custom has {} claims, the limit is {CUSTOM_MAX}",
            custom.len()
        )));
    }
    let bytes: usize = custom.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > CUSTOM_MAX_BYTES {
        return Err(ApiError::validation(format!(
            "custom has {bytes} bytes, the limit is {CUSTOM_MAX_BYTES}"
        )));
    }
    if life < Duration::from_secs(1) || life > LIFE_MAX {
        return Err(ApiError::validation(format!(
            "expires_in must be between 1 and {} seconds (got {})",
            LIFE_MAX.as_secs(),
            life.as_secs()
        )));
    }
    Ok(())
}

/// Ed25519 on ring, and nothing else: the library's own back ends would bring
/// a second crypto library, and no other algorithm may ever be accepted.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

fn signer(
    algorithm: &Algorithm,
    key: &EncodingKey,
) -> jsonwebtoken::errors::Result<Box<dyn JwtSigner>> {
    if *algorithm != Algorithm::EdDSA {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ed25519KeyPair::from_seed_unchecked(key.as_bytes())
        .map(|pair| Box::new(EdSigner(pair)) as Box<dyn JwtSigner>)
        .map_err(|_| ErrorKind::InvalidKeyFormat.into())
}

fn verifier(
    algorithm: &Algorithm,
    key: &DecodingKey,
) -> jsonwebtoken::errors::Result<Box<dyn JwtVerifier>> {
    if *algorithm != Algorithm::EdDSA {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let public = key.try_get_as_bytes()?.to_vec();
    Ok(Box::new(EdVerifier(UnparsedPublicKey::new(
        &ED25519, public,
    ))))
}

struct EdSigner(Ed25519KeyPair);

impl Signer<Vec<u8>> for EdSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl JwtSigner for EdSigner {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

struct EdVerifier(UnparsedPublicKey<Vec<u8>>);

impl Verifier<Vec<u8>> for EdVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        self.0
            .verify(message, signature)
            .map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for EdVerifier {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(seed: u8) -> Tokens {
        Tokens::new(&[seed; 32]).unwrap()
    }
    fn ns() -> Namespace {
        Namespace::parse("default").unwrap()
    }
    fn claims() -> Claims {
        let now = Timestamp::now().secs();
        Claims {
            iss: ISSUER.into(),
            sub: "0xabc".into(),
            aud: AUDIENCE.into(),
            iat: now,
            nbf: now,
            exp: now + 900,
            namespace: "default".into(),
            jti: "j".into(),
            custom: BTreeMap::new(),
        }
    }

    #[test]
    fn a_token_comes_back_with_its_claims() {
        let tokens = tokens(1);
        let custom = BTreeMap::from([("role".to_owned(), "admin".to_owned())]);
        let token = tokens
            .mint(&ns(), "0xabc", custom.clone(), Duration::from_secs(60))
            .unwrap();
        let claims = tokens.verify(&token).unwrap();
        assert_eq!(
            (claims.sub.as_str(), claims.exp - claims.iat),
            ("0xabc", 60)
        );
        assert_eq!(claims.custom, custom);
        let header = jsonwebtoken::decode_header(&*token).unwrap();
        assert_eq!(header.kid.as_deref(), Some(&*tokens.kid));
        assert_eq!(tokens.kid.len(), 16);
        let jwks = tokens.jwks();
        assert_eq!(jwks["keys"][0]["kid"], *tokens.kid);
        assert_eq!(jwks["keys"][0]["x"].as_str().unwrap().len(), 43);
    }

    #[test]
    fn wrong_claims_are_refused() {
        let tokens = tokens(1);
        let valid = |change: fn(&mut Claims)| {
            let mut claims = claims();
            change(&mut claims);
            tokens.verify(&tokens.sign(&claims).unwrap()).is_some()
        };
        assert!(valid(|_| ()));
        assert!(valid(|c| c.exp = c.iat - 30), "within the leeway");
        assert!(valid(|c| c.nbf = c.iat + 30), "within the leeway");
        assert!(!valid(|c| c.exp = c.iat - 90));
        assert!(!valid(|c| c.nbf = c.iat + 90));
        assert!(!valid(|c| c.aud = "elsewhere".into()));
        assert!(!valid(|c| c.iss = "elsewhere".into()));
    }

    #[test]
    fn other_keys_algorithms_and_key_ids_are_refused() {
        let (ours, theirs) = (tokens(1), tokens(2));
        let token = ours.sign(&claims()).unwrap();
        assert!(theirs.verify(&token).is_none());
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims()).unwrap());
        let header = |json: String| URL_SAFE_NO_PAD.encode(json);
        let kid = &ours.kid;
        for alg in ["none", "None", "HS256", "RS256"] {
            let head = header(format!(r#"{{"alg":"{alg}","typ":"JWT","kid":"{kid}"}}"#));
            for signature in ["", "AAAA"] {
                let forged = format!("{head}.{body}.{signature}");
                assert!(ours.verify(&forged).is_none(), "{alg}");
            }
        }
        // HS256 keyed with the public key, which everyone knows.
        let head = header(format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &ours.public);
        let mac = ring::hmac::sign(&key, format!("{head}.{body}").as_bytes());
        let mac = URL_SAFE_NO_PAD.encode(mac.as_ref());
        assert!(ours.verify(&format!("{head}.{body}.{mac}")).is_none());
        // Rightly signed, without a key id.
        let bare = Header::new(Algorithm::EdDSA);
        let token = jsonwebtoken::encode(&bare, &claims(), &ours.signing).unwrap();
        assert!(ours.verify(&token).is_none());
        // One changed character of the body.
        let token = ours.sign(&claims()).unwrap();
        let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
        parts[1] = URL_SAFE_NO_PAD.encode(
            serde_json::to_vec(&Claims {
                sub: "0xabd".into(),
                ..claims()
            })
            .unwrap(),
        );
        assert!(ours.verify(&parts.join(".")).is_none());
    }

    #[test]
    fn minting_has_limits() {
        let tokens = tokens(1);
        let mint = |subject: &str, custom: BTreeMap<String, String>, secs| {
            let result = tokens.mint(&ns(), subject, custom, Duration::from_secs(secs));
            result.map_err(|e| e.message)
        };
        let none = BTreeMap::new;
        let says = |result: Result<_, String>, text: &str| {
            let message = result.map(|_: Zeroizing<String>| ()).unwrap_err();
            assert!(message.contains(text), "{message}");
        };
        says(mint("", none(), 60), "subject");
        says(mint(&"x".repeat(257), none(), 60), "256");
        says(mint("ak_x", none(), 60), "API key");
        says(mint("a:b", none(), 60), "API key");
        says(mint("a", none(), 0), "expires_in");
        says(mint("a", none(), 24 * 60 * 60 + 1), "86400");
        let many = (0..17).map(|i| (i.to_string(), String::new())).collect();
        says(mint("a", many, 60), "limit is 16");
        let big = BTreeMap::from([("k".to_owned(), "v".repeat(4096))]);
        says(mint("a", big, 60), "4097");
        let fits = BTreeMap::from([("k".to_owned(), "v".repeat(4095))]);
        assert!(mint(&"é".repeat(256), fits, 24 * 60 * 60).is_ok());
    }
}

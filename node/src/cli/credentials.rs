//! API keys and operator's tokens: `credentials.json` (CONTRACT 7.3), mode
//! 0600. A credential belongs to the URL it was stored for and is never sent
//! to another.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::environments::{base_url, key_of};
use super::error::CliError;
use super::files::Home;

const FILE: &str = "credentials.json";
const VERSION: &str = "2.0";

/// Whether a stored key is the one used when no namespace is named.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// From now on.
    Yes,
    /// Only when it is the first.
    No,
}

/// A key of one namespace. No Debug: it is a secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credential {
    #[serde(default)]
    api_key: String,
    /// The tenant.
    #[serde(default)]
    pub namespace: String,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl Credential {
    /// The key.
    pub fn api_key(&self) -> &str {
        &self.api_key
    }
}

/// What is kept for one gateway.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Gateway {
    #[serde(default)]
    credentials: Vec<Credential>,
    #[serde(default)]
    default_index: usize,
    #[serde(default)]
    last_used_index: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admin_token: Option<String>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// The file.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Credentials {
    #[serde(default)]
    version: String,
    #[serde(default)]
    gateways: BTreeMap<String, Gateway>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl Credentials {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is unreadable.
    pub fn load(home: &Home) -> Result<Self, CliError> {
        let mut all: Self = home.read(FILE)?;
        // One spelling per gateway, also for what other programs wrote.
        all.gateways = std::mem::take(&mut all.gateways)
            .into_iter()
            .map(|(url, gateway)| match base_url(&url) {
                Ok(parsed) => (key_of(&parsed), gateway),
                Err(_) => (url, gateway),
            })
            .collect();
        VERSION.clone_into(&mut all.version);
        Ok(all)
    }

    /// Changes the file under its lock.
    ///
    /// # Errors
    /// What `change` answers, or when the file cannot be written.
    pub fn update<T>(
        home: &Home,
        change: impl FnOnce(&mut Self) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        let lock = home.lock()?;
        let mut all = Self::load(home)?;
        let answer = change(&mut all)?;
        home.write(&lock, FILE, &all)?;
        Ok(answer)
    }

    /// The key for this gateway: of the namespace, or the default one.
    pub fn key(&self, url: &str, namespace: Option<&str>) -> Option<&Credential> {
        let gateway = self.gateways.get(url)?;
        match namespace {
            Some(name) => gateway.credentials.iter().find(|c| c.namespace == name),
            None => gateway
                .credentials
                .get(gateway.default_index)
                .or_else(|| gateway.credentials.first()),
        }
        .filter(|c| !c.api_key.is_empty())
    }

    /// The operator's token of this gateway.
    pub fn admin_token(&self, url: &str) -> Option<&str> {
        self.gateways.get(url)?.admin_token.as_deref()
    }

    /// Stores a key, in place of an earlier one of the same namespace.
    pub fn set_key(&mut self, url: &str, namespace: &str, api_key: &str, default: Default) {
        let gateway = self.gateways.entry(url.to_owned()).or_default();
        let known = gateway
            .credentials
            .iter()
            .position(|c| c.namespace == namespace);
        let index = known.unwrap_or_else(|| {
            gateway.credentials.push(Credential {
                api_key: String::new(),
                namespace: namespace.to_owned(),
                other: Map::new(),
            });
            gateway.credentials.len() - 1
        });
        if let Some(credential) = gateway.credentials.get_mut(index) {
            api_key.clone_into(&mut credential.api_key);
        }
        if default == Default::Yes {
            gateway.default_index = index;
            gateway.last_used_index = index;
        }
    }

    /// Stores the operator's token.
    pub fn set_admin_token(&mut self, url: &str, token: &str) {
        self.gateways.entry(url.to_owned()).or_default().admin_token = Some(token.to_owned());
    }

    /// Forgets one namespace's key, or everything of the gateway. Answers how
    /// many credentials that were.
    pub fn forget(&mut self, url: &str, namespace: Option<&str>) -> usize {
        let Some(name) = namespace else {
            return self.gateways.remove(url).map_or(0, |gateway| {
                gateway.credentials.len() + usize::from(gateway.admin_token.is_some())
            });
        };
        let Some(gateway) = self.gateways.get_mut(url) else {
            return 0;
        };
        let before = gateway.credentials.len();
        let default = gateway
            .credentials
            .get(gateway.default_index)
            .map(|c| c.namespace.clone());
        gateway.credentials.retain(|c| c.namespace != name);
        // The default stays the default although its place has changed.
        gateway.default_index = gateway
            .credentials
            .iter()
            .position(|c| Some(&c.namespace) == default.as_ref())
            .unwrap_or(0);
        gateway.last_used_index = gateway.default_index;
        before - gateway.credentials.len()
    }
}

/// The namespace a credential says it belongs to: `ak_…:NAMESPACE`, or the
/// claim of a token. Unverified; only for telling the user about a mistake.
pub fn namespace_of(credential: &str) -> Option<String> {
    let parts: Vec<&str> = credential.split('.').collect();
    if let [_, claims, _] = parts.as_slice() {
        let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        return Some(claims.get("namespace")?.as_str()?.to_owned());
    }
    let (key, namespace) = credential.rsplit_once(':')?;
    (key.starts_with("ak_") && !namespace.is_empty()).then(|| namespace.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "http://a.test";

    #[test]
    fn a_key_is_bound_to_its_url_and_namespace() {
        let mut all = Credentials::default();
        all.set_key(A, "one", "k1", Default::No);
        all.set_key(A, "two", "k2", Default::No);
        let key = |all: &Credentials, url, ns| all.key(url, ns).map(|c| c.api_key.clone());
        assert_eq!(key(&all, A, None).as_deref(), Some("k1"));
        assert_eq!(key(&all, A, Some("two")).as_deref(), Some("k2"));
        assert_eq!(key(&all, A, Some("three")), None);
        for other in [
            "http://b.test",
            "https://a.test",
            "http://a.test:81",
            "http://a.test.evil",
        ] {
            assert_eq!(key(&all, other, None), None, "{other}");
        }
        all.set_key(A, "two", "k2b", Default::Yes);
        assert_eq!(key(&all, A, None).as_deref(), Some("k2b"));
        assert_eq!(all.forget(A, Some("one")), 1);
        assert_eq!(key(&all, A, None).as_deref(), Some("k2b"));
        all.set_admin_token(A, "t");
        assert_eq!(all.forget(A, None), 2);
        assert_eq!(all.forget(A, None), 0);
    }

    #[test]
    fn the_file_reads_back_with_what_others_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        std::fs::write(
            dir.path().join(FILE),
            r#"{"version":"2.0","gateways":{"http://A.test/":{"credentials":[{"api_key":"k","namespace":"n","wallet":"0x1"}],"default_index":7}}}"#,
        )
        .unwrap();
        Credentials::update(&home, |all| {
            assert_eq!(all.key(A, None).unwrap().api_key, "k");
            all.set_key(A, "n", "k2", Default::Yes);
            Ok(())
        })
        .unwrap();
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(text.contains("0x1") && text.contains("k2"));
    }

    #[test]
    fn the_namespace_of_a_credential_is_told() {
        assert_eq!(namespace_of("ak_abc:team-a").as_deref(), Some("team-a"));
        let claims = URL_SAFE_NO_PAD.encode(r#"{"namespace":"n"}"#);
        assert_eq!(namespace_of(&format!("h.{claims}.s")).as_deref(), Some("n"));
        for other in ["", "abc", "a:b", "a.b.c", "ak_abc:"] {
            assert_eq!(namespace_of(other), None, "{other}");
        }
    }
}

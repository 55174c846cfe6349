//! Which gateway a command talks to, and with which credential. The one place
//! that decides either (CONTRACT 7.3, 10 item 75).
//!
//! URL: `--api-url`, `--env`, ORAMA_API_URL or ORAMA_GATEWAY_URL, the active
//! environment. Credential: ORAMA_TOKEN, else what is stored for that URL.

use reqwest::Url;
use zeroize::Zeroizing;

use super::args::GlobalArgs;
use super::credentials::{Credentials, namespace_of};
use super::environments::{Environments, base_url, key_of, unknown};
use super::error::CliError;
use super::files::Home;

/// A credential in memory.
pub type Token = Zeroizing<String>;

/// What the process environment says.
#[derive(Default)]
pub struct Variables {
    /// ORAMA_API_URL.
    pub api_url: Option<String>,
    /// ORAMA_GATEWAY_URL.
    pub gateway_url: Option<String>,
    /// ORAMA_TOKEN or the content of ORAMA_TOKEN_FILE.
    pub token: Option<Token>,
    /// ORAMA_ADMIN_TOKEN or the content of ORAMA_ADMIN_TOKEN_FILE.
    pub admin_token: Option<Token>,
}

impl Variables {
    /// Reads them.
    ///
    /// # Errors
    /// When a `…_FILE` cannot be read.
    pub fn from_env() -> Result<Self, CliError> {
        Ok(Self {
            api_url: variable("ORAMA_API_URL"),
            gateway_url: variable("ORAMA_GATEWAY_URL"),
            token: secret("ORAMA_TOKEN", "ORAMA_TOKEN_FILE")?,
            admin_token: secret("ORAMA_ADMIN_TOKEN", "ORAMA_ADMIN_TOKEN_FILE")?,
        })
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.trim().is_empty())
}

fn secret(name: &str, file: &str) -> Result<Option<Token>, CliError> {
    if let Some(value) = variable(name) {
        return Ok(Some(Zeroizing::new(value.trim().to_owned())));
    }
    let Some(path) = variable(file) else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(&path).map_err(CliError::file("cannot read", path))?;
    let text = Zeroizing::new(text);
    Ok(Some(Zeroizing::new(text.trim().to_owned())))
}

/// A gateway and what may be sent to it.
pub struct Target {
    /// Its URL.
    pub url: Url,
    /// Where the URL comes from, for people.
    pub source: String,
    /// Name of the environment, when it comes from one.
    pub environment: Option<String>,
    namespace: Option<String>,
    token: Option<Token>,
    admin_token: Option<Token>,
    stored_namespace: Option<String>,
}

impl Target {
    /// Decides.
    ///
    /// # Errors
    /// Two URLs that disagree, an unknown environment, unreadable files.
    pub fn resolve(home: &Home, vars: &Variables, global: &GlobalArgs) -> Result<Self, CliError> {
        let environments = Environments::load(home)?;
        let (url, source, environment) = choose_url(&environments, vars, global)?;
        let key = key_of(&url);
        let stored = Credentials::load(home)?;
        let namespace = global.namespace.clone();
        let credential = stored.key(&key, namespace.as_deref());
        let token = match &vars.token {
            Some(token) => {
                if let (Some(wanted), Some(says)) = (&namespace, namespace_of(token))
                    && *wanted != says
                {
                    return Err(CliError::Usage(format!(
                        "--namespace is {wanted:?} and ORAMA_TOKEN belongs to {says:?}"
                    )));
                }
                Some(token.clone())
            }
            None => credential.map(|c| Zeroizing::new(c.api_key().to_owned())),
        };
        Ok(Self {
            source,
            environment,
            stored_namespace: match &vars.token {
                Some(token) => namespace_of(token),
                None => credential.map(|c| c.namespace.clone()),
            },
            admin_token: vars.admin_token.clone().or_else(|| {
                stored
                    .admin_token(&key)
                    .map(|t| Zeroizing::new(t.to_owned()))
            }),
            namespace,
            token,
            url,
        })
    }

    /// The spelling of the URL under which credentials are kept.
    pub fn key(&self) -> String {
        key_of(&self.url)
    }

    /// The namespace given with `--namespace`.
    pub fn named_namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The namespace of the command: named, or the credential's.
    ///
    /// # Errors
    /// When neither is known.
    pub fn namespace(&self) -> Result<&str, CliError> {
        self.namespace
            .as_deref()
            .or(self.stored_namespace.as_deref())
            .ok_or_else(|| CliError::Usage("which namespace? add --namespace NAME".into()))
    }

    /// A credential if there is one; a public function can be called without.
    pub fn credential(&self) -> Option<Token> {
        self.token.clone()
    }

    /// The credential of a namespace.
    ///
    /// # Errors
    /// When there is none.
    pub fn require_credential(&self) -> Result<Token, CliError> {
        self.token.clone().ok_or_else(|| {
            CliError::Auth(match &self.namespace {
                Some(name) => format!(
                    "no credential for namespace {name:?} is stored for {}",
                    self.key()
                ),
                None => format!("no credential is stored for {}", self.key()),
            })
        })
    }

    /// The operator's token.
    ///
    /// # Errors
    /// When there is none.
    pub fn require_admin(&self) -> Result<Token, CliError> {
        self.admin_token
            .clone()
            .ok_or_else(|| CliError::Operator(self.key()))
    }
}

fn choose_url(
    environments: &Environments,
    vars: &Variables,
    global: &GlobalArgs,
) -> Result<(Url, String, Option<String>), CliError> {
    if let Some(url) = &global.api_url {
        return Ok((base_url(url)?, "--api-url".into(), None));
    }
    if let Some(name) = &global.environment {
        let Some(found) = environments.find(name) else {
            return Err(unknown(name, environments));
        };
        let url = base_url(&found.gateway_url)?;
        return Ok((url, "--env".into(), Some(name.clone())));
    }
    match (&vars.api_url, &vars.gateway_url) {
        (Some(a), Some(b)) => {
            let (a, b) = (base_url(a)?, base_url(b)?);
            if key_of(&a) != key_of(&b) {
                return Err(CliError::Usage(format!(
                    "ORAMA_API_URL ({}) and ORAMA_GATEWAY_URL ({}) disagree; set one of them",
                    key_of(&a),
                    key_of(&b)
                )));
            }
            Ok((a, "ORAMA_API_URL".into(), None))
        }
        (Some(url), None) => Ok((base_url(url)?, "ORAMA_API_URL".into(), None)),
        (None, Some(url)) => Ok((base_url(url)?, "ORAMA_GATEWAY_URL".into(), None)),
        (None, None) => {
            let active = environments
                .active()
                .ok_or_else(|| CliError::Failed("there is no active environment".into()))?;
            let url = base_url(&active.gateway_url)?;
            Ok((url, "active environment".into(), Some(active.name.clone())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::credentials::Default as DefaultKey;
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        Environments::update(&home, |all| {
            all.add("prod", "https://prod.test", "").map(drop)
        })
        .unwrap();
        Credentials::update(&home, |all| {
            all.set_key("https://prod.test", "team", "prodkey", DefaultKey::Yes);
            all.set_key(
                "http://localhost:6001",
                "default",
                "localkey",
                DefaultKey::Yes,
            );
            Ok(())
        })
        .unwrap();
        (dir, home)
    }

    #[test]
    fn a_stored_key_follows_its_url_only() {
        let (_dir, home) = home();
        let vars = Variables::default();
        let with = |global: &GlobalArgs| {
            let target = Target::resolve(&home, &vars, global).unwrap();
            target.credential().map(|t| t.to_string())
        };
        assert_eq!(with(&GlobalArgs::default()).as_deref(), Some("localkey"));
        let prod = GlobalArgs {
            environment: Some("prod".into()),
            ..GlobalArgs::default()
        };
        assert_eq!(with(&prod).as_deref(), Some("prodkey"));
        let other = GlobalArgs {
            api_url: Some("https://prod.test.evil".into()),
            ..GlobalArgs::default()
        };
        assert_eq!(with(&other), None);
        let other_namespace = GlobalArgs {
            namespace: Some("else".into()),
            ..prod
        };
        assert_eq!(with(&other_namespace), None);
    }

    #[test]
    fn the_two_urls_must_agree() {
        let (_dir, home) = home();
        let vars = |a: &str, b: &str| Variables {
            api_url: Some(a.into()),
            gateway_url: Some(b.into()),
            ..Variables::default()
        };
        let global = GlobalArgs::default();
        let same = vars("http://x.test/", "http://X.test:80");
        assert!(Target::resolve(&home, &same, &global).is_ok());
        let differ = vars("http://x.test", "http://y.test");
        let e = Target::resolve(&home, &differ, &global).err().unwrap();
        assert!(matches!(e, CliError::Usage(_)), "{e}");
        // A flag settles it.
        let flag = GlobalArgs {
            environment: Some("prod".into()),
            ..global
        };
        assert!(Target::resolve(&home, &differ, &flag).is_ok());
    }

    #[test]
    fn a_token_of_another_namespace_is_refused() {
        let (_dir, home) = home();
        let vars = Variables {
            token: Some(Zeroizing::new("ak_x:team".into())),
            ..Variables::default()
        };
        let global = |name: &str| GlobalArgs {
            namespace: Some(name.into()),
            ..GlobalArgs::default()
        };
        assert!(Target::resolve(&home, &vars, &global("team")).is_ok());
        assert!(Target::resolve(&home, &vars, &global("other")).is_err());
    }
}

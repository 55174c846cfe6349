//! Named gateways: `environments.json` (CONTRACT 7.3).

use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::credentials::{self, Credentials};
use super::error::CliError;
use super::files::Home;

const FILE: &str = "environments.json";
/// The environment that always exists.
pub const LOCAL: &str = "local";
/// Where `local` is unless `orama dev` said otherwise.
const LOCAL_URL: &str = "http://localhost:6001";

/// A named gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Environment {
    /// Its name.
    pub name: String,
    /// Its URL.
    pub gateway_url: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Whether commands use it.
    #[serde(default)]
    pub is_active: bool,
    /// What other programs keep here.
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// All of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Environments {
    /// In the order they were added.
    #[serde(default)]
    environments: Vec<Environment>,
    /// Name of the active one.
    #[serde(default)]
    active_environment: String,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl Environments {
    /// Reads the file; there is always a `local`, and always an active one.
    ///
    /// # Errors
    /// When the file is unreadable.
    pub fn load(home: &Home) -> Result<Self, CliError> {
        let mut all: Self = home.read(FILE)?;
        all.settle();
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
        all.settle();
        home.write(&lock, FILE, &all)?;
        Ok(answer)
    }

    fn settle(&mut self) {
        if self.find(LOCAL).is_none() {
            self.environments
                .insert(0, entry(LOCAL, LOCAL_URL, "a node on this machine"));
        }
        if self.find(&self.active_environment).is_none() {
            self.active_environment = LOCAL.to_owned();
        }
        for one in &mut self.environments {
            one.is_active = one.name == self.active_environment;
        }
    }

    /// All environments.
    pub fn all(&self) -> &[Environment] {
        &self.environments
    }

    /// The one of this name.
    pub fn find(&self, name: &str) -> Option<&Environment> {
        self.environments.iter().find(|e| e.name == name)
    }

    /// The one commands use.
    pub fn active(&self) -> Option<&Environment> {
        self.find(&self.active_environment)
    }

    /// Adds an environment, or gives it another URL. Answers whether it is new.
    ///
    /// # Errors
    /// For a name or URL that is not one.
    pub fn add(&mut self, name: &str, url: &str, description: &str) -> Result<bool, CliError> {
        check_name(name)?;
        let url = base_url(url)?;
        match self.environments.iter_mut().find(|e| e.name == name) {
            Some(known) => {
                known.gateway_url = key_of(&url);
                if !description.is_empty() {
                    known.description = description.to_owned();
                }
                Ok(false)
            }
            None => {
                self.environments
                    .push(entry(name, &key_of(&url), description));
                Ok(true)
            }
        }
    }

    /// Makes this one the active one.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn activate(&mut self, name: &str) -> Result<(), CliError> {
        if self.find(name).is_none() {
            return Err(unknown(name, self));
        }
        self.active_environment = name.to_owned();
        Ok(())
    }

    /// Removes one. `local` goes back to its default.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn remove(&mut self, name: &str) -> Result<(), CliError> {
        if self.find(name).is_none() {
            return Err(unknown(name, self));
        }
        self.environments.retain(|e| e.name != name);
        Ok(())
    }
}

/// The error for an environment that does not exist.
pub fn unknown(name: &str, all: &Environments) -> CliError {
    let names: Vec<&str> = all.all().iter().map(|e| e.name.as_str()).collect();
    CliError::NotFound(format!(
        "there is no environment {name:?}; there are: {}",
        names.join(", ")
    ))
}

fn entry(name: &str, url: &str, description: &str) -> Environment {
    Environment {
        name: name.to_owned(),
        gateway_url: url.to_owned(),
        description: description.to_owned(),
        is_active: false,
        other: Map::new(),
    }
}

fn check_name(name: &str) -> Result<(), CliError> {
    let fits = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if fits {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "environment name {name:?} is not valid: it must be 1 to 64 letters, digits, '-', '_' or '.'"
    )))
}

/// Reads the URL of a gateway: http or https, a host, perhaps a port and a
/// path before `/v1`; nothing that could carry a credential elsewhere.
///
/// # Errors
/// [`CliError::Usage`] naming what is wrong.
pub fn base_url(text: &str) -> Result<Url, CliError> {
    let wrong = |why: &str| CliError::Usage(format!("{text:?} is not the URL of a gateway: {why}"));
    let url = Url::parse(text.trim()).map_err(|e| wrong(&e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("it must start with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Not repeated: it may be a password.
        return Err(CliError::Usage(
            "a gateway's URL must not carry a user or password".into(),
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it must not have a query or fragment"));
    }
    Ok(url)
}

/// The one spelling of a gateway's URL under which credentials are kept:
/// scheme and host in lower case, no default port, no slash at the end.
pub fn key_of(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// Makes the node at `url` the active environment `local`, with the API key of
/// `namespace` and the operator's token. `orama dev` calls this once it serves.
///
/// # Errors
/// When `~/.orama` (or ORAMA_HOME) cannot be written.
pub fn activate_local(
    url: &str,
    namespace: &str,
    api_key: &str,
    admin_token: &str,
) -> anyhow::Result<()> {
    activate_local_in(&Home::from_env()?, url, namespace, api_key, admin_token)?;
    Ok(())
}

fn activate_local_in(
    home: &Home,
    url: &str,
    namespace: &str,
    api_key: &str,
    admin_token: &str,
) -> Result<(), CliError> {
    let key = key_of(&base_url(url)?);
    // Credentials first: an environment is never active without its key.
    Credentials::update(home, |all| {
        all.set_key(&key, namespace, api_key, credentials::Default::Yes);
        all.set_admin_token(&key, admin_token);
        Ok(())
    })?;
    Environments::update(home, |all| {
        all.add(LOCAL, &key, "a node on this machine")?;
        all.activate(LOCAL)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_a_local_and_an_active_one() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let all = Environments::load(&home).unwrap();
        assert_eq!(all.active().unwrap().gateway_url, LOCAL_URL);
        Environments::update(&home, |all| {
            assert!(all.add("prod", "HTTPS://Example.COM:443/", "")?);
            all.activate("prod")
        })
        .unwrap();
        let all = Environments::load(&home).unwrap();
        assert_eq!(all.active().unwrap().gateway_url, "https://example.com");
        assert_eq!(all.all().iter().filter(|e| e.is_active).count(), 1);
        Environments::update(&home, |all| all.remove("prod")).unwrap();
        assert_eq!(
            Environments::load(&home).unwrap().active().unwrap().name,
            LOCAL
        );
        let e = Environments::update(&home, |all| all.activate("nope")).unwrap_err();
        assert!(e.to_string().contains("local"), "{e}");
    }

    #[test]
    fn fields_of_others_survive_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        std::fs::write(
            dir.path().join(FILE),
            r#"{"environments":[{"name":"devnet","gateway_url":"https://x.test","extra":1}],"active_environment":"devnet","theirs":[2]}"#,
        )
        .unwrap();
        Environments::update(&home, |all| all.add("b", "http://b", "").map(drop)).unwrap();
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(text.contains("\"extra\": 1") && text.contains("\"theirs\""));
        let all = Environments::load(&home).unwrap();
        assert_eq!(all.active().unwrap().name, "devnet");
    }

    #[test]
    fn only_urls_of_gateways_are_taken() {
        for bad in [
            "",
            "localhost:6001",
            "ftp://x",
            "http://u:p@x",
            "http://x/?a=b",
            "http://x/#f",
            "http://",
        ] {
            let e = base_url(bad).unwrap_err();
            assert!(!e.to_string().contains("u:p"), "{e}");
        }
        assert_eq!(
            key_of(&base_url("http://h:80/api/").unwrap()),
            "http://h/api"
        );
    }

    #[test]
    fn a_development_node_becomes_local() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        activate_local_in(
            &home,
            "http://127.0.0.1:7001",
            "default",
            "ak_1:default",
            "adm",
        )
        .unwrap();
        // A second start replaces the key.
        activate_local_in(
            &home,
            "http://127.0.0.1:7001/",
            "default",
            "ak_2:default",
            "adm2",
        )
        .unwrap();
        let active = Environments::load(&home)
            .unwrap()
            .active()
            .cloned()
            .unwrap();
        assert_eq!(
            (active.name.as_str(), active.gateway_url.as_str()),
            (LOCAL, "http://127.0.0.1:7001")
        );
        let credentials = Credentials::load(&home).unwrap();
        let url = "http://127.0.0.1:7001";
        assert_eq!(
            credentials.key(url, None).unwrap().api_key(),
            "ak_2:default"
        );
        assert_eq!(credentials.admin_token(url), Some("adm2"));
        assert!(
            credentials.key("http://127.0.0.1:7002", None).is_none(),
            "bound to its URL"
        );
    }
}

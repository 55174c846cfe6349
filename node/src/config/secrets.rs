//! The secrets a node needs, from the environment or from files.

use std::fmt;
use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use super::ConfigError;
use super::layers::Layers;

/// Name of the master key's variable.
pub const MASTER_KEY: &str = "ORAMA_MASTER_KEY";
/// Name of the administrative token's variable.
pub const ADMIN_TOKEN: &str = "ORAMA_ADMIN_TOKEN";
/// Name of the cluster secret's variable.
pub const CLUSTER_SECRET: &str = "ORAMA_CLUSTER_SECRET";

/// Largest file that may hold a secret, bytes.
const FILE_MAX_BYTES: u64 = 64 * 1024;
/// Shortest administrative token, characters.
const ADMIN_TOKEN_MIN: usize = 16;

/// A secret's text: wiped when dropped, never shown.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }
    /// The text.
    pub fn expose(&self) -> &Zeroizing<String> {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Reads a secret's file, without the line end that editors add.
///
/// # Errors
/// When it cannot be read, is too large, not text or empty.
pub fn read_secret_file(file: &Path) -> Result<Secret, String> {
    let open = std::fs::File::open(file).map_err(|e| e.to_string())?;
    // Allocated once: a string that grows would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(FILE_MAX_BYTES as usize + 1));
    open.take(FILE_MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())?;
    if text.len() as u64 > FILE_MAX_BYTES {
        return Err(format!("it is longer than {FILE_MAX_BYTES} bytes"));
    }
    let trimmed = Zeroizing::new(text.trim().to_owned());
    if trimmed.is_empty() {
        return Err("it is empty".into());
    }
    Ok(Secret::new(trimmed))
}

/// Checks that a token is long enough and fits an HTTP header.
///
/// # Errors
/// The rule; never the token.
pub fn check_admin_token(token: &Secret) -> Result<(), &'static str> {
    let text = token.expose();
    if text.len() < ADMIN_TOKEN_MIN || text.len() > 4096 {
        return Err("it must have 16 to 4096 characters");
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("it must hold only visible ASCII characters, no spaces");
    }
    Ok(())
}

/// Finds a secret: the variable, or the file that flag, variable or
/// configuration file name.
pub(super) fn find(
    layers: &Layers<'_>,
    environment: super::Environment<'_>,
    variable: &'static str,
    file_setting: &str,
) -> Result<Option<Secret>, ConfigError> {
    let direct = environment(variable)
        .map(Zeroizing::new)
        .map(|text| Zeroizing::new(text.trim().to_owned()))
        .filter(|text| !text.is_empty());
    let file = layers.find(file_setting);
    match (direct, file) {
        (Some(_), Some(_)) => Err(ConfigError::SecretTwice { variable }),
        (Some(text), None) => Ok(Some(Secret::new(text))),
        (None, None) => Ok(None),
        (None, Some(found)) => {
            read_secret_file(Path::new(&found.text))
                .map(Some)
                .map_err(|problem| ConfigError::SecretFile {
                    origin: found.origin,
                    file: found.text,
                    problem,
                })
        }
    }
}

//! Where a setting's value comes from: flag, environment, file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use orama_proto::manifest::nearest;
use serde_json::Value;

use super::ConfigError;
use super::args::{LISTS, SETTINGS, SettingArgs};

/// Largest configuration file, bytes.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Looks a variable of the environment up; a closure so that tests need not
/// change the process.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A value and where it came from, for error messages.
pub(super) struct Found {
    /// As written.
    pub(super) text: String,
    /// `--flag`, `VARIABLE` or `key in FILE`.
    pub(super) origin: String,
}

impl Found {
    /// The error for a value that breaks its rule.
    pub(super) fn wrong(&self, rule: &str) -> ConfigError {
        let shown: String = self.text.chars().take(80).collect();
        ConfigError::Value {
            origin: self.origin.clone(),
            problem: format!("{rule} (got {shown:?})"),
        }
    }
}

/// The three layers, highest first.
pub(super) struct Layers<'a> {
    flags: &'a SettingArgs,
    environment: Environment<'a>,
    file: BTreeMap<String, String>,
    file_name: String,
}

impl<'a> Layers<'a> {
    /// Reads the file, when there is one.
    ///
    /// # Errors
    /// When the file cannot be read, is no mapping, or holds an unknown key.
    pub(super) fn new(
        flags: &'a SettingArgs,
        environment: Environment<'a>,
    ) -> Result<Self, ConfigError> {
        let path = flags
            .config
            .clone()
            .or_else(|| environment("ORAMA_CONFIG").map(PathBuf::from))
            .filter(|path| !path.as_os_str().is_empty());
        let file_name = path
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        let file = match &path {
            None => BTreeMap::new(),
            Some(path) => {
                let problem = |problem: String| ConfigError::File {
                    file: file_name.clone(),
                    problem,
                };
                let size = std::fs::metadata(path)
                    .map_err(|e| problem(e.to_string()))?
                    .len();
                if size > FILE_MAX_BYTES {
                    return Err(problem(format!(
                        "it has {size} bytes, the limit is {FILE_MAX_BYTES}"
                    )));
                }
                let text = std::fs::read_to_string(path).map_err(|e| problem(e.to_string()))?;
                parse(&text, &file_name)?
            }
        };
        Ok(Self {
            flags,
            environment,
            file,
            file_name,
        })
    }

    /// The highest layer's value. An empty variable counts as unset, because
    /// charts and compose files leave them so.
    pub(super) fn find(&self, name: &str) -> Option<Found> {
        if let Some(text) = self.flags.flag(name) {
            return Some(Found {
                text,
                origin: format!("--{}", name.replace('_', "-")),
            });
        }
        let variable = variable(name);
        if let Some(text) = (self.environment)(&variable).filter(|text| !text.is_empty()) {
            return Some(Found {
                text,
                origin: variable,
            });
        }
        self.file.get(name).map(|text| Found {
            text: text.clone(),
            origin: format!("{name} in {}", self.file_name),
        })
    }
}

/// The environment's name for a setting.
pub(super) fn variable(name: &str) -> String {
    format!("ORAMA_{}", name.to_uppercase())
}

fn parse(text: &str, file: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let problem = |problem: String| ConfigError::File {
        file: file.to_owned(),
        problem,
    };
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok(BTreeMap::new());
    }
    let map: BTreeMap<String, Value> =
        serde_saphyr::from_str(text).map_err(|e| problem(e.to_string()))?;
    let mut settings = BTreeMap::new();
    for (key, value) in map {
        if !SETTINGS.contains(&key.as_str()) {
            let hint = ["master_key", "admin_token", "cluster_secret"].contains(&key.as_str());
            if hint {
                return Err(problem(format!(
                    "'{key}' may not be written here; use {key}_file or the environment"
                )));
            }
            return Err(ConfigError::UnknownKey {
                file: file.to_owned(),
                suggestion: nearest(&key, SETTINGS).map(str::to_owned),
                key: key.chars().take(80).collect(),
            });
        }
        let text = match value {
            Value::Null => continue,
            Value::Array(items) if LISTS.contains(&key.as_str()) => items
                .into_iter()
                .map(scalar)
                .collect::<Option<Vec<_>>>()
                .map(|texts| texts.join(",")),
            value => scalar(value),
        };
        match text {
            Some(text) => settings.insert(key, text),
            None => return Err(problem(format!("'{key}' must be a single value"))),
        };
    }
    Ok(settings)
}

/// A single value's text.
fn scalar(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

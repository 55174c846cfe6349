//! `function.yaml`: read strictly, refused by name (CONTRACT 7.1, 14.4).
//!
//! A key that is not known is an error with a suggestion, because a typo that
//! is ignored shows itself only in production.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::function::FunctionSpec;
use crate::{FunctionName, limits};

/// The file's name.
pub const FILE_NAME: &str = "function.yaml";

/// A `function.yaml` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not YAML, or not a mapping.
    #[error("failed to parse function.yaml: {0}")]
    Syntax(String),
    /// A key that does not exist.
    #[error("function.yaml: unknown key '{key}'{}", suggestion.as_ref().map(|s| format!(", did you mean '{s}'?")).unwrap_or_default())]
    UnknownKey {
        /// As written, with its parent.
        key: String,
        /// The nearest known key.
        suggestion: Option<String>,
    },
    /// A value of the wrong type or out of range.
    #[error("function.yaml: '{key}' {problem}")]
    Value {
        /// The key, with its parent.
        key: String,
        /// The rule and what was given.
        problem: String,
    },
    /// `name` is missing.
    #[error("function.yaml: 'name' is required")]
    NameMissing,
}

/// How `orama function build` makes the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildSettings {
    /// `go` or `tinygo`; empty picks.
    pub language: Option<String>,
    /// A shell command that leaves `function.wasm` behind.
    pub command: Option<String>,
}

/// A valid `function.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The function's name.
    pub name: FunctionName,
    /// What is deployed.
    pub spec: FunctionSpec,
    /// How it is built.
    pub build: BuildSettings,
}

const KEYS: &[&str] = &[
    "name", "public", "internal", "memory", "timeout", "retry", "env", "build",
];

impl Manifest {
    /// Reads and checks the file's text.
    ///
    /// # Errors
    /// [`ManifestError`] naming the first key that is wrong.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let map: BTreeMap<String, Value> = if text.trim().is_empty() {
            BTreeMap::new()
        } else {
            serde_saphyr::from_str(text).map_err(|e| ManifestError::Syntax(e.to_string()))?
        };
        known(map.keys(), KEYS, "")?;
        let name = match map.get("name") {
            None | Some(Value::Null) => return Err(ManifestError::NameMissing),
            Some(Value::String(text)) => FunctionName::parse(text)
                .map_err(|e| wrong("name", format!("{} is not valid: {}", e.given, e.rule)))?,
            Some(other) => return Err(wrong("name", format!("must be text (got {other})"))),
        };
        let mut spec = FunctionSpec::default();
        if let Some(value) = present(&map, "public") {
            spec.is_public = flag("public", value)?;
        }
        if let Some(value) = present(&map, "internal") {
            spec.is_internal = flag("internal", value)?;
        }
        if let Some(value) = present(&map, "memory") {
            spec.memory_limit_mb = number(
                "memory",
                value,
                limits::MEMORY_MIN_MB,
                limits::MEMORY_MAX_MB,
                "MB",
            )?;
        }
        if let Some(value) = present(&map, "timeout") {
            spec.timeout_seconds = number(
                "timeout",
                value,
                limits::TIMEOUT_MIN_SECS,
                limits::TIMEOUT_MAX_SECS,
                "seconds",
            )?;
        }
        if let Some(value) = present(&map, "retry") {
            let retry = mapping("retry", value)?;
            known(retry.keys(), &["count", "delay"], "retry.")?;
            if let Some(count) = retry.get("count").filter(|v| !v.is_null()) {
                spec.retry_count = number("retry.count", count, 0, limits::RETRY_MAX, "attempts")?;
            }
            if let Some(delay) = retry.get("delay").filter(|v| !v.is_null()) {
                // 0 means the default (CONTRACT 7.1).
                let given = number(
                    "retry.delay",
                    delay,
                    0,
                    limits::RETRY_DELAY_MAX_SECS,
                    "seconds",
                )?;
                if given > 0 {
                    spec.retry_delay_seconds = given;
                }
            }
        }
        if let Some(value) = present(&map, "env") {
            for (key, value) in mapping("env", value)? {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Number(n) => n.to_string(),
                    Value::Bool(b) => b.to_string(),
                    Value::Null => String::new(),
                    other => {
                        return Err(wrong(
                            &format!("env.{key}"),
                            format!("must be text (got {other})"),
                        ));
                    }
                };
                spec.env_vars.insert(key.clone(), text);
            }
        }
        let mut build = BuildSettings::default();
        if let Some(value) = present(&map, "build") {
            let settings = mapping("build", value)?;
            known(settings.keys(), &["language", "command"], "build.")?;
            build.language = optional_text(settings, "language")?;
            build.command = optional_text(settings, "command")?;
            if let Some(language) = &build.language
                && !["go", "tinygo"].contains(&language.as_str())
            {
                return Err(wrong(
                    "build.language",
                    format!(
                        "must be 'go' or 'tinygo' (got {language:?}); use build.command for any other"
                    ),
                ));
            }
        }
        spec.validate().map_err(|e| wrong("env", e.message))?;
        Ok(Self { name, spec, build })
    }
}

fn present<'a>(map: &'a BTreeMap<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|v| !v.is_null())
}

fn wrong(key: &str, problem: String) -> ManifestError {
    ManifestError::Value {
        key: key.to_owned(),
        problem,
    }
}

fn flag(key: &str, value: &Value) -> Result<bool, ManifestError> {
    value
        .as_bool()
        .ok_or_else(|| wrong(key, format!("must be true or false (got {value})")))
}

fn number(key: &str, value: &Value, low: u32, high: u32, unit: &str) -> Result<u32, ManifestError> {
    value
        .as_u64()
        .and_then(|n| u32::try_from(n).ok())
        .filter(|n| (low..=high).contains(n))
        .ok_or_else(|| {
            wrong(
                key,
                format!("must be between {low} and {high} {unit}, a plain number (got {value})"),
            )
        })
}

fn mapping<'a>(
    key: &str,
    value: &'a Value,
) -> Result<&'a serde_json::Map<String, Value>, ManifestError> {
    value
        .as_object()
        .ok_or_else(|| wrong(key, format!("must be a mapping (got {value})")))
}

fn optional_text(
    map: &serde_json::Map<String, Value>,
    key: &str,
) -> Result<Option<String>, ManifestError> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(wrong(
            &format!("build.{key}"),
            format!("must be text (got {other})"),
        )),
    }
}

fn known<'a>(
    keys: impl Iterator<Item = &'a String>,
    allowed: &[&str],
    parent: &str,
) -> Result<(), ManifestError> {
    for key in keys {
        if !allowed.contains(&key.as_str()) {
            return Err(ManifestError::UnknownKey {
                key: format!("{parent}{key}"),
                suggestion: nearest(key, allowed).map(|s| format!("{parent}{s}")),
            });
        }
    }
    Ok(())
}

/// The allowed word at the smallest edit distance, when it is near enough to be meant.
pub fn nearest<'a>(word: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let word: String = word.chars().take(64).flat_map(char::to_lowercase).collect();
    allowed
        .iter()
        .map(|candidate| (distance(&word, candidate), *candidate))
        .min()
        .filter(|(distance, candidate)| {
            *distance <= 2.max(candidate.len() / 3) || word.starts_with(candidate)
        })
        .map(|(_, candidate)| candidate)
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        Manifest::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_specification_example_reads() {
        let m = Manifest::parse(
            "name: my-function # Required.\npublic: false\nmemory: 64\ntimeout: 30\nretry:\n  count: 0\n  delay: 5\nenv:\n  MY_VAR: \"value\"\n",
        )
        .unwrap();
        assert_eq!(m.name.as_str(), "my-function");
        assert_eq!(m.spec.env_vars["MY_VAR"], "value");
        assert_eq!(
            FunctionSpec {
                env_vars: BTreeMap::new(),
                ..m.spec
            },
            FunctionSpec::default()
        );
    }

    #[test]
    fn wrong_values_name_the_key_and_the_limit() {
        for (yaml, expected) in [
            ("memory: 0", "'memory' must be between 1 and 256 MB"),
            ("memory: 257", "got 257"),
            ("memory: 64MB", "got \"64MB\""),
            (
                "timeout: 301",
                "'timeout' must be between 1 and 300 seconds",
            ),
            ("timeout: -1", "got -1"),
            ("retry:\n  count: 6", "'retry.count'"),
            ("retry: 3", "'retry' must be a mapping"),
            ("public: maybe", "'public' must be true or false"),
        ] {
            let text = problem(&format!("name: f\n{yaml}\n"));
            assert!(text.contains(expected), "{yaml}: {text}");
        }
        assert_eq!(problem(""), "function.yaml: 'name' is required");
        assert!(problem("name: a/b").contains("'name'"));
        assert!(problem("name: f\nmemory: [").contains("failed to parse"));
    }

    #[test]
    fn unknown_keys_get_a_suggestion() {
        assert_eq!(
            problem("name: f\nmemroy: 3"),
            "function.yaml: unknown key 'memroy', did you mean 'memory'?"
        );
        assert!(problem("name: f\nretry:\n  cuont: 1").contains("'retry.count'"));
        assert_eq!(
            problem("name: f\nxyzzyx: 1"),
            "function.yaml: unknown key 'xyzzyx'"
        );
    }
}

//! Settings of a node: flag, then environment, then `--config FILE`, then
//! default (CONTRACT 14). Everything is checked here, before anything starts,
//! and every error names the setting and where its value came from.

mod args;
mod cluster;
mod layers;
mod secrets;
mod settings;
#[cfg(test)]
mod tests;

pub use args::{DevArgs, NodeRunArgs};
pub use layers::Environment;
#[cfg(test)]
pub use secrets::check_admin_token;
pub use secrets::{ADMIN_TOKEN, CLUSTER_SECRET, MASTER_KEY, Secret, read_secret_file};
pub use settings::{Config, LogFormat, Mode};

/// A setting that cannot be used; the text is for whoever starts the node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value that breaks its rule.
    #[error("{origin}: {problem}")]
    Value {
        /// Flag, variable or key of the file.
        origin: String,
        /// The rule and what was given.
        problem: String,
    },
    /// The file cannot be read or is not a mapping of settings.
    #[error("config file {file}: {problem}")]
    File {
        /// The file.
        file: String,
        /// Why.
        problem: String,
    },
    /// The file holds a key that does not exist.
    #[error("config file {file}: unknown key '{key}'{}", suggestion.as_ref().map(|s| format!(", did you mean '{s}'?")).unwrap_or_default())]
    UnknownKey {
        /// The file.
        file: String,
        /// As written.
        key: String,
        /// The nearest known key.
        suggestion: Option<String>,
    },
    /// A secret that a node does not start without.
    #[error("{variable} is not set: give it, or {variable}_FILE; `{recipe}` makes one")]
    SecretMissing {
        /// The variable.
        variable: &'static str,
        /// A command that makes one.
        recipe: &'static str,
    },
    /// A setting that only a node with a cluster secret can follow.
    #[error(
        "{origin}: needs {CLUSTER_SECRET} (or {CLUSTER_SECRET}_FILE), the same on every node; `openssl rand -hex 32` makes one"
    )]
    NeedsClusterSecret {
        /// Flag, variable or key of the file.
        origin: String,
    },
    /// The same secret was given in two ways.
    #[error("{variable} and {variable}_FILE are both set: give one of them")]
    SecretTwice {
        /// The variable.
        variable: &'static str,
    },
    /// A secret's file cannot be read.
    #[error("{origin}: {file}: {problem}")]
    SecretFile {
        /// Which setting named it.
        origin: String,
        /// The file.
        file: String,
        /// Why.
        problem: String,
    },
}

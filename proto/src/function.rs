//! A function and its versions: what is stored, and what is shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::limits::{self, MIB};
use crate::{ContentId, FunctionName, Namespace, Timestamp};

/// The settings of one version; immutable once deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionSpec {
    /// Anyone may invoke it, without a credential.
    pub is_public: bool,
    /// Only the platform and other functions may invoke it.
    pub is_internal: bool,
    /// Linear memory limit, MiB.
    pub memory_limit_mb: u32,
    /// Limit of one attempt, seconds, from the guest's start.
    pub timeout_seconds: u32,
    /// Further attempts after a failed one.
    pub retry_count: u32,
    /// Seconds before the first retry; doubles from there.
    pub retry_delay_seconds: u32,
    /// What `get_env` answers.
    pub env_vars: BTreeMap<String, String>,
}

impl Default for FunctionSpec {
    fn default() -> Self {
        Self {
            is_public: false,
            is_internal: false,
            memory_limit_mb: limits::MEMORY_DEFAULT_MB,
            timeout_seconds: limits::TIMEOUT_DEFAULT_SECS,
            retry_count: 0,
            retry_delay_seconds: limits::RETRY_DELAY_DEFAULT_SECS,
            env_vars: BTreeMap::new(),
        }
    }
}

impl FunctionSpec {
    /// Checks every number and the environment against its limit.
    ///
    /// # Errors
    /// A `VALIDATION_FAILED` that names the field, the limit and what was given.
    pub fn validate(&self) -> Result<(), ApiError> {
        let range = |field: &str, unit: &str, given: u32, low: u32, high: u32| {
            if (low..=high).contains(&given) {
                Ok(())
            } else {
                Err(ApiError::validation(format!(
                    "{field} must be between {low} and {high}{unit} (got {given})"
                )))
            }
        };
        range(
            "memory_limit_mb",
            " MB",
            self.memory_limit_mb,
            limits::MEMORY_MIN_MB,
            limits::MEMORY_MAX_MB,
        )?;
        range(
            "timeout_seconds",
            " seconds",
            self.timeout_seconds,
            limits::TIMEOUT_MIN_SECS,
            limits::TIMEOUT_MAX_SECS,
        )?;
        range("retry_count", "", self.retry_count, 0, limits::RETRY_MAX)?;
        range(
            "retry_delay_seconds",
            " seconds",
            self.retry_delay_seconds,
            1,
            limits::RETRY_DELAY_MAX_SECS,
        )?;
        if self.env_vars.len() > limits::ENV_VARS_MAX {
            return Err(ApiError::validation(format!(
                "env_vars has {} entries, the limit is {}",
                self.env_vars.len(),
                limits::ENV_VARS_MAX
            )));
        }
        if self.env_vars.keys().any(String::is_empty) {
            return Err(ApiError::validation(
                "env_vars has an entry with an empty name",
            ));
        }
        let total: usize = self.env_vars.iter().map(|(k, v)| k.len() + v.len()).sum();
        if total > limits::ENV_TOTAL_MAX_BYTES {
            return Err(ApiError::validation(format!(
                "env_vars holds {total} bytes, the limit is {}",
                limits::ENV_TOTAL_MAX_BYTES
            )));
        }
        Ok(())
    }

    /// The memory limit in bytes.
    pub fn memory_limit_bytes(&self) -> usize {
        self.memory_limit_mb as usize * MIB
    }
}

/// Whether a version may be invoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FunctionStatus {
    /// May be invoked.
    Active,
    /// Disabled; may be enabled again.
    Inactive,
    /// Deleted; stays so.
    Deleted,
}

/// One immutable version of a function, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionVersion {
    /// Stays the same over all versions of the name (UUID).
    pub function_id: String,
    /// The tenant.
    pub namespace: Namespace,
    /// The function's name.
    pub name: FunctionName,
    /// 1, 2, 3 …; never used twice for one name, not even after a delete.
    pub version: u64,
    /// The module as it was uploaded.
    pub wasm_cid: ContentId,
    /// Its size.
    pub wasm_bytes: u64,
    /// Its settings.
    pub spec: FunctionSpec,
    /// Whether it may be invoked.
    pub status: FunctionStatus,
    /// When this version was deployed.
    pub created_at: Timestamp,
    /// When its status last changed.
    pub updated_at: Timestamp,
    /// Who deployed it.
    pub created_by: String,
    /// Set when this version is a copy of an earlier one.
    pub rolled_back_from: Option<u64>,
}

/// A version as the API shows it (CONTRACT 2.4). Values of `env_vars` are
/// never shown, their names are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionInfo {
    /// See [`FunctionVersion::function_id`].
    pub id: String,
    /// The function's name.
    pub name: String,
    /// The tenant.
    pub namespace: String,
    /// The version's number.
    pub version: u64,
    /// CIDv1 of the module.
    pub wasm_cid: String,
    /// Size of the module.
    #[serde(default)]
    pub wasm_bytes: u64,
    /// MiB.
    pub memory_limit_mb: u32,
    /// Seconds.
    pub timeout_seconds: u32,
    /// Anyone may invoke it.
    pub is_public: bool,
    /// Only functions may invoke it.
    #[serde(default)]
    pub is_internal: bool,
    /// Further attempts after a failed one.
    pub retry_count: u32,
    /// Seconds before the first.
    pub retry_delay_seconds: u32,
    /// Names of the environment variables.
    #[serde(default)]
    pub env_keys: Vec<String>,
    /// active, inactive or deleted.
    pub status: FunctionStatus,
    /// When this version was deployed.
    pub created_at: Timestamp,
    /// When its status last changed.
    pub updated_at: Timestamp,
    /// Who deployed it.
    pub created_by: String,
    /// Set when this version is a copy of an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_from: Option<u64>,
}

impl From<&FunctionVersion> for FunctionInfo {
    fn from(v: &FunctionVersion) -> Self {
        Self {
            id: v.function_id.clone(),
            name: v.name.to_string(),
            namespace: v.namespace.to_string(),
            version: v.version,
            wasm_cid: v.wasm_cid.to_string(),
            wasm_bytes: v.wasm_bytes,
            memory_limit_mb: v.spec.memory_limit_mb,
            timeout_seconds: v.spec.timeout_seconds,
            is_public: v.spec.is_public,
            is_internal: v.spec.is_internal,
            retry_count: v.spec.retry_count,
            retry_delay_seconds: v.spec.retry_delay_seconds,
            env_keys: v.spec.env_vars.keys().cloned().collect(),
            status: v.status,
            created_at: v.created_at,
            updated_at: v.updated_at,
            created_by: v.created_by.clone(),
            rolled_back_from: v.rolled_back_from,
        }
    }
}

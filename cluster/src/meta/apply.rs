//! What each command does: from the decoded state to the changed one, together
//! with the pairs that change in the stored one.
//!
//! No clock, no randomness, no I/O: everything comes from the command, so every
//! replica comes to the same state. A command checks everything before it
//! changes anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use orama_proto::command::{ApiKeyRecord, MetaCommand, MetaEnvelope, MetaRefusal, MetaReply};
use orama_proto::function::{FunctionStatus, FunctionVersion};
use orama_proto::limits;
use orama_proto::{FunctionName, Namespace, Timestamp};
use serde::Serialize;

use super::NamespaceEntry;
use super::catalog::{Catalog, Function, Space};
use super::keys::{self, NameRecord, SpaceRecord};
use super::topology;
use crate::consensus::Change;

/// Function names a namespace may ever have used, deleted ones included: their
/// counters stay, so that a version number never comes back.
pub(super) const NAMES_PER_NAMESPACE: usize = 10 * limits::FUNCTIONS_PER_NAMESPACE;

/// Why a command was not applied.
#[derive(Debug)]
pub(super) enum Stop {
    /// By rule; nothing changed and every replica answers the same.
    Refused(MetaRefusal),
    /// The program's fault; the group must stop.
    Fault(String),
}

impl From<MetaRefusal> for Stop {
    fn from(refusal: MetaRefusal) -> Self {
        Self::Refused(refusal)
    }
}

pub(super) type Outcome = Result<MetaReply, Stop>;

pub(super) fn missing(what: &str, name: impl ToString) -> Stop {
    Stop::Refused(MetaRefusal::Missing {
        what: what.into(),
        name: name.to_string(),
    })
}

pub(super) fn exists(what: &str, name: impl ToString) -> Stop {
    Stop::Refused(MetaRefusal::Exists {
        what: what.into(),
        name: name.to_string(),
    })
}

pub(super) fn limit(what: &str, count: usize, limit: usize) -> Result<(), Stop> {
    if count < limit {
        return Ok(());
    }
    Err(Stop::Refused(MetaRefusal::LimitReached {
        what: what.into(),
        limit: limit as u64,
    }))
}

/// Applies a command. Changes are appended to `changes` only when it is not refused.
///
/// # Errors
/// A text: the group must stop.
pub(super) fn apply(
    catalog: &mut Catalog,
    envelope: MetaEnvelope,
    changes: &mut Vec<Change>,
) -> Result<MetaReply, String> {
    let step = Step {
        catalog,
        at: envelope.at,
        changes,
    };
    match step.run(envelope.command) {
        Ok(reply) => Ok(reply),
        Err(Stop::Refused(refusal)) => Ok(MetaReply::Refused(refusal)),
        Err(Stop::Fault(what)) => Err(what),
    }
}

struct Step<'a> {
    catalog: &'a mut Catalog,
    at: Timestamp,
    changes: &'a mut Vec<Change>,
}

pub(super) fn put<T: Serialize>(
    changes: &mut Vec<Change>,
    key: Vec<u8>,
    value: &T,
) -> Result<(), Stop> {
    let value = Some(keys::encode(value).map_err(Stop::Fault)?);
    changes.push(Change { key, value });
    Ok(())
}

pub(super) fn remove(changes: &mut Vec<Change>, key: Vec<u8>) {
    changes.push(Change { key, value: None });
}

fn live<'a>(space: &'a mut Space, name: &FunctionName) -> Result<&'a mut Function, Stop> {
    space
        .functions
        .get_mut(name)
        .filter(|f| !f.versions.is_empty())
        .ok_or_else(|| missing("function", name))
}

/// Removes the oldest versions beyond the limit, never the one that runs.
fn prune(function: &mut Function, changes: &mut Vec<Change>) {
    while function.versions.len() > limits::VERSIONS_KEPT {
        let running = function.latest_active().map(|v| v.version);
        let oldest = function.versions.keys().find(|v| Some(**v) != running);
        let Some(gone) = oldest.copied().and_then(|v| function.versions.remove(&v)) else {
            return;
        };
        remove(
            changes,
            keys::version(&gone.namespace, &gone.name, gone.version),
        );
    }
}

/// Adds a version whose number was taken from the function's counter.
fn add_version(
    space: &mut Space,
    version: FunctionVersion,
    record: NameRecord,
    changes: &mut Vec<Change>,
) -> Outcome {
    let (namespace, name) = (&version.namespace, &version.name);
    put(changes, keys::name(namespace, name), &record)?;
    put(
        changes,
        keys::version(namespace, name, version.version),
        &version,
    )?;
    let function = space
        .functions
        .entry(name.clone())
        .or_insert_with(|| Function {
            record: record.clone(),
            versions: BTreeMap::new(),
        });
    function.record = record;
    function
        .versions
        .insert(version.version, Arc::new(version.clone()));
    prune(function, changes);
    Ok(MetaReply::Version(Box::new(version)))
}

fn taken(record: &NameRecord) -> (u64, NameRecord) {
    let next = NameRecord {
        function_id: record.function_id.clone(),
        next_version: record.next_version.saturating_add(1),
    };
    (record.next_version, next)
}

impl Step<'_> {
    fn space(&mut self, namespace: &Namespace) -> Result<&mut Space, Stop> {
        self.catalog
            .spaces
            .get_mut(namespace)
            .ok_or_else(|| missing("namespace", namespace))
    }

    fn run(mut self, command: MetaCommand) -> Outcome {
        match command {
            MetaCommand::InitPlatformKeys { sealed } => {
                if self.catalog.platform.is_some() {
                    return Ok(MetaReply::Unchanged);
                }
                put(self.changes, keys::PLATFORM.to_vec(), &sealed)?;
                self.catalog.platform = Some(Arc::new(sealed));
                Ok(MetaReply::Done)
            }
            MetaCommand::RewrapPlatformKeys { replaces, sealed } => {
                match self.catalog.platform.as_deref() {
                    None => return Err(missing("platform keys", "cluster")),
                    Some(present) if *present == sealed => return Ok(MetaReply::Unchanged),
                    Some(present) if *present != replaces => return Err(conflict("platform keys")),
                    Some(_) => {}
                }
                put(self.changes, keys::PLATFORM.to_vec(), &sealed)?;
                self.catalog.platform = Some(Arc::new(sealed));
                Ok(MetaReply::Done)
            }
            MetaCommand::CreateNamespace {
                namespace,
                data_key,
            } => {
                if self.catalog.spaces.contains_key(&namespace) {
                    return Err(exists("namespace", &namespace));
                }
                limit(
                    "namespaces",
                    self.catalog.spaces.len(),
                    limits::NAMESPACES_MAX,
                )?;
                self.put_space(namespace, data_key, self.at)
            }
            MetaCommand::RewrapDataKey {
                namespace,
                replaces,
                data_key,
            } => {
                let entry = Arc::clone(&self.space(&namespace)?.entry);
                if entry.data_key == data_key {
                    return Ok(MetaReply::Unchanged);
                }
                if entry.data_key != replaces {
                    return Err(conflict("data key"));
                }
                self.put_space(namespace, data_key, entry.created_at)
            }
            MetaCommand::DeleteNamespace { namespace } => self.delete_space(&namespace),
            MetaCommand::CreateApiKey { key } => self.create_key(key),
            MetaCommand::RevokeApiKey { namespace, key_id } => {
                let space = self.space(&namespace)?;
                let key = space.keys.remove(&key_id);
                let key = key.ok_or_else(|| missing("API key", &key_id))?;
                self.catalog.keys_by_hash.remove(&key.hash);
                remove(self.changes, keys::api_key(&namespace, &key_id));
                Ok(MetaReply::Done)
            }
            MetaCommand::PutSecret {
                namespace,
                name,
                value,
            } => {
                let space = self.space(&namespace)?;
                if !space.secrets.contains_key(&name) {
                    let count = space.secrets.len();
                    limit(
                        "secrets of a namespace",
                        count,
                        limits::SECRETS_PER_NAMESPACE,
                    )?;
                }
                let key = keys::secret(&namespace, &name);
                let stored = Arc::new(value.clone());
                space.secrets.insert(name, stored);
                put(self.changes, key, &value)?;
                Ok(MetaReply::Done)
            }
            MetaCommand::DeleteSecret { namespace, name } => {
                let space = self.space(&namespace)?;
                if space.secrets.remove(&name).is_none() {
                    return Err(missing("secret", &name));
                }
                remove(self.changes, keys::secret(&namespace, &name));
                Ok(MetaReply::Done)
            }
            command @ (MetaCommand::DeployFunction { .. }
            | MetaCommand::RollbackFunction { .. }
            | MetaCommand::SetFunctionEnabled { .. }
            | MetaCommand::DeleteFunction { .. }) => self.run_function(command),
            command @ (MetaCommand::InitCluster { .. }
            | MetaCommand::PutMember { .. }
            | MetaCommand::SetMemberState { .. }
            | MetaCommand::RemoveMember { .. }
            | MetaCommand::PlaceGroup { .. }) => {
                topology::apply(&mut self.catalog.topology, command, self.changes)
            }
        }
    }

    fn run_function(mut self, command: MetaCommand) -> Outcome {
        let at = self.at;
        match command {
            MetaCommand::DeployFunction {
                namespace,
                name,
                new_function_id,
                wasm_cid,
                wasm_bytes,
                spec,
                created_by,
            } => {
                let space = self.space(&namespace)?;
                let known = space.functions.get(&name);
                if known.is_none_or(|f| f.versions.is_empty()) {
                    let (count, most) = (space.live().count(), limits::FUNCTIONS_PER_NAMESPACE);
                    limit("functions of a namespace", count, most)?;
                }
                let record = match known {
                    Some(function) => function.record.clone(),
                    None => {
                        let what = "function names a namespace ever used";
                        limit(what, space.functions.len(), NAMES_PER_NAMESPACE)?;
                        NameRecord {
                            function_id: new_function_id,
                            next_version: 1,
                        }
                    }
                };
                let (number, record) = taken(&record);
                let version = FunctionVersion {
                    function_id: record.function_id.clone(),
                    namespace,
                    name,
                    version: number,
                    wasm_cid,
                    wasm_bytes,
                    spec,
                    status: FunctionStatus::Active,
                    created_at: at,
                    updated_at: at,
                    created_by,
                    rolled_back_from: None,
                };
                self.add(version, record)
            }
            MetaCommand::RollbackFunction {
                namespace,
                name,
                to,
                created_by,
            } => {
                let function = live(self.space(&namespace)?, &name)?;
                let source = function.versions.get(&to);
                let source = source.ok_or_else(|| missing("version", format!("{name}@{to}")))?;
                let (number, record) = taken(&function.record);
                let version = FunctionVersion {
                    version: number,
                    status: FunctionStatus::Active,
                    created_at: at,
                    updated_at: at,
                    created_by,
                    rolled_back_from: Some(to),
                    ..FunctionVersion::clone(source)
                };
                self.add(version, record)
            }
            MetaCommand::SetFunctionEnabled {
                namespace,
                name,
                enabled,
            } => {
                let wanted = if enabled {
                    FunctionStatus::Active
                } else {
                    FunctionStatus::Inactive
                };
                let mut changed = Vec::new();
                let function = live(self.space(&namespace)?, &name)?;
                for version in function.versions.values_mut() {
                    if version.status != wanted {
                        let next = FunctionVersion {
                            status: wanted,
                            updated_at: at,
                            ..FunctionVersion::clone(version)
                        };
                        let key = keys::version(&namespace, &name, next.version);
                        put(&mut changed, key, &next)?;
                        *version = Arc::new(next);
                    }
                }
                let reply = if changed.is_empty() {
                    MetaReply::Unchanged
                } else {
                    MetaReply::Done
                };
                self.changes.append(&mut changed);
                Ok(reply)
            }
            MetaCommand::DeleteFunction {
                namespace,
                name,
                version,
            } => {
                let function = live(self.space(&namespace)?, &name)?;
                let gone: Vec<u64> = match version {
                    None => function.versions.keys().copied().collect(),
                    Some(v) if function.versions.contains_key(&v) => vec![v],
                    Some(v) => return Err(missing("version", format!("{name}@{v}"))),
                };
                function.versions.retain(|v, _| !gone.contains(v));
                for v in gone {
                    remove(self.changes, keys::version(&namespace, &name, v));
                }
                Ok(MetaReply::Done)
            }
            other => Err(Stop::Fault(format!(
                "{} is no function command",
                super::name_of(&other)
            ))),
        }
    }

    fn add(&mut self, version: FunctionVersion, record: NameRecord) -> Outcome {
        let space = self
            .catalog
            .spaces
            .get_mut(&version.namespace)
            .ok_or_else(|| missing("namespace", &version.namespace))?;
        add_version(space, version, record, self.changes)
    }

    fn put_space(
        &mut self,
        namespace: Namespace,
        data_key: orama_proto::sealed::WrappedKey,
        created_at: Timestamp,
    ) -> Outcome {
        let record = SpaceRecord {
            data_key: data_key.clone(),
            created_at,
        };
        put(self.changes, keys::space(&namespace), &record)?;
        let entry = NamespaceEntry {
            name: namespace.clone(),
            data_key,
            created_at,
        };
        match self.catalog.spaces.get_mut(&namespace) {
            Some(space) => space.entry = Arc::new(entry),
            None => drop(self.catalog.spaces.insert(namespace, Space::new(entry))),
        }
        Ok(MetaReply::Done)
    }

    fn delete_space(&mut self, namespace: &Namespace) -> Outcome {
        let space = self.catalog.spaces.remove(namespace);
        let space = space.ok_or_else(|| missing("namespace", namespace))?;
        remove(self.changes, keys::space(namespace));
        for (name, function) in &space.functions {
            remove(self.changes, keys::name(namespace, name));
            for version in function.versions.keys() {
                remove(self.changes, keys::version(namespace, name, *version));
            }
        }
        for name in space.secrets.keys() {
            remove(self.changes, keys::secret(namespace, name));
        }
        for (id, key) in &space.keys {
            self.catalog.keys_by_hash.remove(&key.hash);
            remove(self.changes, keys::api_key(namespace, id));
        }
        Ok(MetaReply::Done)
    }

    fn create_key(&mut self, key: ApiKeyRecord) -> Outcome {
        let taken = self.catalog.keys_by_hash.contains_key(&key.hash);
        let space = self.space(&key.namespace)?;
        if taken || space.keys.contains_key(&key.id) {
            return Err(exists("API key", &key.id));
        }
        let count = space.keys.len();
        limit("API keys of a namespace", count, limits::KEYS_PER_NAMESPACE)?;
        let stored = Arc::new(key.clone());
        space.keys.insert(key.id.clone(), Arc::clone(&stored));
        self.catalog.keys_by_hash.insert(key.hash, stored);
        put(self.changes, keys::api_key(&key.namespace, &key.id), &key)?;
        Ok(MetaReply::Done)
    }
}

pub(super) fn conflict(what: &str) -> Stop {
    Stop::Refused(MetaRefusal::Conflict { what: what.into() })
}

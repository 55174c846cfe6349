//! The commands' meaning once more, as naively as possible: flat lists, linear
//! searches, no sharing of code with `apply`. And random commands.

use orama_proto::command::{ApiKeyRecord, MetaCommand, MetaEnvelope, MetaReply};
use orama_proto::function::{FunctionSpec, FunctionStatus, FunctionVersion};
use orama_proto::sealed::{SealedValue, WrappedKey};
use orama_proto::{ContentId, FunctionName, Namespace, RequestId, SecretName, Timestamp, limits};
use proptest::prelude::*;

use super::catalog::Catalog;
use super::topology_model::{self, TopologyModel};

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Model {
    platform: Option<WrappedKey>,
    spaces: Vec<(Namespace, WrappedKey, Timestamp)>,
    versions: Vec<FunctionVersion>,
    /// Highest version ever used, and the id, of each name.
    used: Vec<(Namespace, FunctionName, u64, String)>,
    keys: Vec<ApiKeyRecord>,
    secrets: Vec<(Namespace, SecretName, SealedValue)>,
    pub(super) topology: TopologyModel,
}

/// What a reply boils down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Done,
    Unchanged,
    Version(u64),
    Missing,
    Exists,
    Conflict,
    Limit,
}

impl From<&MetaReply> for Kind {
    fn from(reply: &MetaReply) -> Self {
        use orama_proto::command::MetaRefusal as R;
        match reply {
            MetaReply::Done => Kind::Done,
            MetaReply::Unchanged => Kind::Unchanged,
            MetaReply::Version(v) => Kind::Version(v.version),
            MetaReply::Refused(R::Missing { .. }) => Kind::Missing,
            MetaReply::Refused(R::Exists { .. }) => Kind::Exists,
            MetaReply::Refused(R::Conflict { .. }) => Kind::Conflict,
            MetaReply::Refused(R::LimitReached { .. }) => Kind::Limit,
        }
    }
}

impl Model {
    fn has(&self, ns: &Namespace) -> bool {
        self.spaces.iter().any(|s| s.0 == *ns)
    }

    fn of(&self, ns: &Namespace, name: &FunctionName) -> Vec<&FunctionVersion> {
        let mine = self.versions.iter();
        mine.filter(|v| v.namespace == *ns && v.name == *name)
            .collect()
    }

    fn add(&mut self, mut version: FunctionVersion, fresh_id: &str) -> Kind {
        let (ns, name) = (version.namespace.clone(), version.name.clone());
        let known = self.used.iter_mut().find(|u| u.0 == ns && u.1 == name);
        let (number, id) = match known {
            Some(u) => {
                u.2 += 1;
                (u.2, u.3.clone())
            }
            None => {
                self.used
                    .push((ns.clone(), name.clone(), 1, fresh_id.into()));
                (1, fresh_id.into())
            }
        };
        version.version = number;
        version.function_id = id;
        self.versions.push(version);
        while self.of(&ns, &name).len() > limits::VERSIONS_KEPT {
            let mine = self.of(&ns, &name);
            let active = mine.iter().filter(|v| v.status == FunctionStatus::Active);
            let running = active.map(|v| v.version).max();
            let numbers = mine.iter().map(|v| v.version);
            let oldest = numbers.filter(|v| Some(*v) != running).min().unwrap();
            self.versions
                .retain(|v| !(v.namespace == ns && v.name == name && v.version == oldest));
        }
        Kind::Version(number)
    }

    pub(super) fn apply(&mut self, envelope: &MetaEnvelope) -> Kind {
        let at = envelope.at;
        if let Some(kind) = self.topology.apply(&envelope.command) {
            return kind;
        }
        match envelope.command.clone() {
            MetaCommand::InitPlatformKeys { sealed } => match self.platform {
                Some(_) => Kind::Unchanged,
                None => {
                    self.platform = Some(sealed);
                    Kind::Done
                }
            },
            MetaCommand::RewrapPlatformKeys { replaces, sealed } => match &self.platform {
                None => Kind::Missing,
                Some(p) if *p == sealed => Kind::Unchanged,
                Some(p) if *p != replaces => Kind::Conflict,
                Some(_) => {
                    self.platform = Some(sealed);
                    Kind::Done
                }
            },
            MetaCommand::CreateNamespace { namespace, .. } if self.has(&namespace) => Kind::Exists,
            MetaCommand::CreateNamespace {
                namespace,
                data_key,
            } => {
                self.spaces.push((namespace, data_key, at));
                Kind::Done
            }
            MetaCommand::CreateApiKey { key } => {
                let same = |k: &ApiKeyRecord| {
                    k.hash == key.hash || (k.id == key.id && k.namespace == key.namespace)
                };
                if !self.has(&key.namespace) {
                    Kind::Missing
                } else if self.keys.iter().any(same) {
                    Kind::Exists
                } else {
                    self.keys.push(key);
                    Kind::Done
                }
            }
            MetaCommand::DeleteNamespace { namespace: ns }
            | MetaCommand::RewrapDataKey { namespace: ns, .. }
            | MetaCommand::RevokeApiKey { namespace: ns, .. }
            | MetaCommand::DeployFunction { namespace: ns, .. }
            | MetaCommand::RollbackFunction { namespace: ns, .. }
            | MetaCommand::SetFunctionEnabled { namespace: ns, .. }
            | MetaCommand::DeleteFunction { namespace: ns, .. }
            | MetaCommand::PutSecret { namespace: ns, .. }
            | MetaCommand::DeleteSecret { namespace: ns, .. }
                if !self.has(&ns) =>
            {
                Kind::Missing
            }
            MetaCommand::DeleteNamespace { namespace } => {
                self.spaces.retain(|s| s.0 != namespace);
                self.versions.retain(|v| v.namespace != namespace);
                self.used.retain(|u| u.0 != namespace);
                self.keys.retain(|k| k.namespace != namespace);
                self.secrets.retain(|s| s.0 != namespace);
                Kind::Done
            }
            MetaCommand::RewrapDataKey {
                namespace,
                replaces,
                data_key,
            } => {
                let space = self.spaces.iter_mut().find(|s| s.0 == namespace).unwrap();
                if space.1 == data_key {
                    Kind::Unchanged
                } else if space.1 != replaces {
                    Kind::Conflict
                } else {
                    space.1 = data_key;
                    Kind::Done
                }
            }
            MetaCommand::RevokeApiKey { namespace, key_id } => {
                let before = self.keys.len();
                self.keys
                    .retain(|k| !(k.namespace == namespace && k.id == key_id));
                if self.keys.len() < before {
                    Kind::Done
                } else {
                    Kind::Missing
                }
            }
            MetaCommand::PutSecret {
                namespace,
                name,
                value,
            } => {
                self.secrets.retain(|s| !(s.0 == namespace && s.1 == name));
                self.secrets.push((namespace, name, value));
                Kind::Done
            }
            MetaCommand::DeleteSecret { namespace, name } => {
                let before = self.secrets.len();
                self.secrets.retain(|s| !(s.0 == namespace && s.1 == name));
                if self.secrets.len() < before {
                    Kind::Done
                } else {
                    Kind::Missing
                }
            }
            MetaCommand::DeployFunction {
                namespace,
                name,
                new_function_id,
                wasm_cid,
                wasm_bytes,
                spec,
                created_by,
            } => self.add(
                FunctionVersion {
                    function_id: String::new(),
                    namespace,
                    name,
                    version: 0,
                    wasm_cid,
                    wasm_bytes,
                    spec,
                    status: FunctionStatus::Active,
                    created_at: at,
                    updated_at: at,
                    created_by,
                    rolled_back_from: None,
                },
                &new_function_id,
            ),
            MetaCommand::RollbackFunction {
                namespace,
                name,
                to,
                created_by,
            } => {
                let source = self.of(&namespace, &name);
                let Some(source) = source.into_iter().find(|v| v.version == to) else {
                    return Kind::Missing;
                };
                let copy = FunctionVersion {
                    status: FunctionStatus::Active,
                    created_at: at,
                    updated_at: at,
                    created_by,
                    rolled_back_from: Some(to),
                    ..source.clone()
                };
                self.add(copy, "")
            }
            MetaCommand::SetFunctionEnabled {
                namespace,
                name,
                enabled,
            } => {
                if self.of(&namespace, &name).is_empty() {
                    return Kind::Missing;
                }
                let wanted = if enabled {
                    FunctionStatus::Active
                } else {
                    FunctionStatus::Inactive
                };
                let mut kind = Kind::Unchanged;
                for v in &mut self.versions {
                    if v.namespace == namespace && v.name == name && v.status != wanted {
                        v.status = wanted;
                        v.updated_at = at;
                        kind = Kind::Done;
                    }
                }
                kind
            }
            MetaCommand::DeleteFunction {
                namespace,
                name,
                version,
            } => {
                let before = self.versions.len();
                self.versions.retain(|v| {
                    !(v.namespace == namespace
                        && v.name == name
                        && version.is_none_or(|n| n == v.version))
                });
                if self.versions.len() < before {
                    Kind::Done
                } else {
                    Kind::Missing
                }
            }
            MetaCommand::InitCluster { .. }
            | MetaCommand::PutMember { .. }
            | MetaCommand::SetMemberState { .. }
            | MetaCommand::RemoveMember { .. }
            | MetaCommand::PlaceGroup { .. } => unreachable!(),
        }
    }

    fn sorted(mut self) -> Self {
        self.spaces.sort_by(|a, b| a.0.cmp(&b.0));
        let key = |v: &FunctionVersion| (v.namespace.clone(), v.name.clone(), v.version);
        self.versions.sort_by_key(key);
        self.used.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        self.keys
            .sort_by(|a, b| (&a.namespace, &a.id).cmp(&(&b.namespace, &b.id)));
        self.topology = self.topology.sorted();
        self.secrets.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        self
    }

    pub(super) fn assert_equals(&self, catalog: &Catalog) {
        let mut seen = Model {
            platform: catalog.platform.as_deref().cloned(),
            topology: TopologyModel::from(&*catalog.topology),
            ..Model::default()
        };
        for (ns, space) in &catalog.spaces {
            let entry = &space.entry;
            seen.spaces
                .push((ns.clone(), entry.data_key.clone(), entry.created_at));
            for (name, f) in &space.functions {
                let record = &f.record;
                let id = record.function_id.clone();
                seen.used
                    .push((ns.clone(), name.clone(), record.next_version - 1, id));
                seen.versions
                    .extend(f.versions.values().map(|v| FunctionVersion::clone(v)));
            }
            seen.keys
                .extend(space.keys.values().map(|k| ApiKeyRecord::clone(k)));
            for (name, value) in &space.secrets {
                seen.secrets
                    .push((ns.clone(), name.clone(), SealedValue::clone(value)));
            }
        }
        for key in &seen.keys {
            assert_eq!(
                catalog.keys_by_hash.get(&key.hash).map(|k| &k.id),
                Some(&key.id)
            );
        }
        assert_eq!(catalog.keys_by_hash.len(), seen.keys.len());
        assert_eq!(seen.sorted(), self.clone().sorted());
    }
}

pub(super) fn wrapped(n: u8) -> WrappedKey {
    WrappedKey {
        master_key_id: format!("mk{n}"),
        nonce: vec![n; 24],
        ciphertext: vec![n; 48],
    }
}

pub(super) fn deploy(ns: &Namespace, name: &FunctionName, n: u8) -> MetaCommand {
    MetaCommand::DeployFunction {
        namespace: ns.clone(),
        name: name.clone(),
        new_function_id: format!("id-{ns}-{name}-{n}"),
        wasm_cid: ContentId::of(&[n]),
        wasm_bytes: u64::from(n),
        spec: FunctionSpec::default(),
        created_by: format!("by{n}"),
    }
}

/// Few names, so that commands meet.
pub(super) fn commands() -> impl Strategy<Value = MetaCommand> {
    prop_oneof![3 => metadata(), 2 => topology_model::commands()]
}

fn metadata() -> impl Strategy<Value = MetaCommand> {
    let ns =
        || prop::sample::select(vec!["aa", "ab", "a-b"]).prop_map(|n| Namespace::parse(n).unwrap());
    let function = || {
        prop::sample::select(vec!["f", "fn", "f-1"]).prop_map(|n| FunctionName::parse(n).unwrap())
    };
    let secret =
        || prop::sample::select(vec!["S", "S.1", "T"]).prop_map(|n| SecretName::parse(n).unwrap());
    let key = || (0u8..3).prop_map(wrapped);
    prop_oneof![
        3 => (ns(), key()).prop_map(|(namespace, data_key)| MetaCommand::CreateNamespace { namespace, data_key }),
        1 => ns().prop_map(|namespace| MetaCommand::DeleteNamespace { namespace }),
        1 => key().prop_map(|sealed| MetaCommand::InitPlatformKeys { sealed }),
        1 => (key(), key()).prop_map(|(replaces, sealed)| MetaCommand::RewrapPlatformKeys { replaces, sealed }),
        1 => (ns(), key(), key()).prop_map(|(namespace, replaces, data_key)| MetaCommand::RewrapDataKey { namespace, replaces, data_key }),
        2 => (ns(), 0u8..4, 0u8..6).prop_map(|(namespace, id, hash)| MetaCommand::CreateApiKey {
            key: ApiKeyRecord { id: format!("k{id}"), namespace, hash: [hash; 32], label: "l".into(), created_at: Timestamp(1) },
        }),
        1 => (ns(), 0u8..4).prop_map(|(namespace, id)| MetaCommand::RevokeApiKey { namespace, key_id: format!("k{id}") }),
        8 => (ns(), function(), any::<u8>()).prop_map(|(ns, name, n)| deploy(&ns, &name, n)),
        2 => (ns(), function(), 1u64..6).prop_map(|(namespace, name, to)| MetaCommand::RollbackFunction { namespace, name, to, created_by: "r".into() }),
        2 => (ns(), function(), any::<bool>()).prop_map(|(namespace, name, enabled)| MetaCommand::SetFunctionEnabled { namespace, name, enabled }),
        3 => (ns(), function(), prop::option::of(1u64..6)).prop_map(|(namespace, name, version)| MetaCommand::DeleteFunction { namespace, name, version }),
        3 => (ns(), secret(), any::<u8>()).prop_map(|(namespace, name, n)| MetaCommand::PutSecret {
            namespace, name, value: SealedValue { version: u64::from(n), nonce: vec![n; 12], ciphertext: vec![n; 30] },
        }),
        1 => (ns(), secret()).prop_map(|(namespace, name)| MetaCommand::DeleteSecret { namespace, name }),
    ]
}

pub(super) fn envelope(at: u64, command: MetaCommand) -> MetaEnvelope {
    MetaEnvelope {
        request_id: RequestId::from("r"),
        at: Timestamp(at),
        command,
    }
}

//! The metadata, decoded, in memory: what every read sees.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use orama_proto::command::ApiKeyRecord;
use orama_proto::function::{FunctionStatus, FunctionVersion};
use orama_proto::sealed::{SealedValue, WrappedKey};
use orama_proto::topology::Topology;
use orama_proto::{FunctionName, Namespace, SecretName};

use super::NamespaceEntry;
use super::keys::{self, Item, NameRecord};

/// A function's name with the versions that are not deleted.
#[derive(Debug, Clone)]
pub(super) struct Function {
    pub(super) record: NameRecord,
    /// Empty when the function is deleted.
    pub(super) versions: BTreeMap<u64, Arc<FunctionVersion>>,
}

impl Function {
    /// The highest active version.
    pub(super) fn latest_active(&self) -> Option<&Arc<FunctionVersion>> {
        self.versions
            .values()
            .rev()
            .find(|v| v.status == FunctionStatus::Active)
    }
    /// The highest version.
    pub(super) fn latest(&self) -> Option<&Arc<FunctionVersion>> {
        self.versions.values().next_back()
    }
}

/// One namespace with everything in it.
#[derive(Debug, Clone)]
pub(super) struct Space {
    pub(super) entry: Arc<NamespaceEntry>,
    /// Deleted ones included, with no versions.
    pub(super) functions: BTreeMap<FunctionName, Function>,
    pub(super) secrets: BTreeMap<SecretName, Arc<SealedValue>>,
    pub(super) keys: BTreeMap<String, Arc<ApiKeyRecord>>,
}

impl Space {
    pub(super) fn new(entry: NamespaceEntry) -> Self {
        Self {
            entry: Arc::new(entry),
            functions: BTreeMap::new(),
            secrets: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }
    /// Functions that have a version.
    pub(super) fn live(&self) -> impl Iterator<Item = &Function> {
        self.functions.values().filter(|f| !f.versions.is_empty())
    }
}

/// The whole metadata.
#[derive(Debug, Clone, Default)]
pub(super) struct Catalog {
    pub(super) platform: Option<Arc<WrappedKey>>,
    pub(super) spaces: BTreeMap<Namespace, Space>,
    pub(super) keys_by_hash: HashMap<[u8; 32], Arc<ApiKeyRecord>>,
    /// Replaced as a whole when it changes, so that readers share one value.
    pub(super) topology: Arc<Topology>,
}

impl Catalog {
    /// Reads a stored state.
    ///
    /// # Errors
    /// A text naming the pair that is not understood.
    pub(super) fn load(pairs: &mut dyn Iterator<Item = (&[u8], &[u8])>) -> Result<Self, String> {
        let mut catalog = Self::default();
        let mut later = Vec::new();
        let mut topology = Topology::default();
        for (key, value) in pairs {
            match keys::decode(key, value)? {
                Item::Platform(key) => catalog.platform = Some(Arc::new(key)),
                Item::Space(name, record) => {
                    let entry = NamespaceEntry {
                        name: name.clone(),
                        data_key: record.data_key,
                        created_at: record.created_at,
                    };
                    catalog.spaces.insert(name, Space::new(entry));
                }
                Item::Topology(record) => {
                    topology.cluster = record.cluster;
                    topology.data_groups = record.data_groups;
                    topology.first_voters = record.first_voters;
                    topology.epoch = record.epoch;
                }
                Item::Member(member) => drop(topology.nodes.insert(member.id, member)),
                Item::Placement(group, placement) => {
                    topology.groups.insert(group, placement);
                }
                other => later.push(other),
            }
        }
        catalog.topology = Arc::new(topology);
        // Names come before versions in key order; both after their namespace here.
        for item in later {
            catalog.place(item)?;
        }
        Ok(catalog)
    }

    fn place(&mut self, item: Item) -> Result<(), String> {
        let space = match &item {
            Item::Platform(_)
            | Item::Space(..)
            | Item::Topology(_)
            | Item::Member(_)
            | Item::Placement(..) => return Ok(()),
            Item::Name(space, ..) | Item::Secret(space, ..) => space,
            Item::Version(version) => &version.namespace,
            Item::Key(key) => &key.namespace,
        };
        let orphan = || format!("namespace {space} is missing and has contents");
        let space = self.spaces.get_mut(space).ok_or_else(orphan)?;
        match item {
            Item::Platform(_)
            | Item::Space(..)
            | Item::Topology(_)
            | Item::Member(_)
            | Item::Placement(..) => {}
            Item::Name(_, name, record) => {
                let versions = BTreeMap::new();
                space.functions.insert(name, Function { record, versions });
            }
            Item::Version(version) => {
                let name = &version.name;
                let function = space
                    .functions
                    .get_mut(name)
                    .ok_or_else(|| format!("function {name} has versions and no counter"))?;
                function
                    .versions
                    .insert(version.version, Arc::from(version));
            }
            Item::Key(key) => {
                let key = Arc::new(key);
                self.keys_by_hash.insert(key.hash, Arc::clone(&key));
                space.keys.insert(key.id.clone(), key);
            }
            Item::Secret(_, name, value) => {
                space.secrets.insert(name, Arc::new(value));
            }
        }
        Ok(())
    }
}

//! How the metadata lies in the state, and nothing else.
//!
//! | key | value |
//! |---|---|
//! | `p` | [`WrappedKey`]: the platform's keys |
//! | `n` namespace | [`SpaceRecord`] |
//! | `c` namespace 0 function | [`NameRecord`]: id and next version, kept when the function is deleted |
//! | `f` namespace 0 function 0 version (u64, big endian) | [`FunctionVersion`] |
//! | `k` namespace 0 key id | [`ApiKeyRecord`] |
//! | `s` namespace 0 secret | [`SealedValue`] |
//! | `t` | [`TopologyRecord`]: the cluster, its data groups, the epoch |
//! | `m` node (u64, big endian) | [`Member`] |
//! | `g` group (u32, big endian) | [`Placement`] |
//!
//! No name contains the byte 0, so no key is a prefix of another's range. Every
//! value is a record with a version byte. Key byte 0 belongs to the state itself.

use orama_proto::command::ApiKeyRecord;
use orama_proto::function::FunctionVersion;
use orama_proto::record;
use orama_proto::sealed::{SealedValue, WrappedKey};
use orama_proto::topology::{ClusterId, Member, Placement};
use orama_proto::{FunctionName, GroupId, Namespace, NodeId, SecretName, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Version of every value.
const VERSION: u8 = 1;

/// A namespace as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SpaceRecord {
    pub(super) data_key: WrappedKey,
    pub(super) created_at: Timestamp,
}

/// What is known of a function's name, deleted or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NameRecord {
    pub(super) function_id: String,
    pub(super) next_version: u64,
}

/// What the topology is apart from members and placements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TopologyRecord {
    pub(super) cluster: Option<ClusterId>,
    pub(super) data_groups: u32,
    pub(super) first_voters: u32,
    pub(super) epoch: u64,
}

/// A pair, understood.
#[derive(Debug)]
pub(super) enum Item {
    Platform(WrappedKey),
    Space(Namespace, SpaceRecord),
    Name(Namespace, FunctionName, NameRecord),
    Version(Box<FunctionVersion>),
    Key(ApiKeyRecord),
    Secret(Namespace, SecretName, SealedValue),
    Topology(TopologyRecord),
    Member(Member),
    Placement(GroupId, Placement),
}

pub(super) const PLATFORM: &[u8] = b"p";
pub(super) const TOPOLOGY: &[u8] = b"t";

fn join(tag: u8, namespace: &Namespace, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + namespace.as_str().len() + name.len());
    key.push(tag);
    key.extend_from_slice(namespace.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(name.as_bytes());
    key
}

pub(super) fn space(namespace: &Namespace) -> Vec<u8> {
    let mut key = vec![b'n'];
    key.extend_from_slice(namespace.as_str().as_bytes());
    key
}

pub(super) fn name(namespace: &Namespace, name: &FunctionName) -> Vec<u8> {
    join(b'c', namespace, name.as_str())
}

pub(super) fn version(namespace: &Namespace, name: &FunctionName, version: u64) -> Vec<u8> {
    let mut key = join(b'f', namespace, name.as_str());
    key.push(0);
    key.extend_from_slice(&version.to_be_bytes());
    key
}

pub(super) fn api_key(namespace: &Namespace, id: &str) -> Vec<u8> {
    join(b'k', namespace, id)
}

pub(super) fn secret(namespace: &Namespace, name: &SecretName) -> Vec<u8> {
    join(b's', namespace, name.as_str())
}

pub(super) fn member(node: NodeId) -> Vec<u8> {
    let mut key = vec![b'm'];
    key.extend_from_slice(&node.0.to_be_bytes());
    key
}

pub(super) fn placement(group: GroupId) -> Vec<u8> {
    let mut key = vec![b'g'];
    key.extend_from_slice(&group.0.to_be_bytes());
    key
}

/// A value as it is stored.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    record::encode(VERSION, value).map_err(|e| e.to_string())
}

fn value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    record::decode(VERSION, bytes).map_err(|e| e.to_string())
}

/// `namespace 0 name`, both valid.
fn split<T>(rest: &[u8], parse: impl Fn(&str) -> Option<T>) -> Option<(Namespace, T)> {
    let at = rest.iter().position(|b| *b == 0)?;
    let (namespace, name) = (rest.get(..at)?, rest.get(at + 1..)?);
    let namespace = Namespace::parse(std::str::from_utf8(namespace).ok()?).ok()?;
    Some((namespace, parse(std::str::from_utf8(name).ok()?)?))
}

/// Understands a pair.
///
/// # Errors
/// A text naming the key; never the value.
pub(super) fn decode(key: &[u8], bytes: &[u8]) -> Result<Item, String> {
    let shown = || String::from_utf8_lossy(key).replace('\0', "/");
    let wrong = || format!("the key {:?} is not known", shown());
    let bad = |e: String| format!("the value of {:?}: {e}", shown());
    let (tag, rest) = key.split_first().ok_or_else(wrong)?;
    match tag {
        b'p' if rest.is_empty() => value(bytes).map(Item::Platform).map_err(bad),
        b'n' => {
            let name = std::str::from_utf8(rest).map_err(|_| wrong())?;
            let name = Namespace::parse(name).map_err(|_| wrong())?;
            Ok(Item::Space(name, value(bytes).map_err(bad)?))
        }
        b'c' => {
            let (space, name) =
                split(rest, |text| FunctionName::parse(text).ok()).ok_or_else(wrong)?;
            Ok(Item::Name(space, name, value(bytes).map_err(bad)?))
        }
        b'f' => {
            let item: FunctionVersion = value(bytes).map_err(bad)?;
            if version(&item.namespace, &item.name, item.version) != key {
                return Err(bad("it belongs to another key".into()));
            }
            Ok(Item::Version(Box::new(item)))
        }
        b'k' => {
            let item: ApiKeyRecord = value(bytes).map_err(bad)?;
            if api_key(&item.namespace, &item.id) != key {
                return Err(bad("it belongs to another key".into()));
            }
            Ok(Item::Key(item))
        }
        b's' => {
            let (space, name) =
                split(rest, |text| SecretName::parse(text).ok()).ok_or_else(wrong)?;
            Ok(Item::Secret(space, name, value(bytes).map_err(bad)?))
        }
        b't' if rest.is_empty() => value(bytes).map(Item::Topology).map_err(bad),
        b'm' => {
            let item: Member = value(bytes).map_err(bad)?;
            if member(item.id) != key {
                return Err(bad("it belongs to another key".into()));
            }
            Ok(Item::Member(item))
        }
        b'g' => {
            let group: [u8; 4] = rest.try_into().map_err(|_| wrong())?;
            let group = GroupId(u32::from_be_bytes(group));
            Ok(Item::Placement(group, value(bytes).map_err(bad)?))
        }
        _ => Err(wrong()),
    }
}

//! How the metadata lies in the state stays what it is.

use orama_proto::command::ApiKeyRecord;
use orama_proto::function::{FunctionSpec, FunctionStatus, FunctionVersion};
use orama_proto::sealed::{SealedValue, WrappedKey};
use orama_proto::topology::{ClusterId, Member, NodeState, Placement};
use orama_proto::{ContentId, FunctionName, GroupId, Namespace, NodeId, SecretName, Timestamp};

use super::keys::{self, Item, NameRecord, SpaceRecord, TopologyRecord};
use crate::golden::Golden;

fn wrapped() -> WrappedKey {
    WrappedKey {
        master_key_id: "k1".into(),
        nonce: vec![1; 24],
        ciphertext: vec![2; 3],
    }
}

fn items() -> Vec<(&'static str, Item)> {
    let namespace = Namespace::parse("acme").unwrap();
    let name = FunctionName::parse("hello").unwrap();
    let space = SpaceRecord {
        data_key: wrapped(),
        created_at: Timestamp(4),
    };
    let named = NameRecord {
        function_id: "f-1".into(),
        next_version: 8,
    };
    let version = FunctionVersion {
        function_id: "f-1".into(),
        namespace: namespace.clone(),
        name: name.clone(),
        version: 7,
        wasm_cid: ContentId::of(b"wasm"),
        wasm_bytes: 4,
        spec: FunctionSpec {
            env_vars: [("A".to_owned(), "1".to_owned())].into(),
            ..FunctionSpec::default()
        },
        status: FunctionStatus::Deleted,
        created_at: Timestamp(8),
        updated_at: Timestamp(9),
        created_by: "somebody".into(),
        rolled_back_from: Some(2),
    };
    let key = ApiKeyRecord {
        id: "id".into(),
        namespace: namespace.clone(),
        hash: [3; 32],
        label: "for people".into(),
        created_at: Timestamp(4),
    };
    let sealed = SealedValue {
        version: 5,
        nonce: vec![6; 12],
        ciphertext: vec![7; 4],
    };
    let topology = TopologyRecord {
        cluster: Some(ClusterId(0x1234)),
        data_groups: 32,
        first_voters: 3,
        epoch: 9,
    };
    let member = Member {
        id: NodeId(300),
        name: "n1".into(),
        addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
        version: "0.1.0".into(),
        state: NodeState::Active,
        joined_at: Timestamp(4),
    };
    let placement = Placement {
        replicas: vec![NodeId(300), NodeId(301)],
        founder: NodeId(300),
        formed: true,
    };
    let secret = SecretName::parse("KEY").unwrap();
    vec![
        ("platform", Item::Platform(wrapped())),
        ("namespace", Item::Space(namespace.clone(), space)),
        ("name", Item::Name(namespace.clone(), name, named)),
        ("version", Item::Version(Box::new(version))),
        ("api-key", Item::Key(key)),
        ("secret", Item::Secret(namespace, secret, sealed)),
        ("topology", Item::Topology(topology)),
        ("member", Item::Member(member)),
        ("placement", Item::Placement(GroupId(5), placement)),
    ]
}

/// Length of the key (one byte), key, value.
fn pair(item: &Item) -> Vec<u8> {
    let (key, value) = match item {
        Item::Platform(value) => (keys::PLATFORM.to_vec(), keys::encode(value)),
        Item::Space(namespace, value) => (keys::space(namespace), keys::encode(value)),
        Item::Name(space, name, value) => (keys::name(space, name), keys::encode(value)),
        Item::Version(value) => (
            keys::version(&value.namespace, &value.name, value.version),
            keys::encode(value.as_ref()),
        ),
        Item::Key(value) => (
            keys::api_key(&value.namespace, &value.id),
            keys::encode(value),
        ),
        Item::Secret(space, name, value) => (keys::secret(space, name), keys::encode(value)),
        Item::Topology(value) => (keys::TOPOLOGY.to_vec(), keys::encode(value)),
        Item::Member(value) => (keys::member(value.id), keys::encode(value)),
        Item::Placement(group, value) => (keys::placement(*group), keys::encode(value)),
    };
    let length = u8::try_from(key.len()).unwrap();
    [vec![length], key, value.unwrap()].concat()
}

#[test]
fn golden_pairs_of_the_metadata() {
    let mut golden = Golden::open("metadata");
    for (sample, item) in items() {
        golden.holds(sample, &pair(&item), |bytes| {
            let (key, value) = bytes[1..].split_at(usize::from(bytes[0]));
            pair(&keys::decode(key, value).unwrap())
        });
    }
}

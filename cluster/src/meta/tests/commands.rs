//! What commands do, alone and through the group.

use std::collections::BTreeMap;

use orama_proto::command::{ApiKeyRecord, COMMAND_VERSION, MetaCommand, MetaRefusal, MetaReply};
use orama_proto::function::FunctionStatus;
use orama_proto::{RequestId, Timestamp, limits, record};
use proptest::prelude::*;

use super::super::ProposeError;
use super::super::machine::{MetaMachine, read_reply};
use super::super::model::{Kind, Model, commands, deploy, envelope};
use super::super::topology_model::at_epoch;
use super::{Node, create, func, ns, put, secret};
use crate::consensus::{Machine, state_hash};

fn apply(
    machine: &MetaMachine,
    stored: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    at: u64,
    command: MetaCommand,
) -> MetaReply {
    let bytes = record::encode(COMMAND_VERSION, &envelope(at, command)).unwrap();
    let applied = machine.apply(&bytes).unwrap();
    for change in applied.changes {
        match change.value {
            Some(value) => stored.insert(change.key, value),
            None => stored.remove(&change.key),
        };
    }
    read_reply(&applied.reply).unwrap()
}

fn pairs(stored: &BTreeMap<Vec<u8>, Vec<u8>>) -> impl Iterator<Item = (&[u8], &[u8])> {
    stored.iter().map(|(k, v)| (&k[..], &v[..]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn commands_do_what_the_model_says(list in prop::collection::vec(commands(), 1..120)) {
        let (one, two) = (MetaMachine::default(), MetaMachine::default());
        let (mut stored, mut other) = (BTreeMap::new(), BTreeMap::new());
        let mut model = Model::default();
        for (at, command) in list.into_iter().enumerate() {
            let before = stored.clone();
            let command = at_epoch(command, model.topology.epoch);
            let reply = apply(&one, &mut stored, at as u64, command.clone());
            prop_assert_eq!(&reply, &apply(&two, &mut other, at as u64, command.clone()));
            let kind = model.apply(&envelope(at as u64, command));
            prop_assert_eq!(Kind::from(&reply), kind);
            if matches!(reply, MetaReply::Refused(_) | MetaReply::Unchanged) {
                prop_assert_eq!(&before, &stored, "a refused command changed something");
            }
        }
        prop_assert_eq!(&stored, &other);
        prop_assert_eq!(state_hash(pairs(&stored)), state_hash(pairs(&other)));
        model.assert_equals(&one.catalog.read());
        // What is stored is all there is.
        let again = MetaMachine::default();
        again.load(&mut pairs(&stored)).unwrap();
        model.assert_equals(&again.catalog.read());
    }
}

#[test]
fn limits_are_kept_and_versions_are_pruned() {
    let machine = MetaMachine::default();
    let mut stored = BTreeMap::new();
    let mut run = |at, command| apply(&machine, &mut stored, at, command);
    run(0, create("acme"));
    let (space, name) = (ns("acme"), func("f"));
    for n in 0..limits::VERSIONS_KEPT as u64 + 5 {
        run(n, deploy(&space, &name, 1));
        if n == 0 {
            // Version 1 stays the only active one for a while.
            continue;
        }
    }
    let kept = |machine: &MetaMachine| {
        let catalog = machine.catalog.read();
        let f = &catalog.spaces[&ns("acme")].functions[&func("f")];
        f.versions.keys().copied().collect::<Vec<_>>()
    };
    assert_eq!(kept(&machine).len(), limits::VERSIONS_KEPT);
    assert_eq!(kept(&machine)[0], 6);
    for n in 0..limits::SECRETS_PER_NAMESPACE {
        assert_eq!(run(1, secret(n, 8)), MetaReply::Done);
    }
    let limited =
        |reply: &MetaReply| matches!(reply, MetaReply::Refused(MetaRefusal::LimitReached { .. }));
    assert!(limited(&run(1, secret(9999, 8))));
    assert_eq!(
        run(1, secret(0, 9)),
        MetaReply::Done,
        "replacing is no addition"
    );
    let key = |n: usize| MetaCommand::CreateApiKey {
        key: ApiKeyRecord {
            id: format!("k{n}"),
            namespace: ns("acme"),
            hash: std::array::from_fn(|i| (n >> (8 * (i % 2))) as u8),
            label: String::new(),
            created_at: Timestamp(n as u64),
        },
    };
    for n in 0..limits::KEYS_PER_NAMESPACE {
        assert_eq!(run(1, key(n)), MetaReply::Done);
    }
    assert!(limited(&run(1, key(777))));
    for n in 1..limits::FUNCTIONS_PER_NAMESPACE {
        run(1, deploy(&space, &func(&format!("g{n}")), 1));
    }
    assert!(limited(&run(1, deploy(&space, &func("one-more"), 1))));
    let delete = MetaCommand::DeleteFunction {
        namespace: space.clone(),
        name: func("g1"),
        version: None,
    };
    assert_eq!(run(1, delete), MetaReply::Done);
    assert!(!limited(&run(1, deploy(&space, &func("one-more"), 1))));
    assert!(
        limited(&run(1, deploy(&space, &func("g1"), 1))),
        "reviving counts"
    );
    assert_eq!(
        run(1, MetaCommand::DeleteNamespace { namespace: space }),
        MetaReply::Done
    );
    assert!(stored.is_empty(), "nothing of a namespace is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_a_function() {
    let node = Node::new();
    let meta = node.open(5000).await;
    let mut changes = meta.changes();
    put(&meta, create("acme")).await;
    let (space, name) = (ns("acme"), func("hello"));
    let MetaReply::Version(first) = put(&meta, deploy(&space, &name, 1)).await else {
        panic!()
    };
    put(&meta, deploy(&space, &name, 2)).await;
    assert_eq!(meta.resolve(&space, &name, None).unwrap().version, 2);
    assert_eq!(meta.resolve(&space, &name, Some(1)).unwrap().version, 1);
    assert!(meta.resolve(&space, &name, Some(99)).is_none());
    let enable = |enabled| MetaCommand::SetFunctionEnabled {
        namespace: ns("acme"),
        name: func("hello"),
        enabled,
    };
    assert_eq!(put(&meta, enable(false)).await, MetaReply::Done);
    assert_eq!(put(&meta, enable(false)).await, MetaReply::Unchanged);
    assert!(meta.resolve(&space, &name, None).is_none());
    assert_eq!(
        meta.function(&space, &name, None).unwrap().status,
        FunctionStatus::Inactive
    );
    // A deploy on a disabled function runs; what was disabled stays so.
    put(&meta, deploy(&space, &name, 3)).await;
    assert_eq!(meta.resolve(&space, &name, None).unwrap().version, 3);
    assert!(meta.resolve(&space, &name, Some(2)).is_none());
    let rollback = MetaCommand::RollbackFunction {
        namespace: space.clone(),
        name: name.clone(),
        to: 1,
        created_by: "me".into(),
    };
    let MetaReply::Version(back) = put(&meta, rollback).await else {
        panic!()
    };
    assert_eq!(
        (back.version, back.rolled_back_from, back.status),
        (4, Some(1), FunctionStatus::Active)
    );
    assert_eq!(back.wasm_cid, first.wasm_cid);
    let delete = || MetaCommand::DeleteFunction {
        namespace: ns("acme"),
        name: func("hello"),
        version: None,
    };
    put(&meta, delete()).await;
    assert!(meta.versions(&space, &name).is_none() && meta.functions(&space).is_empty());
    let error = meta
        .propose(&RequestId::from("t"), delete())
        .await
        .unwrap_err();
    assert!(
        matches!(error, ProposeError::Refused(MetaRefusal::Missing { .. })),
        "{error}"
    );
    let MetaReply::Version(again) = put(&meta, deploy(&space, &name, 5)).await else {
        panic!()
    };
    assert_eq!((again.version, &again.function_id), (5, &first.function_id));
    assert_eq!(meta.referenced_blobs().len(), 1);
    assert_eq!(meta.namespaces()[0].functions, 1);
    assert!(*changes.borrow_and_update() >= 9);
    let big = meta
        .propose(&RequestId::from("t"), secret(1, 2 << 20))
        .await
        .unwrap_err();
    assert!(
        matches!(
            big,
            ProposeError::TooLarge {
                limit: 1_048_576,
                ..
            }
        ),
        "{big}"
    );
    meta.shutdown().await;
    let stopped = meta
        .propose(&RequestId::from("t"), delete())
        .await
        .unwrap_err();
    assert!(matches!(stopped, ProposeError::Stopped(_)), "{stopped}");
}

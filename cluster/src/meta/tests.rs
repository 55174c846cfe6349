//! The metadata group as a whole: against the model, over restarts, and with
//! every kind of damage to what it keeps.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use orama_proto::command::{ApiKeyRecord, COMMAND_VERSION, MetaCommand, MetaRefusal, MetaReply};
use orama_proto::function::FunctionStatus;
use orama_proto::sealed::SealedValue;
use orama_proto::{
    FunctionName, Namespace, NodeId, RequestId, SecretName, Timestamp, limits, record,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::machine::{MetaMachine, read_reply};
use super::model::{Kind, Model, commands, deploy, envelope, wrapped};
use super::{MetaOptions, MetaStore, OpenError, ProposeError};
use crate::consensus::{Machine, Paths, log_ends, state_hash};

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

fn ns(name: &str) -> Namespace {
    Namespace::parse(name).unwrap()
}

fn func(name: &str) -> FunctionName {
    FunctionName::parse(name).unwrap()
}

fn create(name: &str) -> MetaCommand {
    MetaCommand::CreateNamespace {
        namespace: ns(name),
        data_key: wrapped(1),
    }
}

fn secret(n: usize, size: usize) -> MetaCommand {
    MetaCommand::PutSecret {
        namespace: ns("acme"),
        name: SecretName::parse(&format!("S{n}")).unwrap(),
        value: SealedValue {
            version: n as u64,
            nonce: vec![1; 12],
            ciphertext: vec![n as u8; size],
        },
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

struct Node {
    dir: TempDir,
}

const NODE: NodeId = NodeId(42);

impl Node {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }
    fn paths(&self) -> Paths {
        paths(self.dir.path())
    }
    async fn open(&self, every: u64) -> MetaStore {
        self.try_open(every).await.unwrap()
    }
    async fn try_open(&self, every: u64) -> Result<MetaStore, OpenError> {
        open(&self.paths(), every).await.map(|(meta, _)| meta)
    }
    /// What a killed process would leave: the files as they are now.
    fn copy(&self) -> Node {
        let copy = Node::new();
        copy_dir(self.dir.path(), copy.dir.path());
        copy
    }
}

fn paths(dir: &Path) -> Paths {
    Paths {
        log: dir.join("raft").join("log.redb"),
        state: dir.join("state"),
        snapshots: dir.join("snapshots"),
    }
}

async fn open(paths: &Paths, every: u64) -> Result<(MetaStore, prometheus::Registry), OpenError> {
    let registry = prometheus::Registry::new();
    let options = MetaOptions {
        snapshot_every: every,
        ready_within: Duration::from_secs(10),
    };
    let meta = MetaStore::open_paths(paths, NODE, &options, &registry).await?;
    Ok((meta, registry))
}

fn copy_dir(from: &Path, to: &Path) {
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_dir(&item.path(), &target);
        } else if let Err(e) = fs::copy(item.path(), &target) {
            // A temporary file may be renamed while the tree is walked.
            assert_eq!(e.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

async fn put(meta: &MetaStore, command: MetaCommand) -> MetaReply {
    meta.propose(&RequestId::from("t"), command).await.unwrap()
}

/// A namespace and `n` secrets of about a kilobyte.
async fn fill(meta: &MetaStore, from: usize, to: usize) {
    if from == 0 {
        put(meta, create("acme")).await;
    }
    for n in from..to {
        put(meta, secret(n % 900, 900)).await;
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn newest_snapshot(node: &Node) -> std::path::PathBuf {
    let names = fs::read_dir(node.paths().snapshots).unwrap();
    let files = names.map(|e| e.unwrap().path());
    files
        .filter(|p| p.extension().is_some_and(|e| e == "snap"))
        .max()
        .unwrap()
}

/// Waits for the background work after a snapshot: the log begins later than `index`.
async fn purged_past(registry: &prometheus::Registry, snapshots: f64) {
    let built = || {
        let families = registry.gather();
        let family = families
            .iter()
            .find(|f| f.name() == "orama_raft_snapshots_total");
        family.map_or(0.0, |f| {
            f.get_metric()
                .iter()
                .map(|m| m.get_counter().get_value())
                .sum()
        })
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while built() < snapshots {
        assert!(Instant::now() < deadline, "{} snapshots", built());
        tokio::task::yield_now().await;
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_a_restart_clean_or_not() {
    let node = Node::new();
    let mut hash = 0;
    for round in 0..4 {
        let start = Instant::now();
        let meta = node.open(40).await;
        let took = start.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?} to open");
        assert_eq!(meta.state_hash(), hash, "round {round}");
        fill(&meta, round * 30, round * 30 + 30).await;
        hash = meta.state_hash();
        if round % 2 == 0 {
            meta.shutdown().await;
        }
        drop(meta);
    }
    let other = open(&node.paths(), 40).await.unwrap().0;
    assert_eq!(other.secrets(&ns("acme")).len(), 120);
    other.shutdown().await;
    drop(other);
    // The same directory under another identity is not ours.
    let registry = prometheus::Registry::new();
    let (paths, options) = (node.paths(), MetaOptions::default());
    let foreign = MetaStore::open_paths(&paths, NodeId(7), &options, &registry);
    let error = foreign.await.err().unwrap().to_string();
    assert!(
        error.contains("belongs to a group without this node"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_in_a_copy_taken_at_any_moment() {
    let node = Node::new();
    let (meta, _) = open(&node.paths(), 25).await.unwrap();
    fill(&meta, 0, 1).await;
    for round in 0..6 {
        let writer = {
            let meta = meta.clone();
            tokio::spawn(async move { fill(&meta, 1 + round * 20, 21 + round * 20).await })
        };
        let known = meta.secrets(&ns("acme"));
        // Readers of the file are not stopped while it is written, so the copy
        // is taken as a crash would: nothing is waited for.
        let copy = tokio::task::block_in_place(|| {
            let copy = Node::new();
            copy_consistent(&node, &copy);
            copy
        });
        writer.await.unwrap();
        let restored = copy.open(25).await;
        let found = restored.secrets(&ns("acme"));
        assert!(
            known.iter().all(|name| found.contains(name)),
            "round {round}"
        );
        restored.shutdown().await;
    }
    let hash = meta.state_hash();
    let index = meta.applied_index();
    let copy = node.copy();
    let restored = copy.open(25).await;
    assert_eq!(restored.state_hash(), hash);
    assert!(restored.applied_index() > index);
    meta.shutdown().await;
    restored.shutdown().await;
}

/// A file copied page by page while it is written is no crash image: the log's
/// file is taken again until it did not change meanwhile.
fn copy_consistent(from: &Node, to: &Node) {
    copy_dir(from.dir.path(), to.dir.path());
    let (source, target) = (from.paths().log, to.paths().log);
    loop {
        let first = fs::read(&source).unwrap();
        if fs::read(&source).unwrap() == first {
            fs::write(target, first).unwrap();
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_state_is_rebuilt_from_snapshot_and_log() {
    let node = Node::new();
    let (meta, registry) = open(&node.paths(), 50).await.unwrap();
    fill(&meta, 0, 170).await;
    purged_past(&registry, 3.0).await;
    let hash = meta.state_hash();
    meta.shutdown().await;
    drop(meta);
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("deleted", |state| fs::remove_dir_all(state).unwrap()),
        ("truncated", |state| {
            let file = fs::OpenOptions::new()
                .write(true)
                .open(state.join("db"))
                .unwrap();
            let len = file.metadata().unwrap().len();
            file.set_len(len / 3).unwrap();
        }),
        ("flipped", |state| {
            let len = fs::metadata(state.join("db")).unwrap().len() as usize;
            let bytes = fs::read(state.join("db")).unwrap();
            let used = bytes.iter().rposition(|b| *b != 0).unwrap_or(len - 1);
            for part in 1..20 {
                flip(&state.join("db"), used * part / 20);
            }
        }),
        ("emptied", |state| {
            fs::remove_dir_all(state).unwrap();
            fs::create_dir(state).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let copy = node.copy();
        harm(&copy.paths().state);
        let (meta, registry) = open(&copy.paths(), 50)
            .await
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(meta.state_hash(), hash, "{what}");
        assert_eq!(meta.secrets(&ns("acme")).len(), 170, "{what}");
        let families = registry.gather();
        let rebuilds = families
            .iter()
            .find(|f| f.name() == "orama_raft_state_rebuilds_total");
        let count: f64 = rebuilds.map_or(0.0, |f| {
            f.get_metric()
                .iter()
                .map(|m| m.get_counter().get_value())
                .sum()
        });
        assert_eq!(count, 1.0, "{what}");
        put(&meta, secret(800, 10)).await;
        meta.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_shrink_the_log_and_a_damaged_one_is_passed_over() {
    let node = Node::new();
    let (meta, registry) = open(&node.paths(), 40).await.unwrap();
    fill(&meta, 0, 150).await;
    purged_past(&registry, 3.0).await;
    let hash = meta.state_hash();
    meta.shutdown().await;
    drop(meta);
    assert_eq!(fs::read_dir(node.paths().snapshots).unwrap().count(), 2);
    // The log begins after the older snapshot, which is at least one interval
    // behind the newest, and so keeps what leads from there to the present.
    let (purged, last) = log_ends(&node.copy().paths().log);
    let (purged, last) = (purged.unwrap(), last.unwrap());
    assert!(
        purged >= 35 && purged + 40 <= last,
        "purged to {purged} of {last}"
    );

    // The state is fine: a damaged snapshot costs nothing.
    let copy = node.copy();
    let newest = newest_snapshot(&copy);
    flip(&newest, fs::metadata(&newest).unwrap().len() as usize / 2);
    let meta = copy.open(40).await;
    assert_eq!(meta.state_hash(), hash);
    meta.shutdown().await;
    drop(meta);

    // The state is gone too: the older snapshot and the log bridge the gap.
    let copy = node.copy();
    flip(&newest_snapshot(&copy), 200);
    fs::remove_dir_all(copy.paths().state).unwrap();
    let meta = copy.open(40).await;
    assert_eq!(meta.state_hash(), hash);
    meta.shutdown().await;
    drop(meta);

    // Nothing is left to bridge it: said plainly, nothing invented.
    let copy = node.copy();
    flip(&newest_snapshot(&copy), 100);
    let older = {
        let mut names: Vec<_> = fs::read_dir(copy.paths().snapshots)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        names.sort();
        names.remove(0)
    };
    flip(&older, 100);
    fs::remove_dir_all(copy.paths().state).unwrap();
    let error = copy.try_open(40).await.err().unwrap().to_string();
    assert!(
        error.contains("no valid snapshot") && error.contains("damaged"),
        "{error}"
    );
    let again = copy.try_open(40).await.err().unwrap().to_string();
    assert!(again.contains("no valid snapshot"), "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_acknowledged_changes_is_refused() {
    let node = Node::new();
    let meta = node.open(5000).await;
    fill(&meta, 0, 20).await;
    meta.shutdown().await;
    drop(meta);
    let old = fs::read(node.paths().log).unwrap();
    let meta = node.open(5000).await;
    fill(&meta, 20, 40).await;
    meta.shutdown().await;
    drop(meta);
    // An older copy put back, and no log at all.
    fs::write(node.paths().log, &old).unwrap();
    let error = node.try_open(5000).await.err().unwrap().to_string();
    assert!(
        error.contains("acknowledged changes are missing"),
        "{error}"
    );
    fs::remove_file(node.paths().log).unwrap();
    let error = node.try_open(5000).await.err().unwrap().to_string();
    assert!(
        error.contains("acknowledged changes are missing"),
        "{error}"
    );
    // A flipped byte inside an entry.
    let at = old
        .windows(300)
        .position(|w| w.iter().all(|b| *b == 3))
        .unwrap();
    fs::write(node.paths().log, &old).unwrap();
    flip(&node.paths().log, at + 100);
    let error = node.try_open(5000).await.err().unwrap().to_string();
    assert!(error.contains("damaged"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_proposers_at_once() {
    let node = Node::new();
    let (meta, registry) = open(&node.paths(), 300).await.unwrap();
    put(&meta, create("acme")).await;
    let mut tasks = Vec::new();
    for worker in 0..64 {
        let meta = meta.clone();
        tasks.push(tokio::spawn(async move {
            for n in 0..10 {
                put(&meta, secret(worker * 10 + n, 500)).await;
                // Visible to whoever was answered.
                let name = SecretName::parse(&format!("S{}", worker * 10 + n)).unwrap();
                assert!(meta.secret(&ns("acme"), &name).is_some());
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(meta.secrets(&ns("acme")).len(), 640);
    let families = registry.gather();
    let batches = families
        .iter()
        .find(|f| f.name() == "orama_raft_log_batch_operations")
        .unwrap();
    let syncs = batches.get_metric()[0].get_histogram().get_sample_count();
    assert!(syncs < 640, "{syncs} syncs for 640 changes");
    let hash = meta.state_hash();
    meta.shutdown().await;
    drop(meta);
    let meta = node.open(300).await;
    assert_eq!(meta.state_hash(), hash);
    meta.shutdown().await;
}

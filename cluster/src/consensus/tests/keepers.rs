//! Groups whose state is files of their own: restarts, rebuilding, snapshots between
//! nodes, and a death at every step of building and installing one.

use std::fs;
use std::io;
use std::sync::atomic::Ordering;

use super::folder::{Folder, STAMP};
use super::net::Fate;
use super::*;
use crate::consensus::files::Step;
use crate::consensus::{OpenFault, ReadFault, StorageFault};
use crate::mesh::{Lane, Service};

const NEVER: u64 = u64::MAX;

/// A node with one such group.
struct Kept {
    id: NodeId,
    dir: TempDir,
    net: Arc<Net>,
    groups: Groups,
    group: Group,
    folder: Arc<Folder>,
}

async fn open(
    dir: &TempDir,
    net: &Arc<Net>,
    id: NodeId,
    begin: Begin,
    every: u64,
) -> Result<(Groups, Group, Arc<Folder>), OpenFault> {
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let port = Port {
        net: Arc::clone(net),
        me: id,
    };
    let links = Some(Arc::new(port) as Arc<dyn Link>);
    let groups = Groups::over(&Node::paths(dir), id, links, metrics)
        .await
        .unwrap();
    let folder = Folder::new(groups.files_of(GROUP), every);
    let backend = Backend::Files(folder.clone());
    match groups.start(GROUP, backend, &options(1000), begin).await {
        Ok(group) => Ok((groups, group, folder)),
        Err(fault) => {
            groups.shutdown().await;
            Err(fault)
        }
    }
}

impl Kept {
    async fn start(net: &Arc<Net>, id: u64, begin: Begin, every: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, net, NodeId(id), begin, every, None).await
    }

    async fn start_in(
        dir: TempDir,
        net: &Arc<Net>,
        id: NodeId,
        begin: Begin,
        every: u64,
        crash: Option<Step>,
    ) -> Self {
        let (groups, group, folder) = open(&dir, net, id, begin, every).await.unwrap();
        *group.inner.keeping.as_ref().unwrap().crash.lock() = crash;
        net.join(id, groups.handlers());
        Self {
            id,
            dir,
            net: Arc::clone(net),
            groups,
            group,
            folder,
        }
    }

    async fn stop(self) -> TempDir {
        self.net.leave(self.id);
        self.groups.shutdown().await;
        self.dir
    }

    async fn again(self, every: u64) -> Self {
        let (net, id) = (Arc::clone(&self.net), self.id);
        let dir = self.stop().await;
        Self::start_in(dir, &net, id, Begin::Wait, every, None).await
    }

    async fn set(&self, key: &str, value: &str) -> Result<Committed, ProposeFault> {
        self.group.propose(command(key, value)).await
    }

    async fn get(&self, key: &str) -> Option<String> {
        self.group.confirm(soon(10)).await.unwrap();
        self.folder.get(key)
    }

    fn snapshots(&self) -> Vec<std::path::PathBuf> {
        let names = fs::read_dir(self.dir.path().join("snapshots")).unwrap();
        let mut paths: Vec<_> = names.flatten().map(|e| e.path()).collect();
        paths.retain(|p| p.extension().is_some_and(|x| x == "snap"));
        paths.sort();
        paths
    }

    fn purged(&self) -> u64 {
        use openraft::async_runtime::watch::WatchReceiver;
        let metrics = self.group.inner.raft.metrics();
        let purged = metrics.borrow_watched().purged.map(|p| p.index);
        purged.unwrap_or(0)
    }

    /// Writes until the log no longer begins at the beginning.
    async fn outgrow_log(&self, value: &str) {
        let (start, deadline) = (self.purged(), soon(30));
        let mut n = 0;
        while self.purged() < start + 20 {
            assert!(Instant::now() < deadline, "the log is never purged");
            n += 1;
            self.set(&format!("k{}", n % 12), value).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn command(key: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0; STAMP];
    bytes.extend_from_slice(set(key, value).as_slice());
    bytes
}

async fn admit_kept(leader: &Kept, node: NodeId) {
    leader.group.add_learner(node).await.unwrap();
    until("the learner catches up", 20, || {
        leader.group.view().caught_up(node, 0)
    })
    .await;
}

async fn three(net: &Arc<Net>, every: u64) -> Vec<Kept> {
    let mut nodes = vec![Kept::start(net, 1, Begin::Found, every).await];
    for id in 2..=3 {
        nodes.push(Kept::start(net, id, Begin::Wait, every).await);
        admit_kept(&nodes[0], NodeId(id)).await;
    }
    let voters = (1..=3).map(NodeId).collect();
    nodes[0].group.set_voters(voters).await.unwrap();
    nodes
}

async fn same(nodes: &[Kept]) {
    let index = nodes.iter().map(|n| n.group.applied_index()).max().unwrap();
    until("all have applied everything", 20, || {
        nodes.iter().all(|n| n.group.applied_index() >= index)
    })
    .await;
    let hashes: BTreeSet<u128> = nodes.iter().map(|n| n.group.state_hash()).collect();
    assert_eq!(hashes.len(), 1, "replicas differ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_at_the_floor_and_gives_known_entries_again() {
    let net = Arc::<Net>::default();
    let node = Kept::start(&net, 1, Begin::Found, NEVER).await;
    for n in 0..30 {
        node.set(&format!("k{n}"), "x").await.unwrap();
    }
    assert_eq!(node.set("k0", "y").await.unwrap().reply, b"x");
    let stamps = node.folder.stamps.load(Ordering::Acquire);
    assert!(stamps >= 31 && node.folder.stamp_of("k29").unwrap() > 0);
    let before = node.group.state_hash();

    let node = node.again(NEVER).await;
    assert_eq!(node.get("k0").await.as_deref(), Some("y"));
    assert_eq!(node.group.state_hash(), before);
    assert!(node.folder.known.load(Ordering::Acquire) >= 31);
    assert_eq!(node.folder.rebuilds.load(Ordering::Acquire), 0);

    // The commands can be read again, and not beyond either end.
    let log = node.folder.log.lock().clone().unwrap();
    let last = node.group.applied_index();
    let mut seen = Vec::new();
    let mut each = |index, command: &[u8]| {
        seen.push((index, command[STAMP..].to_vec()));
        Ok(())
    };
    log.commands(1, last, &mut each).unwrap();
    assert_eq!(seen.len(), 31);
    assert!(seen.windows(2).all(|w| w[0].0 < w[1].0));
    assert_eq!(seen.last().unwrap().1, b"k0=y");
    assert!(log.commands(1, last + 1, &mut |_, _| Ok(())).is_err());
    let stopped = log.commands(1, last, &mut |_, _| Err(io::ErrorKind::Interrupted.into()));
    assert_eq!(stopped.unwrap_err().kind(), io::ErrorKind::Interrupted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_are_made_again_from_snapshot_and_log() {
    let net = Arc::<Net>::default();
    let node = Kept::start(&net, 1, Begin::Found, NEVER).await;
    node.set("a", "1").await.unwrap();
    fs::write(node.folder.live_file(), b"torn").unwrap();
    let node = node.again(15).await;
    assert_eq!(node.get("a").await.as_deref(), Some("1"));
    assert_eq!(node.folder.rebuilds.load(Ordering::Acquire), 1);

    node.outgrow_log("x").await;
    until("two are kept", 10, || {
        node.snapshots().len() == 2 && node.folder.copies().len() == 2
    })
    .await;
    let log = node.folder.log.lock().clone().unwrap();
    let gone = log.commands(0, 5, &mut |_, _| Ok(()));
    assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::NotFound);
    let (before, value) = (node.group.state_hash(), node.folder.get("k3"));
    fs::write(node.folder.live_file(), b"torn").unwrap();
    let node = node.again(NEVER).await;
    assert_eq!(node.get("k3").await, value);
    assert_eq!(node.group.state_hash(), before);

    // The newest snapshot's file is damaged too: the older one and the log do.
    fs::write(node.folder.live_file(), b"torn").unwrap();
    fs::write(node.folder.copies().last().unwrap(), b"rotten").unwrap();
    let node = node.again(NEVER).await;
    assert_eq!(node.group.state_hash(), before);

    for copy in node.folder.copies() {
        fs::write(copy, b"rotten").unwrap();
    }
    fs::write(node.folder.live_file(), b"torn").unwrap();
    let dir = node.stop().await;
    let refused = open(&dir, &net, NodeId(1), Begin::Wait, NEVER).await;
    let Err(OpenFault::Storage(fault @ StorageFault::NoBridge { .. })) = refused else {
        panic!("it starts without its state");
    };
    assert!(fault.to_string().contains("the copy is damaged"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_shorter_than_the_files_of_an_only_voter_is_refused() {
    let net = Arc::<Net>::default();
    let node = Kept::start(&net, 1, Begin::Found, 15).await;
    let log = node.dir.path().join("raft").join("log");
    node.set("a", "1").await.unwrap();
    let dir = node.stop().await;
    let old: Vec<_> = fs::read_dir(&log)
        .unwrap()
        .flatten()
        .map(|file| (file.path(), fs::read(file.path()).unwrap()))
        .collect();
    let node = Kept::start_in(dir, &net, NodeId(1), Begin::Wait, 15, None).await;
    node.outgrow_log("x").await;
    let dir = node.stop().await;
    fs::remove_dir_all(&log).unwrap();
    fs::create_dir(&log).unwrap();
    for (path, bytes) in old {
        fs::write(path, bytes).unwrap();
    }
    let refused = open(&dir, &net, NodeId(1), Begin::Wait, 15).await;
    assert!(
        matches!(
            refused,
            Err(OpenFault::Storage(StorageFault::LogShort { .. }))
        ),
        "it starts with acknowledged entries missing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_snapshot_goes_over_bad_links() {
    let net = Arc::<Net>::default();
    let mut nodes = vec![Kept::start(&net, 1, Begin::Found, 15).await];
    nodes[0].outgrow_log(&"v".repeat(500_000)).await;
    let mut count = 0u64;
    net.rule(move |packet| {
        if packet.lane != Lane::Bulk {
            return Fate::Arrives;
        }
        count += 1;
        match count % 6 {
            2 => Fate::Lost,
            3 if packet.size > 100_000 => Fate::Damaged,
            5 => Fate::Unanswered,
            _ => Fate::Arrives,
        }
    });
    nodes.push(Kept::start(&net, 2, Begin::Wait, 15).await);
    admit_kept(&nodes[0], NodeId(2)).await;
    net.no_rule();
    same(&nodes).await;
    assert_eq!(nodes[1].get("k3").await.unwrap().len(), 500_000);
    assert!(nodes[1].purged() >= 20, "it came as a snapshot");
    // The file it was sent from goes when a newer snapshot is there.
    nodes[0].outgrow_log("small").await;
    let outgoing = |node: &Kept| {
        let names = fs::read_dir(node.dir.path().join("snapshots")).unwrap();
        names
            .flatten()
            .filter(|e| e.path().extension().is_some_and(|x| x == "tmp"))
            .count()
    };
    until("nothing is left over", 10, || {
        nodes.iter().all(|node| outgoing(node) == 0)
    })
    .await;
    let node = nodes.remove(1).again(15).await;
    nodes.push(node);
    nodes[0].set("after", "1").await.unwrap();
    assert_eq!(nodes[1].get("after").await.as_deref(), Some("1"));
    same(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_is_not_sent_and_another_one_does() {
    for restart in [false, true] {
        let net = Arc::<Net>::default();
        let mut node = Kept::start(&net, 1, Begin::Found, 15).await;
        node.outgrow_log("x").await;
        while node.folder.copies().len() < 2 || node.purged() < 20 {
            node.outgrow_log("x").await;
        }
        if restart {
            node = node.again(NEVER).await;
        }
        fs::write(node.folder.copies().last().unwrap(), b"rotten").unwrap();
        let mut nodes = vec![node];
        nodes.push(Kept::start(&net, 2, Begin::Wait, NEVER).await);
        admit_kept(&nodes[0], NodeId(2)).await;
        same(&nodes).await;
        assert!(nodes[1].purged() > 0, "it came as a snapshot");
        assert!(!nodes[0].group.view().stopped);
        let set_aside = nodes[0].dir.path().join("snapshots");
        let set_aside = fs::read_dir(set_aside).unwrap().flatten();
        let set_aside = set_aside.filter(|e| e.path().extension().is_some_and(|x| x == "damaged"));
        assert_eq!(set_aside.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_step_of_installing_loses_nothing() {
    let net = Arc::<Net>::default();
    let mut nodes = three(&net, 15).await;
    nodes[0].set("a", "1").await.unwrap();
    let steps = [Step::Unpacked, Step::Named, Step::Adopted, Step::Forgotten];
    for (round, step) in steps.into_iter().enumerate() {
        let away = nodes.remove(2);
        let applied = away.group.applied_index();
        let dir = away.stop().await;
        let value = format!("{step:?}");
        while nodes[0].purged() <= applied {
            nodes[0].outgrow_log(&value).await;
        }
        let back = Kept::start_in(dir, &net, NodeId(3), Begin::Wait, 15, Some(step)).await;
        until("it dies while it installs", 20, || {
            back.group.view().stopped
        })
        .await;
        let why = back.set("b", "1").await.unwrap_err();
        assert!(
            matches!(&why, ProposeFault::Stopped(why) if why.contains("killed at")),
            "{why}"
        );
        let back = back.again(15).await;
        assert_eq!(back.get("k3").await.as_deref(), Some(value.as_str()));
        let rebuilds = back.folder.rebuilds.load(Ordering::Acquire);
        assert_eq!(rebuilds, 0, "{step:?}: it went on from what was there");
        nodes.push(back);
        nodes[round % 3].set("after", &value).await.unwrap();
        same(&nodes).await;
    }
    nodes[0].outgrow_log("end").await;
    let last = &nodes[2];
    until("what nothing names is deleted", 20, || {
        last.folder.copies().len() <= 2 && last.snapshots().len() <= 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_step_of_building_loses_nothing() {
    let net = Arc::<Net>::default();
    let mut node = Kept::start(&net, 1, Begin::Found, 15).await;
    for step in [Step::Saved, Step::Written] {
        *node.group.inner.keeping.as_ref().unwrap().crash.lock() = Some(step);
        let newest = node.folder.copies().pop();
        let deadline = soon(20);
        while node.folder.copies().pop() == newest {
            assert!(Instant::now() < deadline, "nothing is saved");
            node.set("a", "1").await.unwrap();
        }
        assert!(!node.group.view().stopped, "it is put off");
        let before = node.group.state_hash();
        node = node.again(15).await;
        assert_eq!(node.group.state_hash(), before);
        // A snapshot may be under way again.
        until("what nothing names is swept", 10, || {
            node.folder.copies().len() == node.snapshots().len()
        })
        .await;
        assert_eq!(node.folder.rebuilds.load(Ordering::Acquire), 0);
    }
    node.outgrow_log("x").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_without_room_is_put_off_and_made_later() {
    let net = Arc::<Net>::default();
    let node = Kept::start(&net, 1, Begin::Found, 15).await;
    node.folder.size.store(u64::MAX, Ordering::Release);
    let put_off = || {
        let snapshots = &node.group.inner.shared.metrics.snapshots;
        let labels = [GROUP.to_string(), "put_off".to_owned()];
        snapshots.with_label_values(&labels).get()
    };
    let deadline = soon(20);
    while put_off() < 2 {
        assert!(Instant::now() < deadline, "no snapshot was due");
        node.set("a", "1").await.unwrap();
    }
    assert!(node.snapshots().is_empty() && node.folder.copies().is_empty());
    node.folder.size.store(0, Ordering::Release);
    node.outgrow_log("x").await;
    assert!(!node.snapshots().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weak_reads_take_the_leaders_word_and_freshness_is_known() {
    let net = Arc::<Net>::default();
    let nodes = three(&net, NEVER).await;
    let done = nodes[1].set("a", "1").await.unwrap();
    for node in &nodes {
        assert!(node.group.weak_index(soon(5)).await.unwrap() >= done.index);
        assert_eq!(node.folder.get("a").as_deref(), Some("1"));
        assert_eq!(node.group.behind(), 0);
        assert!(node.group.wait_applied(done.index, soon(1)).await);
    }
    assert!(
        !nodes[0]
            .group
            .wait_applied(done.index + 99, Instant::now())
            .await
    );
    assert_eq!(nodes[0].group.heard(), Some(Duration::ZERO));
    assert!(nodes[1].group.heard().unwrap() < Duration::from_secs(2));

    // Cut off, a follower knows how old it is, and a leader believes itself for its lease only.
    net.isolate(NodeId(1));
    until("the others have a leader", 10, || {
        nodes[1..].iter().any(|n| {
            let leader = n.group.view().leader;
            leader.is_some() && leader != Some(NodeId(1))
        })
    })
    .await;
    let old = nodes[0]
        .group
        .weak_index(Instant::now() + Duration::from_millis(300))
        .await;
    assert!(matches!(old, Err(ReadFault::NoLeader)), "{old:?}");
    let heard = nodes[0].group.heard();
    assert!(
        heard.is_none_or(|t| t > Duration::from_millis(700)),
        "{heard:?}"
    );
    for node in &nodes[1..] {
        node.group.weak_index(soon(5)).await.unwrap();
        assert!(node.group.heard().unwrap() < Duration::from_secs(2));
    }
    net.heal();
    nodes[0].set("b", "1").await.unwrap();
    assert!(nodes[0].group.heard().unwrap() < Duration::from_secs(2));

    // Weak readers of a moment share one question, and each of it is a call of its own kind.
    let asked = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = Arc::clone(&asked);
    net.rule(move |packet| {
        counter.fetch_add(
            u64::from(packet.service == Service::Group),
            Ordering::AcqRel,
        );
        Fate::Arrives
    });
    let follower = nodes.iter().find(|n| n.group.view().leader != Some(n.id));
    let follower = follower.unwrap();
    let reads = (0..200).map(|_| follower.group.weak_index(soon(10)));
    for read in futures::future::join_all(reads).await {
        read.unwrap();
    }
    let asked = asked.load(Ordering::Acquire);
    assert!((1..20).contains(&asked), "{asked} questions");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_cannot_apply_says_how_far_it_is_behind() {
    let net = Arc::<Net>::default();
    let nodes = three(&net, NEVER).await;
    *nodes[2].folder.fails.lock() = Some(io::ErrorKind::StorageFull);
    for n in 0..5 {
        nodes[0].set("a", &n.to_string()).await.unwrap();
    }
    until("it stops", 10, || nodes[2].group.view().stopped).await;
    assert!(nodes[2].group.behind() >= 1);
    let why = nodes[2].set("a", "x").await.unwrap_err().to_string();
    assert!(why.contains("restart"), "{why}");
    assert_eq!(nodes[1].get("a").await.as_deref(), Some("4"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_or_an_error_of_the_leaders_keeper_stops_its_group_and_nothing_else() {
    for panics in [true, false] {
        let net = Arc::<Net>::default();
        let mut nodes = three(&net, NEVER).await;
        nodes[0].set("a", "1").await.unwrap();
        // Another group of the same node goes on.
        let other = Folder::new(nodes[0].dir.path().join("other"), NEVER);
        let other = nodes[0]
            .groups
            .start(GroupId(9), Backend::Files(other), &options(9), Begin::Found)
            .await
            .unwrap();
        let folder = &nodes[0].folder;
        match panics {
            true => folder.panics.store(true, Ordering::Release),
            false => *folder.fails.lock() = Some(io::ErrorKind::Other),
        }
        let unknown = nodes[0].set("a", "2").await;
        assert!(
            matches!(unknown, Err(ProposeFault::Unknown(_))),
            "{unknown:?}"
        );
        assert!(nodes[0].group.view().stopped);
        other.propose(command("b", "1")).await.unwrap();
        // It was committed: the others have it, and go on.
        let deadline = soon(15);
        while let Err(error) = nodes[1].set("b", "1").await {
            assert!(Instant::now() < deadline, "{error}");
        }
        assert_eq!(nodes[2].get("a").await.as_deref(), Some("2"));
        let back = nodes.remove(0).again(NEVER).await;
        assert_eq!(back.get("a").await.as_deref(), Some("2"));
        nodes.push(back);
        same(&nodes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing_deletes_the_files_and_an_interrupted_removal_is_finished() {
    let net = Arc::<Net>::default();
    let node = Kept::start(&net, 1, Begin::Found, NEVER).await;
    node.set("a", "1").await.unwrap();
    let files = node.groups.files_of(GROUP);
    assert!(files.join("live").exists());
    node.groups.remove(GROUP).await.unwrap();
    assert!(!files.exists());
    // One that does not run here any more.
    fs::create_dir_all(node.groups.files_of(GroupId(6))).unwrap();
    node.groups.remove(GroupId(6)).await.unwrap();
    assert!(!node.groups.files_of(GroupId(6)).exists());
    // The log went, and the node died before the files did.
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("live"), b"old").unwrap();
    let dir = node.stop().await;
    let node = Kept::start_in(dir, &net, NodeId(1), Begin::Found, NEVER, None).await;
    assert_eq!(node.folder.rebuilds.load(Ordering::Acquire), 0);
    assert_eq!(node.get("a").await, None);
    // Files without any log are a lost log, not an empty one.
    let dir = node.stop().await;
    for gone in ["raft/log", "state", "snapshots"] {
        fs::remove_dir_all(dir.path().join(gone)).unwrap();
    }
    fs::remove_file(dir.path().join("log-begun")).unwrap();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let refused = Groups::over(&Node::paths(&dir), NodeId(1), None, metrics).await;
    assert!(matches!(refused, Err(StorageFault::LogMissing { .. })));
}

//! The log against power cuts, full and broken disks, and rot.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, RaftLogReader};
use orama_proto::GroupId;
use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};

use super::engine::Engine;
use super::{GroupLog, RaftLog};
use crate::consensus::fault::{Halt, StorageFault};
use crate::consensus::metrics::Metrics;
use crate::consensus::types::{Command, Position, RaftEntry, RaftVote, Types};

const GROUP: GroupId = GroupId(5);

/// A disk whose power can be cut: writes since the last sync may be lost, each
/// on its own, and a write may be torn at a sector.
#[derive(Debug, Default)]
struct Disk {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// What happened since the last sync, in order.
    pending: Vec<Pending>,
    /// Every sync leaves what a cut right after it would find.
    syncs: u64,
    fail: Option<io::ErrorKind>,
}

#[derive(Debug, Clone)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

fn perform(image: &mut Vec<u8>, step: &Pending) {
    match step {
        Pending::Length(len) => image.resize(*len, 0),
        Pending::Write(at, bytes) => {
            if image.len() < at + bytes.len() {
                image.resize(at + bytes.len(), 0);
            }
            image[*at..at + bytes.len()].copy_from_slice(bytes);
        }
    }
}

/// Deterministic, so that a failing seed can be run again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.0 >> 33
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

impl Disk {
    /// What is left when the power goes now.
    fn cut(&self, random: &mut Random) -> Vec<u8> {
        let mut image = self.synced.clone();
        for step in &self.pending {
            match step {
                // The file system keeps the length or not; redb tolerates both.
                Pending::Length(_) => perform(&mut image, step),
                Pending::Write(at, bytes) => {
                    for (i, sector) in bytes.chunks(512).enumerate() {
                        if random.below(2) == 0 {
                            let part = Pending::Write(at + i * 512, sector.to_vec());
                            perform(&mut image, &part);
                        }
                    }
                }
            }
        }
        image
    }
}

#[derive(Debug, Clone, Default)]
struct Backend(Arc<Mutex<Disk>>);

impl Backend {
    fn over(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            now: image.clone(),
            synced: image,
            ..Disk::default()
        })))
    }
    fn check(disk: &Disk) -> Result<(), io::Error> {
        disk.fail.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().now.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let disk = self.0.lock();
        let at = offset as usize;
        let bytes = disk.now.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut disk = self.0.lock();
        Self::check(&disk)?;
        let step = Pending::Length(len as usize);
        perform(&mut disk.now, &step);
        disk.pending.push(step);
        Ok(())
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        let mut disk = self.0.lock();
        Self::check(&disk)?;
        disk.synced = disk.now.clone();
        disk.pending.clear();
        disk.syncs += 1;
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut disk = self.0.lock();
        Self::check(&disk)?;
        let step = Pending::Write(offset as usize, data.to_vec());
        perform(&mut disk.now, &step);
        disk.pending.push(step);
        Ok(())
    }
    fn try_lock_range(
        &self,
        _: std::ops::Bound<u64>,
        _: std::ops::Bound<u64>,
    ) -> Result<bool, BackendError> {
        Ok(true)
    }
}

fn metrics() -> Metrics {
    Metrics::register(&prometheus::Registry::new()).unwrap()
}

fn open(backend: &Backend) -> Result<RaftLog, StorageFault> {
    RaftLog::start(Engine::open_backend(backend.clone())?, &metrics())
}

fn position(term: u64, index: u64) -> Position {
    Position {
        term,
        leader: 1,
        index,
    }
}

fn entry(term: u64, index: u64, size: usize) -> RaftEntry {
    RaftEntry {
        log_id: position(term, index).into(),
        payload: EntryPayload::Normal(Command(vec![index as u8; size])),
    }
}

async fn append(log: &mut GroupLog, entries: Vec<RaftEntry>) -> io::Result<()> {
    let (tx, rx) = Types::oneshot();
    log.append(entries, IOFlushed::signal(tx)).await?;
    rx.await.unwrap()
}

async fn read_all(log: &mut GroupLog) -> BTreeMap<u64, RaftEntry> {
    let entries = log.try_get_log_entries(..).await.unwrap();
    entries.into_iter().map(|e| (e.log_id.index, e)).collect()
}

/// What has been acknowledged, as a plain model.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    entries: BTreeMap<u64, RaftEntry>,
    purged: Option<Position>,
    vote: Option<RaftVote>,
}

impl Model {
    fn next(&self) -> u64 {
        let last = self.entries.keys().next_back().copied();
        last.or(self.purged.map(|p| p.index)).map_or(0, |i| i + 1)
    }
}

/// How many operations were acknowledged, and what the disk then holds.
type Picture = (u64, Vec<u8>);

/// A disk that takes a picture of what a power cut would leave at random calls.
#[derive(Debug, Clone)]
struct Camera {
    disk: Backend,
    taken: Arc<Mutex<Vec<Picture>>>,
    random: Arc<Mutex<u64>>,
    /// How many operations were acknowledged when a picture is taken.
    acknowledged: Arc<AtomicU64>,
}

impl Camera {
    fn new(seed: u64) -> Self {
        Self {
            disk: Backend::default(),
            taken: Arc::default(),
            random: Arc::new(Mutex::new(seed)),
            acknowledged: Arc::default(),
        }
    }
    fn picture(&self) {
        let mut seed = self.random.lock();
        let mut random = Random(*seed);
        if random.below(3) == 0 {
            let count = self.acknowledged.load(Ordering::SeqCst);
            let image = self.disk.0.lock().cut(&mut random);
            self.taken.lock().push((count, image));
        }
        *seed = random.0;
    }
}

impl StorageBackend for Camera {
    fn len(&self) -> Result<u64, io::Error> {
        self.disk.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.disk.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.disk.set_len(len)?;
        self.picture();
        Ok(())
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        // The power may go before the sync has done anything.
        self.picture();
        self.disk.sync_data()?;
        self.picture();
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.disk.write(offset, data)?;
        self.picture();
        Ok(())
    }
    fn try_lock_range(
        &self,
        _: std::ops::Bound<u64>,
        _: std::ops::Bound<u64>,
    ) -> Result<bool, BackendError> {
        Ok(true)
    }
}

/// A random operation that the model allows; the model is moved on.
fn plan(model: &mut Model, step: u64, random: &mut Random) -> Planned {
    match random.below(8) {
        0 => {
            let vote = RaftVote::new(step + 1, random.below(3));
            model.vote = Some(vote);
            Planned::Vote(vote)
        }
        1 if !model.entries.is_empty() => {
            let nth = random.below(model.entries.len() as u64) as usize;
            let at = Position::from(model.entries.values().nth(nth).unwrap().log_id);
            model.entries.retain(|i, _| *i > at.index);
            model.purged = Some(at);
            Planned::Purge(at)
        }
        2 if model.entries.len() > 1 => {
            let nth = random.below(model.entries.len() as u64 - 1) as usize;
            let at = Position::from(model.entries.values().nth(nth).unwrap().log_id);
            model.entries.retain(|i, _| *i <= at.index);
            Planned::Truncate(at)
        }
        _ => {
            let first = model.next();
            let new: Vec<_> = (first..=first + random.below(4))
                .map(|i| entry(step, i, 1 + random.below(3000) as usize))
                .collect();
            let pairs = new.iter().map(|e| (e.log_id.index, e.clone()));
            model.entries.extend(pairs);
            Planned::Append(new)
        }
    }
}

enum Planned {
    Vote(RaftVote),
    Purge(Position),
    Truncate(Position),
    Append(Vec<RaftEntry>),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_power_cuts_at_any_point() {
    let mut cuts = 0;
    for seed in 0..25 {
        let camera = Camera::new(seed * 7919 + 1);
        let mut random = Random(seed + 1000);
        let engine = Engine::open_backend(camera.clone()).unwrap();
        let log = RaftLog::start(engine, &metrics()).unwrap();
        let mut group = log.group(GROUP).unwrap();
        // states[n] is what holds after n acknowledged operations.
        let mut states = vec![Model::default()];
        for step in 0..16 {
            let mut model = states.last().unwrap().clone();
            let planned = plan(&mut model, step, &mut random);
            states.push(model);
            match planned {
                Planned::Vote(vote) => group.save_vote(&vote).await.unwrap(),
                Planned::Purge(at) => group.purge(at.into()).await.unwrap(),
                Planned::Truncate(at) => group.truncate_after(Some(at.into())).await.unwrap(),
                Planned::Append(new) => append(&mut group, new).await.unwrap(),
            }
            camera.acknowledged.store(step + 1, Ordering::SeqCst);
        }
        let taken = std::mem::take(&mut *camera.taken.lock());
        for (count, image) in taken {
            cuts += 1;
            let what = format!("seed {seed}, cut after {count} acknowledged");
            let log = match open(&Backend::over(image)) {
                Ok(log) => log,
                // Before the first acknowledgement the file may not exist yet.
                Err(_) if count == 0 => continue,
                Err(e) => panic!("{what}: {e}"),
            };
            let mut group = log.group(GROUP).unwrap_or_else(|e| panic!("{what}: {e}"));
            let found = Model {
                entries: read_all(&mut group).await,
                purged: group.ends().0,
                vote: group.read_vote().await.unwrap(),
            };
            // The operation under way may be there or not; nothing between.
            let count = count as usize;
            let allowed = &states[count..(count + 2).min(states.len())];
            assert!(allowed.contains(&found), "{what}: {found:?}");
        }
    }
    assert!(cuts > 300, "only {cuts} cuts");
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_and_stops_the_log() {
    for (kind, halt) in [
        (io::ErrorKind::StorageFull, Some(Halt::Full)),
        (io::ErrorKind::BrokenPipe, None),
    ] {
        let backend = Backend::default();
        let log = open(&backend).unwrap();
        let mut group = log.group(GROUP).unwrap();
        append(&mut group, vec![entry(1, 0, 100)]).await.unwrap();
        backend.0.lock().fail = Some(kind);
        let error = append(&mut group, vec![entry(1, 1, 100)])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind);
        match halt {
            Some(halt) => assert_eq!(log.halt().get(), Some(&halt)),
            None => assert!(matches!(log.halt().get(), Some(Halt::Broken(_)))),
        }
        // Room again: still nothing is taken, what the file holds is not known.
        backend.0.lock().fail = None;
        assert!(append(&mut group, vec![entry(1, 2, 1)]).await.is_err());
        assert!(group.save_vote(&RaftVote::new(3, 1)).await.is_err());
        let synced = backend.0.lock().synced.clone();
        let again = open(&Backend::over(synced)).unwrap();
        let found = read_all(&mut again.group(GROUP).unwrap()).await;
        assert!(found.contains_key(&0) && !found.contains_key(&2));
    }
}

#[tokio::test]
async fn groups_do_not_see_each_other() {
    let backend = Backend::default();
    let log = open(&backend).unwrap();
    let (mut a, mut b) = (
        log.group(GroupId(1)).unwrap(),
        log.group(GroupId(2)).unwrap(),
    );
    append(&mut a, (0..9).map(|i| entry(1, i, 10)).collect())
        .await
        .unwrap();
    append(&mut b, (0..4).map(|i| entry(7, i, 10)).collect())
        .await
        .unwrap();
    a.purge(position(1, 5).into()).await.unwrap();
    b.truncate_after(Some(position(7, 1).into())).await.unwrap();
    log.close().await.unwrap();
    let log = open(&Backend::over(backend.0.lock().synced.clone())).unwrap();
    let (mut a, mut b) = (
        log.group(GroupId(1)).unwrap(),
        log.group(GroupId(2)).unwrap(),
    );
    assert_eq!(
        read_all(&mut a).await.keys().copied().collect::<Vec<_>>(),
        [6, 7, 8]
    );
    assert_eq!(read_all(&mut b).await.len(), 2);
    assert!(log.group(GroupId(3)).unwrap().is_pristine());
}

#[tokio::test]
async fn reads_are_capped_by_bytes_and_give_one_entry_at_least() {
    let log = open(&Backend::default()).unwrap();
    let mut group = log.group(GROUP).unwrap();
    for i in 0..12 {
        append(&mut group, vec![entry(1, i, 900 << 10)])
            .await
            .unwrap();
    }
    // The oldest are only on disk now, the newest in memory; both are capped.
    assert_eq!(group.limited_get_log_entries(0, 12).await.unwrap().len(), 1);
    assert_eq!(
        group.limited_get_log_entries(10, 12).await.unwrap().len(),
        1
    );
    assert!(
        group
            .limited_get_log_entries(5, 5)
            .await
            .unwrap()
            .is_empty()
    );
    use futures::TryStreamExt;
    let all: Vec<_> = group
        .entries_stream(0..12)
        .await
        .try_collect()
        .await
        .unwrap();
    let indices: Vec<_> = all.iter().map(|e| e.log_id.index).collect();
    assert_eq!(indices, (0..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn many_appends_share_a_sync() {
    let backend = Backend::default();
    let log = open(&backend).unwrap();
    let mut group = log.group(GROUP).unwrap();
    let before = backend.0.lock().syncs;
    // The writer cannot sync while the gate is closed, so a queue builds up.
    let gate = Arc::clone(&backend.0);
    let (closed, is_closed) = std::sync::mpsc::channel();
    let (open_it, opened) = std::sync::mpsc::channel::<()>();
    let keeper = std::thread::spawn(move || {
        let held = gate.lock();
        closed.send(()).unwrap();
        opened.recv().unwrap();
        drop(held);
    });
    is_closed.recv().unwrap();
    let mut waiting = Vec::new();
    for i in 0..500 {
        let (tx, rx) = Types::oneshot();
        group
            .append([entry(1, i, 100)], IOFlushed::signal(tx))
            .await
            .unwrap();
        waiting.push(rx);
    }
    open_it.send(()).unwrap();
    keeper.join().unwrap();
    for rx in waiting {
        rx.await.unwrap().unwrap();
    }
    let syncs = backend.0.lock().syncs - before;
    assert!(syncs <= 12, "{syncs} syncs for 500 appends");
}

#[tokio::test]
async fn rot_in_the_file_is_an_error_and_never_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raft").join("log.redb");
    let mut expected = BTreeMap::new();
    {
        let log = RaftLog::open(&path, &metrics()).unwrap();
        let mut group = log.group(GROUP).unwrap();
        for i in 0..40 {
            let e = entry(1, i, 300);
            append(&mut group, vec![e.clone()]).await.unwrap();
            expected.insert(i, e);
        }
    }
    let good = loop {
        // The writer lets go of the file when it notices that nobody is left.
        match RaftLog::open(&path, &metrics()) {
            Ok(log) => {
                log.close().await.unwrap();
                break std::fs::read(&path).unwrap();
            }
            Err(StorageFault::Busy { .. }) => tokio::task::yield_now().await,
            Err(e) => panic!("{e}"),
        }
    };
    let mut random = Random(11);
    let (mut refused, mut named) = (0, 0);
    // Anywhere in the file, and surely in entries.
    let needle = [7u8; 200];
    let inside = good.windows(200).position(|w| w == needle).unwrap();
    let mut places: Vec<usize> = (0..150)
        .map(|_| random.below(good.len() as u64) as usize)
        .collect();
    places.extend([inside, inside + 150]);
    for at in places {
        let mut bad = good.clone();
        bad[at] ^= 1 << random.below(8);
        let result = open(&Backend::over(bad)).and_then(|log| log.group(GROUP));
        match result {
            Ok(mut group) => assert_eq!(read_all(&mut group).await, expected, "byte {at}"),
            Err(e) => {
                refused += 1;
                named += usize::from(e.to_string().contains("damaged"));
            }
        }
    }
    assert!(
        refused >= 2 && named == refused,
        "{refused} refused, {named} named"
    );
}

#[tokio::test]
async fn rot_in_the_newest_commit_is_not_taken_for_a_torn_one() {
    let backend = Backend::default();
    let log = open(&backend).unwrap();
    let mut group = log.group(GROUP).unwrap();
    for i in 0..20 {
        append(&mut group, vec![entry(1, i, 300)]).await.unwrap();
    }
    // As a killed process leaves it: not closed, the newest commit is the last append.
    let mut image = backend.0.lock().synced.clone();
    let needle = [19u8; 300];
    let at: Vec<_> = (0..image.len() - 300)
        .filter(|at| image[*at..at + 300] == needle)
        .collect();
    assert!(!at.is_empty());
    for at in at {
        image[at + 10] ^= 1;
    }
    let error = open(&Backend::over(image)).and_then(|log| log.group(GROUP));
    let error = error
        .err()
        .expect("the last entry would be lost")
        .to_string();
    assert!(error.contains("damaged"), "{error}");
}

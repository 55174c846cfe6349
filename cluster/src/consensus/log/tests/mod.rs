//! The log against power cuts, full and broken disks, and rot.

mod disk;
mod power;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, RaftLogReader};
use orama_proto::GroupId;

use self::disk::{Backend, Random};
use super::engine::{Engine, Op};
use super::{GroupLog, RaftLog};
use crate::consensus::fault::{Halt, StorageFault};
use crate::consensus::metrics::Metrics;
use crate::consensus::types::{Command, Position, RaftEntry, RaftVote, Types};

const GROUP: GroupId = GroupId(5);

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

#[tokio::test]
async fn a_panic_of_the_engine_is_an_answer_and_stops_the_log() {
    let backend = Backend::default();
    let log = open(&backend).unwrap();
    let mut group = log.group(GROUP).unwrap();
    append(&mut group, vec![entry(1, 0, 100)]).await.unwrap();
    backend.0.lock().panic = true;
    // Whoever waits is told: without an answer openraft would wait for ever.
    assert!(append(&mut group, vec![entry(1, 1, 100)]).await.is_err());
    assert!(matches!(log.halt().get(), Some(Halt::Broken(_))));
    assert!(group.save_vote(&RaftVote::new(3, 1)).await.is_err());
    backend.0.lock().panic = false;
}

#[tokio::test]
async fn an_entry_that_vanished_from_the_file_is_an_error() {
    let backend = Backend::default();
    let log = open(&backend).unwrap();
    let mut group = log.group(GROUP).unwrap();
    append(&mut group, (0..9).map(|i| entry(1, i, 10)).collect())
        .await
        .unwrap();
    log.close().await.unwrap();
    let log = open(&Backend::over(backend.0.lock().synced.clone())).unwrap();
    let mut group = log.group(GROUP).unwrap();
    let (a, b) = (GROUP, 4);
    log.engine
        .commit(&[Op::Truncate { group: a, from: b }])
        .unwrap();
    for (from, to, missing) in [(0, 9, 4), (4, 9, 4), (6, 8, 6)] {
        let error = group.try_get_log_entries(from..to).await.unwrap_err();
        let named = format!("entry {missing}");
        assert!(error.to_string().contains(&named), "{from}..{to}: {error}");
    }
    assert_eq!(group.try_get_log_entries(0..4).await.unwrap().len(), 4);
    // What was purged is not missed.
    group.purge(position(1, 6).into()).await.unwrap();
    assert!(group.try_get_log_entries(0..7).await.unwrap().is_empty());
}

#[test]
fn what_an_interrupted_creation_left_is_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raft").join("log.redb");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(path.with_extension("new"), [0; 4096]).unwrap();
    drop(RaftLog::open(&path, &metrics()).unwrap());
    let names: Vec<_> = std::fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["log.redb"]);
}

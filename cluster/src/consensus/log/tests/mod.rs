//! The log against power cuts, full and broken disks, and rot.

mod damage;
mod disk;
mod power;
mod size;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, RaftLogReader};
use orama_proto::GroupId;

use self::disk::{Backend, Image, Random};
use super::appender::Appender;
use super::engine::Engine;
use super::segment::Sizes;
use super::{GroupLog, RaftLog};
use crate::consensus::fault::{Halt, StorageFault};
use crate::consensus::metrics::Metrics;
use crate::consensus::types::{Command, Position, RaftEntry, RaftVote, Types};

const GROUP: GroupId = GroupId(5);

fn metrics() -> Metrics {
    Metrics::register(&prometheus::Registry::new()).unwrap()
}

/// Small enough that a few entries fill a segment.
const SMALL: Sizes = Sizes {
    first: 4 << 10,
    largest: 16 << 10,
    slack: 16 << 10,
    step: 1 << 10,
    ahead: false,
};

fn engine(backend: &Backend, sizes: Sizes) -> Result<(Engine, Appender), StorageFault> {
    Engine::over("(memory)".as_ref(), Arc::new(backend.clone()), sizes)
}

fn open_with(backend: &Backend, sizes: Sizes) -> Result<RaftLog, StorageFault> {
    let (engine, appender) = engine(backend, sizes)?;
    RaftLog::start(engine, appender, &metrics())
}

fn open(backend: &Backend) -> Result<RaftLog, StorageFault> {
    open_with(backend, Sizes::default())
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
        let again = open(&Backend::over(backend.synced())).unwrap();
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
    let log = open(&Backend::over(backend.synced())).unwrap();
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
async fn a_panic_of_the_writer_is_an_answer_and_stops_the_log() {
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
async fn a_purged_entry_is_not_missed_and_one_out_of_order_is_refused() {
    let log = open(&Backend::default()).unwrap();
    let mut group = log.group(GROUP).unwrap();
    append(&mut group, (0..9).map(|i| entry(1, i, 10)).collect())
        .await
        .unwrap();
    group.purge(position(1, 6).into()).await.unwrap();
    assert!(group.try_get_log_entries(0..7).await.unwrap().is_empty());
    assert!(append(&mut group, vec![entry(1, 10, 1)]).await.is_err());
    append(&mut group, vec![entry(1, 9, 1)]).await.unwrap();
    // A snapshot of somebody else reaches farther than the log.
    group.purge(position(2, 50).into()).await.unwrap();
    append(&mut group, vec![entry(2, 51, 1)]).await.unwrap();
    assert_eq!(read_all(&mut group).await.len(), 1);
}

#[tokio::test]
async fn an_erased_group_begins_anew_and_old_handles_are_dead() {
    let backend = Backend::default();
    let log = open(&backend).unwrap();
    assert!(log.is_pristine(GROUP).unwrap());
    let mut group = log.group(GROUP).unwrap();
    let mut other = log.group(GroupId(6)).unwrap();
    for group in [&mut group, &mut other] {
        append(group, (0..3).map(|i| entry(1, i, 10)).collect())
            .await
            .unwrap();
    }
    group.save_vote(&RaftVote::new(4, 2)).await.unwrap();
    assert!(!log.is_pristine(GROUP).unwrap());
    log.erase(GROUP).await.unwrap();
    assert!(log.is_pristine(GROUP).unwrap());
    assert!(append(&mut group, vec![entry(1, 3, 1)]).await.is_err());
    assert!(group.save_vote(&RaftVote::new(5, 2)).await.is_err());
    assert!(group.purge(position(1, 1).into()).await.is_err());
    let mut anew = log.group(GROUP).unwrap();
    assert!(anew.is_pristine() && read_all(&mut anew).await.is_empty());
    append(&mut anew, vec![entry(9, 0, 10)]).await.unwrap();
    log.erase(GroupId(77)).await.unwrap();
    let again = open(&Backend::over(backend.synced())).unwrap();
    let found = read_all(&mut again.group(GROUP).unwrap()).await;
    assert_eq!(found, BTreeMap::from([(0, entry(9, 0, 10))]));
    assert_eq!(
        read_all(&mut again.group(GroupId(6)).unwrap()).await.len(),
        3
    );
    again.erase(GROUP).await.unwrap();
    again.close().await.unwrap();
}

#[tokio::test]
async fn a_directory_is_opened_once_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raft").join("log");
    std::fs::create_dir_all(&path).unwrap();
    // What an interrupted creation left is no log.
    std::fs::write(path.join("00000001.new"), [0; 4096]).unwrap();
    let log = RaftLog::open(&path, &metrics()).unwrap();
    let busy = RaftLog::open(&path, &metrics()).err();
    assert!(matches!(busy, Some(StorageFault::Busy { .. })), "{busy:?}");
    let mut group = log.group(GROUP).unwrap();
    append(&mut group, vec![entry(1, 0, 10)]).await.unwrap();
    assert!(!RaftLog::is_closed(&path));
    log.close().await.unwrap();
    assert!(RaftLog::is_closed(&path));
    let log = RaftLog::open(&path, &metrics()).unwrap();
    assert_eq!(read_all(&mut log.group(GROUP).unwrap()).await.len(), 1);
    let names: Vec<_> = std::fs::read_dir(&path)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_log_of_the_unreleased_layout_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(dir.path().join("log.redb"), "old").unwrap();
    let error = RaftLog::open(&path, &metrics()).err().unwrap().to_string();
    assert!(
        error.contains("log.redb") && error.contains("empty data directory"),
        "{error}"
    );
    assert!(!path.exists());
}

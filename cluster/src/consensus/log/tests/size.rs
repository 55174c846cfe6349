//! How much of the disk the log takes.

use super::*;
use crate::consensus::log::files::Files;

#[tokio::test]
async fn idle_groups_do_not_hold_the_log_and_lose_nothing() {
    let backend = Backend::default();
    let log = open_with(&backend, SMALL).unwrap();
    let mut idle = log.group(GroupId(1)).unwrap();
    let mut expected = BTreeMap::new();
    for i in 0..20 {
        let e = entry(1, i, 200);
        append(&mut idle, vec![e.clone()]).await.unwrap();
        expected.insert(i, e);
    }
    idle.save_vote(&RaftVote::new(6, 6)).await.unwrap();
    idle.purge(position(1, 2).into()).await.unwrap();
    expected.retain(|i, _| *i > 2);
    let mut busy = log.group(GroupId(2)).unwrap();
    let mut largest = 0;
    for i in 0..600 {
        append(&mut busy, vec![entry(1, i, 700)]).await.unwrap();
        if i >= 10 {
            busy.purge(position(1, i - 10).into()).await.unwrap();
        }
        let taken: usize = backend.0.lock().now.values().map(Vec::len).sum();
        largest = largest.max(taken as u64);
    }
    // Alive are about 13 KiB; the bound is twice that, the slack, and the segments at both ends.
    let bound = 2 * (13 << 10) + SMALL.slack + 3 * SMALL.largest;
    assert!(largest <= bound, "{largest} bytes, not {bound}");
    assert!(*backend.0.lock().now.keys().next().unwrap() > 10);
    assert_eq!(read_all(&mut idle).await, expected);
    for image in [backend.synced(), {
        log.close().await.unwrap();
        backend.0.lock().now.clone()
    }] {
        let log = open_with(&Backend::over(image), SMALL).unwrap();
        let mut idle = log.group(GroupId(1)).unwrap();
        assert_eq!(read_all(&mut idle).await, expected);
        assert_eq!(idle.ends().0, Some(position(1, 2)));
        let vote = idle.read_vote().await.unwrap();
        assert_eq!(vote, Some(RaftVote::new(6, 6)));
        append(&mut idle, vec![entry(2, 20, 5)]).await.unwrap();
        assert_eq!(
            read_all(&mut log.group(GroupId(2)).unwrap()).await.len(),
            10
        );
    }
}

#[tokio::test]
async fn a_batch_larger_than_a_segment_gets_one_of_its_own() {
    let backend = Backend::default();
    let log = open_with(&backend, SMALL).unwrap();
    let mut group = log.group(GROUP).unwrap();
    append(&mut group, vec![entry(1, 0, 10), entry(1, 1, 100 << 10)])
        .await
        .unwrap();
    append(&mut group, vec![entry(1, 2, 10)]).await.unwrap();
    let log = open_with(&Backend::over(backend.synced()), SMALL).unwrap();
    assert_eq!(read_all(&mut log.group(GROUP).unwrap()).await.len(), 3);
}

#[tokio::test]
async fn the_next_segment_is_made_ahead_and_found_again() {
    let sizes = Sizes {
        ahead: true,
        ..SMALL
    };
    let backend = Backend::default();
    let log = open_with(&backend, sizes).unwrap();
    let mut group = log.group(GROUP).unwrap();
    append(&mut group, vec![entry(1, 0, 2500)]).await.unwrap();
    log.close().await.unwrap();
    assert_eq!(backend.list().unwrap(), [1, 2], "half of the first is full");
    let log = open_with(&backend, sizes).unwrap();
    let mut group = log.group(GROUP).unwrap();
    for i in 1..4 {
        append(&mut group, vec![entry(1, i, 1200)]).await.unwrap();
    }
    log.close().await.unwrap();
    assert_eq!(read_all(&mut group).await.len(), 4);
    assert!(backend.0.lock().creations <= 3, "none was made twice");
}

#[tokio::test]
async fn a_disk_too_full_for_another_segment_is_met_only_when_one_is_needed() {
    for ahead in [false, true] {
        let sizes = Sizes { ahead, ..SMALL };
        let backend = Backend::default();
        let log = open_with(&backend, sizes).unwrap();
        let mut group = log.group(GROUP).unwrap();
        backend.0.lock().full = true;
        let mut taken = 0;
        let error = loop {
            match append(&mut group, vec![entry(1, taken, 100)]).await {
                Ok(()) => taken += 1,
                Err(error) => break error,
            }
        };
        assert!(taken >= 4, "{taken} entries");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(log.halt().get(), Some(&Halt::Full));
        let image = Backend::over(backend.synced());
        let again = open_with(&image, sizes).unwrap();
        let found = read_all(&mut again.group(GROUP).unwrap()).await;
        assert_eq!(found.len() as u64, taken);
    }
}

#[tokio::test]
async fn a_killed_log_is_written_again_before_it_is_believed() {
    let backend = Backend::default();
    let (engine, appender) = engine(&backend, SMALL).unwrap();
    let log = RaftLog::start(engine, appender, &metrics()).unwrap();
    append(&mut log.group(GROUP).unwrap(), vec![entry(1, 0, 10)])
        .await
        .unwrap();
    // The page cache holds a frame that never reached the disk.
    let cached = backend.synced();
    let mut on_disk = cached.clone();
    let file = on_disk.get_mut(&1).unwrap();
    file[512..].fill(0);
    let backend = Backend::over(on_disk);
    backend.0.lock().now = cached;
    drop(open_with(&backend, SMALL).unwrap());
    let mut random = Random(3);
    let image = backend.0.lock().cut(&mut random);
    let log = open_with(&Backend::over(image), SMALL).unwrap();
    assert_eq!(read_all(&mut log.group(GROUP).unwrap()).await.len(), 1);
}

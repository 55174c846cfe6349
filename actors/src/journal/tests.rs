//! The journal against a disk that can be slow, full and broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use orama_cluster::JournalError;
use orama_proto::Timestamp;
use orama_proto::invocation::InvocationRecord;
use parking_lot::{Condvar, Mutex};
use prometheus::Registry;

use super::super::handle::{Journal, JournalOptions, Sink};
use super::super::sample;

/// A disk in memory that fails so many times and can be held shut.
#[derive(Default)]
struct Disk {
    batches: Mutex<Vec<Vec<String>>>,
    failures: AtomicU32,
    pruned: AtomicU32,
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Disk {
    fn written(&self) -> Vec<String> {
        self.batches.lock().concat()
    }
    fn open(&self) {
        *self.shut.lock() = false;
        self.opened.notify_all();
    }
}

impl Sink for Disk {
    fn append(&self, records: &[InvocationRecord]) -> Result<(), JournalError> {
        let mut shut = self.shut.lock();
        while *shut {
            self.opened.wait(&mut shut);
        }
        let fails = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if fails.is_ok() {
            return Err(JournalError::Full);
        }
        let ids = records.iter().map(|r| r.id.clone()).collect();
        self.batches.lock().push(ids);
        Ok(())
    }
    fn prune(&self, before: Timestamp, per_function: usize) -> Result<u64, JournalError> {
        assert!(before < Timestamp::now() && per_function == 10_000);
        self.pruned.fetch_add(1, Ordering::SeqCst);
        Ok(0)
    }
}

fn record(id: usize) -> InvocationRecord {
    InvocationRecord {
        started_at: Timestamp::now(),
        completed_at: Timestamp::now(),
        ..sample::record(&id.to_string())
    }
}

fn start(disk: &Arc<Disk>, options: JournalOptions) -> Journal {
    let sink = Arc::clone(disk) as Arc<dyn Sink>;
    Journal::with_sink(sink, options, actix::Arbiter::new(), &Registry::new()).unwrap()
}

fn ids(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| i.to_string()).collect()
}

/// A record with this error brings the actor down, once.
pub(super) const BOMB: &str = "bomb";

const LONG: Duration = Duration::from_secs(10);

#[actix::test]
async fn a_flush_waits_for_what_came_before() {
    let disk = Arc::new(Disk::default());
    let journal = start(
        &disk,
        JournalOptions {
            gather: LONG,
            batch: 512,
            ..JournalOptions::default()
        },
    );
    for i in 0..1_000 {
        journal.record(record(i));
    }
    assert!(journal.flush(LONG).await);
    assert_eq!(disk.written(), ids(0..1_000));
    assert!(disk.batches.lock().iter().all(|b| b.len() <= 512));
    let info = journal.info();
    assert_eq!((info.handled, info.mailbox), (1_000, 0));
    assert_eq!(info.state, "idle");
}

#[actix::test]
async fn records_reach_the_disk_without_a_flush() {
    let disk = Arc::new(Disk::default());
    let journal = start(&disk, JournalOptions::default());
    journal.record(record(0));
    while disk.written().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while disk.pruned.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(journal.dropped(), 0);
}

#[actix::test]
async fn what_is_queued_is_written_after_the_last_handle_is_gone() {
    let disk = Arc::new(Disk::default());
    let journal = start(&disk, JournalOptions::default());
    for i in 0..2_000 {
        journal.record(record(i));
    }
    drop(journal);
    while disk.written().len() < 2_000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(disk.written(), ids(0..2_000));
}

#[actix::test]
async fn overflow_is_counted_and_never_waits() {
    let disk = Arc::new(Disk::default());
    *disk.shut.lock() = true;
    let options = JournalOptions {
        queue: 16,
        batch: 4,
        ..JournalOptions::default()
    };
    let journal = start(&disk, options);
    for i in 0..100 {
        journal.record(record(i));
    }
    // 16 in the queue, and at most one batch of 4 taken from it.
    let dropped = journal.dropped();
    assert!((80..=84).contains(&dropped), "{dropped}");
    assert!(!journal.flush(Duration::from_millis(20)).await);
    disk.open();
    while !journal.flush(LONG).await {}
    assert_eq!(disk.written().len() as u64 + journal.dropped(), 100);
    assert_eq!(journal.info().mailbox, 0);
}

#[actix::test]
async fn bytes_are_bounded_too() {
    let disk = Arc::new(Disk::default());
    *disk.shut.lock() = true;
    let options = JournalOptions {
        queue_bytes: 10_000,
        ..JournalOptions::default()
    };
    let journal = start(&disk, options);
    for i in 0..3 {
        let mut big = record(i);
        big.error_message = "x".repeat(6_000);
        journal.record(big);
    }
    assert_eq!(journal.dropped(), 2);
    disk.open();
    assert!(journal.flush(LONG).await);
    let mut big = record(3);
    big.error_message = "x".repeat(6_000);
    journal.record(big);
    assert_eq!(journal.dropped(), 2, "room again after the write");
}

#[actix::test]
async fn a_failed_batch_is_kept_in_order() {
    let disk = Arc::new(Disk::default());
    disk.failures.store(3, Ordering::SeqCst);
    let options = JournalOptions {
        retry_after: Duration::from_millis(1),
        ..JournalOptions::default()
    };
    let journal = start(&disk, options);
    for i in 0..600 {
        journal.record(record(i));
    }
    assert!(journal.flush(LONG).await);
    assert_eq!(disk.written(), ids(0..600));
    assert_eq!(journal.dropped(), 0);
}

#[actix::test]
async fn a_batch_that_never_succeeds_is_given_up_and_counted() {
    let disk = Arc::new(Disk::default());
    disk.failures.store(2, Ordering::SeqCst);
    let options = JournalOptions {
        retry_after: Duration::from_millis(1),
        tries: 2,
        gather: LONG,
        ..JournalOptions::default()
    };
    let journal = start(&disk, options);
    journal.record(record(0));
    assert!(journal.flush(LONG).await);
    assert_eq!((disk.written().len(), journal.dropped()), (0, 1));
    journal.record(record(1));
    assert!(journal.flush(LONG).await);
    assert_eq!(disk.written(), ids(1..2));
}

#[actix::test]
async fn a_journal_that_panics_comes_back_with_everything() {
    let disk = Arc::new(Disk::default());
    let journal = start(&disk, JournalOptions::default());
    for i in 0..10 {
        let mut record = record(i);
        if i == 4 {
            record.error_message = BOMB.to_owned();
        }
        journal.record(record);
    }
    assert!(journal.flush(LONG).await);
    assert_eq!(disk.written(), ids(0..10));
    journal.record(record(10));
    assert!(journal.flush(LONG).await);
    assert_eq!(disk.written(), ids(0..11));
    assert_eq!((journal.dropped(), journal.info().restarts), (0, 1));
}

#[actix::test]
async fn ids_rise_in_the_order_of_writing() {
    let disk = Arc::new(Disk::default());
    let journal = start(&disk, JournalOptions::default());
    for _ in 0..1_000 {
        let mut record = record(0);
        record.id.clear();
        journal.record(record);
    }
    assert!(journal.flush(LONG).await);
    let ids = disk.written();
    assert_eq!(ids.len(), 1_000);
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
}

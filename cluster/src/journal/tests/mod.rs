//! What the journal promises, against a model and against damage.

mod chunks;
mod damage;
mod limits;
mod model;
mod space;

use std::fs;
use std::path::PathBuf;

use orama_proto::invocation::{InvocationStatus, LogLevel, LogLine, Trigger};
use orama_proto::limits::LOG_LINE_MAX_BYTES;
use uuid::{NoContext, Uuid};

use super::*;

/// Milliseconds at which the tests' time begins.
const T0: u64 = 1_700_000_000_000;

fn id(ms: u64, counter: u64) -> String {
    let at = uuid::Timestamp::from_unix(NoContext, ms / 1000, (ms % 1000) as u32 * 1_000_000);
    // The version keeps the time and the random part, which here counts, so that the order is known.
    let mut bytes = *Uuid::new_v7(at).as_bytes();
    bytes[8..].copy_from_slice(&(counter | 1 << 63).to_be_bytes());
    bytes[6] = 0x70;
    bytes[7] = 0;
    Uuid::from_bytes(bytes).to_string()
}

fn record(ns: &str, function: &str, ms: u64, counter: u64) -> InvocationRecord {
    let at = Timestamp(ms * 1_000);
    InvocationRecord {
        id: id(ms, counter),
        request_id: RequestId::from(format!("request-{}", counter % 7).as_str()),
        namespace: Namespace::parse(ns).unwrap(),
        function: FunctionName::parse(function).unwrap(),
        version: counter,
        attempt: 1,
        trigger_type: Trigger::Http,
        caller_wallet: "0xabc".into(),
        input_size: 3,
        output_size: 4,
        started_at: at,
        completed_at: at,
        duration_ms: 1,
        status: InvocationStatus::Success,
        error_message: String::new(),
        memory_used_mb: 1,
        wasm_logs: Vec::new(),
        dropped_log_lines: 0,
    }
}

fn with_logs(mut record: InvocationRecord, bytes: usize) -> InvocationRecord {
    let line = |n: usize| LogLine {
        level: LogLevel::Info,
        message: "x".repeat(n),
        timestamp: record.started_at,
    };
    let full = bytes / LOG_LINE_MAX_BYTES;
    record.wasm_logs = (0..full).map(|_| line(LOG_LINE_MAX_BYTES)).collect();
    record.wasm_logs.push(line(bytes % LOG_LINE_MAX_BYTES));
    record
}

fn ask(ns: &str, function: &str, limit: usize) -> JournalQuery {
    JournalQuery {
        namespace: Namespace::parse(ns).unwrap(),
        function: FunctionName::parse(function).unwrap(),
        limit,
        after: None,
        request_id: None,
    }
}

struct Place {
    dir: tempfile::TempDir,
    store: JournalStore,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let store = JournalStore::open(&dir.path().join("journal.redb")).unwrap();
    Place { dir, store }
}

impl Place {
    fn file(&self) -> PathBuf {
        self.dir.path().join("journal.redb")
    }
    fn set_aside(&self) -> usize {
        let names = fs::read_dir(self.dir.path()).unwrap();
        names
            .filter(|e| {
                let name = e.as_ref().unwrap().file_name();
                name.to_string_lossy().starts_with("journal.redb.damaged-")
            })
            .count()
    }
    fn reopen(self) -> Self {
        let Self { dir, store } = self;
        drop(store);
        let store = JournalStore::open(&dir.path().join("journal.redb")).unwrap();
        Self { dir, store }
    }
}

#[test]
fn many_threads_append_query_and_prune() {
    let place = place();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let store = place.store.clone();
            scope.spawn(move || {
                for i in 0..50 {
                    let n = thread * 50 + i;
                    store.append(&[record("aa", "f", T0 + n, n)]).unwrap();
                    store.query(&ask("aa", "f", 10)).unwrap();
                    if i % 10 == 0 {
                        store.prune(Timestamp(0), 1_000).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(place.store.query(&ask("aa", "f", 500)).unwrap().len(), 200);
}

//! What the journal promises, against a model and against damage.

mod space;

use std::fs;
use std::path::PathBuf;

use orama_proto::invocation::{InvocationStatus, LogLevel, LogLine, Trigger};
use orama_proto::limits::{LOG_LINE_MAX_BYTES, LOGS_MAX};
use proptest::prelude::*;
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

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<(u8, u8, u64)>),
    Prune { before: u64, per_function: usize },
    DeleteNamespace(u8),
    Reopen,
}

const NAMESPACES: [&str; 3] = ["aa", "aa-b", "ab"];
const FUNCTIONS: [&str; 3] = ["f", "f-1", "g"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (0..3u8, 0..3u8, 0..1_000u64);
    let step = prop_oneof![
        6 => prop::collection::vec(row, 0..20).prop_map(Step::Append),
        2 => (0..1_200u64, 0..15usize)
            .prop_map(|(before, per_function)| Step::Prune { before, per_function }),
        1 => (0..3u8).prop_map(Step::DeleteNamespace),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..12)
}

/// All records, oldest first within a function, as the store should have them.
type Model = Vec<InvocationRecord>;

fn expected(model: &Model, query: &JournalQuery) -> Vec<InvocationRecord> {
    let mut found: Vec<_> = model
        .iter()
        .filter(|r| r.namespace == query.namespace && r.function == query.function)
        .filter(|r| query.after.as_ref().is_none_or(|after| r.id > *after))
        .filter(|r| {
            query
                .request_id
                .as_ref()
                .is_none_or(|id| r.request_id == *id)
        })
        .cloned()
        .collect();
    found.sort_by(|a, b| b.id.cmp(&a.id));
    found.truncate(query.limit);
    found
}

fn prune_model(model: &mut Model, before: u64, per_function: usize) -> u64 {
    let count = model.len();
    let mut kept = Model::new();
    for ns in NAMESPACES {
        for function in FUNCTIONS {
            let newest = expected(model, &ask(ns, function, per_function));
            kept.extend(
                newest
                    .into_iter()
                    .filter(|r| r.started_at.0 / 1_000 >= before),
            );
        }
    }
    *model = kept;
    (count - model.len()) as u64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn it_agrees_with_a_list(steps in steps(), limit in 0..30usize, after in 0..1_000u64, request in 0..8u64) {
        let mut place = place();
        let mut model = Model::new();
        let mut counter = 0;
        for step in steps {
            match step {
                Step::Append(rows) => {
                    let mut batch = Vec::new();
                    for (ns, function, ms) in rows {
                        counter += 1;
                        batch.push(record(NAMESPACES[ns as usize], FUNCTIONS[function as usize], T0 + ms, counter));
                    }
                    place.store.append(&batch).unwrap();
                    // A batch that is tried again changes nothing.
                    place.store.append(&batch).unwrap();
                    model.extend(batch);
                }
                Step::Prune { before, per_function } => {
                    let gone = place.store.prune(Timestamp((T0 + before) * 1_000), per_function).unwrap();
                    prop_assert_eq!(gone, prune_model(&mut model, T0 + before, per_function));
                }
                Step::DeleteNamespace(ns) => {
                    let ns = Namespace::parse(NAMESPACES[ns as usize]).unwrap();
                    let count = model.len();
                    model.retain(|r| r.namespace != ns);
                    prop_assert_eq!(place.store.delete_namespace(&ns).unwrap(), (count - model.len()) as u64);
                }
                Step::Reopen => place = place.reopen(),
            }
            prop_assert_eq!(place.store.stats().unwrap().records, model.len() as u64);
        }
        for ns in NAMESPACES {
            for function in FUNCTIONS {
                let mut query = ask(ns, function, limit);
                prop_assert_eq!(place.store.query(&query).unwrap(), expected(&model, &query));
                query.request_id = Some(RequestId::from(format!("request-{request}").as_str()));
                prop_assert_eq!(place.store.query(&query).unwrap(), expected(&model, &query));
                query.after = Some(id(T0 + after, 5));
                prop_assert_eq!(place.store.query(&query).unwrap(), expected(&model, &query));
            }
        }
        prop_assert_eq!(place.store.stats().unwrap().unreadable, 0);
    }
}

#[test]
fn a_query_is_bounded_in_number_and_bytes() {
    let place = place();
    let small: Vec<_> = (0..LOGS_MAX as u64 + 50)
        .map(|i| record("aa", "small", T0 + i, i))
        .collect();
    place.store.append(&small).unwrap();
    assert_eq!(
        place
            .store
            .query(&ask("aa", "small", usize::MAX))
            .unwrap()
            .len(),
        LOGS_MAX
    );
    let large = 200 * 1024;
    for i in 0..100 {
        let batch = [with_logs(record("aa", "large", T0 + i, i), large)];
        place.store.append(&batch).unwrap();
    }
    let answer = place.store.query(&ask("aa", "large", LOGS_MAX)).unwrap();
    assert!(
        (70..=QUERY_MAX_BYTES / large).contains(&answer.len()),
        "{}",
        answer.len()
    );
    assert_eq!(answer[0].version, 99);
}

#[test]
fn a_function_that_logs_much_loses_its_oldest_records_and_nobody_elses() {
    let place = place();
    place.store.append(&[record("aa", "quiet", T0, 0)]).unwrap();
    for batch in 0..6 {
        let rows: Vec<_> = (batch * 60..(batch + 1) * 60)
            .map(|i| with_logs(record("aa", "loud", T0 + i, i), 250 * 1024))
            .collect();
        place.store.append(&rows).unwrap();
    }
    let stats = place.store.stats().unwrap();
    assert!(stats.bytes <= FUNCTION_MAX_BYTES + 1_000, "{stats:?}");
    assert!((200..300).contains(&stats.records), "{stats:?}");
    assert_eq!(
        place.store.query(&ask("aa", "loud", 1)).unwrap()[0].version,
        359
    );
    assert_eq!(place.store.query(&ask("aa", "quiet", 9)).unwrap().len(), 1);
    // Its pages are used again: the file does not grow with what was written.
    assert!(fs::metadata(place.file()).unwrap().len() < 4 * FUNCTION_MAX_BYTES);
}

#[test]
fn pruning_takes_more_than_one_transaction() {
    let place = place();
    let total = PRUNE_BATCH as u64 * 2 + 500;
    let rows: Vec<_> = (0..total).map(|i| record("aa", "f", T0 + i, i)).collect();
    place.store.append(&rows).unwrap();
    let begin = Timestamp(0);
    assert_eq!(place.store.prune(begin, 100).unwrap(), total - 100);
    assert_eq!(place.store.prune(begin, 100).unwrap(), 0);
    let kept = place.store.query(&ask("aa", "f", 200)).unwrap();
    assert_eq!((kept.len(), kept[99].version), (100, total - 100));
    let stats = place.store.stats().unwrap();
    assert_eq!((stats.functions, stats.records), (1, 100));
}

#[test]
fn pruning_visits_every_function() {
    let place = place();
    for page in 0..5u64 {
        let rows: Vec<_> = (0..500)
            .map(|i| record("aa", &format!("f{}", page * 500 + i), T0, i))
            .collect();
        place.store.append(&rows).unwrap();
    }
    assert_eq!(place.store.stats().unwrap().functions, 2_500);
    assert_eq!(
        place.store.prune(Timestamp((T0 + 1) * 1_000), 10).unwrap(),
        2_500
    );
    assert_eq!(place.store.stats().unwrap(), JournalStats::default());
}

#[test]
fn an_id_without_a_time_is_kept_until_there_are_too_many() {
    let place = place();
    let mut odd = record("aa", "f", T0, 1);
    odd.id = "0-odd".into();
    place
        .store
        .append(&[odd, record("aa", "f", T0, 2)])
        .unwrap();
    assert_eq!(place.store.prune(Timestamp(u64::MAX), 2).unwrap(), 0);
    assert_eq!(place.store.prune(Timestamp(0), 1).unwrap(), 1);
    assert_eq!(place.store.query(&ask("aa", "f", 9)).unwrap()[0].version, 2);
}

#[test]
fn a_record_that_does_not_decode_is_skipped_counted_and_pruned() {
    let place = place();
    let rows: Vec<_> = (0..4).map(|i| record("aa", "f", T0 + i, i)).collect();
    place.store.append(&rows).unwrap();
    let spoil = |i: usize, change: &dyn Fn(&[u8]) -> Vec<u8>| {
        let key = tables::key(
            &tables::prefix(&rows[i].namespace, &rows[i].function),
            &rows[i].id,
        );
        let store = &place.store.inner.file;
        store
            .with(|db| {
                let txn = file::begin_write(db)?;
                let mut write = Write::open(&txn)?;
                let value = write.records.get(key.as_slice())?.unwrap().value().to_vec();
                write
                    .records
                    .insert(key.as_slice(), change(&value).as_slice())?;
                drop(write);
                Ok(txn.commit()?)
            })
            .unwrap();
    };
    use redb::ReadableTable;
    spoil(0, &|value| {
        let mut value = value.to_vec();
        value[30] ^= 4;
        value
    });
    spoil(2, &|_| vec![1, 2]);
    let found = place.store.query(&ask("aa", "f", 9)).unwrap();
    assert_eq!(found, [rows[3].clone(), rows[1].clone()]);
    assert_eq!(place.store.stats().unwrap().unreadable, 2);
    assert_eq!(
        place.store.prune(Timestamp((T0 + 3) * 1_000), 9).unwrap(),
        3
    );
    assert_eq!(place.store.stats().unwrap().records, 1);
}

#[test]
fn a_file_that_is_no_journal_is_set_aside() {
    for garbage in [&b"not a database"[..], &[0; 10_000], &[0xff; 100_000]] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("journal.redb");
        fs::write(&file, garbage).unwrap();
        let store = JournalStore::open(&file).unwrap();
        assert_eq!(store.stats().unwrap().set_aside, 1);
        store.append(&[record("aa", "f", T0, 1)]).unwrap();
        let place = Place { dir, store };
        assert_eq!(place.set_aside(), 1);
        let place = place.reopen();
        assert_eq!(place.store.query(&ask("aa", "f", 9)).unwrap().len(), 1);
    }
}

#[test]
fn an_unknown_layout_is_set_aside_whole() {
    let place = place();
    place.store.append(&[record("aa", "f", T0, 1)]).unwrap();
    let about: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("about");
    let set = |db: &Database| {
        let txn = file::begin_write(db)?;
        txn.open_table(about)?.insert("format", 2)?;
        Ok(txn.commit()?)
    };
    place.store.inner.file.with(set).unwrap();
    let place = place.reopen();
    assert_eq!(place.set_aside(), 1);
    assert_eq!(place.store.stats().unwrap().records, 0);
}

#[test]
fn files_set_aside_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("journal.redb");
    for i in 0..8 {
        fs::write(&file, format!("garbage {i}")).unwrap();
        drop(JournalStore::open(&file).unwrap());
    }
    let store = JournalStore::open(&file).unwrap();
    let place = Place { dir, store };
    assert_eq!(place.set_aside(), 4);
}

#[test]
fn a_file_in_use_is_refused_and_not_set_aside() {
    let place = place();
    let error = JournalStore::open(&place.file()).unwrap_err();
    assert!(
        matches!(&error, JournalError::Storage(text) if text.contains("journal.redb")),
        "{error}"
    );
    assert_eq!(place.set_aside(), 0);
    place.store.append(&[record("aa", "f", T0, 1)]).unwrap();
}

#[test]
fn a_directory_in_its_place_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = JournalStore::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
}

/// Whatever bytes are altered: no call panics, no wrong record is answered, and appending works again.
#[test]
fn damage_anywhere_is_survived() {
    let rows: Vec<_> = (0..300)
        .map(|i| with_logs(record("aa", "f", T0 + i, i), 300))
        .collect();
    let original = {
        let place = place();
        for batch in rows.chunks(20) {
            place.store.append(batch).unwrap();
        }
        let Place { dir, store } = place;
        drop(store);
        fs::read(dir.path().join("journal.redb")).unwrap()
    };
    let mut lost_all = 0;
    for round in 0..60usize {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("journal.redb");
        let mut bytes = original.clone();
        match round % 3 {
            0 => bytes.truncate(original.len() / 60 * round),
            // A page of noise, the way a bad sector looks.
            1 => {
                let at = (original.len() / 60 * round) & !4095;
                let end = (at + 4096).min(bytes.len());
                for (i, b) in bytes[at..end].iter_mut().enumerate() {
                    *b = (i * 31 + round) as u8;
                }
            }
            _ => {
                for i in 0..200 {
                    let at = (i * 7_919 + round * 104_729) % bytes.len();
                    bytes[at] ^= 0x10;
                }
            }
        }
        fs::write(&file, bytes).unwrap();
        let store = JournalStore::open(&file).unwrap();
        let found = store.query(&ask("aa", "f", LOGS_MAX)).unwrap();
        assert!(found.iter().all(|r| rows.contains(r)), "round {round}");
        lost_all += usize::from(found.is_empty());
        let new = record("aa", "f", T0 + 5_000, 9_999);
        store.append(std::slice::from_ref(&new)).unwrap();
        assert_eq!(
            store.query(&ask("aa", "f", 1)).unwrap(),
            [new],
            "round {round}"
        );
        store.prune(Timestamp(0), 10).unwrap();
        store
            .delete_namespace(&Namespace::parse("aa").unwrap())
            .unwrap();
    }
    assert!((1..60).contains(&lost_all), "{lost_all}");
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

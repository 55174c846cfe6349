//! The keeper alone: batches, replay, damage, with a log in memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::Expect;
use super::super::command::{Command, Reply};
use super::super::keeper::{DataKeeper, KeeperOptions};
use super::super::metrics::Metrics;
use super::*;
use crate::consensus::{CommandLog, Keeper, KeptEntry, Position, Resumed};
use crate::sql::{DatabasesOptions, Query};

/// The birth of databases whose namespaces were made anew.
const OUTLIVED: orama_proto::Timestamp = orama_proto::Timestamp(666);

/// What was applied.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<BTreeMap<u64, Vec<u8>>>>);

impl CommandLog for Log {
    fn commands(
        &self,
        after: u64,
        to: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let log = self.0.lock().clone();
        for (index, command) in log.range(after + 1..=to) {
            each(*index, command)?;
        }
        Ok(())
    }
}

struct Bench {
    keeper: DataKeeper,
    log: Log,
    next: u64,
}

impl Bench {
    fn open(dir: &Path, log: &Log) -> Self {
        let registry = prometheus::Registry::new();
        let options = KeeperOptions {
            snapshot_entries: 100,
            databases: DatabasesOptions::default(),
        };
        let keeper = DataKeeper::new(
            GroupId(1),
            dir.join("00000001"),
            options,
            crate::sql::Metrics::register(&registry).unwrap(),
            Metrics::register(&registry).unwrap(),
            Arc::default(),
            Box::new(|id| id.born == OUTLIVED),
        );
        let shared = Arc::new(log.clone());
        let resumed = keeper.open(shared).unwrap().unwrap();
        let next = resumed.at.map_or(1, |at| at.index + 1);
        let log = log.clone();
        Self { keeper, log, next }
    }

    fn at(index: u64) -> Position {
        Position {
            term: 1,
            leader: 1,
            index,
        }
    }

    fn apply(&mut self, commands: &[Command]) -> Vec<Reply> {
        let entries = commands.iter().map(|command| {
            let mut bytes = command.encode().unwrap();
            self.keeper.stamp(&mut bytes).unwrap();
            let index = self.next;
            self.next += 1;
            self.log.0.lock().insert(index, bytes.clone());
            KeptEntry {
                at: Self::at(index),
                membership: None,
                command: Some(bytes),
            }
        });
        let entries = entries.collect();
        self.replies(entries)
    }

    fn replies(&self, entries: Vec<KeptEntry>) -> Vec<Reply> {
        let replies = self.keeper.apply(entries).unwrap();
        replies.iter().map(|r| Reply::decode(r).unwrap()).collect()
    }

    /// What a restart does: everything after the floor is given to it again.
    fn replay(&mut self) {
        let log = self.log.0.lock().clone();
        let entries = log.range(self.next..).map(|(index, command)| KeptEntry {
            at: Self::at(*index),
            membership: None,
            command: Some(command.clone()),
        });
        let entries: Vec<_> = entries.collect();
        self.next = log.keys().max().map_or(1, |last| last + 1);
        self.replies(entries);
    }

    fn count(&self, id: &DatabaseId) -> String {
        let query = Query {
            sql: "SELECT count(*) AS c FROM t".into(),
            args: Vec::new(),
        };
        let databases = self.keeper.databases().unwrap();
        let read = databases.read(id, &[query], 10, 1000, soon(5), &Arc::default());
        let rows = read.unwrap().unwrap().remove(0).unwrap();
        String::from_utf8(rows.json).unwrap()
    }
}

fn id(name: &str) -> DatabaseId {
    DatabaseId {
        namespace: Namespace::parse(name).unwrap(),
        born: orama_proto::Timestamp(1),
    }
}

fn sql(id: &DatabaseId, sql: &str) -> Command {
    Command::Transaction(transaction(id, vec![op(sql, Vec::new())]))
}

fn register(key: &str, value: &str, expect: Expect) -> Command {
    Command::Register {
        key: key.into(),
        value: value.into(),
        expect,
    }
}

fn committed(reply: &Reply) -> bool {
    matches!(reply, Reply::Outcome(SqlOutcome::Committed(_)))
}

#[test]
fn a_batch_keeps_the_order_within_each_database() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path(), &Log::default());
    let (one, two) = (id("one"), id("two"));
    let replies = bench.apply(&[
        sql(&one, "CREATE TABLE t (n)"),
        register("k", "1", Expect::Absent),
        sql(&two, "INSERT INTO t VALUES (1)"),
        sql(&one, "INSERT INTO t VALUES (1)"),
        register("k", "2", Expect::Value("1".into())),
        register("k", "3", Expect::Absent),
        sql(&two, "CREATE TABLE t (n)"),
        Command::Drop(one.clone()),
        sql(&one, "CREATE TABLE t (n)"),
    ]);
    assert!(committed(&replies[0]) && committed(&replies[3]));
    assert!(!committed(&replies[2]), "it came before its table");
    assert!(committed(&replies[6]));
    assert_eq!(replies[4], Reply::Done);
    assert_eq!(replies[5], Reply::Differs(Some("2".into())));
    assert!(!committed(&replies[8]), "it was dropped");
    let databases = bench.keeper.databases().unwrap();
    assert_eq!(databases.list().len(), 1);
    assert_eq!(databases.register("k").as_deref(), Some("2"));
    bench.keeper.close();
}

#[test]
fn what_was_dropped_stays_so_whatever_comes_later() {
    let (dir, log) = (tempfile::tempdir().unwrap(), Log::default());
    let (one, two) = (id("one"), id("two"));
    let mut bench = Bench::open(dir.path(), &log);
    bench.apply(&[
        sql(&one, "CREATE TABLE t (n)"),
        sql(&two, "CREATE TABLE t (n)"),
    ]);
    bench.apply(&[Command::Drop(one.clone())]);
    let late = |bench: &mut Bench| {
        let replies = bench.apply(&[sql(&one, "CREATE TABLE t (n)")]);
        let Reply::Outcome(SqlOutcome::RolledBack { error, .. }) = &replies[0] else {
            panic!("{replies:?}");
        };
        assert_eq!(error.code, orama_proto::sql::SqlCode::Unavailable);
        assert!(error.message.contains("deleted"), "{error}");
        let listed = bench.keeper.databases().unwrap().list();
        assert_eq!(listed.len(), 1, "{listed:?}");
    };
    late(&mut bench);
    let hash = bench.keeper.hash();
    // Killed: everything is given to it again, in one batch.
    drop(bench);
    let mut again = Bench::open(dir.path(), &log);
    again.next = 1;
    again.replay();
    assert_eq!(again.keeper.hash(), hash);
    late(&mut again);
    // A snapshot has it too.
    let at = Resumed {
        at: Some(Bench::at(again.next - 1)),
        ..Resumed::default()
    };
    let manifest = again.keeper.save(&at).unwrap();
    again.keeper.rebuild(Some((&manifest, &at))).unwrap();
    late(&mut again);
    let born_again = DatabaseId {
        born: orama_proto::Timestamp(2),
        ..one.clone()
    };
    assert!(committed(
        &again.apply(&[sql(&born_again, "CREATE TABLE t (n)")])[0]
    ));
    again.keeper.close();
}

#[test]
fn a_leader_lets_nothing_in_that_is_outlived_or_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), &Log::default());
    let refused = |bytes: &[u8]| {
        let mut stamped = bytes.to_vec();
        let why = bench.keeper.stamp(&mut stamped).unwrap_err();
        assert_eq!(stamped, bytes);
        why
    };
    let good = sql(&id("one"), "CREATE TABLE t (n)").encode().unwrap();
    bench.keeper.stamp(&mut good.clone()).unwrap();
    let mut newer = good.clone();
    newer[0] += 1;
    assert!(refused(&newer).contains("version"));
    let mut other = good.clone();
    other[1] = 77;
    assert!(refused(&other).contains("unknown kind 77"));
    refused(&good[..good.len() - 1]);
    refused(b"");
    let old = DatabaseId {
        born: OUTLIVED,
        ..id("one")
    };
    assert!(refused(&sql(&old, "SELECT 1").encode().unwrap()).contains("made anew"));
    // To drop it is what is to be done.
    let mut drop = Command::Drop(old).encode().unwrap();
    bench.keeper.stamp(&mut drop).unwrap();
    bench.keeper.close();
}

#[test]
fn nothing_is_applied_twice_after_a_restart() {
    let (dir, log) = (tempfile::tempdir().unwrap(), Log::default());
    let one = id("one");
    let mut bench = Bench::open(dir.path(), &log);
    bench.apply(&[
        sql(&one, "CREATE TABLE t (n)"),
        register("k", "1", Expect::Absent),
    ]);
    bench.apply(&[
        sql(&one, "INSERT INTO t VALUES (1)"),
        register("k", "2", Expect::Anything),
    ]);
    let hash = bench.keeper.hash();
    // What a killed process leaves: no floor, everything in the files.
    drop(bench);
    let mut again = Bench::open(dir.path(), &log);
    again.replay();
    assert_eq!(again.count(&one), r#"[{"c":1}]"#);
    assert_eq!(again.keeper.hash(), hash);
    again.apply(&[sql(&one, "INSERT INTO t VALUES (2)")]);
    let at = Resumed {
        at: Some(Bench::at(again.next - 1)),
        ..Resumed::default()
    };
    let manifest = again.keeper.save(&at).unwrap();
    again.keeper.keep(std::slice::from_ref(&manifest)).unwrap();
    again.keeper.close();
    drop(again);
    let third = Bench::open(dir.path(), &log);
    assert_eq!(third.next, 6, "the floor is at the snapshot");
    assert_eq!(third.count(&one), r#"[{"c":2}]"#);
    third.keeper.keep(&[manifest]).unwrap();
    assert_eq!(
        third.keeper.saved()[0].at,
        5,
        "a manifest says where it was made"
    );
    third.keeper.close();
}

#[test]
fn a_file_that_is_damaged_is_rebuilt_while_entries_are_applied() {
    let (dir, log) = (tempfile::tempdir().unwrap(), Log::default());
    let (one, two) = (id("one"), id("two"));
    let mut bench = Bench::open(dir.path(), &log);
    for id in [&one, &two] {
        bench.apply(&[
            sql(id, "CREATE TABLE t (n)"),
            sql(id, "INSERT INTO t VALUES (1)"),
        ]);
    }
    let at = Resumed {
        at: Some(Bench::at(bench.next - 1)),
        ..Resumed::default()
    };
    let manifest = bench.keeper.save(&at).unwrap();
    bench.keeper.keep(std::slice::from_ref(&manifest)).unwrap();
    bench.apply(&[sql(&one, "INSERT INTO t VALUES (2)")]);
    bench.keeper.close();
    drop(bench);
    let live = dir.path().join("00000001").join("live");
    for entry in std::fs::read_dir(live).unwrap() {
        let path = entry.unwrap().path();
        std::fs::write(path, vec![7; 8192]).unwrap();
    }
    let mut again = Bench::open(dir.path(), &log);
    again.keeper.keep(&[manifest]).unwrap();
    again.replay();
    let replies = again.apply(&[
        sql(&one, "INSERT INTO t VALUES (3)"),
        sql(&two, "INSERT INTO t VALUES (3)"),
    ]);
    assert!(replies.iter().all(committed), "{replies:?}");
    assert_eq!(again.count(&one), r#"[{"c":3}]"#);
    assert_eq!(again.count(&two), r#"[{"c":2}]"#);
    assert!(again.keeper.all_fenced().is_empty());
    again.keeper.close();
}

#[test]
fn a_snapshot_is_due_by_entries_bytes_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), &Log::default());
    let keeper = &bench.keeper;
    assert!(!keeper.due(99, 1 << 20, 800) && !keeper.due(0, 0, 10_000));
    assert!(keeper.due(100, 0, 0) && keeper.due(1, 64 << 20, 0) && keeper.due(1, 0, 900));
    keeper.close();
}

#[test]
fn snapshots_wait_for_fenced_databases_but_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path(), &Log::default());
    let one = id("one");
    bench.apply(&[sql(&one, "CREATE TABLE t (n)")]);
    let keeper = &bench.keeper;
    keeper.fence(&one, "for a test").unwrap();
    assert_eq!(keeper.put_off_for(), Duration::ZERO, "none is due yet");
    assert!(!keeper.due(99, 0, 0) && !keeper.due(100, 0, 0) && !keeper.due(1, 1 << 30, 900));
    while keeper.put_off_for() == Duration::ZERO {
        std::thread::yield_now();
    }
    assert!(keeper.due(1000, 0, 0) && keeper.due(100, 4 << 30, 0));
    assert!(!keeper.due(100, 0, 0));
    super::super::rebuild::locally(keeper, &keeper.databases().unwrap(), &one).unwrap();
    assert_eq!(keeper.put_off_for(), Duration::ZERO);
    assert!(keeper.due(100, 0, 0));
    keeper.close();
}

#[test]
fn a_database_is_rebuilt_while_others_are_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path(), &Log::default());
    let (one, two) = (id("one"), id("two"));
    bench.apply(&[
        sql(&one, "CREATE TABLE t (n)"),
        sql(&one, "INSERT INTO t VALUES (1)"),
        sql(&two, "CREATE TABLE t (n)"),
    ]);
    let databases = bench.keeper.databases().unwrap();
    let copy = dir.path().join("copy.db");
    databases.backup(&one, &copy).unwrap().unwrap();
    bench.apply(&[sql(&one, "INSERT INTO t VALUES (2)")]);
    bench.keeper.fence(&one, "for a test").unwrap();
    // A copy that comes slowly: nothing comes out of it before it is written to.
    let slow = dir.path().join("slow");
    let made = std::process::Command::new("mkfifo").arg(&slow).status();
    assert!(made.unwrap().success());
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let (keeper, one_again) = (&bench.keeper, one.clone());
        let databases = &databases;
        let from = slow.clone();
        scope.spawn(move || {
            let done_now =
                super::super::rebuild::beside(keeper, databases, &one_again, Some(&from), 3);
            done.send(done_now).unwrap();
        });
        // It is opened only when somebody reads it.
        let mut end = std::fs::File::options().write(true).open(&slow).unwrap();
        assert!(
            keeper
                .progress()
                .try_lock_for(Duration::from_secs(5))
                .is_some()
        );
        let mut bytes = sql(&two, "INSERT INTO t VALUES (3)").encode().unwrap();
        keeper.stamp(&mut bytes).unwrap();
        bench.log.0.lock().insert(bench.next, bytes.clone());
        let entry = KeptEntry {
            at: Bench::at(bench.next),
            membership: None,
            command: Some(bytes),
        };
        let replies = keeper.apply(vec![entry]).unwrap();
        assert!(committed(&Reply::decode(&replies[0]).unwrap()));
        assert!(ended.try_recv().is_err());
        std::io::Write::write_all(&mut end, &std::fs::read(&copy).unwrap()).unwrap();
        drop(end);
        ended
            .recv_timeout(Duration::from_secs(20))
            .unwrap()
            .unwrap();
    });
    assert_eq!(bench.count(&one), r#"[{"c":2}]"#);
    assert_eq!(bench.count(&two), r#"[{"c":1}]"#);
    assert!(bench.keeper.all_fenced().is_empty());
    bench.next += 1;
    assert!(committed(
        &bench.apply(&[sql(&one, "INSERT INTO t VALUES (4)")])[0]
    ));
    // What is not the same database any more is not replaced.
    bench.keeper.fence(&one, "for a test").unwrap();
    let staged = databases.stage(&one, Some(&copy)).unwrap();
    assert!(staged.lacks().is_some());
    bench.apply(&[Command::Drop(one.clone())]);
    assert!(databases.exchange(staged).is_err());
    assert!(databases.list().iter().all(|d| d.id != one));
    let left = std::fs::read_dir(dir.path().join("00000001").join("staged"));
    assert_eq!(left.unwrap().count(), 0);
    bench.keeper.close();
}

#[test]
fn damage_that_a_read_finds_is_rebuilt() {
    let (dir, log) = (tempfile::tempdir().unwrap(), Log::default());
    let one = id("one");
    let mut bench = Bench::open(dir.path(), &log);
    let fill = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 500)
        INSERT INTO t SELECT printf('%0500d', n) FROM c";
    bench.apply(&[sql(&one, "CREATE TABLE t (n)"), sql(&one, fill)]);
    bench.keeper.close();
    drop(bench);
    let mut bench = Bench::open(dir.path(), &log);
    bench.next = 3;
    let live = dir.path().join("00000001").join("live");
    for entry in std::fs::read_dir(live).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        // All but the first page.
        bytes[4096..].fill(7);
        std::fs::write(&path, bytes).unwrap();
    }
    let databases = bench.keeper.databases().unwrap();
    let query = Query {
        sql: "SELECT count(*) FROM t".into(),
        args: Vec::new(),
    };
    let read = databases.read(&one, &[query], 10, 1000, soon(5), &Arc::default());
    let fenced = read.unwrap().unwrap_err();
    bench.keeper.noticed(&fenced.id);
    assert!(bench.keeper.is_fenced(&one));
    super::super::rebuild::locally(&bench.keeper, &databases, &one).unwrap();
    assert_eq!(bench.count(&one), r#"[{"c":500}]"#);
    // A read that was on its way says it once more: it is sound, and stays so.
    bench.keeper.noticed(&fenced.id);
    assert!(!bench.keeper.is_fenced(&one));
    bench.keeper.close();
}

#[test]
fn an_entry_of_a_newer_program_stops_the_group() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), &Log::default());
    let mut command = sql(&id("one"), "CREATE TABLE t (n)").encode().unwrap();
    command[0] = 77;
    let entry = KeptEntry {
        at: Bench::at(1),
        membership: None,
        command: Some(command),
    };
    let error = bench.keeper.apply(vec![entry]).unwrap_err().to_string();
    assert!(
        error.contains("entry 1") && error.contains("version 77"),
        "{error}"
    );
    bench.keeper.close();
}

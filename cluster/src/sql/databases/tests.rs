//! What is kept, through stops of every kind.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use orama_proto::sql::{
    DatabaseId, OpKind, SqlLimits, SqlOp, SqlOutcome, SqlTransaction, SqlValue, Stamp,
};
use orama_proto::{GroupId, Namespace, RequestId, Timestamp};

use super::*;

fn id(name: &str) -> DatabaseId {
    DatabaseId {
        namespace: Namespace::parse(name).unwrap(),
        born: Timestamp(7),
    }
}

fn metrics() -> Metrics {
    Metrics::register(&prometheus::Registry::new()).unwrap()
}

fn open_with(dir: &Path, options: DatabasesOptions) -> Databases {
    Databases::open(dir, GroupId(1), options, &metrics())
        .unwrap()
        .unwrap()
}

fn open(dir: &Path) -> Databases {
    open_with(dir, DatabasesOptions::default())
}

fn write(databases: &Databases, name: &str, index: u64, sql: &str) -> Result<Vec<Applied>, Fenced> {
    let transaction = SqlTransaction {
        database: id(name),
        request_id: RequestId::random(),
        limits: SqlLimits {
            pages: 10_000,
            steps: 1_000_000,
        },
        ops: vec![SqlOp {
            kind: OpKind::Exec,
            sql: sql.to_owned(),
            args: Vec::new(),
        }],
    };
    let stamp = Stamp {
        clock: Timestamp(1_700_000_000_000_000 + index),
        seed: [u8::try_from(index % 251).unwrap(); 16],
    };
    let item = Item {
        index,
        stamp,
        transaction: &transaction,
    };
    databases.apply(&id(name), &[item]).unwrap()
}

fn done(databases: &Databases, name: &str, index: u64, sql: &str) {
    let applied = write(databases, name, index, sql).unwrap();
    let outcome = applied.into_iter().next().unwrap().outcome.unwrap();
    assert!(matches!(outcome, SqlOutcome::Committed(_)), "{outcome:?}");
}

fn read(databases: &Databases, name: &str, sql: &str) -> Result<String, Fenced> {
    let query = Query {
        sql: sql.to_owned(),
        args: Vec::<SqlValue>::new(),
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    let cancelled = Arc::new(AtomicBool::new(false));
    let answers = databases
        .read(&id(name), &[query], 1000, 1 << 20, deadline, &cancelled)
        .unwrap()?;
    let rows = answers.into_iter().next().unwrap().unwrap();
    Ok(String::from_utf8(rows.json).unwrap())
}

fn floor(index: u64) -> Floor {
    Floor {
        index,
        opaque: vec![1, 2, 3],
    }
}

fn fill(databases: &Databases, name: &str, first: u64) {
    done(
        databases,
        name,
        first,
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b DEFAULT (random()))",
    );
    for index in first + 1..first + 10 {
        done(databases, name, index, "INSERT INTO t DEFAULT VALUES");
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Deletes what SQLite keeps beside a file.
fn forget_log(path: &Path) {
    for suffix in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        fs::remove_file(name).unwrap();
    }
}

const COUNT: &str = "SELECT count(*) AS n FROM t";

#[test]
fn a_killed_process_leaves_a_state_that_replay_completes() {
    let dir = tempfile::tempdir().unwrap();
    let (home, killed) = (dir.path().join("a"), dir.path().join("b"));
    let databases = open(&home);
    fill(&databases, "one", 1);
    databases.harden(&floor(10)).unwrap();
    done(&databases, "one", 11, "INSERT INTO t DEFAULT VALUES");
    fill(&databases, "two", 12);
    databases
        .set_registers(22, &[("k".into(), "v".into())])
        .unwrap();
    // What a kill leaves: the files as they are, open connections and all.
    copy_dir(&home, &killed);
    let hash = databases.hash();

    let again = open(&killed);
    assert_eq!(again.floor(), Some(floor(10)));
    assert_eq!(again.register("k").as_deref(), Some("v"));
    assert_eq!(again.registers_applied(), 22);
    // Replay from the floor: what is there is skipped.
    for index in 11..=21 {
        let (name, sql) = match index {
            11 => ("one", "INSERT INTO t DEFAULT VALUES"),
            12 => (
                "two",
                "CREATE TABLE t(a INTEGER PRIMARY KEY, b DEFAULT (random()))",
            ),
            _ => ("two", "INSERT INTO t DEFAULT VALUES"),
        };
        let applied = write(&again, name, index, sql).unwrap();
        assert!(applied.iter().all(|a| a.outcome.is_none()), "{index}");
    }
    assert_eq!(again.hash(), hash);
    assert_eq!(read(&again, "one", COUNT).unwrap(), "[{\"n\":10}]");
    assert_eq!(read(&again, "two", COUNT).unwrap(), "[{\"n\":9}]");
    done(&again, "two", 23, "INSERT INTO t DEFAULT VALUES");
    done(&databases, "two", 23, "INSERT INTO t DEFAULT VALUES");
    assert_eq!(again.hash(), databases.hash());
}

#[test]
fn a_clean_stop_needs_no_check_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let databases = open(dir.path());
    fill(&databases, "one", 1);
    databases.harden(&floor(10)).unwrap();
    let hash = databases.hash();
    databases.close();
    drop(databases);
    let again = open(dir.path());
    assert!(again.clean);
    assert_eq!(again.hash(), hash);
    assert_eq!(read(&again, "one", COUNT).unwrap(), "[{\"n\":9}]");
    assert_eq!(
        read(&again, "none", "SELECT 1 AS x").unwrap(),
        "[{\"x\":1}]"
    );
    drop(again);
    assert!(!open(dir.path()).clean, "it was not closed");
}

#[test]
fn a_damaged_or_missing_file_is_fenced_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let databases = open(dir.path());
    for (name, first) in [("one", 1), ("two", 101), ("three", 201)] {
        fill(&databases, name, first);
    }
    databases.harden(&floor(300)).unwrap();
    let manifest = databases.save().unwrap();
    done(&databases, "one", 301, "INSERT INTO t DEFAULT VALUES");
    let hash = databases.hash();
    let path = |name: &str| {
        let slot = databases.slot(&id(name)).unwrap();
        let generation = slot.state.lock().generation;
        path_of(&databases.live, generation)
    };
    let (one, two) = (path("one"), path("two"));
    assert!(databases.write_back(&one).unwrap());
    databases.close();
    forget_log(&one);
    let mut bytes = fs::read(&one).unwrap();
    bytes[4096..8192].fill(0xa5);
    fs::write(&one, bytes).unwrap();
    fs::remove_file(&two).unwrap();
    drop(databases);

    let again = open(dir.path());
    let fenced = read(&again, "one", COUNT).unwrap_err();
    assert!(!fenced.why.is_empty());
    write(&again, "two", 302, "INSERT INTO t DEFAULT VALUES").unwrap_err();
    assert_eq!(read(&again, "three", COUNT).unwrap(), "[{\"n\":9}]");
    assert!(
        again.save().is_err(),
        "nobody vouches for a fenced database"
    );
    assert_eq!(
        again.list().iter().filter(|d| d.fenced.is_some()).count(),
        2
    );
    // The fence outlives the process.
    drop(again);
    let again = open(dir.path());
    assert_eq!(
        again.list().iter().filter(|d| d.fenced.is_some()).count(),
        2
    );
    for (name, mark) in [("one", 10), ("two", 110)] {
        let saved = again.saved(&manifest, &id(name)).unwrap().unwrap();
        let found = again.replace(&id(name), Some(&saved.path)).unwrap();
        assert_eq!(found.applied, mark);
    }
    done(&again, "one", 301, "INSERT INTO t DEFAULT VALUES");
    assert_eq!(again.hash(), hash);
    assert_eq!(read(&again, "one", COUNT).unwrap(), "[{\"n\":10}]");
}

#[test]
fn a_file_that_lost_what_the_floor_vouches_for_is_fenced() {
    let dir = tempfile::tempdir().unwrap();
    let databases = open(dir.path());
    fill(&databases, "one", 1);
    let early = databases.save().unwrap();
    let saved = databases.saved(&early, &id("one")).unwrap().unwrap();
    done(&databases, "one", 11, "INSERT INTO t DEFAULT VALUES");
    databases.harden(&floor(11)).unwrap();
    let generation = databases.slot(&id("one")).unwrap().state.lock().generation;
    let path = path_of(&databases.live, generation);
    databases.close();
    drop(databases);
    fs::copy(&saved.path, &path).unwrap();
    forget_log(&path);
    let again = open(dir.path());
    let fenced = read(&again, "one", COUNT).unwrap_err();
    assert!(fenced.why.contains("entry 10"), "{fenced}");
}

#[test]
fn a_damaged_directory_is_made_again_from_a_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let databases = open(dir.path());
    fill(&databases, "one", 1);
    databases
        .set_registers(11, &[("k".into(), "v".into())])
        .unwrap();
    let manifest = databases.save().unwrap();
    let hash = databases.hash();
    databases.close();
    drop(databases);
    let file = dir.path().join("group.db");
    let mut bytes = fs::read(&file).unwrap();
    bytes[..4096].fill(0x5a);
    fs::write(&file, bytes).unwrap();
    let opened = Databases::open(
        dir.path(),
        GroupId(1),
        DatabasesOptions::default(),
        &metrics(),
    );
    assert!(opened.unwrap().is_err());
    Databases::reset_dir(dir.path(), &manifest, Some(&floor(11))).unwrap();
    let again = open(dir.path());
    assert_eq!((again.hash(), again.floor()), (hash, Some(floor(11))));
    assert_eq!(again.register("k").as_deref(), Some("v"));
    assert_eq!(read(&again, "one", COUNT).unwrap(), "[{\"n\":9}]");
}

#[test]
fn a_snapshot_travels_as_one_body() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = open(a.path());
    fill(&source, "one", 1);
    fill(&source, "two", 11);
    source
        .set_registers(21, &[("k".into(), "v".into())])
        .unwrap();
    let manifest = source.save().unwrap();
    // What did not change is not copied again.
    done(&source, "two", 22, "INSERT INTO t DEFAULT VALUES");
    let newer = source.save().unwrap();
    assert_eq!(source.metrics.copies.get(), 3);
    source.keep(&[newer.clone()]).unwrap();
    assert_eq!(fs::read_dir(&source.backups).unwrap().count(), 2);
    let mut body = Vec::new();
    assert!(
        source.write_body(&manifest, &mut body).is_err(),
        "a copy of it is gone"
    );
    body.clear();
    source.write_body(&newer, &mut body).unwrap();
    assert_eq!(body.len() as u64, source.body_bytes(&newer));

    let target = open(b.path());
    fill(&target, "old", 1);
    for cut in [0, 3, 10, 200, body.len() - 1] {
        assert!(target.unpack(&mut &body[..cut]).is_err(), "{cut}");
    }
    let mut bad = body.clone();
    let last = bad.len() - 100;
    bad[last] ^= 1;
    assert!(target.unpack(&mut &bad[..]).is_err());
    let unpacked = target.unpack(&mut &body[..]).unwrap();
    assert_eq!(unpacked, newer);
    assert_eq!(
        read(&target, "old", COUNT).unwrap(),
        "[{\"n\":9}]",
        "not adopted yet"
    );
    target.reset(&unpacked, Some(&floor(22))).unwrap();
    assert_eq!(target.hash(), source.hash());
    assert_eq!(read(&target, "two", COUNT).unwrap(), "[{\"n\":10}]");
    assert!(read(&target, "old", "SELECT name FROM sqlite_schema").unwrap() == "[]");
    assert_eq!(
        fs::read_dir(&target.live)
            .unwrap()
            .filter(|e| {
                e.as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .ends_with(".db")
            })
            .count(),
        2
    );
}

#[test]
fn few_handles_serve_many_databases() {
    let dir = tempfile::tempdir().unwrap();
    let options = DatabasesOptions {
        open_max: 4,
        readers_max: 3,
    };
    let databases = open_with(dir.path(), options);
    let names: Vec<String> = (0..30).map(|n| format!("space-{n}")).collect();
    for (name, index) in names.iter().zip(1..) {
        done(&databases, name, index, "CREATE TABLE t(a)");
        done(&databases, name, 100 + index, "INSERT INTO t VALUES(1)");
    }
    for name in &names {
        assert_eq!(read(&databases, name, COUNT).unwrap(), "[{\"n\":1}]");
    }
    assert_eq!(databases.metrics.open.get(), 4);
    assert_eq!(databases.metrics.readers.get(), 3);
    assert_eq!(databases.metrics.databases.get(), 30);
}

#[test]
fn a_removed_database_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let databases = open(dir.path());
    fill(&databases, "one", 1);
    databases.remove(&id("one"), 11).unwrap();
    databases.remove(&id("one"), 11).unwrap();
    assert_eq!(databases.hash(), 0);
    assert_eq!(fs::read_dir(&databases.live).unwrap().count(), 0);
    fill(&databases, "one", 12);
    assert_eq!(read(&databases, "one", COUNT).unwrap(), "[{\"n\":9}]");
}

#[test]
fn long_logs_are_written_back_while_others_read() {
    let dir = tempfile::tempdir().unwrap();
    let databases = open(dir.path());
    done(&databases, "one", 1, "CREATE TABLE t(a)");
    for index in 2..12 {
        done(
            &databases,
            "one",
            index,
            "INSERT INTO t VALUES(zeroblob(900000))",
        );
        assert!(read(&databases, "one", COUNT).is_ok());
    }
    databases.checkpoint().unwrap();
    assert_eq!(databases.metrics.checkpoints.get(), 1);
    assert_eq!(read(&databases, "one", COUNT).unwrap(), "[{\"n\":10}]");
}

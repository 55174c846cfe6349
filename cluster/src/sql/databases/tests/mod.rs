//! What the files of a group must survive: kills, power cuts, damage, exchange, many of them.

mod bodies;
mod bounds;
mod damage;
mod handles;
mod kill;
mod snapshots;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use orama_proto::sql::{DatabaseId, OpKind, SqlLimits, SqlOp, SqlTransaction, Stamp};
use orama_proto::{GroupId, Namespace, RequestId, Timestamp};

use super::*;
use crate::sql::{Applied, Item, Query};

const GROUP: GroupId = GroupId(3);

fn id(name: &str) -> DatabaseId {
    DatabaseId {
        namespace: Namespace::parse(name).unwrap(),
        born: Timestamp(7),
    }
}

fn metrics() -> Metrics {
    Metrics::register(&prometheus::Registry::new()).unwrap()
}

fn open_with(dir: &Path, open_max: usize, readers_max: usize) -> Databases {
    let options = DatabasesOptions::new(open_max, readers_max);
    Databases::open(dir, GROUP, options, &metrics())
        .unwrap()
        .unwrap()
}

fn open(dir: &Path) -> Databases {
    open_with(dir, 3, 4)
}

fn open_error(dir: &Path) -> String {
    let opened = Databases::open(dir, GROUP, DatabasesOptions::default(), &metrics());
    opened.unwrap().err().unwrap()
}

fn floor(index: u64) -> Floor {
    Floor {
        index,
        opaque: index.to_be_bytes().to_vec(),
    }
}

fn transaction(id: &DatabaseId, sql: &[String]) -> SqlTransaction {
    let op = |sql: &String| SqlOp {
        kind: OpKind::Exec,
        sql: sql.clone(),
        args: Vec::new(),
    };
    SqlTransaction {
        database: id.clone(),
        request_id: RequestId::random(),
        limits: SqlLimits {
            pages: 1 << 16,
            steps: 10_000_000,
        },
        ops: sql.iter().map(op).collect(),
    }
}

fn stamp(index: u64) -> Stamp {
    let mut seed = [9; 16];
    seed[..8].copy_from_slice(&index.to_le_bytes());
    Stamp {
        clock: Timestamp(1_800_000_000_000_000 + index * 1_000_000),
        seed,
    }
}

fn write(
    databases: &Databases,
    id: &DatabaseId,
    index: u64,
    sql: &[&str],
) -> Result<Result<Vec<Applied>, Fenced>, EngineFault> {
    let sql: Vec<String> = sql.iter().map(|s| (*s).to_owned()).collect();
    let transaction = transaction(id, &sql);
    let item = Item {
        index,
        stamp: stamp(index),
        transaction: &transaction,
    };
    databases.apply(id, &[item])
}

fn wrote(databases: &Databases, id: &DatabaseId, index: u64, sql: &[&str]) {
    let done = write(databases, id, index, sql).unwrap().unwrap();
    assert!(done[0].outcome.is_some(), "it was there already");
}

fn ask(databases: &Databases, id: &DatabaseId, sql: &str) -> Result<String, String> {
    let query = Query {
        sql: sql.to_owned(),
        args: Vec::new(),
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    let cancelled = Arc::new(AtomicBool::new(false));
    let answers = databases
        .read(id, &[query], 10_000, 1 << 20, deadline, &cancelled)
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())?;
    let rows = answers[0].clone().map_err(|e| e.to_string())?;
    Ok(String::from_utf8(rows.json).unwrap())
}

/// What a group's log holds.
#[derive(Debug, Clone)]
enum Entry {
    Write(DatabaseId, Vec<String>),
    Drop(DatabaseId),
    Register(String, String),
}

/// A log whose entry `n` is at place `n - 1`; the same for the same seed.
fn workload(seed: u64, entries: usize) -> Vec<Entry> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % n
    };
    let names = ["aa", "bb", "cc", "dd", "ee"];
    (0..entries)
        .map(|n| {
            let id = id(names[next(5) as usize]);
            match next(12) {
                0 => Entry::Drop(id),
                1 | 2 => Entry::Register(format!("k{}", next(4)), n.to_string()),
                _ => Entry::Write(
                    id,
                    vec![
                        "CREATE TABLE IF NOT EXISTS t (n INTEGER, r DEFAULT (random()), at DEFAULT CURRENT_TIMESTAMP)".into(),
                        format!("INSERT INTO t (n) VALUES ({n}), ({n} + 1)"),
                        format!("UPDATE t SET r = random() WHERE n % 7 = {}", next(7)),
                    ],
                ),
            }
        })
        .collect()
}

fn apply_entry(databases: &Databases, index: u64, entry: &Entry) {
    match entry {
        Entry::Write(id, sql) => {
            let transaction = transaction(id, sql);
            let item = Item {
                index,
                stamp: stamp(index),
                transaction: &transaction,
            };
            databases.apply(id, &[item]).unwrap().unwrap();
        }
        Entry::Drop(id) => databases.remove(id, index).unwrap(),
        Entry::Register(key, value) => {
            if index > databases.registers_applied() {
                let change = (key.clone(), value.clone());
                databases.set_registers(index, &[change]).unwrap();
            }
        }
    }
}

/// Applies what comes after the floor, up to the entry `to`.
fn replay(databases: &Databases, log: &[Entry], to: u64) {
    let from = databases.floor().map_or(0, |f| f.index);
    for index in from + 1..=to {
        apply_entry(databases, index, &log[index as usize - 1]);
    }
}

/// Everything that replicas must agree on.
#[derive(Debug, PartialEq, Eq)]
struct Truth {
    hash: u128,
    marks: Vec<(DatabaseId, Mark)>,
    rows: Vec<String>,
    registers: Vec<Option<String>>,
}

fn truth(databases: &Databases) -> Truth {
    let listed = databases.list();
    assert!(listed.iter().all(|d| d.fenced.is_none()), "{listed:?}");
    let sql = "SELECT count(*) AS n, sum(n) AS s, group_concat(r) AS r, max(at) AS at FROM t";
    Truth {
        hash: databases.hash(),
        rows: listed
            .iter()
            .map(|d| ask(databases, &d.id, sql).unwrap())
            .collect(),
        marks: listed.into_iter().map(|d| (d.id, d.mark)).collect(),
        registers: (0..4)
            .map(|n| databases.register(&format!("k{n}")))
            .collect(),
    }
}

/// What it is without any mishap.
fn expected(log: &[Entry], to: u64) -> Truth {
    let dir = tempfile::tempdir().unwrap();
    let databases = open(&dir.path().join("g"));
    replay(&databases, log, to);
    truth(&databases)
}

/// Copies a directory as a kill would leave it: what was written is there, nobody has it open.
fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else if !entry.file_name().to_string_lossy().ends_with("-shm") {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Files below a directory whose name ends so.
fn files_ending(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = layout::names(dir)
        .unwrap()
        .into_iter()
        .filter(|name| name.ends_with(suffix))
        .map(|name| dir.join(name))
        .collect();
    found.sort();
    found
}

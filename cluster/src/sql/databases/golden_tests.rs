//! What a group's files and snapshots are made of stays what it is, and so does the hash
//! by which replicas of different builds are compared.

use std::path::Path;

use orama_proto::sql::{OpKind, SqlLimits, SqlOp, SqlTransaction, Stamp};
use orama_proto::{Namespace, RequestId, Timestamp};
use rusqlite::types::ValueRef;

use super::directory::{Change, Row, Saved};
use super::manifest::{Entry, Manifest, Pair};
use super::*;
use crate::golden::Golden;
use crate::sql::Item;

const GROUP: GroupId = GroupId(300);

fn id(name: &str) -> DatabaseId {
    DatabaseId {
        namespace: Namespace::parse(name).unwrap(),
        born: Timestamp(1_700_000_000_000_000),
    }
}

fn saved() -> Saved {
    Saved {
        serial: 5,
        applied: 300,
        hash: 1 << 100,
        bytes: 8192,
        sum: 1 << 99,
    }
}

fn manifest(entry: Entry) -> Manifest {
    let text = |text: &str| text.to_owned();
    Manifest {
        registers_applied: 299,
        registers: [(text("k"), text("v"))].into(),
        databases: [(id("acme"), entry)].into(),
    }
}

fn fenced() -> Entry {
    Entry::Fenced {
        required: 300,
        why: "why".into(),
    }
}

/// Each with its length in front, key and value in turn.
fn flat(pairs: &[Pair]) -> Vec<u8> {
    let parts = pairs.iter().flat_map(|(key, value)| [key, value]);
    let part = |part: &Vec<u8>| {
        let length = u32::try_from(part.len()).unwrap();
        [&length.to_be_bytes()[..], part].concat()
    };
    parts.flat_map(part).collect()
}

fn unflat(mut bytes: &[u8]) -> Vec<Pair> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (part, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        parts.push(part.to_vec());
        bytes = rest;
    }
    let pairs = parts.chunks(2);
    pairs
        .map(|pair| (pair[0].clone(), pair[1].clone()))
        .collect()
}

#[test]
fn golden_manifests() {
    let mut golden = Golden::open("manifests");
    for (sample, entry) in [("saved", Entry::Saved(saved())), ("fenced", fenced())] {
        let pairs = manifest(entry).pairs().unwrap();
        golden.holds(sample, &flat(&pairs), |bytes| {
            flat(&Manifest::read(&unflat(bytes)).unwrap().pairs().unwrap())
        });
    }
}

fn open(dir: &Path) -> Databases {
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    Databases::open(dir, GROUP, DatabasesOptions::default(), &metrics)
        .unwrap()
        .unwrap()
}

#[test]
fn golden_bodies() {
    let mut golden = Golden::open("bodies");
    let dir = tempfile::tempdir().unwrap();
    let databases = open(&dir.path().join("group"));
    let body = |pairs: &[Pair]| {
        let mut bytes = Vec::new();
        databases.write_body(pairs, &mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, databases.body_bytes(pairs));
        bytes
    };
    let pairs = manifest(fenced()).pairs().unwrap();
    golden.holds("fenced", &body(&pairs), |mut bytes| {
        body(&databases.unpack(&mut bytes).unwrap())
    });
}

/// What lies in the tables of `group.db`, one after the other.
fn tables(dir: &Path) -> Vec<u8> {
    let file = rusqlite::Connection::open(layout::directory(dir)).unwrap();
    let mut all = Vec::new();
    for sql in [
        "SELECT id, record, sum FROM state",
        "SELECT namespace, born, record, sum FROM databases",
        "SELECT key, value, sum FROM registers",
    ] {
        let mut statement = file.prepare(sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for at in 0..columns {
                match row.get_ref(at).unwrap() {
                    ValueRef::Integer(n) => all.extend_from_slice(&n.to_be_bytes()),
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => all.extend_from_slice(bytes),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    all
}

#[test]
fn golden_directories() {
    let mut golden = Golden::open("directories");
    let row = Row {
        generation: 4,
        hardened: true,
        applied: 300,
        hash: 1 << 100,
        required: 301,
        bytes: 8192,
        fenced: Some("why".into()),
        saved: Some(saved()),
    };
    let mut state = State::new();
    state.group = Some(GROUP);
    state.clean = true;
    state.generation = 6;
    state.registers_applied = 299;
    state.set_floor(Some(&Floor {
        index: 298,
        opaque: b"opaque".to_vec(),
    }));
    let make = |dir: &Path, state: &State, row: &Row| {
        std::fs::create_dir_all(dir).unwrap();
        let changes = [
            Change::Put(&id("acme"), row.clone()),
            Change::Register("k", "v"),
        ];
        Directory::create(dir, state, &changes).unwrap();
        tables(dir)
    };
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let written = make(&first, &state, &row);
    // Checksums stand in the rows: what is opened was verified as it was written.
    golden.holds("directory", &written, |_| {
        let (directory, loaded) = Directory::open(&first).unwrap().unwrap();
        make(&second, directory.state(), &loaded.rows[0].1)
    });
}

#[test]
fn golden_effects() {
    let mut golden = Golden::open("effects");
    let dir = tempfile::tempdir().unwrap();
    let databases = open(&dir.path().join("group"));
    let entries = [
        (
            "create",
            vec!["CREATE TABLE t(id INTEGER PRIMARY KEY, a, b DEFAULT (random()))"],
        ),
        (
            "insert",
            vec!["INSERT INTO t(a) VALUES (datetime('now')), (1.5), (x'00ff'), (NULL)"],
        ),
        (
            "change",
            vec![
                "UPDATE t SET a = a + 1 WHERE id < 3",
                "DELETE FROM t WHERE id = 4",
            ],
        ),
        (
            "answer",
            vec!["INSERT INTO t(a) VALUES ('a') RETURNING id, a"],
        ),
        (
            "fail",
            vec!["DELETE FROM t", "INSERT INTO nowhere VALUES (1)"],
        ),
    ];
    for (index, (sample, statements)) in (1..).zip(entries) {
        let op = |sql: &&str| SqlOp {
            kind: OpKind::Exec,
            sql: (*sql).to_owned(),
            args: Vec::new(),
        };
        let transaction = SqlTransaction {
            database: id("acme"),
            request_id: RequestId::from("r-1"),
            limits: SqlLimits {
                pages: 1000,
                steps: 1_000_000,
            },
            ops: statements.iter().map(op).collect(),
        };
        let item = Item {
            index,
            stamp: Stamp {
                clock: Timestamp(1_800_000_000_000_000),
                seed: [9; 16],
            },
            transaction: &transaction,
        };
        let applied = databases.apply(&transaction.database, &[item]);
        let hash = applied.unwrap().unwrap()[0].hash.to_be_bytes();
        golden.holds(sample, &hash, <[u8]>::to_vec);
    }
}

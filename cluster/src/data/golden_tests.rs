//! Entries of data groups, and what nodes say to each other about them, stay what they are.

use std::time::Duration;

use orama_proto::sql::{
    DatabaseId, OpDone, OpKind, ReadLevel, ReadOptions, Rows, SqlCode, SqlError, SqlLimits, SqlOp,
    SqlOutcome, SqlTransaction, SqlValue,
};
use orama_proto::{GroupId, Namespace, NodeId, RequestId, Timestamp};
use serde_bytes::ByteBuf;

use super::command::{Command, Reply};
use super::wire::{self, Ask, Copied, CopyFor, Told};
use super::{DatabaseStatus, Expect, SqlQuery};
use crate::golden::Golden;

const GROUP: GroupId = GroupId(300);

fn database() -> DatabaseId {
    DatabaseId {
        namespace: Namespace::parse("acme").unwrap(),
        born: Timestamp(1_700_000_000_000_000),
    }
}

fn values() -> Vec<SqlValue> {
    vec![
        SqlValue::Null,
        SqlValue::Integer(-300),
        SqlValue::Real(0.5),
        SqlValue::Text("text".into()),
        SqlValue::Blob(vec![1, 2, 3]),
    ]
}

fn transaction() -> SqlTransaction {
    let op = |kind, args| SqlOp {
        kind,
        sql: "SELECT 1".into(),
        args,
    };
    SqlTransaction {
        database: database(),
        request_id: RequestId::from("r-1"),
        limits: SqlLimits {
            pages: 300,
            steps: 70_000,
        },
        ops: vec![op(OpKind::Exec, values()), op(OpKind::Query, vec![])],
    }
}

fn rows() -> Rows {
    Rows {
        columns: vec!["a".into(), "a:1".into()],
        json: b"[{\"a\":1}]".to_vec(),
        count: 1,
        cut: true,
    }
}

fn done() -> Vec<OpDone> {
    let done = |kind, rows| OpDone {
        kind,
        rows_affected: 2,
        last_insert_id: -3,
        rows,
    };
    vec![done(OpKind::Exec, None), done(OpKind::Query, Some(rows()))]
}

fn error(code: SqlCode) -> SqlError {
    SqlError::new(code, "why")
}

fn rolled_back(code: SqlCode) -> SqlOutcome {
    SqlOutcome::RolledBack {
        failed: 1,
        error: error(code),
        before: done(),
    }
}

fn register(expect: Expect) -> Command {
    Command::Register {
        key: "k".into(),
        value: "v".into(),
        expect,
    }
}

/// With a stamp whose bytes tell where they stand.
fn stamped(command: &Command, clock: u64, seed: [u8; 16]) -> Vec<u8> {
    let mut bytes = command.encode().unwrap();
    bytes[2..10].copy_from_slice(&clock.to_be_bytes());
    bytes[10..26].copy_from_slice(&seed);
    bytes
}

#[test]
fn golden_entries() {
    let mut golden = Golden::open("entries");
    let seed = *b"0123456789abcdef";
    for (sample, command) in [
        ("register", register(Expect::Anything)),
        ("register-absent", register(Expect::Absent)),
        ("register-value", register(Expect::Value("w".into()))),
        ("transaction", Command::Transaction(transaction())),
        ("drop", Command::Drop(database())),
    ] {
        let written = stamped(&command, 1_800_000_000_000_000, seed);
        golden.holds(sample, &written, |bytes| {
            let (command, stamp) = Command::decode(bytes).unwrap();
            stamped(&command, stamp.clock.0, stamp.seed)
        });
    }
}

#[test]
fn golden_replies_to_entries() {
    let mut golden = Golden::open("entry-replies");
    let codes = [
        SqlCode::TooManyStatements,
        SqlCode::PayloadTooLarge,
        SqlCode::DeadlineExceeded,
        SqlCode::Unavailable,
        SqlCode::ConstraintViolation,
        SqlCode::InvalidArgument,
        SqlCode::StorageQuotaExceeded,
        SqlCode::Internal,
        SqlCode::OutcomeUnknown,
        SqlCode::Stale,
    ];
    let failed = codes.map(|code| {
        (
            format!("failed-{code:?}"),
            Reply::Outcome(rolled_back(code)),
        )
    });
    let others = [
        ("done", Reply::Done),
        ("differs", Reply::Differs(Some("w".into()))),
        ("full", Reply::Full),
        ("too-long", Reply::TooLong),
        ("committed", Reply::Outcome(SqlOutcome::Committed(done()))),
        ("not-known", Reply::NotKnown),
    ];
    let others = others.map(|(sample, reply)| (sample.to_owned(), reply));
    for (sample, reply) in failed.into_iter().chain(others) {
        golden.holds(&sample, &reply.encode().unwrap(), |bytes| {
            Reply::decode(bytes).unwrap().encode().unwrap()
        });
    }
}

#[test]
fn golden_questions_about_data() {
    let mut golden = Golden::open("data-asks");
    let query = || SqlQuery {
        sql: "SELECT ?".into(),
        args: values(),
    };
    let read = |level| Ask::Query {
        group: GROUP,
        database: database(),
        queries: vec![query()],
        read: ReadOptions {
            level,
            freshness: Some(Duration::from_millis(1500)),
            strict: true,
            at_least: 300,
        },
    };
    let copy = |copy_for| Ask::Copy {
        group: GROUP,
        database: database(),
        copy_for,
    };
    let get = Ask::Get {
        group: GROUP,
        key: "k".into(),
    };
    let set = Ask::Set {
        group: GROUP,
        key: "k".into(),
        value: "v".into(),
        expect: Expect::Value("w".into()),
    };
    let execute = Ask::Execute {
        group: GROUP,
        transaction: transaction(),
    };
    let hashes = Ask::Hashes {
        group: GROUP,
        of: vec![(database(), 300)],
    };
    let piece = Ask::Piece {
        token: 1 << 100,
        offset: 300,
    };
    for (sample, ask) in [
        ("get", get),
        ("set", set),
        ("execute", execute),
        ("query-none", read(ReadLevel::None)),
        ("query-weak", read(ReadLevel::Weak)),
        ("query-linearizable", read(ReadLevel::Linearizable)),
        ("databases", Ask::Databases { group: GROUP }),
        ("hashes", hashes),
        ("sound", Ask::Sound { group: GROUP }),
        ("copy-for-client", copy(CopyFor::Client)),
        ("copy-for-replica", copy(CopyFor::Replica(300))),
        ("piece", piece),
        ("release", Ask::Release { token: 1 << 100 }),
    ] {
        golden.holds(sample, &wire::encode(&ask).unwrap(), |bytes| {
            wire::encode(&wire::ask(bytes).unwrap()).unwrap().to_vec()
        });
    }
}

#[test]
fn golden_answers_about_data() {
    let mut golden = Golden::open("data-tells");
    let status = DatabaseStatus {
        database: database(),
        node: NodeId(300),
        applied: 301,
        hash: "ab".into(),
        bytes: 8192,
        fenced: Some("why".into()),
    };
    let written = Told::Written {
        index: 300,
        outcome: rolled_back(SqlCode::ConstraintViolation),
    };
    let copied = Copied {
        token: 1 << 100,
        bytes: 8192,
        sum: 1 << 99,
        at: 300,
    };
    let parcel = Told::Parcel {
        token: 1 << 100,
        bytes: 8192,
    };
    for (sample, told) in [
        ("value", Told::Value(Some("v".into()))),
        ("done", Told::Done),
        ("differs", Told::Differs(None)),
        ("registers", Told::Registers),
        ("unknown", Told::Unknown),
        ("full", Told::Full),
        ("written", written),
        (
            "rows",
            Told::Rows(vec![Ok(rows()), Err(error(SqlCode::Stale))]),
        ),
        ("stale", Told::Stale("why".into())),
        ("fenced", Told::Fenced("why".into())),
        ("databases", Told::Databases(vec![status])),
        ("hashes", Told::Hashes(vec![Some(1 << 99), None])),
        ("sound", Told::Sound(true)),
        ("copied", Told::Copied(copied)),
        ("no-database", Told::NoDatabase { at: 300 }),
        ("busy", Told::Busy(Duration::from_millis(1500))),
        ("piece", Told::Piece(ByteBuf::from(vec![1, 2, 3]))),
        ("parcel", parcel),
    ] {
        golden.holds(sample, &wire::encode(&told).unwrap(), |bytes| {
            wire::encode(&wire::told(bytes).unwrap()).unwrap().to_vec()
        });
    }
}

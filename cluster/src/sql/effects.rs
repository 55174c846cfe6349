//! The rolling hash of what entries did: equal on replicas that did the same.
//!
//! Of every row that changes, the connection sums up table, kind of change, rowids and all
//! values; of every entry its index and its outcome (codes, counts, ids, rows, statement texts) go in. Rows
//! that a `CREATE TABLE … AS SELECT` fills in are not reported by SQLite; they go in once they
//! are read or changed.

use orama_proto::sql::{OpDone, OpKind, SqlOutcome, SqlTransaction};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// The hash after the entry `index`.
pub(super) fn chain(
    hash: u128,
    index: u64,
    effects: u128,
    transaction: &SqlTransaction,
    outcome: &SqlOutcome,
) -> u128 {
    let mut all = Vec::with_capacity(96);
    all.extend_from_slice(&hash.to_le_bytes());
    all.extend_from_slice(&index.to_le_bytes());
    all.extend_from_slice(&effects.to_le_bytes());
    let done = match outcome {
        SqlOutcome::Committed(done) => {
            all.push(b'c');
            done
        }
        SqlOutcome::RolledBack {
            failed,
            error,
            before,
        } => {
            // Not the message: its wording may change between versions.
            all.push(b'r');
            all.extend_from_slice(&failed.to_le_bytes());
            all.extend_from_slice(error.code.as_str().as_bytes());
            before
        }
    };
    for (op, done) in transaction.ops.iter().zip(done) {
        all.extend_from_slice(&xxh3_64(op.sql.as_bytes()).to_le_bytes());
        op_done(&mut all, done);
    }
    xxh3_128(&all)
}

fn op_done(all: &mut Vec<u8>, done: &OpDone) {
    all.push(match done.kind {
        OpKind::Exec => b'e',
        OpKind::Query => b'q',
    });
    all.extend_from_slice(&done.rows_affected.to_le_bytes());
    all.extend_from_slice(&done.last_insert_id.to_le_bytes());
    match &done.rows {
        None => all.push(b'-'),
        Some(rows) => {
            all.push(b'+');
            all.extend_from_slice(&rows.count.to_le_bytes());
            for column in &rows.columns {
                all.extend_from_slice(&xxh3_64(column.as_bytes()).to_le_bytes());
            }
            all.extend_from_slice(&xxh3_128(&rows.json).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use orama_proto::sql::{DatabaseId, Rows, SqlCode, SqlError, SqlLimits, SqlOp};
    use orama_proto::{Namespace, RequestId, Timestamp};

    use super::*;

    fn transaction(sql: &str) -> SqlTransaction {
        SqlTransaction {
            database: DatabaseId {
                namespace: Namespace::parse("ns").unwrap(),
                born: Timestamp(1),
            },
            request_id: RequestId::random(),
            limits: SqlLimits { pages: 1, steps: 1 },
            ops: vec![SqlOp {
                kind: OpKind::Exec,
                sql: sql.to_owned(),
                args: vec![],
            }],
        }
    }

    fn done(json: &str, rows_affected: u64, last_insert_id: i64) -> OpDone {
        OpDone {
            kind: OpKind::Exec,
            rows_affected,
            last_insert_id,
            rows: Some(Rows {
                json: json.as_bytes().to_vec(),
                count: 1,
                ..Rows::default()
            }),
        }
    }

    #[test]
    fn everything_counts() {
        let rolled_back = |failed, code, message: &str| SqlOutcome::RolledBack {
            failed,
            error: SqlError::new(code, message),
            before: vec![],
        };
        let a = transaction("a");
        let ok = SqlOutcome::Committed(vec![done("[1]", 1, 2)]);
        let mut seen = std::collections::HashSet::new();
        for hash in [
            chain(0, 1, 0, &a, &ok),
            chain(1, 1, 0, &a, &ok),
            chain(0, 2, 0, &a, &ok),
            chain(0, 1, 3, &a, &ok),
            chain(0, 1, 0, &transaction("b"), &ok),
            chain(0, 1, 0, &a, &SqlOutcome::Committed(vec![done("[2]", 1, 2)])),
            chain(0, 1, 0, &a, &SqlOutcome::Committed(vec![done("[1]", 2, 2)])),
            chain(0, 1, 0, &a, &SqlOutcome::Committed(vec![done("[1]", 1, 3)])),
            chain(0, 1, 0, &a, &rolled_back(0, SqlCode::Internal, "x")),
            chain(0, 1, 0, &a, &rolled_back(1, SqlCode::Internal, "x")),
            chain(0, 1, 0, &a, &rolled_back(0, SqlCode::InvalidArgument, "x")),
        ] {
            assert!(seen.insert(hash));
        }
        // Words may change from version to version, and requests have ids of their own.
        assert_eq!(
            chain(0, 1, 0, &a, &rolled_back(0, SqlCode::Internal, "x")),
            chain(
                0,
                1,
                0,
                &transaction("a"),
                &rolled_back(0, SqlCode::Internal, "y")
            )
        );
    }
}

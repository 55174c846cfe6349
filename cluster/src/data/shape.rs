//! What a transaction looks like: the texts of its statements, without their arguments.
//! Those of one shape take about the same time, so that what the last ones took says what the
//! next one will (`shares`).

use orama_proto::RequestId;
use orama_proto::sql::{DatabaseId, OpKind, SqlLimits, SqlTransaction};
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::command::{self, KIND_TRANSACTION, STAMP, VERSION};

/// Hash of the statements' texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Shape(pub(super) u64);

fn add(hash: u64, sql: &str) -> u64 {
    xxh3_64_with_seed(sql.as_bytes(), hash)
}

/// Of a transaction.
pub(super) fn of(transaction: &SqlTransaction) -> Shape {
    let texts = transaction.ops.iter().map(|op| op.sql.as_str());
    Shape(texts.fold(0, add))
}

/// [`orama_proto::sql::SqlValue`], borrowed: only to be stepped over.
#[derive(Deserialize)]
#[expect(dead_code, reason = "arguments have no part in the shape")]
enum Value<'a> {
    Null,
    Integer(i64),
    Real(f64),
    #[serde(borrow)]
    Text(&'a str),
    #[serde(borrow)]
    Blob(&'a [u8]),
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "arguments have no part in the shape")]
struct Op<'a> {
    kind: OpKind,
    sql: &'a str,
    #[serde(borrow)]
    args: Vec<Value<'a>>,
}

/// [`SqlTransaction`], borrowed.
#[derive(Deserialize)]
#[expect(dead_code, reason = "an entry is read up to its statements")]
struct Transaction<'a> {
    database: DatabaseId,
    request_id: RequestId,
    limits: SqlLimits,
    #[serde(borrow)]
    ops: Vec<Op<'a>>,
}

/// Of an entry; `None` when it is no transaction.
pub(super) fn of_entry(entry: &[u8]) -> Option<(DatabaseId, Shape)> {
    let (head, body) = entry.split_at_checked(STAMP.end)?;
    if head[0] != VERSION || head[1] != KIND_TRANSACTION {
        return None;
    }
    let read = bincode::serde::borrow_decode_from_slice(body, command::config());
    let (transaction, _): (Transaction<'_>, usize) = read.ok()?;
    let shape = transaction.ops.iter().map(|op| op.sql).fold(0, add);
    Some((transaction.database, Shape(shape)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::command::Command;
    use orama_proto::sql::{SqlOp, SqlValue};
    use orama_proto::{Namespace, Timestamp};

    fn transaction(texts: &[&str], args: Vec<SqlValue>) -> SqlTransaction {
        let ops = texts.iter().map(|sql| SqlOp {
            kind: OpKind::Exec,
            sql: (*sql).into(),
            args: args.clone(),
        });
        SqlTransaction {
            database: DatabaseId {
                namespace: Namespace::parse("acme").unwrap(),
                born: Timestamp(7),
            },
            request_id: RequestId::from("r"),
            limits: SqlLimits { pages: 1, steps: 1 },
            ops: ops.collect(),
        }
    }

    #[test]
    fn an_entry_has_the_shape_of_its_transaction_whatever_its_arguments() {
        let args = vec![
            SqlValue::Null,
            SqlValue::Integer(-1 << 40),
            SqlValue::Real(0.5),
            SqlValue::Text("text".into()),
            SqlValue::Blob(vec![0, 255, 3]),
        ];
        let texts: &[&[&str]] = &[&[], &["a"], &["a", "b"], &["b", "a"], &["ab"]];
        let mut shapes = std::collections::BTreeSet::new();
        for texts in texts {
            let plain = transaction(texts, Vec::new());
            let bound = transaction(texts, args.clone());
            assert_eq!(of(&plain), of(&bound));
            for transaction in [plain, bound] {
                let entry = Command::encode_transaction(&transaction).unwrap();
                let (id, shape) = of_entry(&entry).unwrap();
                assert_eq!(
                    (id, shape),
                    (transaction.database.clone(), of(&transaction))
                );
                for cut in 0..entry.len() {
                    assert!(of_entry(&entry[..cut]).is_none(), "{cut}");
                }
                shapes.insert(shape);
            }
        }
        assert_eq!(shapes.len(), texts.len(), "each is another");
        let id = transaction(&[], Vec::new()).database;
        let drop = Command::Drop(id).encode().unwrap();
        assert!(of_entry(&drop).is_none());
    }
}

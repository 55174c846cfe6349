//! The facade over a cluster that can be told how to answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::pending;
use orama_cluster::DataError;
use orama_proto::sql::{OpKind, SqlValue};
use orama_proto::{GroupId, NodeId, Timestamp};
use parking_lot::Mutex;

use super::*;
use crate::runtime::BoxFuture;

#[derive(Default)]
struct Seen {
    transactions: Vec<(SqlTransaction, Instant)>,
    reads: Vec<(DatabaseId, ReadOptions, Instant)>,
    confirmed: usize,
}

/// `known`: whether the namespace is known at once, after a confirmation, never.
struct Fake {
    seen: Arc<Mutex<Seen>>,
    known_after: usize,
    leader: bool,
    answers: bool,
    dropped: Arc<AtomicUsize>,
}

impl Databases for Fake {
    fn born(&self, namespace: &Namespace) -> Option<Timestamp> {
        let known = self.seen.lock().confirmed >= self.known_after;
        (known && namespace.as_str() == "tenant").then_some(Timestamp(42))
    }

    fn confirm(&self, _: Instant) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            self.seen.lock().confirmed += 1;
            self.leader.then_some(()).ok_or_else(|| "no leader".into())
        })
    }

    fn execute(
        &self,
        transaction: SqlTransaction,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Written, DataError>> {
        self.seen.lock().transactions.push((transaction, deadline));
        Box::pin(async {
            match self.answers {
                true => Ok(Written {
                    index: 9,
                    outcome: SqlOutcome::Committed(Vec::new()),
                }),
                false => pending().await,
            }
        })
    }

    fn query<'a>(
        &'a self,
        database: &'a DatabaseId,
        _: Vec<SqlQuery>,
        read: ReadOptions,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Answer, DataError>> {
        struct Dropped(Arc<AtomicUsize>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let seen = (database.clone(), read, deadline);
        self.seen.lock().reads.push(seen);
        let dropped = Dropped(Arc::clone(&self.dropped));
        Box::pin(async move {
            let _dropped = dropped;
            match self.answers {
                true => Ok(Answer {
                    results: Vec::new(),
                    node: NodeId(1),
                }),
                false => pending().await,
            }
        })
    }

    fn export<'a>(
        &'a self,
        _: &'a DatabaseId,
        _: Instant,
    ) -> BoxFuture<'a, Result<Export, DataError>> {
        Box::pin(async { Err(DataError::Unavailable(GroupId(1))) })
    }
}

struct Under {
    sql: Sql,
    seen: Arc<Mutex<Seen>>,
    dropped: Arc<AtomicUsize>,
    namespace: Namespace,
    request_id: RequestId,
}

impl Under {
    fn new(known_after: usize, leader: bool, answers: bool) -> Self {
        let (seen, dropped) = (Arc::default(), Arc::default());
        let fake = Fake {
            seen: Arc::clone(&seen),
            known_after,
            leader,
            answers,
            dropped: Arc::clone(&dropped),
        };
        Self {
            sql: Sql::over(Box::new(fake), 1 << 30, &Registry::new()).unwrap(),
            seen,
            dropped,
            namespace: Namespace::parse("tenant").unwrap(),
            request_id: RequestId::from("r-1"),
        }
    }

    fn caller(&self) -> SqlCaller<'_> {
        SqlCaller {
            namespace: &self.namespace,
            request_id: &self.request_id,
        }
    }

    async fn execute(&self, ops: Vec<SqlOp>) -> Result<Written, SqlError> {
        let deadline = Instant::now() + Duration::from_secs(300);
        self.sql.execute(self.caller(), ops, deadline).await
    }
}

fn op(sql: &str, args: Vec<SqlValue>) -> SqlOp {
    SqlOp {
        kind: OpKind::Exec,
        sql: sql.to_owned(),
        args,
    }
}

#[tokio::test]
async fn a_transaction_gets_its_database_and_limits() {
    let under = Under::new(0, true, true);
    let began = Instant::now();
    let written = under.execute(vec![op("SELECT 1", vec![])]).await.unwrap();
    assert_eq!(written.index, 9);
    let seen = under.seen.lock();
    let (transaction, deadline) = &seen.transactions[0];
    assert_eq!(transaction.database.born, Timestamp(42));
    assert_eq!(transaction.limits.pages, 262_144);
    assert_eq!(transaction.limits.steps, SQL_STEPS_MAX);
    assert_eq!(transaction.request_id, under.request_id);
    // However long the function may run, a write may not.
    let most = Duration::from_secs(SQL_WRITE_MAX_SECS + 1);
    assert!(*deadline <= began + most);
    assert_eq!(seen.confirmed, 0);
}

#[tokio::test]
async fn an_unknown_namespace_is_looked_up_once() {
    let statement = || vec![op("SELECT 1", vec![])];
    let late = Under::new(1, true, true);
    assert!(late.execute(statement()).await.is_ok());
    assert!(late.execute(statement()).await.is_ok());
    assert_eq!(late.seen.lock().confirmed, 1);

    let never = Under::new(usize::MAX, true, true);
    let error = never.execute(statement()).await.unwrap_err();
    assert_eq!(error.code, SqlCode::InvalidArgument);
    assert!(error.message.contains("\"tenant\""), "{error}");

    let cut_off = Under::new(usize::MAX, false, true);
    let error = cut_off.execute(statement()).await.unwrap_err();
    assert_eq!(error.code, SqlCode::Unavailable);
    assert!(error.message.contains("nothing was changed"), "{error}");
    assert!(cut_off.seen.lock().transactions.is_empty());
}

#[tokio::test]
async fn what_is_out_of_bounds_is_not_sent() {
    let under = Under::new(0, true, true);
    let two = |second: SqlOp| vec![op("SELECT 1", vec![]), second];
    let text = |bytes: usize| SqlValue::Text("x".repeat(bytes));
    let cases = [
        (vec![], SqlCode::InvalidArgument, "1 to 100"),
        (
            vec![op("S", vec![]); 101],
            SqlCode::TooManyStatements,
            "101",
        ),
        (
            vec![op(" \n", vec![])],
            SqlCode::InvalidArgument,
            "sql is empty",
        ),
        (
            two(op("", vec![])),
            SqlCode::InvalidArgument,
            "ops[1].sql is empty",
        ),
        (
            two(op(&"x".repeat(256 * 1024 + 1), vec![])),
            SqlCode::PayloadTooLarge,
            "ops[1].sql has 262145 bytes, the limit is 262144",
        ),
        (
            vec![op("S", vec![SqlValue::Null; 1_001])],
            SqlCode::InvalidArgument,
            "args: 1001 arguments, the limit is 1000",
        ),
        (
            vec![op("S", vec![SqlValue::Null, SqlValue::Real(f64::NAN)])],
            SqlCode::InvalidArgument,
            "args[1] is not a finite number",
        ),
        (
            vec![op("S", vec![text(500_000)]), op("S", vec![text(500_000)])],
            SqlCode::PayloadTooLarge,
            "1000022 bytes, the limit is 983040",
        ),
        (
            // Small values alone can be too much for an entry.
            vec![op("S", vec![SqlValue::Integer(i64::MIN); 1_000]); 100],
            SqlCode::PayloadTooLarge,
            "1000100 bytes",
        ),
    ];
    for (ops, code, words) in cases {
        let error = under.execute(ops).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(words), "{error}");
    }
    let deadline = Instant::now() + Duration::from_secs(1);
    let none = under
        .sql
        .query(under.caller(), vec![], ReadOptions::default(), deadline);
    assert_eq!(none.await.unwrap_err().code, SqlCode::InvalidArgument);
    let seen = under.seen.lock();
    assert!(seen.transactions.is_empty() && seen.reads.is_empty());
}

#[tokio::test]
async fn who_does_not_answer_is_not_waited_for() {
    let under = Under::new(0, true, false);
    let soon = || Instant::now() + Duration::from_millis(5);
    let statement = vec![op("S", vec![])];
    let write = under.sql.execute(under.caller(), statement, soon());
    assert_eq!(write.await.unwrap_err().code, SqlCode::OutcomeUnknown);
    let query = SqlQuery {
        sql: "S".into(),
        args: vec![],
    };
    let read = ReadOptions::default();
    let ask = || {
        under
            .sql
            .query(under.caller(), vec![query.clone()], read, soon())
    };
    assert_eq!(ask().await.unwrap_err().code, SqlCode::Unavailable);
    assert_eq!(under.dropped.load(Ordering::SeqCst), 1);
    // A caller that goes away takes its read with it.
    let mut gone = Box::pin(ask());
    assert!(futures::poll!(&mut gone).is_pending());
    drop(gone);
    assert_eq!(under.dropped.load(Ordering::SeqCst), 2);
    assert_eq!(under.seen.lock().reads[0].0.to_string(), "tenant@42");
}

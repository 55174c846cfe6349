//! A bank: transfers between accounts in transactions that read inside. The sum
//! is the same in every read, at every level, on every node, at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Answer, Database, Op, rows_of};
use crate::Rng;

/// How many accounts there are, and what each has at first.
const ACCOUNTS: u64 = 8;
const BALANCE: i64 = 100;
const TOTAL: i64 = ACCOUNTS as i64 * BALANCE;
const PATIENCE: Duration = Duration::from_secs(5);
const SUM: &str = "SELECT sum(balance) AS total, count(*) AS accounts FROM accounts";

/// One bank, through several nodes. Cheap to clone.
#[derive(Clone)]
pub struct Bank {
    nodes: Arc<Vec<Database>>,
    next: Arc<AtomicU64>,
    /// Transfers by number: whether they were acknowledged (`true`), or refused or rolled back.
    known: Arc<Mutex<BTreeMap<u64, bool>>>,
    reads: Arc<AtomicU64>,
}

impl Bank {
    /// Opens the accounts in the database that `nodes` show.
    pub async fn open(nodes: &[Database]) -> Self {
        let ops = [
            Op::exec(
                "CREATE TABLE accounts(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0))",
                vec![],
            ),
            Op::exec(
                "CREATE TABLE transfers(id INTEGER PRIMARY KEY, source INTEGER, target INTEGER, amount INTEGER, at TEXT DEFAULT CURRENT_TIMESTAMP)",
                vec![],
            ),
            Op::exec(
                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?) INSERT INTO accounts SELECT i, ? FROM n",
                vec![json!(ACCOUNTS), json!(BALANCE)],
            ),
        ];
        nodes[0].transaction(&ops).await.done();
        // A read of level `none` shows a bank without accounts until its replica has them.
        for node in nodes {
            super::replicas::caught_up(node).await;
        }
        let nodes = nodes.iter().map(|db| db.clone().patience(PATIENCE));
        Self {
            nodes: Arc::new(nodes.collect()),
            next: Arc::default(),
            known: Arc::default(),
            reads: Arc::default(),
        }
    }

    /// One client, until `stop` is true.
    pub async fn client(self, mut rng: Rng, pause: Duration, stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let node = rng.below(self.nodes.len() as u64) as usize;
            match rng.below(5) {
                0..3 => self.transfer(node, &mut rng).await,
                3 => {
                    self.read(node, "none").await;
                }
                _ => {
                    let level = ["linearizable", "weak"][rng.below(2) as usize];
                    self.read(node, level).await;
                }
            }
            tokio::time::sleep(pause.mul_f64(0.5 + rng.below(100) as f64 / 100.0)).await;
        }
    }

    async fn transfer(&self, node: usize, rng: &mut Rng) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let source = rng.below(ACCOUNTS);
        let target = (source + 1 + rng.below(ACCOUNTS - 1)) % ACCOUNTS;
        // Some are more than an account has: rolled back by the CHECK.
        let amount = rng.between(1, 60) as i64;
        let look = "SELECT balance FROM accounts WHERE id = ?";
        let ops = [
            Op::query(look, vec![json!(source)]),
            Op::exec(
                "UPDATE accounts SET balance = balance + ? WHERE id = ?",
                vec![json!(amount), json!(target)],
            ),
            Op::exec(
                "UPDATE accounts SET balance = balance - ? WHERE id = ?",
                vec![json!(amount), json!(source)],
            ),
            Op::query(look, vec![json!(source)]),
            Op::query(SUM, vec![]),
            Op::exec(
                "INSERT INTO transfers(id, source, target, amount) VALUES (?, ?, ?, ?)",
                vec![json!(id), json!(source), json!(target), json!(amount)],
            ),
        ];
        match self.nodes[node].transaction(&ops).await {
            Answer::Done(results) => {
                let balance = |at: usize| rows_of(&results[at])[0]["balance"].as_i64();
                let (before, after) = (balance(0), balance(3));
                assert_eq!(
                    before.zip(after).map(|(before, after)| before - after),
                    Some(amount),
                    "a query inside sees what came before it, and nobody else's: {results:?}"
                );
                check_sum(&rows_of(&results[4])[0]);
                self.known.lock().insert(id, true);
            }
            Answer::Failed(status, body) => {
                assert_eq!(status, 409, "{body}");
                assert_eq!(body["status"], "rollback", "{body}");
                assert_eq!(body["failed_index"], 2, "{body}");
                self.known.lock().insert(id, false);
            }
            Answer::Refused(_) => {
                self.known.lock().insert(id, false);
            }
            Answer::Unknown(_) => {}
        }
    }

    /// Whether it was answered.
    async fn read(&self, node: usize, level: &str) -> bool {
        let answer = self.nodes[node].query_at(level, SUM, vec![]).await;
        let rows = match answer {
            Answer::Done(rows) => rows,
            Answer::Failed(status, body) => panic!("{level} at n{}: {status} {body}", node + 1),
            _ => return false,
        };
        self.reads.fetch_add(1, Ordering::Relaxed);
        check_sum(&rows[0]);
        true
    }

    /// Nothing acknowledged is missing, nothing refused is there, on every node; and the
    /// balances are what the transfers make of them.
    pub async fn verify(&self) {
        let known = self.known.lock().clone();
        for (node, db) in self.nodes.iter().enumerate() {
            let mut tries = 0;
            while !self.read(node, "linearizable").await {
                tries += 1;
                assert!(tries < 40, "n{} does not answer", node + 1);
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            assert!(self.read(node, "none").await && self.read(node, "weak").await);
            let db = db.clone().patience(Duration::from_secs(15));
            let there = self.transfers(&db).await;
            for (id, acknowledged) in &known {
                assert_eq!(
                    there.contains(id),
                    *acknowledged,
                    "transfer {id} at n{}: it was {}",
                    node + 1,
                    if *acknowledged {
                        "acknowledged"
                    } else {
                        "refused"
                    }
                );
            }
            let wrong = db
                .query_at(
                    "none",
                    "SELECT count(*) AS n FROM accounts AS a WHERE balance <> ? \
                     + (SELECT coalesce(sum(amount), 0) FROM transfers WHERE target = a.id) \
                     - (SELECT coalesce(sum(amount), 0) FROM transfers WHERE source = a.id)",
                    vec![json!(BALANCE)],
                )
                .await
                .done();
            assert_eq!(wrong[0]["n"], 0, "balances without transfers");
        }
        let done = known.values().filter(|done| **done).count();
        println!(
            "bank: {} transfers tried, {done} acknowledged, {} reads",
            self.next.load(Ordering::Relaxed),
            self.reads.load(Ordering::Relaxed)
        );
        assert!(done > 20, "the bank hardly worked");
    }

    async fn transfers(&self, db: &Database) -> BTreeSet<u64> {
        let (mut all, mut after) = (BTreeSet::new(), -1);
        loop {
            let sql = "SELECT id FROM transfers WHERE id > ? ORDER BY id LIMIT 5000";
            let rows = db.query_at("none", sql, vec![json!(after)]).await.done();
            all.extend(rows.iter().filter_map(|row| row["id"].as_u64()));
            let Some(last) = rows.last() else {
                return all;
            };
            after = last["id"].as_i64().unwrap_or(i64::MAX);
        }
    }
}

#[track_caller]
fn check_sum(row: &Value) {
    assert_eq!(row["total"], TOTAL, "money came or went: {row}");
    assert_eq!(row["accounts"], ACCOUNTS, "{row}");
}

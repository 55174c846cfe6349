//! Rows of text that grow: `UPDATE lists SET v = v || ?`, recorded for the checker of lists.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;

use super::{Answer, Database};
use crate::Rng;
use crate::history::Recorder;
use crate::history::lists::{Act, Listed};

/// Elements of a list, about, before another takes its place: a read carries all of them.
const LIST_LIFE: u64 = 300;
const PATIENCE: Duration = Duration::from_secs(5);

/// What the lists live in.
pub const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS lists(k INTEGER PRIMARY KEY, v TEXT NOT NULL DEFAULT '')";

/// Lists of one database, through several nodes. Cheap to clone.
#[derive(Clone)]
pub struct Lists {
    recorder: Recorder,
    nodes: Arc<Vec<Database>>,
    history: Arc<Mutex<Vec<Listed>>>,
    used: Arc<AtomicU64>,
}

impl Lists {
    /// Of the database that `nodes` show.
    pub fn new(nodes: &[Database], recorder: &Recorder) -> Self {
        let nodes = nodes.iter().map(|db| db.clone().patience(PATIENCE));
        Self {
            recorder: recorder.clone(),
            nodes: Arc::new(nodes.collect()),
            history: Arc::default(),
            used: Arc::default(),
        }
    }
    /// What happened so far.
    pub fn history(&self) -> Vec<Listed> {
        self.history.lock().clone()
    }

    /// One client, until `stop` is true.
    pub async fn client(
        self,
        name: String,
        mut rng: Rng,
        pause: Duration,
        stop: watch::Receiver<bool>,
    ) {
        while !*stop.borrow() {
            // Two lists at a time.
            let used = self.used.fetch_add(1, Ordering::Relaxed);
            let key = 2 * (used / (4 * LIST_LIFE)) + rng.below(2);
            let node = rng.below(self.nodes.len() as u64) as usize;
            if rng.below(2) == 0 {
                self.read(&name, node, key).await;
            } else {
                self.append(&name, node, key).await;
            }
            tokio::time::sleep(pause.mul_f64(0.5 + rng.below(100) as f64 / 100.0)).await;
        }
    }

    async fn append(&self, client: &str, node: usize, key: u64) {
        let element = self.recorder.fresh_value(client);
        let start = self.recorder.now();
        let db = &self.nodes[node];
        let sql = "INSERT INTO lists(k, v) VALUES (?, ?) ON CONFLICT(k) DO UPDATE SET v = v || excluded.v";
        let args = vec![json!(key), json!(format!("{element} "))];
        let act = match db.exec(sql, args).await {
            Answer::Done(done) => {
                assert_eq!(done.rows_affected, 1, "{sql}");
                Act::Appended(element)
            }
            Answer::Failed(status, body) => panic!("{sql}: {status} {body}"),
            Answer::Refused(_) => Act::Refused(element),
            Answer::Unknown(_) => Act::Tried(element),
        };
        self.record(client, node, key, act, start);
    }

    /// Whether it was answered.
    async fn read(&self, client: &str, node: usize, key: u64) -> bool {
        let start = self.recorder.now();
        let sql = "SELECT v FROM lists WHERE k = ?";
        let Answer::Done(rows) = self.nodes[node].query(sql, vec![json!(key)]).await else {
            return false;
        };
        let text = rows.first().and_then(|row| row["v"].as_str());
        let list = text.unwrap_or_default().split_whitespace();
        let act = Act::Read(list.map(str::to_owned).collect());
        self.record(client, node, key, act, start);
        true
    }

    fn record(&self, client: &str, node: usize, key: u64, act: Act, start: u64) {
        let op = Listed {
            key: format!("{}/{key}", self.nodes[node].namespace()),
            client: format!("{client} at n{}", node + 1),
            act,
            start,
            end: self.recorder.now(),
        };
        self.history.lock().push(op);
    }

    /// Reads every list through every node, until there is an answer.
    pub async fn final_reads(&self) {
        let last = 2 * (self.used.load(Ordering::Relaxed) / (4 * LIST_LIFE)) + 1;
        for key in 0..=last {
            for node in 0..self.nodes.len() {
                let mut tries = 0;
                while !self.read("final", node, key).await {
                    tries += 1;
                    assert!(tries < 40, "n{} cannot read list {key}", node + 1);
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
            }
        }
    }
}

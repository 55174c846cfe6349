//! Single rows as registers: read, written, and swapped by `UPDATE … WHERE v = ?`,
//! every operation recorded for the checker of registers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Answer, Database};
use crate::Rng;
use crate::history::{Action, Event, Outcome, Recorder};

/// Operations on one row before another takes its place, so that no row's
/// history becomes too long to check.
const ROW_LIFE: u64 = 100;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the rows live in.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS registers(k TEXT PRIMARY KEY, v TEXT)";

/// Rows of one database, through several nodes. Cheap to clone.
#[derive(Clone)]
pub struct Rows {
    recorder: Recorder,
    nodes: Arc<Vec<Database>>,
    rows: Arc<Mutex<InUse>>,
}

struct InUse {
    /// Number of the row, operations on it.
    live: Vec<(u64, u64)>,
    made: u64,
}

impl Rows {
    /// `width` rows at a time in the database that `nodes` show.
    pub fn new(nodes: &[Database], width: u64, recorder: &Recorder) -> Self {
        let nodes = nodes.iter().map(|db| db.clone().patience(PATIENCE));
        Self {
            recorder: recorder.clone(),
            nodes: Arc::new(nodes.collect()),
            rows: Arc::new(Mutex::new(InUse {
                live: (1..=width).map(|number| (number, 0)).collect(),
                made: width,
            })),
        }
    }

    fn pick(&self, rng: &mut Rng) -> String {
        let rows = &mut *self.rows.lock();
        let at = rng.below(rows.live.len() as u64) as usize;
        let (number, used) = rows.live[at];
        rows.live[at].1 += 1;
        if used >= ROW_LIFE {
            rows.made += 1;
            rows.live[at] = (rows.made, 0);
        }
        format!("r{number}")
    }

    /// One client, until `stop` is true.
    pub async fn client(
        self,
        name: String,
        mut rng: Rng,
        pause: Duration,
        stop: watch::Receiver<bool>,
    ) {
        // What this client saw last, for swaps that have a chance.
        let mut seen: HashMap<String, Option<String>> = HashMap::new();
        while !*stop.borrow() {
            let key = self.pick(&mut rng);
            let action = match rng.below(10) {
                0..4 => Action::Read,
                4..7 => Action::Write(self.recorder.fresh_value(&name)),
                _ => Action::Swap {
                    expected: seen.get(&key).cloned().unwrap_or_default(),
                    new: self.recorder.fresh_value(&name),
                },
            };
            let node = rng.below(self.nodes.len() as u64) as usize;
            let outcome = self.perform(&name, node, &key, action.clone()).await;
            let failed = matches!(outcome, Outcome::Failed | Outcome::Unknown);
            match (action, outcome) {
                (Action::Read, Outcome::Saw(value)) => seen.insert(key, value),
                (Action::Write(new) | Action::Swap { new, .. }, Outcome::Done) => {
                    seen.insert(key, Some(new))
                }
                _ => seen.remove(&key),
            };
            let pause = if failed { pause * 4 } else { pause };
            tokio::time::sleep(pause.mul_f64(0.5 + rng.below(100) as f64 / 100.0)).await;
        }
    }

    /// One operation through one node, recorded.
    pub async fn perform(&self, client: &str, node: usize, key: &str, action: Action) -> Outcome {
        let db = &self.nodes[node];
        let start = self.recorder.now();
        let outcome = match &action {
            Action::Read => {
                let sql = "SELECT v FROM registers WHERE k = ?";
                match db.query(sql, vec![json!(key)]).await {
                    Answer::Done(rows) => {
                        let value = rows.first().and_then(|row| row["v"].as_str());
                        Outcome::Saw(value.map(str::to_owned))
                    }
                    _ => Outcome::Failed,
                }
            }
            Action::Write(value) => {
                let sql = "INSERT INTO registers(k, v) VALUES (?, ?) ON CONFLICT(k) DO UPDATE SET v = excluded.v";
                self.write(db, sql, vec![json!(key), json!(value)]).await
            }
            Action::Swap {
                expected: Some(expected),
                new,
            } => {
                let sql = "UPDATE registers SET v = ? WHERE k = ? AND v = ?";
                let args = vec![json!(new), json!(key), json!(expected)];
                self.write(db, sql, args).await
            }
            Action::Swap {
                expected: None,
                new,
            } => {
                let sql = "INSERT INTO registers(k, v) VALUES (?, ?) ON CONFLICT(k) DO NOTHING";
                self.write(db, sql, vec![json!(key), json!(new)]).await
            }
        };
        self.recorder.record(Event {
            key: format!("{}/{key}", db.namespace()),
            client: format!("{client} at n{}", node + 1),
            action,
            outcome: outcome.clone(),
            start,
            end: self.recorder.now(),
        });
        outcome
    }

    async fn write(&self, db: &Database, sql: &str, args: Vec<Value>) -> Outcome {
        match db.exec(sql, args).await {
            Answer::Done(done) if done.rows_affected == 1 => Outcome::Done,
            Answer::Done(done) => {
                assert_eq!(done.rows_affected, 0, "one row, or none: {sql}");
                Outcome::Differed
            }
            Answer::Failed(status, body) => panic!("{sql}: {status} {body}"),
            Answer::Refused(_) => Outcome::Failed,
            Answer::Unknown(_) => Outcome::Unknown,
        }
    }

    /// Reads every row that was ever used through every node, until there is an answer: so a
    /// write that was acknowledged and lost is found.
    pub async fn final_reads(&self) {
        let made = self.rows.lock().made;
        for number in 1..=made {
            for node in 0..self.nodes.len() {
                let key = format!("r{number}");
                let mut tries = 0;
                while !matches!(
                    self.perform("final", node, &key, Action::Read).await,
                    Outcome::Saw(_)
                ) {
                    tries += 1;
                    assert!(tries < 40, "n{} cannot read {key}", node + 1);
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
            }
        }
    }
}

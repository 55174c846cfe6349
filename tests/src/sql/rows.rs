//! Single rows as registers: read, written, and swapped by `UPDATE … WHERE v = ?`,
//! every operation recorded for the checker of registers.

use std::iter::repeat_n;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Answer, Database};
use crate::Rng;
use crate::history::clients::{self, Rotation, Subject};
use crate::history::{Action, Event, Outcome, Recorder};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the rows live in.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS registers(k TEXT PRIMARY KEY, v TEXT)";

/// Rows of one database, through several nodes. Cheap to clone.
#[derive(Clone)]
pub struct Rows {
    recorder: Recorder,
    nodes: Arc<Vec<Database>>,
    rows: Arc<Mutex<Rotation<()>>>,
}

impl Rows {
    /// `width` rows at a time in the database that `nodes` show.
    pub fn new(nodes: &[Database], width: usize, recorder: &Recorder) -> Self {
        let nodes = nodes.iter().map(|db| db.clone().patience(PATIENCE));
        Self {
            recorder: recorder.clone(),
            nodes: Arc::new(nodes.collect()),
            rows: Arc::new(Mutex::new(Rotation::new(repeat_n((), width)))),
        }
    }

    /// One client, until `stop` is true.
    pub async fn client(
        self,
        name: String,
        rng: Rng,
        pause: Duration,
        stop: watch::Receiver<bool>,
    ) {
        clients::client(&self, &name, rng, pause, stop).await;
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

    /// Reads every row that was ever used through every node.
    pub async fn final_reads(&self) {
        let keys = self.rows.lock().all().iter().map(name).collect();
        let nodes: Vec<usize> = (0..self.nodes.len()).collect();
        clients::final_reads(self, keys, &nodes).await;
    }
}

fn name((_, number): &((), u64)) -> String {
    format!("r{number}")
}

impl Subject for Rows {
    type Key = String;

    fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    fn nodes(&self) -> usize {
        self.nodes.len()
    }

    fn pick(&self, rng: &mut Rng) -> String {
        name(&self.rows.lock().pick(rng))
    }

    async fn perform(&self, client: &str, node: usize, key: &String, action: Action) -> Outcome {
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
}

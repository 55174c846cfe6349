//! Clients of the data groups' registers, whose every operation is recorded.

use std::sync::Arc;
use std::time::Duration;

use orama_proto::api::RegisterValue;
use parking_lot::Mutex;
use reqwest::Method;

use crate::Rng;
use crate::history::{Action, Event, Outcome, Recorder};
use crate::node::Gateway;

/// Operations on one key before another takes its place, so that no key's
/// history becomes too long to check.
const KEY_LIFE: u64 = 100;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The registers that a test uses. Cheap to clone.
#[derive(Clone)]
pub struct Registers {
    recorder: Recorder,
    gateways: Arc<Vec<Gateway>>,
    keys: Arc<Mutex<Keys>>,
}

/// The keys in use: a few at a time in each group.
struct Keys {
    /// Group, number of the key, operations on it.
    live: Vec<(u32, u64, u64)>,
    made: u64,
    all: Vec<(u32, String)>,
}

impl Registers {
    /// `width` keys at a time in each of these groups, through these nodes.
    pub fn new(gateways: Vec<Gateway>, groups: &[u32], width: usize) -> Self {
        assert!(!groups.is_empty() && !gateways.is_empty());
        let mut keys = Keys {
            live: Vec::new(),
            made: 0,
            all: Vec::new(),
        };
        for group in groups {
            for _ in 0..width {
                keys.made += 1;
                keys.live.push((*group, keys.made, 0));
                keys.all.push((*group, name(keys.made)));
            }
        }
        Self {
            recorder: Recorder::default(),
            gateways: Arc::new(gateways),
            keys: Arc::new(Mutex::new(keys)),
        }
    }
    /// What happened so far.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }
    /// Every key that was ever used, with its group.
    pub fn keys(&self) -> Vec<(u32, String)> {
        self.keys.lock().all.clone()
    }

    fn pick(&self, rng: &mut Rng) -> (u32, String) {
        let keys = &mut *self.keys.lock();
        let at = rng.below(keys.live.len() as u64) as usize;
        let (group, number, used) = keys.live[at];
        keys.live[at].2 += 1;
        if used >= KEY_LIFE {
            keys.made += 1;
            keys.live[at] = (group, keys.made, 0);
            keys.all.push((group, name(keys.made)));
        }
        (group, name(number))
    }

    /// One client: an operation after the other, each through a node drawn by
    /// the seed, until `stop` is true.
    pub async fn client(
        self,
        name: String,
        mut rng: Rng,
        pause: Duration,
        stop: tokio::sync::watch::Receiver<bool>,
    ) {
        // What this client saw last, for swaps that have a chance.
        let mut seen: std::collections::HashMap<String, Option<String>> = Default::default();
        while !*stop.borrow() {
            let (group, key) = self.pick(&mut rng);
            let action = match rng.below(10) {
                0..4 => Action::Read,
                4..7 => Action::Write(self.recorder.fresh_value(&name)),
                _ => Action::Swap {
                    expected: seen.get(&key).cloned().unwrap_or_default(),
                    new: self.recorder.fresh_value(&name),
                },
            };
            let node = rng.below(self.gateways.len() as u64) as usize;
            let outcome = self.perform(&name, node, group, &key, action.clone()).await;
            let failed = matches!(outcome, Outcome::Failed | Outcome::Unknown);
            match (action, outcome) {
                (Action::Read, Outcome::Saw(value)) => seen.insert(key, value),
                (Action::Write(new) | Action::Swap { new, .. }, Outcome::Done) => {
                    seen.insert(key, Some(new))
                }
                _ => seen.remove(&key),
            };
            // A refused connection costs nothing; do not spin on it.
            let pause = if failed { pause * 4 } else { pause };
            tokio::time::sleep(pause.mul_f64(0.5 + rng.below(100) as f64 / 100.0)).await;
        }
    }

    /// One operation through one node, recorded.
    pub async fn perform(
        &self,
        client: &str,
        node: usize,
        group: u32,
        key: &str,
        action: Action,
    ) -> Outcome {
        let path = format!("/v1/admin/cluster/groups/{group}/registers/{key}");
        let start = self.recorder.now();
        let gateway = &self.gateways[node];
        let request = match &action {
            Action::Read => gateway.request(Method::GET, &path),
            Action::Write(value) => gateway.request(Method::PUT, &path).json(&RegisterValue {
                value: Some(value.clone()),
                ..RegisterValue::default()
            }),
            Action::Swap { expected, new } => {
                gateway.request(Method::PUT, &path).json(&RegisterValue {
                    value: Some(new.clone()),
                    if_absent: expected.is_none(),
                    if_value: expected.clone(),
                })
            }
        };
        let answer = crate::client::try_send(request.timeout(PATIENCE)).await;
        let reads = action == Action::Read;
        let outcome = match answer {
            Ok(reply) => match reply.status {
                200 if reads => Outcome::Saw(reply.parse::<RegisterValue>().value),
                200 | 201 | 204 => Outcome::Done,
                409 if !reads => Outcome::Differed,
                // Refused before anything was tried.
                400..500 => Outcome::Failed,
                // Whatever else it says, it does not prove that nothing happened.
                _ => Outcome::Unknown,
            },
            // Nothing was sent.
            Err(error) if error.is_connect() => Outcome::Failed,
            Err(_) => Outcome::Unknown,
        };
        self.recorder.record(Event {
            key: format!("{group}/{key}"),
            client: format!("{client} at n{}", node + 1),
            action,
            outcome: outcome.clone(),
            start,
            end: self.recorder.now(),
        });
        outcome
    }
}

fn name(number: u64) -> String {
    format!("r{number}")
}

/// Reads every key that was ever used through every one of `nodes`, and
/// retries until it has an answer: with these reads in the history, a write
/// that was acknowledged and lost is found.
pub async fn final_reads(registers: &Registers, nodes: &[usize]) {
    for (group, key) in registers.keys() {
        for node in nodes {
            let mut tries = 0;
            loop {
                let done = registers
                    .perform("final", *node, group, &key, Action::Read)
                    .await;
                if matches!(done, Outcome::Saw(_)) {
                    break;
                }
                tries += 1;
                assert!(tries < 20, "n{} cannot read {group}/{key}", node + 1);
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }
}

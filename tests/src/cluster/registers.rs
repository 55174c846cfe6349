//! Clients of the data groups' registers, whose every operation is recorded.

use std::sync::Arc;
use std::time::Duration;

use orama_proto::api::RegisterValue;
use parking_lot::Mutex;
use reqwest::Method;

use crate::Rng;
use crate::history::clients::{self, Rotation, Subject};
use crate::history::{Action, Event, Outcome, Recorder};
use crate::node::Gateway;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The registers that a test uses. Cheap to clone.
#[derive(Clone)]
pub struct Registers {
    recorder: Recorder,
    gateways: Arc<Vec<Gateway>>,
    /// A few at a time in each group.
    keys: Arc<Mutex<Rotation<u32>>>,
}

impl Registers {
    /// `width` keys at a time in each of these groups, through these nodes.
    pub fn new(gateways: Vec<Gateway>, groups: &[u32], width: usize) -> Self {
        assert!(!gateways.is_empty());
        let places = groups
            .iter()
            .flat_map(|group| std::iter::repeat_n(*group, width));
        let keys = Rotation::new(places);
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
        self.keys.lock().all().iter().map(name).collect()
    }

    /// One client, until `stop` is true.
    pub async fn client(
        self,
        name: String,
        rng: Rng,
        pause: Duration,
        stop: tokio::sync::watch::Receiver<bool>,
    ) {
        clients::client(&self, &name, rng, pause, stop).await;
    }
}

impl Subject for Registers {
    type Key = (u32, String);

    fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    fn nodes(&self) -> usize {
        self.gateways.len()
    }

    fn pick(&self, rng: &mut Rng) -> Self::Key {
        name(&self.keys.lock().pick(rng))
    }

    async fn perform(
        &self,
        client: &str,
        node: usize,
        (group, key): &Self::Key,
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

fn name((group, number): &(u32, u64)) -> (u32, String) {
    (*group, format!("r{number}"))
}

/// Reads every key that was ever used through every one of `nodes`.
pub async fn final_reads(registers: &Registers, nodes: &[usize]) {
    clients::final_reads(registers, registers.keys(), nodes).await;
}

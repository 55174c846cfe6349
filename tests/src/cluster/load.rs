//! A steady load of invocations through all nodes that are in service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::Tenant;
use crate::client::try_send;

/// How invocations ended.
#[derive(Debug, Clone, Default)]
pub struct Outcomes {
    /// With the right output.
    pub done: u64,
    /// With any other answer, or without one: node, what, when after the start.
    pub failed: Vec<(String, String, Duration)>,
    /// Without an answer from a node that was announced to stop.
    pub stopped: u64,
}

/// One node of the load.
#[derive(Clone)]
struct Target {
    tenant: Tenant,
    stopping: bool,
}

/// Clients that invoke one function through every node in turn.
pub struct Invocations {
    targets: Arc<Mutex<BTreeMap<String, Target>>>,
    outcomes: Arc<Mutex<Outcomes>>,
    clients: JoinSet<()>,
    began: Instant,
}

impl Invocations {
    /// Starts `clients` clients that invoke `function`, which answers its input.
    pub fn start(function: &str, clients: usize, pause: Duration) -> Self {
        let mut load = Self {
            targets: Arc::default(),
            outcomes: Arc::default(),
            clients: JoinSet::new(),
            began: Instant::now(),
        };
        for client in 0..clients {
            let (targets, outcomes) = (load.targets.clone(), load.outcomes.clone());
            let (path, began) = (format!("/v1/functions/{function}/invoke"), load.began);
            load.clients.spawn(async move {
                let mut turn = client;
                loop {
                    tokio::time::sleep(pause).await;
                    turn += 1;
                    let target = {
                        let targets = targets.lock();
                        let at = turn % targets.len().max(1);
                        targets.iter().nth(at).map(|(n, t)| (n.clone(), t.clone()))
                    };
                    let Some((name, target)) = target else {
                        continue;
                    };
                    let body = format!(r#"{{"turn":{turn},"client":{client}}}"#);
                    let request = target.tenant.request(reqwest::Method::POST, &path);
                    let answer = try_send(request.body(body.clone())).await;
                    // Whoever is told to stop while the request is under way may cut it.
                    let stopping = targets.lock().get(&name).is_none_or(|t| t.stopping);
                    let mut outcomes = outcomes.lock();
                    match answer {
                        Ok(reply) if reply.status == 200 && reply.body == body.as_bytes() => {
                            outcomes.done += 1;
                        }
                        Err(_) if stopping => outcomes.stopped += 1,
                        Ok(reply) => {
                            let what = format!("{reply:?}");
                            outcomes.failed.push((name, what, began.elapsed()));
                        }
                        Err(error) => {
                            let what = format!("{error:?}");
                            outcomes.failed.push((name, what, began.elapsed()));
                        }
                    }
                }
            });
        }
        load
    }
    /// Invokes through this node too from now on.
    pub fn add(&self, name: &str, tenant: Tenant) {
        let target = Target {
            tenant,
            stopping: false,
        };
        self.targets.lock().insert(name.into(), target);
    }
    /// The node is about to stop: connections to it may break, answers may not be wrong.
    pub fn stopping(&self, name: &str) {
        if let Some(target) = self.targets.lock().get_mut(name) {
            target.stopping = true;
        }
    }
    /// Nothing is sent to this node any more.
    pub fn remove(&self, name: &str) {
        self.targets.lock().remove(name);
    }
    /// What happened so far.
    pub fn outcomes(&self) -> Outcomes {
        self.outcomes.lock().clone()
    }
    /// Ends the load once `more` further invocations have succeeded; answers all outcomes.
    pub async fn finish(mut self, more: u64, limit: Duration) -> Outcomes {
        let (began, wanted) = (Instant::now(), self.outcomes().done + more);
        while self.outcomes().done < wanted {
            assert!(
                began.elapsed() < limit,
                "the load stands still: {:?}",
                self.outcomes()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.clients.shutdown().await;
        self.outcomes.lock().clone()
    }
}

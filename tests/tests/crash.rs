//! kill -9 at random moments while several clients change things, against a
//! model: what was acknowledged is there after every restart, what was not may
//! or may not be, and nothing else is.
//!
//! `ORAMA_CRASH_ROUNDS` (200) sets the number of kills, `ORAMA_TEST_SEED` replays a run.

use std::time::{Duration, Instant};

use orama_proto::api::DeployResponse;
use orama_proto::function::FunctionInfo;
use orama_proto::limits;
use orama_tests::{Deploy, Node, Reply, Rng, Tenant, guests, seed, setting};
use reqwest::Method;

const CLIENTS: usize = 4;
const FUNCTIONS: usize = 2;
const SECRETS: usize = 3;
const READY_WITHIN: Duration = Duration::from_secs(2);

/// What a function may be. A client changes its own functions only, one change
/// after the other, so at most one change of each is in doubt at a crash.
#[derive(Debug, Clone, Default)]
struct FunctionModel {
    name: String,
    /// Acknowledged versions in order: number and the text it answers.
    versions: Vec<(u64, String)>,
    /// Versions up to this one are disabled; a later deploy is not.
    disabled_to: u64,
    doubt: Option<FunctionChange>,
}

impl FunctionModel {
    fn latest(&self) -> u64 {
        self.versions.last().map_or(0, |v| v.0)
    }
    fn is_disabled(&self) -> bool {
        self.latest() <= self.disabled_to
    }
}

#[derive(Debug, Clone)]
enum FunctionChange {
    Deploy(String),
    Disable(bool),
}

/// What a secret may be.
#[derive(Debug, Clone, Default)]
struct SecretModel {
    name: String,
    value: Option<String>,
    doubt: Option<Option<String>>,
}

#[derive(Debug)]
struct Client {
    id: usize,
    tenant_index: usize,
    rng: Rng,
    counter: u64,
    functions: Vec<FunctionModel>,
    secrets: Vec<SecretModel>,
    acknowledged: u64,
}

impl Client {
    fn new(id: usize, rng: Rng) -> Self {
        Self {
            id,
            tenant_index: id % 2,
            rng,
            counter: 0,
            functions: (0..FUNCTIONS)
                .map(|f| FunctionModel {
                    name: format!("f{id}-{f}"),
                    ..Default::default()
                })
                .collect(),
            secrets: (0..SECRETS)
                .map(|s| SecretModel {
                    name: format!("S{id}_{s}"),
                    ..Default::default()
                })
                .collect(),
            acknowledged: 0,
        }
    }

    /// Makes changes until the node is gone.
    async fn work(mut self, tenant: Tenant) -> Self {
        let tenant = tenant.with_own_connections();
        loop {
            let alive = match self.rng.below(10) {
                0..=2 => self.deploy(&tenant).await,
                3 => self.toggle(&tenant).await,
                4..=7 => self.set_secret(&tenant).await,
                _ => self.delete_secret(&tenant).await,
            };
            if !alive {
                return self;
            }
            self.acknowledged += 1;
        }
    }

    async fn deploy(&mut self, tenant: &Tenant) -> bool {
        self.counter += 1;
        let text = format!("{}-{}", self.id, self.counter);
        let at = self.rng.below(FUNCTIONS as u64) as usize;
        let model = &mut self.functions[at];
        model.doubt = Some(FunctionChange::Deploy(text.clone()));
        let module = guests::constant(&format!("\"{text}\""));
        let Some(reply) = tenant
            .deploy_or_die(Deploy::new(&model.name, &module))
            .await
        else {
            return false;
        };
        let made: DeployResponse = acknowledged(reply, 201).parse();
        assert_eq!(
            made.function.version,
            model.versions.last().map_or(1, |v| v.0 + 1),
            "{model:?}"
        );
        model.versions.push((made.function.version, text));
        model.doubt = None;
        true
    }

    async fn toggle(&mut self, tenant: &Tenant) -> bool {
        let at = self.rng.below(FUNCTIONS as u64) as usize;
        let model = &mut self.functions[at];
        if model.versions.is_empty() {
            return self.deploy(tenant).await;
        }
        let disable = !model.is_disabled();
        model.doubt = Some(FunctionChange::Disable(disable));
        let action = if disable { "disable" } else { "enable" };
        let path = format!("/v1/functions/{}/{action}", model.name);
        let Ok(answer) = tenant.request(Method::POST, &path).send().await else {
            return false;
        };
        assert_eq!(answer.status(), 200, "{path}");
        model.disabled_to = if disable { model.latest() } else { 0 };
        model.doubt = None;
        true
    }

    async fn set_secret(&mut self, tenant: &Tenant) -> bool {
        self.counter += 1;
        let value = format!("value-{}-{}", self.id, self.counter);
        let at = self.rng.below(SECRETS as u64) as usize;
        let model = &mut self.secrets[at];
        model.doubt = Some(Some(value.clone()));
        let Some(reply) = tenant.set_secret_or_die(&model.name, &value).await else {
            return false;
        };
        acknowledged(reply, 200);
        model.value = Some(value);
        model.doubt = None;
        true
    }

    async fn delete_secret(&mut self, tenant: &Tenant) -> bool {
        let at = self.rng.below(SECRETS as u64) as usize;
        let model = &mut self.secrets[at];
        model.doubt = Some(None);
        let Some(reply) = tenant.delete_secret_or_die(&model.name).await else {
            return false;
        };
        acknowledged(reply, if model.value.is_some() { 200 } else { 404 });
        model.value = None;
        model.doubt = None;
        true
    }

    /// Compares everything of this client with the node, and settles what was in doubt.
    async fn verify(&mut self, tenant: &Tenant, listed: &[FunctionInfo], names: &[String]) {
        for model in &mut self.functions {
            let latest = listed.iter().find(|f| f.name == model.name);
            let seen = match latest {
                Some(_) => tenant.versions(&model.name).await,
                None => Vec::new(),
            };
            match model.doubt.take() {
                Some(FunctionChange::Deploy(text)) => {
                    let next = model.versions.last().map_or(1, |v| v.0 + 1);
                    if seen.first().is_some_and(|v| v.version == next) {
                        model.versions.push((next, text));
                    }
                }
                Some(FunctionChange::Disable(_)) | None if latest.is_none() => {}
                Some(FunctionChange::Disable(disabled)) => {
                    let reply = tenant.invoke(&model.name, "").await;
                    if (reply.status == 404) == disabled {
                        model.disabled_to = if disabled { model.latest() } else { 0 };
                    }
                }
                None => {}
            }
            // Only the newest versions are kept; of those, each one.
            let expected: Vec<u64> = model
                .versions
                .iter()
                .rev()
                .map(|v| v.0)
                .take(limits::VERSIONS_KEPT)
                .collect();
            let seen: Vec<u64> = seen
                .iter()
                .map(|v| v.version)
                .take(limits::VERSIONS_KEPT)
                .collect();
            assert_eq!(seen, expected, "versions of {model:?}");
            let Some((version, text)) = model.versions.last() else {
                continue;
            };
            let reply = tenant.invoke(&model.name, "").await;
            if model.is_disabled() {
                assert_eq!(reply.status, 404, "{reply:?} {model:?}");
            } else {
                assert_eq!(
                    reply.output(),
                    format!("\"{text}\"").into_bytes(),
                    "{model:?}"
                );
                let back = self
                    .rng
                    .below(model.versions.len().min(limits::VERSIONS_KEPT / 2) as u64)
                    as usize;
                let (old, text) = &model.versions[model.versions.len() - 1 - back];
                let reply = tenant.invoke(&format!("{}@{old}", model.name), "").await;
                if *old <= model.disabled_to {
                    assert_eq!(reply.status, 404, "{reply:?} {model:?}");
                } else {
                    let expected = format!("\"{text}\"").into_bytes();
                    assert_eq!(reply.output(), expected, "{version} {model:?}");
                }
            }
        }
        for model in &mut self.secrets {
            let body = tenant.invoke("reader", model.name.as_str()).await.json();
            // The reader says which allocator was used, then the value; nothing when there is none.
            let seen = body["output"]
                .as_str()
                .unwrap()
                .strip_prefix('m')
                .map(str::to_owned);
            let listed = names.contains(&model.name);
            assert_eq!(listed, seen.is_some(), "{model:?}");
            if let Some(value) = model.doubt.take()
                && seen == value
            {
                model.value = value;
            }
            assert_eq!(seen, model.value, "{model:?}");
        }
    }
}

/// While the node lives, it must say yes: nothing here is over a limit.
#[track_caller]
fn acknowledged(reply: Reply, status: u16) -> Reply {
    reply.expect(status)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_survives_kill_nine() {
    let rounds = setting("ORAMA_CRASH_ROUNDS", 200);
    let mut rng = Rng::new(seed());
    let mut node = Node::start().await;
    let tenants = [node.tenant("left").await, node.tenant("right").await];
    for tenant in &tenants {
        tenant
            .deploy(Deploy::new("reader", &guests::secret_reader(&["malloc"])))
            .await;
    }
    let mut clients: Vec<Client> = (0..CLIENTS).map(|id| Client::new(id, rng.fork())).collect();
    let (mut slowest, mut sum) = (Duration::ZERO, Duration::ZERO);
    let began = Instant::now();
    for round in 0..rounds {
        let working: Vec<_> = clients
            .drain(..)
            .map(|client| {
                let tenant = tenants[client.tenant_index].clone();
                tokio::spawn(client.work(tenant))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(rng.between(5, 150))).await;
        node.kill();
        for client in working {
            clients.push(client.await.expect("a client found something wrong"));
        }
        let took = node.start_again().await;
        assert!(took <= READY_WITHIN, "round {round}: ready after {took:?}");
        slowest = slowest.max(took);
        sum += took;
        for (index, tenant) in tenants.iter().enumerate() {
            let tenant = tenant.with_own_connections();
            let (listed, names) = (tenant.functions().await, tenant.secrets().await);
            for client in clients.iter_mut().filter(|c| c.tenant_index == index) {
                client.verify(&tenant, &listed, &names).await;
            }
            // Nothing is there that nobody made.
            let mine = |c: &&Client| c.tenant_index == index;
            let functions = 1 + clients
                .iter()
                .filter(mine)
                .flat_map(|c| &c.functions)
                .filter(|f| !f.versions.is_empty())
                .count();
            let secrets = clients
                .iter()
                .filter(mine)
                .flat_map(|c| &c.secrets)
                .filter(|s| s.value.is_some())
                .count();
            assert_eq!(
                (listed.len(), names.len()),
                (functions, secrets),
                "round {round}"
            );
        }
        if (round + 1) % 50 == 0 {
            let changes: u64 = clients.iter().map(|c| c.acknowledged).sum();
            println!(
                "{} kills, {changes} acknowledged changes, {:?}",
                round + 1,
                began.elapsed()
            );
        }
    }
    let changes: u64 = clients.iter().map(|c| c.acknowledged).sum();
    println!(
        "{rounds} kills in {:?}: {changes} acknowledged changes, ready after {:?} on average, {slowest:?} at most",
        began.elapsed(),
        sum / rounds.max(1) as u32
    );
    assert!(
        changes > rounds,
        "the clients hardly got to work: {changes} changes"
    );
    node.stop().await;
}

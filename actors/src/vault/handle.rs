//! The vaults of this node behind one handle: started on demand, bounded in
//! number, the longest unused one given up for a new one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::{Addr, Arbiter, ArbiterHandle, Handler, MailboxError, Message, Supervisor};
use orama_cluster::NamespaceEntry;
use orama_proto::api::ActorInfo;
use orama_proto::sealed::SealedValue;
use orama_proto::{Namespace, SecretName};
use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use zeroize::Zeroizing;

use super::VaultError;
use super::actor::{Lock, Open, Seal, Stats, Vault};
use super::master::MasterKeys;

/// Settings of the vaults.
#[derive(Debug, Clone)]
pub(crate) struct VaultOptions {
    /// A data key unused for so long is zeroized.
    pub(crate) idle: Duration,
    /// Vaults that may live at once; the longest unused one makes place.
    pub(crate) max_live: usize,
    /// How long a caller waits for a vault's answer.
    pub(crate) answer_within: Duration,
}

impl Default for VaultOptions {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            max_live: 1_024,
            answer_within: Duration::from_secs(5),
        }
    }
}

struct Metrics {
    live: IntGauge,
    operations: IntCounterVec,
}

impl Metrics {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            live: IntGauge::new("orama_vaults_live", "Vault actors alive on this node.")?,
            operations: IntCounterVec::new(
                Opts::new(
                    "orama_vault_operations_total",
                    "Secrets opened and sealed, by result.",
                ),
                &["operation", "result"],
            )?,
        };
        registry.register(Box::new(metrics.live.clone()))?;
        registry.register(Box::new(metrics.operations.clone()))?;
        Ok(metrics)
    }
}

struct Live {
    addr: Addr<Vault>,
    stats: Arc<Stats>,
    /// Tick of the last use, for finding the longest unused one.
    used: u64,
}

struct Shared {
    masters: MasterKeys,
    options: VaultOptions,
    metrics: Metrics,
    arbiter: ArbiterHandle,
    /// Held to end the thread on [`Vaults::stop`].
    thread: Mutex<Option<Arbiter>>,
    live: Mutex<HashMap<Namespace, Live>>,
    tick: AtomicU64,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.get_mut().take() {
            thread.stop();
        }
    }
}

/// Handle of this node's vaults. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Vaults(Arc<Shared>);

impl Vaults {
    /// Vaults that live on `thread`, which ends with them.
    pub(crate) fn start(
        masters: MasterKeys,
        options: VaultOptions,
        thread: Arbiter,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let metrics = Metrics::register(registry)?;
        Ok(Self(Arc::new(Shared {
            masters,
            options,
            metrics,
            arbiter: thread.handle(),
            thread: Mutex::new(Some(thread)),
            live: Mutex::new(HashMap::new()),
            tick: AtomicU64::new(0),
        })))
    }

    /// The master keys.
    pub(crate) fn masters(&self) -> &MasterKeys {
        &self.0.masters
    }

    /// Opens a secret of the namespace.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub(crate) async fn open(
        &self,
        entry: &Arc<NamespaceEntry>,
        name: &SecretName,
        sealed: &Arc<SealedValue>,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let result = self
            .ask(entry, || Open {
                entry: Arc::clone(entry),
                name: name.clone(),
                sealed: Arc::clone(sealed),
            })
            .await;
        self.count("open", result.is_ok());
        result
    }

    /// Seals a value for the namespace.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub(crate) async fn seal(
        &self,
        entry: &Arc<NamespaceEntry>,
        name: &SecretName,
        value: &Zeroizing<Vec<u8>>,
    ) -> Result<SealedValue, VaultError> {
        let result = self
            .ask(entry, || Seal {
                entry: Arc::clone(entry),
                name: name.clone(),
                value: value.clone(),
            })
            .await;
        self.count("seal", result.is_ok());
        result
    }

    /// Ends a namespace's vault; its data key is zeroized.
    pub(crate) fn close(&self, namespace: &Namespace) {
        let mut live = self.0.live.lock();
        if let Some(vault) = live.remove(namespace) {
            // Past the mailbox's bound on purpose: forgetting must not wait.
            vault.addr.do_send(Lock);
        }
        self.0.metrics.live.set(live.len() as i64);
    }

    /// Ends all vaults and their thread.
    pub(crate) fn stop(&self) {
        for (_, vault) in self.0.live.lock().drain() {
            vault.addr.do_send(Lock);
        }
        self.0.metrics.live.set(0);
        if let Some(thread) = self.0.thread.lock().take() {
            thread.stop();
        }
    }

    /// State of every vault alive, by name.
    pub(crate) fn info(&self) -> Vec<ActorInfo> {
        let live = self.0.live.lock();
        let mut infos: Vec<_> = live
            .iter()
            .map(|(namespace, vault)| {
                let state = match vault.addr.connected() {
                    false => "stopped",
                    true if vault.stats.unlocked.load(Ordering::Relaxed) => "running",
                    true => "idle",
                };
                ActorInfo {
                    name: format!("vault/{namespace}"),
                    state: state.to_owned(),
                    mailbox: vault.stats.waiting.load(Ordering::Relaxed),
                    handled: vault.stats.handled.load(Ordering::Relaxed),
                    restarts: vault.stats.restarts.load(Ordering::Relaxed),
                }
            })
            .collect();
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        infos
    }

    fn count(&self, operation: &str, good: bool) {
        let result = if good { "ok" } else { "error" };
        self.0
            .metrics
            .operations
            .with_label_values(&[operation, result])
            .inc();
    }

    async fn ask<M, T>(
        &self,
        entry: &NamespaceEntry,
        message: impl Fn() -> M,
    ) -> Result<T, VaultError>
    where
        M: Message<Result = Result<T, VaultError>> + Send + 'static,
        T: Send + 'static,
        Vault: Handler<M>,
    {
        // A vault may have ended between being looked up and being asked: once more with a new one.
        for _ in 0..2 {
            let (addr, stats) = self.vault(&entry.name);
            let waiting = Waiting::new(stats);
            let answer = addr
                .send(message())
                .timeout(self.0.options.answer_within)
                .await;
            drop(waiting);
            match answer {
                Ok(result) => return result,
                Err(MailboxError::Timeout) => break,
                Err(MailboxError::Closed) => {}
            }
        }
        Err(VaultError::Unavailable(format!(
            "the vault of namespace {:?} does not answer",
            entry.name
        )))
    }

    fn vault(&self, namespace: &Namespace) -> (Addr<Vault>, Arc<Stats>) {
        let shared = &*self.0;
        let used = shared.tick.fetch_add(1, Ordering::Relaxed);
        let mut live = shared.live.lock();
        let mut restarts = 0;
        if let Some(vault) = live.get_mut(namespace) {
            if vault.addr.connected() {
                vault.used = used;
                return (vault.addr.clone(), Arc::clone(&vault.stats));
            }
            restarts = vault.stats.restarts.load(Ordering::Relaxed) + 1;
        } else if live.len() >= shared.options.max_live {
            let oldest = live.iter().min_by_key(|(_, vault)| vault.used);
            if let Some(name) = oldest.map(|(name, _)| name.clone())
                && let Some(vault) = live.remove(&name)
            {
                vault.addr.do_send(Lock);
            }
        }
        let stats = Arc::new(Stats::default());
        stats.restarts.store(restarts, Ordering::Relaxed);
        let (masters, idle) = (shared.masters.clone(), shared.options.idle);
        let for_actor = Arc::clone(&stats);
        let addr = Supervisor::start_in_arbiter(&shared.arbiter, move |_| {
            Vault::new(masters, idle, for_actor)
        });
        let vault = Live {
            addr: addr.clone(),
            stats: Arc::clone(&stats),
            used,
        };
        live.insert(namespace.clone(), vault);
        shared.metrics.live.set(live.len() as i64);
        (addr, stats)
    }
}

/// Counts a caller as waiting for as long as it exists.
struct Waiting(Arc<Stats>);

impl Waiting {
    fn new(stats: Arc<Stats>) -> Self {
        stats.waiting.fetch_add(1, Ordering::Relaxed);
        Self(stats)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::envelope::{self, Purpose};
    use super::*;
    use orama_proto::Timestamp;

    fn setup(options: VaultOptions) -> Vaults {
        let masters = MasterKeys::parse(&MasterKeys::generate()).unwrap();
        Vaults::start(masters, options, Arbiter::new(), &Registry::new()).unwrap()
    }

    fn entry(vaults: &Vaults, name: &str) -> Arc<NamespaceEntry> {
        let name = Namespace::parse(name).unwrap();
        let key = envelope::new_data_key();
        let purpose = Purpose::DataKey(&name);
        let data_key = envelope::wrap(vaults.masters(), purpose, key.as_slice()).unwrap();
        let created_at = Timestamp::now();
        Arc::new(NamespaceEntry {
            name,
            data_key,
            created_at,
        })
    }

    fn secret(text: &str) -> SecretName {
        SecretName::parse(text).unwrap()
    }

    #[actix::test]
    async fn values_come_back_and_stay_in_their_namespace() {
        let vaults = setup(VaultOptions::default());
        let (a, b) = (entry(&vaults, "aa"), entry(&vaults, "bb"));
        let value = Zeroizing::new(b"s3cret".to_vec());
        let sealed = Arc::new(vaults.seal(&a, &secret("K"), &value).await.unwrap());
        let opened = vaults.open(&a, &secret("K"), &sealed).await;
        assert_eq!(opened, Ok(value));
        let stolen = vaults.open(&b, &secret("K"), &sealed).await;
        assert!(matches!(stolen, Err(VaultError::Damaged(_))));
        let info = vaults.info();
        assert_eq!(info[0].name, "vault/aa");
        assert_eq!((info[0].handled, info[0].mailbox), (2, 0));
    }

    #[actix::test]
    async fn an_idle_vault_forgets_its_key_and_works_again() {
        let vaults = setup(VaultOptions {
            idle: Duration::from_millis(20),
            ..VaultOptions::default()
        });
        let a = entry(&vaults, "aa");
        let value = Zeroizing::new(b"v".to_vec());
        let sealed = Arc::new(vaults.seal(&a, &secret("K"), &value).await.unwrap());
        while vaults.info()[0].state != "idle" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(vaults.open(&a, &secret("K"), &sealed).await, Ok(value));
    }

    #[actix::test]
    async fn the_number_of_live_vaults_is_bounded() {
        let vaults = setup(VaultOptions {
            max_live: 2,
            ..VaultOptions::default()
        });
        let value = Zeroizing::new(b"v".to_vec());
        for name in ["aa", "bb", "aa", "cc"] {
            let entry = entry(&vaults, name);
            vaults.seal(&entry, &secret("K"), &value).await.unwrap();
        }
        let names: Vec<_> = vaults.info().into_iter().map(|i| i.name).collect();
        assert_eq!(names, ["vault/aa", "vault/cc"]);
        vaults.close(&Namespace::parse("aa").unwrap());
        assert_eq!(vaults.info().len(), 1);
    }

    #[actix::test]
    async fn a_vault_that_panicked_is_replaced() {
        let vaults = setup(VaultOptions::default());
        let a = entry(&vaults, "aa");
        let value = Zeroizing::new(b"v".to_vec());
        let sealed = Arc::new(vaults.seal(&a, &secret("K"), &value).await.unwrap());
        let (addr, _) = vaults.vault(&a.name);
        assert!(addr.send(super::super::actor::Crash).await.is_err());
        assert_eq!(vaults.open(&a, &secret("K"), &sealed).await, Ok(value));
        assert_eq!(vaults.info()[0].restarts, 1);
    }

    #[actix::test]
    async fn stopped_vaults_answer_instead_of_hanging() {
        let vaults = setup(VaultOptions::default());
        let a = entry(&vaults, "aa");
        vaults.stop();
        let value = Zeroizing::new(b"v".to_vec());
        let result = vaults.seal(&a, &secret("K"), &value).await;
        assert!(matches!(result, Err(VaultError::Unavailable(_))));
    }
}

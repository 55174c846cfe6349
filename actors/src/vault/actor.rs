//! One namespace's vault: the actor that holds its data key in the clear, for
//! as short a time as makes sense.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, Message, Supervised};
use orama_cluster::NamespaceEntry;
use orama_proto::SecretName;
use orama_proto::sealed::{SealedValue, WrappedKey};
use zeroize::Zeroizing;

use super::VaultError;
use super::envelope::{self, DataKey, Purpose};
use super::master::MasterKeys;

/// Messages that may wait for one vault; senders beyond wait their turn.
pub(super) const MAILBOX: usize = 256;

/// What the handle can see of a vault without asking it.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) waiting: AtomicU64,
    pub(super) handled: AtomicU64,
    pub(super) restarts: AtomicU64,
    pub(super) unlocked: AtomicBool,
}

/// The data key while it is in use.
#[derive(Default)]
struct KeySlot(Option<Held>);

struct Held {
    /// What it was unwrapped from: a namespace that was deleted and made anew
    /// has another key under the same name, and a rotation another wrapping.
    wrapped: WrappedKey,
    key: DataKey,
    last_used: Instant,
}

impl KeySlot {
    fn key(
        &mut self,
        masters: &MasterKeys,
        entry: &NamespaceEntry,
        now: Instant,
    ) -> Result<&DataKey, VaultError> {
        let held = match self.0.take() {
            Some(held) if held.wrapped == entry.data_key => Held {
                last_used: now,
                ..held
            },
            _ => Held {
                wrapped: entry.data_key.clone(),
                key: envelope::unwrap_key(masters, Purpose::DataKey(&entry.name), &entry.data_key)?,
                last_used: now,
            },
        };
        Ok(&self.0.insert(held).key)
    }

    /// Drops the key, which zeroizes it, when it has been idle for so long.
    /// Answers how long it still may stay.
    fn expire(&mut self, idle: Duration, now: Instant) -> Option<Duration> {
        let unused = now.duration_since(self.0.as_ref()?.last_used);
        let left = idle.checked_sub(unused).filter(|left| !left.is_zero());
        if left.is_none() {
            self.0 = None;
        }
        left
    }
}

/// The actor. Private to the vault: outside there is [`super::Vaults`] only.
pub(super) struct Vault {
    masters: MasterKeys,
    slot: KeySlot,
    idle: Duration,
    watched: bool,
    stats: Arc<Stats>,
}

impl Vault {
    pub(super) fn new(masters: MasterKeys, idle: Duration, stats: Arc<Stats>) -> Self {
        Self {
            masters,
            slot: KeySlot::default(),
            idle,
            watched: false,
            stats,
        }
    }

    fn key(
        &mut self,
        entry: &NamespaceEntry,
        ctx: &mut Context<Self>,
    ) -> Result<&DataKey, VaultError> {
        self.stats.handled.fetch_add(1, Ordering::Relaxed);
        if !self.watched {
            self.watched = true;
            ctx.run_later(self.idle, Self::watch);
        }
        self.stats.unlocked.store(true, Ordering::Relaxed);
        self.slot.key(&self.masters, entry, Instant::now())
    }

    fn watch(&mut self, ctx: &mut Context<Self>) {
        match self.slot.expire(self.idle, Instant::now()) {
            Some(left) => {
                ctx.run_later(left, Self::watch);
            }
            None => self.lock(),
        }
    }

    fn lock(&mut self) {
        self.slot = KeySlot::default();
        self.watched = false;
        self.stats.unlocked.store(false, Ordering::Relaxed);
    }
}

impl Actor for Vault {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Supervised for Vault {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.lock();
        self.stats.restarts.fetch_add(1, Ordering::Relaxed);
    }
}

/// Opens a value.
#[derive(Message)]
#[rtype(result = "Result<Zeroizing<Vec<u8>>, VaultError>")]
pub(super) struct Open {
    pub(super) entry: Arc<NamespaceEntry>,
    pub(super) name: SecretName,
    pub(super) sealed: Arc<SealedValue>,
}

impl Handler<Open> for Vault {
    type Result = Result<Zeroizing<Vec<u8>>, VaultError>;
    fn handle(&mut self, message: Open, ctx: &mut Self::Context) -> Self::Result {
        let key = self.key(&message.entry, ctx)?;
        envelope::open(key, &message.entry.name, &message.name, &message.sealed)
    }
}

/// Seals a value.
#[derive(Message)]
#[rtype(result = "Result<SealedValue, VaultError>")]
pub(super) struct Seal {
    pub(super) entry: Arc<NamespaceEntry>,
    pub(super) name: SecretName,
    pub(super) value: Zeroizing<Vec<u8>>,
}

impl Handler<Seal> for Vault {
    type Result = Result<SealedValue, VaultError>;
    fn handle(&mut self, message: Seal, ctx: &mut Self::Context) -> Self::Result {
        let key = self.key(&message.entry, ctx)?;
        envelope::seal(key, &message.entry.name, &message.name, &message.value)
    }
}

/// Forgets the data key at once.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Lock;

impl Handler<Lock> for Vault {
    type Result = ();
    fn handle(&mut self, _: Lock, _: &mut Self::Context) {
        // A pending timer finds nothing to expire and ends.
        self.slot = KeySlot::default();
        self.stats.unlocked.store(false, Ordering::Relaxed);
    }
}

/// Brings a vault down.
#[cfg(test)]
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Crash;

#[cfg(test)]
impl Handler<Crash> for Vault {
    type Result = ();
    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("a test brings this vault down");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_proto::{Namespace, Timestamp};

    fn entry(masters: &MasterKeys) -> NamespaceEntry {
        let name = Namespace::parse("default").unwrap();
        let key = envelope::new_data_key();
        NamespaceEntry {
            data_key: envelope::wrap(masters, Purpose::DataKey(&name), key.as_slice()).unwrap(),
            name,
            created_at: Timestamp::now(),
        }
    }

    #[test]
    fn an_idle_key_goes_and_a_used_one_stays() {
        let masters = MasterKeys::parse(&MasterKeys::generate()).unwrap();
        let entry = entry(&masters);
        let (idle, start) = (Duration::from_secs(60), Instant::now());
        let at = |secs| start + Duration::from_secs(secs);
        let mut slot = KeySlot::default();
        assert_eq!(slot.expire(idle, start), None);
        slot.key(&masters, &entry, at(0)).unwrap();
        assert_eq!(slot.expire(idle, at(20)), Some(Duration::from_secs(40)));
        slot.key(&masters, &entry, at(50)).unwrap();
        assert_eq!(slot.expire(idle, at(60)), Some(Duration::from_secs(50)));
        assert_eq!(slot.expire(idle, at(110)), None);
        assert!(slot.0.is_none());
    }

    #[test]
    fn another_wrapping_is_unwrapped_anew() {
        let masters = MasterKeys::parse(&MasterKeys::generate()).unwrap();
        let (first, second) = (entry(&masters), entry(&masters));
        let mut slot = KeySlot::default();
        let a = slot.key(&masters, &first, Instant::now()).unwrap().clone();
        let b = slot.key(&masters, &second, Instant::now()).unwrap().clone();
        assert_ne!(a, b);
        let mut bad = first.clone();
        bad.data_key.ciphertext[0] ^= 1;
        assert!(slot.key(&masters, &bad, Instant::now()).is_err());
        assert!(slot.0.is_none());
    }
}

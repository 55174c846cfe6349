//! One at a time for each of many things.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// One piece of work per key; who comes later waits its turn. Entries exist
/// only while somebody works or waits.
pub(crate) struct OneAtATime<K: Hash + Eq + Clone>(Mutex<HashMap<K, Arc<Semaphore>>>);

impl<K: Hash + Eq + Clone> Default for OneAtATime<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone> OneAtATime<K> {
    /// Stands in the queue of `key` for as long as the answer lives.
    pub(crate) fn enter(&self, key: K) -> Turn<'_, K> {
        let mut gates = self.0.lock();
        let gate = gates
            .entry(key.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(1)));
        Turn {
            gate: Arc::clone(gate),
            gates: self,
            key,
        }
    }
}

/// A place in a queue.
pub(crate) struct Turn<'a, K: Hash + Eq + Clone> {
    gate: Arc<Semaphore>,
    gates: &'a OneAtATime<K>,
    key: K,
}

impl<K: Hash + Eq + Clone> Turn<'_, K> {
    /// Waits for the turn, which lasts as long as the answer.
    pub(crate) async fn taken(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes the gate, and then going on is right as well.
        self.gate.acquire().await.ok()
    }
}

impl<K: Hash + Eq + Clone> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        let mut gates = self.gates.0.lock();
        // The map's and this one: nobody else is interested any more.
        if Arc::strong_count(&self.gate) <= 2 {
            gates.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_proto::ContentId;

    #[tokio::test]
    async fn loaders_take_turns_and_leave_nothing_behind() {
        let gates = OneAtATime::default();
        let (a, b) = (ContentId::of(b"a"), ContentId::of(b"b"));
        let first = gates.enter(a);
        let permit = first.gate.acquire().await.unwrap();
        let second = gates.enter(a);
        assert!(second.gate.try_acquire().is_err());
        let other = gates.enter(b);
        assert!(other.gate.try_acquire().is_ok());
        assert_eq!(gates.0.lock().len(), 2);
        drop(permit);
        drop(first);
        assert!(second.gate.try_acquire().is_ok());
        drop((second, other));
        assert!(gates.0.lock().is_empty());
    }
}

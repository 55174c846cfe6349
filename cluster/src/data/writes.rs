//! Transactions under way, counted by namespace: what one namespace may have in the
//! log's queue at a time is limited, so that the others' wait stays short.

use std::collections::HashMap;
use std::sync::Arc;

use orama_proto::Namespace;
use parking_lot::Mutex;

use super::metrics::Metrics;

/// Transactions of one namespace that a node waits for; further ones are refused
/// before anything was tried.
pub(super) const WRITES_OF_ONE: usize = 1024;

/// Counts them.
pub(super) struct Writes {
    under_way: Mutex<HashMap<Namespace, usize>>,
    pub(super) metrics: Metrics,
}

/// One that is under way.
pub(super) struct UnderWay {
    writes: Arc<Writes>,
    namespace: Namespace,
}

impl Writes {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            under_way: Mutex::default(),
            metrics,
        }
    }

    /// Lets a transaction in; `None` when its namespace has as many as it may.
    pub(super) fn enter(self: &Arc<Self>, namespace: &Namespace) -> Option<UnderWay> {
        let mut under_way = self.under_way.lock();
        match under_way.get_mut(namespace) {
            Some(count) if *count >= WRITES_OF_ONE => return None,
            Some(count) => *count += 1,
            None => {
                under_way.insert(namespace.clone(), 1);
            }
        }
        self.metrics.writes_under_way.inc();
        Some(UnderWay {
            writes: Arc::clone(self),
            namespace: namespace.clone(),
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.writes.metrics.writes_under_way.dec();
        let mut under_way = self.writes.under_way.lock();
        if let Some(count) = under_way.get_mut(&self.namespace) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_so_many_under_way() {
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let writes = Arc::new(Writes::new(metrics));
        let name = Namespace::parse("first").unwrap();
        let mut all: Vec<_> = (0..WRITES_OF_ONE).map(|_| writes.enter(&name)).collect();
        assert!(all.iter().all(Option::is_some));
        assert!(writes.enter(&name).is_none());
        let other = Namespace::parse("second").unwrap();
        assert!(writes.enter(&other).is_some());
        all.pop();
        assert!(writes.enter(&name).is_some());
        drop(all);
        assert!(writes.under_way.lock().is_empty());
    }
}

//! Open writers, the least recently used of which are closed when there are too many.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::metrics::{Metrics, Share};
use super::slot::{Slot, Work};

pub(super) struct Handles {
    max: usize,
    open: Mutex<Open>,
    share: Share,
    metrics: Metrics,
}

#[derive(Default)]
struct Open {
    turn: u64,
    /// By when they were used last.
    slots: BTreeMap<u64, Arc<Slot>>,
}

impl Handles {
    pub(super) fn new(max: usize, metrics: &Metrics) -> Self {
        Self {
            max: max.max(1),
            open: Mutex::default(),
            share: Share::new(&metrics.open),
            metrics: metrics.clone(),
        }
    }

    /// Notes that a slot's writer is used, and closes others when there are too many. Those in
    /// use are passed over. Closing is cheap: nothing is checkpointed then (`NO_CKPT_ON_CLOSE`).
    pub(super) fn used(&self, slot: &Arc<Slot>, work: &mut Work) {
        let mut closing = Vec::new();
        {
            let mut open = self.open.lock();
            open.slots.remove(&work.turn);
            open.turn += 1;
            work.turn = open.turn;
            open.slots.insert(work.turn, Arc::clone(slot));
            let mut extra = open.slots.len().saturating_sub(self.max);
            if extra > 0 {
                open.slots.retain(|_, candidate| {
                    // This slot's own lock is taken, so it is passed over too.
                    let Some(mut work) = (extra > 0).then(|| candidate.work.try_lock()).flatten()
                    else {
                        return true;
                    };
                    extra -= 1;
                    closing.push(work.writer.take());
                    work.turn = 0;
                    false
                });
            }
            self.share.set(open.slots.len());
        }
        self.metrics.evicted.inc_by(closing.len() as u64);
    }

    /// Closes a slot's writer.
    pub(super) fn close(&self, work: &mut Work) {
        work.writer = None;
        let mut open = self.open.lock();
        open.slots.remove(&work.turn);
        work.turn = 0;
        self.share.set(open.slots.len());
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.open.lock().slots.len()
    }
}

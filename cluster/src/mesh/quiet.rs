//! Keeps strangers from filling the log: one line a minute for each cause.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a cause is silent after a line.
const EVERY: Duration = Duration::from_secs(60);
/// Causes remembered at most; further ones share one line a minute.
const CAUSES: usize = 512;

/// Decides whether a line about `K` is due.
pub(super) struct Quiet<K> {
    seen: Mutex<Seen<K>>,
}

struct Seen<K> {
    causes: HashMap<K, Entry>,
    others: Option<Entry>,
}

struct Entry {
    since: Instant,
    suppressed: u64,
}

impl<K: Hash + Eq> Quiet<K> {
    pub(super) fn new() -> Self {
        Self {
            seen: Mutex::new(Seen {
                causes: HashMap::new(),
                others: None,
            }),
        }
    }

    /// `Some(n)` when a line is due; `n` earlier ones were left out.
    pub(super) fn due(&self, cause: K) -> Option<u64> {
        self.due_at(cause, Instant::now())
    }

    fn due_at(&self, cause: K, now: Instant) -> Option<u64> {
        let mut seen = self.seen.lock();
        if seen.causes.len() >= CAUSES && !seen.causes.contains_key(&cause) {
            seen.causes
                .retain(|_, entry| now.saturating_duration_since(entry.since) < EVERY);
        }
        let full = seen.causes.len() >= CAUSES && !seen.causes.contains_key(&cause);
        let first = Entry {
            since: now,
            suppressed: 0,
        };
        let known = if full {
            match &mut seen.others {
                Some(entry) => entry,
                none => {
                    *none = Some(first);
                    return Some(0);
                }
            }
        } else {
            match seen.causes.entry(cause) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(first);
                    return Some(0);
                }
            }
        };
        if now.saturating_duration_since(known.since) < EVERY {
            known.suppressed += 1;
            return None;
        }
        known.since = now;
        Some(std::mem::take(&mut known.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_speaks_once_a_minute() {
        let quiet = Quiet::new();
        let start = Instant::now();
        assert_eq!(quiet.due_at(1, start), Some(0));
        assert_eq!(quiet.due_at(1, start), None);
        assert_eq!(quiet.due_at(2, start), Some(0));
        assert_eq!(quiet.due_at(1, start + EVERY), Some(1));
    }

    #[test]
    fn many_causes_share_a_line_and_bounded_memory() {
        let quiet = Quiet::new();
        let start = Instant::now();
        let lines = (0..10 * CAUSES)
            .filter(|cause| quiet.due_at(*cause, start).is_some())
            .count();
        assert_eq!(lines, CAUSES + 1);
        assert_eq!(quiet.seen.lock().causes.len(), CAUSES);
        assert_eq!(quiet.due_at(usize::MAX, start + EVERY), Some(0));
        assert_eq!(quiet.seen.lock().causes.len(), 1);
    }
}

//! Clients of registers: which one they take, what they do to it and how soon again, whatever
//! the registers are made of.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use tokio::sync::watch;

use super::{Action, Outcome, Recorder};
use crate::Rng;

/// Operations on one register before another takes its place, so that no register's history
/// becomes too long to check.
const LIFE: u64 = 100;

/// Registers that are reached through several nodes.
pub trait Subject: Sync {
    /// Names one.
    type Key: Clone + Debug + Eq + Hash + Send + Sync;

    /// Where operations are recorded.
    fn recorder(&self) -> &Recorder;
    /// How many nodes there are.
    fn nodes(&self) -> usize;
    /// One of those in use.
    fn pick(&self, rng: &mut Rng) -> Self::Key;
    /// One operation through one node, recorded.
    fn perform(
        &self,
        client: &str,
        node: usize,
        key: &Self::Key,
        action: Action,
    ) -> impl Future<Output = Outcome> + Send;
}

/// One client: an operation after the other, each through a node drawn by the seed, until `stop`
/// is true.
pub async fn client<S: Subject>(
    subject: &S,
    name: &str,
    mut rng: Rng,
    pause: Duration,
    stop: watch::Receiver<bool>,
) {
    let recorder = subject.recorder();
    // What this client saw last, for swaps that have a chance.
    let mut seen: HashMap<S::Key, Option<String>> = HashMap::new();
    while !*stop.borrow() {
        let key = subject.pick(&mut rng);
        let action = match rng.below(10) {
            0..4 => Action::Read,
            4..7 => Action::Write(recorder.fresh_value(name)),
            _ => Action::Swap {
                expected: seen.get(&key).cloned().unwrap_or_default(),
                new: recorder.fresh_value(name),
            },
        };
        let node = rng.below(subject.nodes() as u64) as usize;
        let outcome = subject.perform(name, node, &key, action.clone()).await;
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

/// Reads each of `keys` through each of `nodes`, again until there is an answer: with these
/// reads in the history, a write that was acknowledged and lost is found.
pub async fn final_reads<S: Subject>(subject: &S, keys: Vec<S::Key>, nodes: &[usize]) {
    for key in keys {
        for node in nodes {
            let mut tries = 0;
            while !matches!(
                subject.perform("final", *node, &key, Action::Read).await,
                Outcome::Saw(_)
            ) {
                tries += 1;
                assert!(tries < 40, "n{} cannot read {key:?}", node + 1);
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }
}

/// Registers in use, a few at a time, each in a place `P`.
#[derive(Debug)]
pub struct Rotation<P> {
    /// Operations so far, beside place and number.
    live: Vec<(P, u64, u64)>,
    all: Vec<(P, u64)>,
}

impl<P: Copy> Rotation<P> {
    /// One in each of these places, numbered from 1.
    pub fn new(places: impl IntoIterator<Item = P>) -> Self {
        let all: Vec<_> = places.into_iter().zip(1..).collect();
        assert!(!all.is_empty());
        Self {
            live: all.iter().map(|(place, n)| (*place, *n, 0)).collect(),
            all,
        }
    }

    /// Draws one; one that was drawn often enough is left for a new one in its place.
    pub fn pick(&mut self, rng: &mut Rng) -> (P, u64) {
        let at = rng.below(self.live.len() as u64) as usize;
        let (place, number, used) = self.live[at];
        self.live[at].2 += 1;
        if used >= LIFE {
            let next = self.all.len() as u64 + 1;
            self.live[at] = (place, next, 0);
            self.all.push((place, next));
        }
        (place, number)
    }

    /// Every one that was ever in use.
    pub fn all(&self) -> &[(P, u64)] {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_left_before_its_history_is_long() {
        let mut rotation = Rotation::new(['a', 'b']);
        let mut rng = Rng::new(1);
        let mut used: HashMap<(char, u64), u64> = HashMap::new();
        for _ in 0..1_000 {
            *used.entry(rotation.pick(&mut rng)).or_default() += 1;
        }
        assert!(used.values().all(|times| *times <= LIFE + 1), "{used:?}");
        let known = used.keys().all(|key| rotation.all().contains(key));
        assert!(known && used.len() >= 10, "{used:?}");
    }
}

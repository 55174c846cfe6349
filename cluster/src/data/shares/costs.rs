//! What a database's writes are expected to take: by their shape, from what the last ones took.

use std::collections::HashMap;
use std::time::Duration;

use super::super::shape::Shape;

/// A shape that was never seen is expected to take so long at first: a new database begins with
/// as many writes under way as fit, and gets more as they prove cheap.
const NOVEL: Duration = Duration::from_millis(50);
/// Shapes that are remembered; the cheapest are left out.
const KNOWN_MAX: usize = 64;

/// Expectations of one database.
pub(super) struct Costs {
    /// Of a shape that is not known. Programs that write arguments into their texts have no others.
    novel: Duration,
    known: HashMap<Shape, Duration>,
}

/// Dear is believed sooner than cheap.
fn next(expected: Duration, took: Duration) -> Duration {
    match took > expected {
        true => (expected + took) / 2,
        false => expected - (expected - took) / 4,
    }
}

impl Costs {
    pub(super) fn new() -> Self {
        Self {
            novel: NOVEL,
            known: HashMap::new(),
        }
    }

    /// What the next one of this shape is expected to take.
    pub(super) fn of(&self, shape: Shape) -> Duration {
        self.known.get(&shape).copied().unwrap_or(self.novel)
    }

    /// One took so long.
    pub(super) fn learn(&mut self, shape: Shape, took: Duration) {
        if let Some(expected) = self.known.get_mut(&shape) {
            *expected = next(*expected, took);
            return;
        }
        self.novel = next(self.novel, took);
        if self.known.len() >= KNOWN_MAX {
            let cheapest = self.known.iter().min_by_key(|(_, cost)| **cost);
            match cheapest.map(|(shape, cost)| (*shape, *cost)) {
                Some((shape, cost)) if cost < self.novel => self.known.remove(&shape),
                _ => return,
            };
        }
        self.known.insert(shape, self.novel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Duration = Duration::from_micros(100);
    const DEAR: Duration = Duration::from_secs(1);

    #[test]
    fn a_shape_is_expected_to_go_on_as_it_did() {
        let mut costs = Costs::new();
        let (cheap, dear) = (Shape(1), Shape(2));
        assert_eq!(costs.of(cheap), NOVEL);
        costs.learn(cheap, CHEAP);
        assert!(
            costs.of(cheap) < NOVEL && costs.of(cheap) > 100 * CHEAP,
            "by and by"
        );
        for _ in 0..30 {
            costs.learn(cheap, CHEAP);
        }
        assert!(costs.of(cheap) < 2 * CHEAP);
        costs.learn(dear, DEAR);
        assert!(costs.of(dear) >= DEAR / 2, "at once");
        assert!(costs.of(cheap) < 2 * CHEAP, "the other's is its own");
        assert!(costs.of(Shape(3)) >= DEAR / 2, "nor is a new one trusted");
        costs.learn(cheap, DEAR);
        assert!(costs.of(cheap) >= DEAR / 2);
    }

    #[test]
    fn texts_that_are_all_different_are_trusted_when_they_were_cheap() {
        let mut costs = Costs::new();
        costs.learn(Shape(0), DEAR);
        for n in 1..10_000 {
            costs.learn(Shape(n), CHEAP);
        }
        assert!(costs.of(Shape(u64::MAX)) < 2 * CHEAP);
        assert!(costs.known.len() <= KNOWN_MAX);
        assert!(
            costs.of(Shape(0)) >= DEAR / 2,
            "the dear one is not forgotten"
        );
    }
}

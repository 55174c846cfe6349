//! The power of two choices: of two members drawn at random, the less loaded.
//! Taking the least loaded of all would send every node's overflow of one
//! moment to the same one.

use std::cmp::Ordering;

/// How loaded a member is that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    /// Guests that run there, those sent since its report included.
    pub(super) busy: u32,
    /// Guests that may run there; not 0.
    pub(super) capacity: u32,
    /// Median duration of its recent invocations, microseconds.
    pub(super) latency_us: u32,
}

impl Load {
    /// By share of the capacity in use, then by latency.
    fn compare(&self, other: &Self) -> Ordering {
        let share = |a: &Self, b: &Self| u64::from(a.busy) * u64::from(b.capacity);
        share(self, other)
            .cmp(&share(other, self))
            .then(self.latency_us.cmp(&other.latency_us))
    }
}

/// One of the eligible, or `None` when there is none. `draw(n)` answers a
/// random number below `n`.
pub(super) fn two_choices<T>(
    mut eligible: Vec<(Load, T)>,
    mut draw: impl FnMut(usize) -> usize,
) -> Option<T> {
    let count = eligible.len();
    if count == 0 {
        return None;
    }
    let first = draw(count);
    if count == 1 {
        return Some(eligible.swap_remove(first).1);
    }
    let other = draw(count - 1);
    // Skips the first, so that the two differ and every pair is equally likely.
    let second = if other >= first { other + 1 } else { other };
    let better = match eligible[second].0.compare(&eligible[first].0) {
        Ordering::Less => second,
        // The first of the two is as random as the second.
        Ordering::Equal | Ordering::Greater => first,
    };
    Some(eligible.swap_remove(better).1)
}

/// A random number below `n`; 0 for 0.
pub(super) fn random_below(n: usize) -> usize {
    // The bias of the remainder is 2^-50 for any cluster.
    usize::try_from(crate::vault::random::number() % (n.max(1) as u64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(busy: u32, capacity: u32, latency_us: u32) -> Load {
        Load {
            busy,
            capacity,
            latency_us,
        }
    }

    #[test]
    fn nobody_one_and_two() {
        let draw = |_| 0;
        assert_eq!(two_choices(Vec::<(Load, u8)>::new(), draw), None);
        assert_eq!(two_choices(vec![(load(9, 1, 0), 'a')], draw), Some('a'));
        for start in 0..2 {
            let pair = vec![(load(3, 4, 1), 'a'), (load(5, 8, 9), 'b')];
            assert_eq!(
                two_choices(pair, |n| start.min(n - 1)),
                Some('b'),
                "5/8 is less than 3/4"
            );
            let pair = vec![(load(2, 4, 5), 'a'), (load(1, 2, 4), 'b')];
            assert_eq!(
                two_choices(pair, |n| start.min(n - 1)),
                Some('b'),
                "equal share, quicker"
            );
        }
    }

    #[test]
    fn every_member_is_drawn_and_none_beside_the_list() {
        let mut seen = [0_u32; 5];
        for _ in 0..5_000 {
            let equal = (0..5).map(|i| (load(0, 4, 0), i)).collect();
            seen[two_choices(equal, random_below).unwrap()] += 1;
        }
        assert!(seen.iter().all(|n| (800..1_200).contains(n)), "{seen:?}");
        assert!((0..1_000).all(|_| random_below(3) < 3) && random_below(0) == 0);
    }

    /// Many placements: the fullest of two choices stays near the average,
    /// where one random choice would be far above it.
    #[test]
    fn load_is_balanced_over_many_draws() {
        const NODES: usize = 50;
        const PLACED: u32 = 5_000;
        let fullest = |choose: &dyn Fn(&[u32]) -> usize| {
            let mut busy = [0_u32; NODES];
            for _ in 0..PLACED {
                busy[choose(&busy)] += 1;
            }
            busy.into_iter().max().unwrap()
        };
        let two = fullest(&|busy| {
            let all = busy.iter().enumerate();
            let all = all.map(|(i, b)| (load(*b, 1_000, 0), i)).collect();
            two_choices(all, random_below).unwrap()
        });
        let one = fullest(&|_| random_below(NODES));
        let average = PLACED / NODES as u32;
        assert!(two <= average + 6, "the fullest has {two} of {average}");
        assert!(one > two, "one choice: {one}, two choices: {two}");
    }
}

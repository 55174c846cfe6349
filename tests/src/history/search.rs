//! The search for an order: Wing and Gong's, with Lowe's memory of the
//! configurations that led nowhere.

use std::collections::HashSet;

/// Steps after which the search gives up: far beyond what a history of a
/// few hundred operations by a few dozen clients takes.
const STEPS_MAX: u64 = 20_000_000;

/// What an operation does to the register. Values are numbers; 0 is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Possible only on this value.
    Is(u32),
    /// Possible only on any other value.
    IsNot(u32),
    /// Always possible; leaves this value.
    Set(u32),
    /// Possible only on the first value; leaves the second.
    Swap(u32, u32),
}

impl Effect {
    fn is_pure(self) -> bool {
        matches!(self, Self::Is(_) | Self::IsNot(_))
    }
    fn apply(self, state: u32) -> Option<u32> {
        match self {
            Self::Is(value) => (state == value).then_some(state),
            Self::IsNot(value) => (state != value).then_some(state),
            Self::Set(value) => Some(value),
            Self::Swap(from, to) => (state == from).then_some(to),
        }
    }
}

/// An operation with the time in which it took effect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub effect: Effect,
    pub start: u64,
    /// `u64::MAX`: it may also never have taken effect.
    pub end: u64,
}

impl Step {
    fn optional(&self) -> bool {
        self.end == u64::MAX
    }
}

/// How a search ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none. Carries the operations of the longest order found.
    Impossible(Vec<usize>),
    /// The search was given up.
    GaveUp,
}

/// Which operations have their place, in a form that can be compared: all
/// below `low`, and the bits from there on without trailing zeros.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Config {
    low: u32,
    bits: Box<[u64]>,
    state: u32,
}

struct Search<'a> {
    steps: &'a [Step],
    placed: Vec<bool>,
    low: usize,
    left: usize,
    state: u32,
    order: Vec<usize>,
}

impl Search<'_> {
    fn config(&self) -> Config {
        let last = (self.low..self.steps.len())
            .rev()
            .find(|i| self.placed[*i])
            .map_or(self.low, |i| i + 1);
        let mut bits = vec![0u64; (last - self.low).div_ceil(64)];
        for i in self.low..last {
            if self.placed[i] {
                bits[(i - self.low) / 64] |= 1 << ((i - self.low) % 64);
            }
        }
        Config {
            low: self.low as u32,
            bits: bits.into(),
            state: self.state,
        }
    }

    /// The operations that may come next: those that began before the first
    /// end among all that have no place yet.
    fn candidates(&self) -> Vec<usize> {
        let mut first_end = u64::MAX;
        let mut found = Vec::new();
        for i in self.low..self.steps.len() {
            let step = &self.steps[i];
            if step.start > first_end {
                break;
            }
            if !self.placed[i] {
                first_end = first_end.min(step.end);
                found.push(i);
            }
        }
        found.retain(|i| self.steps[*i].start <= first_end);
        // What changes nothing and is possible now can as well be now: an order
        // that has it later is as good with it here. No other choice is needed.
        let now = found.iter().copied().find(|i| {
            let effect = self.steps[*i].effect;
            effect.is_pure() && effect.apply(self.state).is_some()
        });
        if let Some(now) = now {
            return vec![now];
        }
        // What must come soon first: in most histories the first try is right.
        found.sort_by_key(|i| self.steps[*i].end);
        found
    }

    fn place(&mut self, i: usize, state: u32) {
        self.placed[i] = true;
        self.order.push(i);
        self.left -= usize::from(!self.steps[i].optional());
        self.state = state;
        while self.placed.get(self.low) == Some(&true) {
            self.low += 1;
        }
    }

    fn take_back(&mut self, state: u32) {
        if let Some(i) = self.order.pop() {
            self.placed[i] = false;
            self.low = self.low.min(i);
            self.left += usize::from(!self.steps[i].optional());
            self.state = state;
        }
    }
}

/// A choice that may have to be taken back.
struct Frame {
    state: u32,
    untried: std::vec::IntoIter<usize>,
}

/// Whether these operations, sorted by start, have an order in which each
/// takes effect within its time. The register begins without a value.
pub(super) fn search(steps: &[Step]) -> Verdict {
    debug_assert!(steps.is_sorted_by_key(|step| step.start));
    let mut search = Search {
        steps,
        placed: vec![false; steps.len()],
        low: 0,
        left: steps.iter().filter(|step| !step.optional()).count(),
        state: 0,
        order: Vec::new(),
    };
    let mut seen = HashSet::new();
    let mut best = Vec::new();
    let mut frames = vec![Frame {
        state: 0,
        untried: search.candidates().into_iter(),
    }];
    let mut tried = 0u64;
    while search.left > 0 {
        let Some(frame) = frames.last_mut() else {
            return Verdict::Impossible(best);
        };
        let Some(next) = frame.untried.next() else {
            frames.pop();
            if let Some(frame) = frames.last() {
                search.take_back(frame.state);
            }
            continue;
        };
        tried += 1;
        if tried > STEPS_MAX {
            return Verdict::GaveUp;
        }
        let before = frame.state;
        let Some(after) = steps[next].effect.apply(before) else {
            continue;
        };
        search.place(next, after);
        if search.order.len() > best.len() {
            best.clone_from(&search.order);
        }
        if seen.insert(search.config()) {
            frames.push(Frame {
                state: after,
                untried: search.candidates().into_iter(),
            });
        } else {
            search.take_back(before);
        }
    }
    Verdict::Linearizable
}

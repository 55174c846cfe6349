//! One database: what it has under way, what waits, what it owes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::shape::Shape;
use super::costs::Costs;
use super::{DEBT_MAX, FORGET_AFTER, LATELY, WAITING_BYTES_MAX, WAITING_MAX};
use crate::consensus::Pass;

/// A write that waits for its turn.
pub(super) struct Waiter {
    pub(super) to: oneshot::Sender<Pass>,
    pub(super) shape: Shape,
    pub(super) bytes: usize,
}

/// A database.
pub(super) struct Account {
    pub(super) costs: Costs,
    pub(super) under_way: usize,
    /// Of these, short ones.
    short: usize,
    /// What they are expected to take together.
    pub(super) expected: Duration,
    /// First come, first served.
    pub(super) waiting: VecDeque<Waiter>,
    waiting_bytes: usize,
    /// It is among those that wait.
    pub(super) queued: bool,
    /// When it had short ones last.
    short_at: Option<Instant>,
    pub(super) seen: Instant,
    /// It owes nothing from then on.
    clear_at: Option<Instant>,
    /// When somebody was told that it is held back.
    pub(super) said: Option<Instant>,
}

impl Account {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            costs: Costs::new(),
            under_way: 0,
            short: 0,
            expected: Duration::ZERO,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            queued: false,
            short_at: None,
            seen: now,
            clear_at: None,
            said: None,
        }
    }

    pub(super) fn begin(&mut self, expected: Duration, long: bool, now: Instant) {
        self.under_way += 1;
        self.expected += expected;
        self.seen = now;
        if !long {
            self.short += 1;
            self.short_at = Some(now);
        }
    }

    pub(super) fn end(&mut self, expected: Duration, long: bool, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        self.expected = self.expected.saturating_sub(expected);
        self.seen = now;
        if !long {
            self.short = self.short.saturating_sub(1);
            self.short_at = Some(now);
        }
    }

    /// Whether it has short writes, or had some a moment ago.
    pub(super) fn writes_short(&self, now: Instant) -> bool {
        self.short > 0 || self.short_at.is_some_and(|at| now < at + LATELY)
    }

    /// How much apply time it owes.
    pub(super) fn owes(&self, now: Instant) -> Duration {
        self.clear_at
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    pub(super) fn owe(&mut self, more: Duration, now: Instant) {
        self.clear_at = Some(now + (self.owes(now) + more).min(DEBT_MAX));
    }

    /// Whether nothing is lost when it is forgotten.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.under_way == 0
            && !self.queued
            && self.owes(now) == Duration::ZERO
            && now >= self.seen + FORGET_AFTER
    }

    fn is_full(&self, bytes: usize) -> bool {
        let some = !self.waiting.is_empty();
        self.waiting.len() >= WAITING_MAX
            || (some && self.waiting_bytes + bytes > WAITING_BYTES_MAX)
    }

    /// False when as many wait as may.
    pub(super) fn enqueue(&mut self, waiter: Waiter) -> bool {
        if self.is_full(waiter.bytes) {
            self.waiting.retain(|w| !w.to.is_closed());
            self.waiting_bytes = self.waiting.iter().map(|w| w.bytes).sum();
        }
        if self.is_full(waiter.bytes) {
            return false;
        }
        self.waiting_bytes += waiter.bytes;
        self.waiting.push_back(waiter);
        true
    }

    pub(super) fn dequeue(&mut self) -> Option<Waiter> {
        let waiter = self.waiting.pop_front()?;
        self.waiting_bytes -= waiter.bytes;
        Some(waiter)
    }

    /// Drops waiters at the front for which nobody waits any more; how many.
    pub(super) fn drop_gone(&mut self) -> u64 {
        let mut gone = 0;
        while self.waiting.front().is_some_and(|w| w.to.is_closed()) {
            self.dequeue();
            gone += 1;
        }
        gone
    }
}

//! What a connection's callbacks know: whose statement is prepared, how many steps
//! are left, when to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use super::super::authorizer::{self, Mode, Word};
use super::super::meter::{self, BYTES_A_STEP};
use super::super::raw::{self, Bound, Refused};
use super::{HELD_READ_MAX, HELD_WRITE_MAX};

/// Steps of SQLite's machine between two looks at the budget.
pub(super) const TICK: u64 = 100;

/// A statement that holds a value of a megabyte may read it again in each step, which nothing counts: every step costs one
/// more for so many bytes of its longest argument or literal.
pub(super) const HELD_BYTES_A_STEP: u64 = 4096;

/// Columns, tables and functions a statement may refer to, each as often as it is compiled: views are copied to
/// where they are named, and those they name too.
pub(super) const REFERENCES_MAX: u32 = 50_000;

/// Why a statement was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Ended {
    No,
    Steps,
    Deadline,
    Cancelled,
    Memory,
}

/// A connection is used by one thread at a time: the atomics are for moving it between threads.
#[derive(Debug)]
pub(super) struct Shared {
    mode: AtomicU8,
    word: AtomicU8,
    denied: Mutex<Option<String>>,
    references_left: AtomicU32,
    held: AtomicU64,
    schema_changed: AtomicBool,
    counting: AtomicBool,
    steps_left: AtomicU64,
    steps: AtomicU64,
    ended: AtomicU8,
    read: Mutex<Option<(Instant, Arc<AtomicBool>)>>,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            mode: AtomicU8::new(Mode::Open as u8),
            word: AtomicU8::new(Word::Other as u8),
            denied: Mutex::new(None),
            references_left: AtomicU32::new(u32::MAX),
            held: AtomicU64::new(0),
            schema_changed: AtomicBool::new(false),
            counting: AtomicBool::new(false),
            steps_left: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            ended: AtomicU8::new(Ended::No as u8),
            read: Mutex::new(None),
        }
    }

    pub(super) fn begin_entry(&self, steps: u64) {
        self.steps.store(steps, Relaxed);
        self.steps_left.store(steps, Relaxed);
        meter::reset();
        self.ended.store(Ended::No as u8, Relaxed);
        self.mode.store(Mode::Write as u8, Relaxed);
    }
    pub(super) fn begin_read(&self, deadline: Instant, cancelled: Arc<AtomicBool>) {
        *self.read.lock() = Some((deadline, cancelled));
        self.ended.store(Ended::No as u8, Relaxed);
        self.mode.store(Mode::Read as u8, Relaxed);
    }
    pub(super) fn end(&self) {
        self.mode.store(Mode::Open as u8, Relaxed);
        *self.read.lock() = None;
    }

    /// Judges by another mode until the answer is dropped.
    pub(super) fn mode(&self, mode: Mode) -> impl Drop + use<'_> {
        Restore {
            place: &self.mode,
            before: self.mode.swap(mode as u8, Relaxed),
        }
    }
    /// Counts steps and memory until the answer is dropped.
    pub(super) fn count(&self) -> impl Drop + use<'_> {
        self.ended.store(Ended::No as u8, Relaxed);
        // Compiling may call functions (statistics are compared with constants); a statement that was
        // compiled before does not.
        meter::reset();
        self.counting.store(true, Relaxed);
        let bound = match Mode::from(self.mode.load(Relaxed)) {
            Mode::Read => Bound::Read {
                held: HELD_READ_MAX,
            },
            _ => Bound::Write {
                held: HELD_WRITE_MAX,
                touched: self.steps_left.load(Relaxed).saturating_mul(BYTES_A_STEP),
            },
        };
        raw::count(bound);
        Stop(self)
    }

    /// A tenant's statement is about to be prepared.
    pub(super) fn prepare(&self, word: Word) {
        self.word.store(word as u8, Relaxed);
        self.references_left.store(REFERENCES_MAX, Relaxed);
        self.held.store(0, Relaxed);
        *self.denied.lock() = None;
    }
    /// The statement has an argument or a literal of so many bytes.
    pub(super) fn hold(&self, bytes: usize) {
        self.held.fetch_max(bytes as u64, Relaxed);
    }
    /// It was. What SQLite compiles by itself while the statement runs is not counted.
    pub(super) fn prepared(&self) {
        self.references_left.store(u32::MAX, Relaxed);
    }
    /// Whether one more reference is too many. SQLite looks at columns of views and at statistics with its
    /// authorizer off, so a connection that knows them counts as one that does not.
    fn one_too_many(&self, action: &AuthAction<'_>) -> bool {
        if !matches!(
            action,
            AuthAction::Read { .. }
                | AuthAction::Select
                | AuthAction::Function { .. }
                | AuthAction::Recursive
        ) {
            return false;
        }
        match self.references_left.load(Relaxed) {
            u32::MAX => false,
            0 => true,
            left => {
                self.references_left.store(left - 1, Relaxed);
                false
            }
        }
    }
    /// What the authorizer refused last.
    pub(super) fn take_denied(&self) -> Option<String> {
        self.denied.lock().take()
    }
    /// Whether a statement was prepared, since this was last taken, that changes the schema or statistics.
    pub(super) fn schema_changed(&self) -> bool {
        self.schema_changed.load(Relaxed)
    }
    /// What is in memory may be of a schema that was rolled back.
    pub(super) fn doubt_schema(&self) {
        self.schema_changed.store(true, Relaxed);
    }
    pub(super) fn take_schema_changed(&self) -> bool {
        self.schema_changed.swap(false, Relaxed)
    }
    pub(super) fn ended(&self) -> Ended {
        match self.ended.load(Relaxed) {
            1 => Ended::Steps,
            2 => Ended::Deadline,
            3 => Ended::Cancelled,
            4 => Ended::Memory,
            _ => Ended::No,
        }
    }
    /// The budget of the entry that runs.
    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Relaxed)
    }

    /// The authorizer.
    pub(super) fn authorize(&self, context: &AuthContext<'_>) -> Authorization {
        let mode = Mode::from(self.mode.load(Relaxed));
        if mode == Mode::Open {
            return Authorization::Allow;
        }
        let word = Word::from(self.word.load(Relaxed));
        let decided = match self.one_too_many(&context.action) {
            true => Err(format!(
                "the statement refers to more than {REFERENCES_MAX} columns, tables and functions, counting those inside views"
            )),
            false => authorizer::decide(context, mode, word),
        };
        match decided {
            Ok(changes_schema) => {
                if changes_schema {
                    self.schema_changed.store(true, Relaxed);
                }
                Authorization::Allow
            }
            Err(why) => {
                // The first one is what the statement is about; others may follow from it.
                self.denied.lock().get_or_insert(why);
                Authorization::Deny
            }
        }
    }

    /// The progress handler: whether to interrupt.
    pub(super) fn tick(&self) -> bool {
        if let Some((deadline, cancelled)) = &*self.read.lock() {
            if cancelled.load(Relaxed) {
                return self.end_by(Ended::Cancelled);
            }
            if Instant::now() >= *deadline {
                return self.end_by(Ended::Deadline);
            }
            return false;
        }
        if !self.counting.load(Relaxed) {
            return false;
        }
        let price = 1 + self.held.load(Relaxed) / HELD_BYTES_A_STEP;
        if self.charge(TICK * price) {
            false
        } else {
            self.end_by(Ended::Steps)
        }
    }
    /// Takes steps and what was done beside them; false when there are not as many left.
    fn charge(&self, steps: u64) -> bool {
        let steps = steps.saturating_add(meter::take_steps());
        let left = self.steps_left.load(Relaxed).checked_sub(steps);
        self.steps_left.store(left.unwrap_or(0), Relaxed);
        left.is_some()
    }
    fn end_by(&self, why: Ended) -> bool {
        self.ended.store(why as u8, Relaxed);
        true
    }
    #[cfg(test)]
    pub(super) fn steps_left(&self) -> u64 {
        self.steps_left.load(Relaxed)
    }
}

struct Restore<'a> {
    place: &'a AtomicU8,
    before: u8,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        self.place.store(self.before, Relaxed);
    }
}

struct Stop<'a>(&'a Shared);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.counting.store(false, Relaxed);
        match raw::stop_counting() {
            None => {}
            Some(Refused::Held) => drop(self.0.end_by(Ended::Memory)),
            Some(Refused::Work) => drop(self.0.end_by(Ended::Steps)),
        }
        // What the statement did after its last tick; the next one meets it.
        self.0.charge(0);
    }
}

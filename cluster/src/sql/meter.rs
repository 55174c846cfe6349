//! What a tenant's statement costs beside SQLite's steps: one step may call a function that reads a
//! megabyte. Such work is reported here by the thread that does it and charged to the entry's
//! budget at the next tick, so it has to be the same on every replica.

use std::cell::Cell;

/// Bytes looked at or produced that cost as much as one step.
pub(super) const BYTES_A_STEP: u64 = 64;

thread_local! {
    static WORK: Cell<u64> = const { Cell::new(0) };
}

/// Notes work on so many bytes: a function's arguments, or what it compares them with.
pub(super) fn work(bytes: usize) {
    WORK.set(WORK.get().saturating_add(bytes as u64));
}

/// Takes the steps that the work since the last call is worth; the rest stays noted.
pub(super) fn take_steps() -> u64 {
    let bytes = WORK.get();
    WORK.set(bytes % BYTES_A_STEP);
    bytes / BYTES_A_STEP
}

/// Forgets what was noted: another entry begins.
pub(super) fn reset() {
    WORK.set(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_taken_once() {
        reset();
        work(BYTES_A_STEP as usize * 3 + 1);
        assert_eq!(take_steps(), 3);
        assert_eq!(take_steps(), 0);
        work(BYTES_A_STEP as usize - 1);
        assert_eq!(take_steps(), 1, "rests add up");
        work(usize::MAX);
        reset();
        assert_eq!(take_steps(), 0);
    }
}

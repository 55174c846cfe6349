//! `clock_res_get` and `clock_time_get`.

use std::time::{SystemTime, UNIX_EPOCH};

use wasmtime::Caller;

use super::{Errno, answer};
use crate::runtime::guest::Guest;
use crate::runtime::import::{Import, import};
use crate::runtime::memory::split;

pub(super) const TABLE: &[Import] = &[
    import!(clock_res_get(id: u32, resolution: u32) -> u32 = |caller, id, to| answer(put_resolution(caller, id, to))),
    import!(clock_time_get(id: u32, precision: u64, time: u32) -> u32 = |caller, id, _, to| answer(put_time(caller, id, to))),
];

/// Monotonic time begins here: some language runtimes take 0 for "not read yet".
const MONOTONIC_START_NANOS: u64 = 1_000_000_000;

/// A clock of preview 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    Realtime,
    /// Since the guest's start, so that guests learn nothing about the machine.
    Monotonic,
    /// The same, for the process and thread clocks: what the guest is charged is the time it takes.
    Cpu,
}

impl Clock {
    pub(super) fn from_id(id: u32) -> Result<Self, Errno> {
        match id {
            0 => Ok(Self::Realtime),
            1 => Ok(Self::Monotonic),
            2 | 3 => Ok(Self::Cpu),
            _ => Err(Errno::INVAL),
        }
    }

    /// Nanoseconds.
    pub(super) fn now(self, guest: &Guest) -> u64 {
        let elapsed = || u64::try_from(guest.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        match self {
            Self::Realtime => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
            }
            Self::Monotonic => elapsed().saturating_add(MONOTONIC_START_NANOS),
            Self::Cpu => elapsed(),
        }
    }
}

fn put_resolution(caller: &mut Caller<'_, Guest>, id: u32, to: u32) -> Result<(), Errno> {
    Clock::from_id(id)?;
    let (mut memory, _) = split(caller);
    Ok(memory.put_u64(to, 1)?)
}

fn put_time(caller: &mut Caller<'_, Guest>, id: u32, to: u32) -> Result<(), Errno> {
    let clock = Clock::from_id(id)?;
    let (mut memory, guest) = split(caller);
    Ok(memory.put_u64(to, clock.now(guest))?)
}

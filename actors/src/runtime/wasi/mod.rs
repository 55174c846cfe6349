//! WASI preview 1, ours: standard streams, clocks, random numbers, sleep.
//!
//! Every function of the interface exists, so that what real compilers emit
//! instantiates. Those that need files, sockets or signals answer the error
//! that a process without any would get.

mod clock;
mod errno;
mod fd;
mod poll;
mod process;
mod stdio;
#[cfg(test)]
mod tests;
mod unsupported;

use super::failure::Stop;
use super::import::Import;
use super::memory::Fault;
pub(crate) use errno::Errno;
pub(crate) use stdio::Stdio;

/// All functions of `wasi_snapshot_preview1`.
pub(crate) const TABLE: &[&[Import]] = &[
    clock::TABLE,
    fd::TABLE,
    poll::TABLE,
    process::TABLE,
    unsupported::TABLE,
];

/// Why a call did not do what it was asked.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// Told to the guest.
    Errno(Errno),
    /// Ends the guest.
    Stop(Stop),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Fault> for Refusal {
    fn from(_: Fault) -> Self {
        Self::Errno(Errno::FAULT)
    }
}

impl From<Fault> for Errno {
    fn from(_: Fault) -> Self {
        Errno::FAULT
    }
}

impl From<Stop> for Refusal {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// What the guest sees of a result.
fn answer(result: Result<(), impl Into<Refusal>>) -> Result<u32, wasmtime::Error> {
    match result.map_err(Into::into) {
        Ok(()) => Ok(u32::from(Errno::SUCCESS.0)),
        Err(Refusal::Errno(errno)) => Ok(u32::from(errno.0)),
        Err(Refusal::Stop(stop)) => Err(stop.into()),
    }
}

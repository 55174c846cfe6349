//! Raft: log, state machine, snapshots. `OVERVIEW.md` beside this file says
//! what is durable when and what happens on each failure.
//!
//! openraft does not leave this module: the rest of the crate knows a
//! [`group::Group`] that commits bytes, and implements [`machine::Machine`].

mod cell;
mod disk;
mod fault;
mod group;
mod log;
mod machine;
mod metrics;
mod network;
mod recover;
mod snapshot;
mod state;
#[cfg(test)]
mod suite;
mod types;

pub(crate) use group::{
    ENTRY_MAX_BYTES, Group, GroupOptions, OpenFault, ProposeFault,
};
pub(crate) use machine::{Applied, Machine};
pub(crate) use metrics::Metrics;
pub(crate) use recover::Paths;
pub(crate) use state::Change;
#[cfg(test)]
pub(crate) use state::state_hash;

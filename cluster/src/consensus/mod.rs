//! Raft: log, state machine, snapshots. `OVERVIEW.md` beside this file says
//! what is durable when and what happens on each failure.
//!
//! openraft does not leave this module: the rest of the crate knows a
//! [`group::Group`] that commits bytes, and implements [`machine::Machine`].

mod admission;
mod bodies;
mod build;
mod cell;
mod commands;
mod container;
mod fault;
mod files;
#[cfg(test)]
pub(crate) mod golden_tests;
mod group;
mod groups;
mod heard;
mod keeper;
mod link;
mod log;
mod machine;
mod members;
mod metrics;
mod network;
mod propose;
mod read;
mod receive;
mod recover;
mod resume;
mod send;
mod serve;
mod snapshot;
mod state;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
mod types;
mod watch;
mod wire;

pub(crate) use admission::{Admission, Pass};
pub(crate) use fault::StorageFault;
pub(crate) use group::{
    ENTRY_MAX_BYTES, Group, GroupOptions, GroupView, OpenFault, ProposeFault, ReadFault,
};
pub(crate) use groups::{Begin, Groups};
pub(crate) use keeper::{Backend, CommandLog, Keeper, KeptEntry, Manifest, Resumed};
#[doc(hidden)]
pub use log::LogProbe;
pub(crate) use machine::{Applied, Machine};
pub(crate) use metrics::Metrics;
pub(crate) use recover::Paths;
pub(crate) use state::Change;
#[cfg(test)]
pub(crate) use state::state_hash;
pub(crate) use types::{MembershipRecord, Position};

/// The ends of the metadata group's log in a directory that nobody has open:
/// everything up to the first index is purged, the second is the last.
#[cfg(test)]
pub(crate) fn log_ends(path: &std::path::Path) -> (Option<u64>, Option<u64>) {
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let log = log::RaftLog::open(path, &metrics).unwrap();
    let (purged, last) = log.group(orama_proto::GroupId::META).unwrap().ends();
    (purged.map(|at| at.index), last.map(|at| at.index))
}

/// Waits until a group that was shut down has let go of the log.
#[cfg(test)]
pub(crate) async fn log_closed(path: &std::path::Path) {
    while !log::RaftLog::is_closed(path) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

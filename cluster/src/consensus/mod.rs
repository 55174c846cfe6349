//! Raft: log, state machine, snapshots.

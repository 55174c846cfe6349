//! Stand-in.

/// Stand-in.
#[derive(Debug, clap::Args)]
pub struct NodeRunArgs {}

/// Stand-in.
#[derive(Debug, clap::Args)]
pub struct DevArgs {}

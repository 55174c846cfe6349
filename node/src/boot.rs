//! Stand-in.
use crate::config::{DevArgs, NodeRunArgs};

/// Stand-in.
pub fn run_node(_args: NodeRunArgs) -> anyhow::Result<()> {
    anyhow::bail!("not in this build")
}

/// Stand-in.
pub fn run_dev(_args: DevArgs) -> anyhow::Result<()> {
    crate::cli::environments::activate_local("http://127.0.0.1:6001", "default", "k", "t")
}

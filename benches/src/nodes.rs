//! Nodes to be measured: local processes of the binary under test.

use std::time::Duration;

use orama_tests::cluster::{Cluster, Convergence, Options};

/// So many nodes with these arguments that log little, settled.
pub async fn settled(count: usize, args: &[&str]) -> Cluster {
    let options = Options {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: vec![("ORAMA_LOG".into(), "warn".into())],
        ..Options::default()
    };
    let cluster = Cluster::start(count, options).await;
    let wanted = Convergence {
        members: count,
        voters: count,
    };
    cluster.converged(wanted, Duration::from_secs(120)).await;
    cluster
}

//! Databases over the life of their namespace and of the nodes: restarts that
//! apply nothing twice, deleted namespaces, groups that move, files that somebody
//! changed, a disk that is full.

mod disks;
mod namespaces;
mod restarts;

use std::path::{Path, PathBuf};
use std::time::Duration;

use orama_tests::Tenant;
use orama_tests::cluster::{Cluster, Convergence, Options};
use orama_tests::sql::{Database, replicas};

const SETTLED: Duration = Duration::from_secs(60);
const THREE: Convergence = Convergence {
    members: 3,
    voters: 3,
};

async fn three(options: Options) -> Cluster {
    let cluster = Cluster::start(3, options).await;
    cluster.converged(THREE, SETTLED).await;
    cluster
}

/// The tenant's database through a node.
fn through(cluster: &Cluster, node: usize, tenant: &Tenant) -> Database {
    Database::of(&cluster.node(node).tenant_of(tenant))
}

async fn all_caught_up(cluster: &Cluster, tenant: &Tenant) {
    for i in cluster.running() {
        replicas::caught_up(&through(cluster, i, tenant)).await;
    }
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    // Files come and go while a node runs.
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

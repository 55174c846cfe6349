//! One fault after the other, in an order drawn by the seed.

use std::time::Duration;

use super::{Cluster, Net, Options, SmallDisk};
use crate::Rng;

/// MiB of the file system that is filled; the log keeps 32 of them for itself.
const DISK_MIB: u64 = 256;
/// What a node may say at level ERROR here, and why a person need not look.
const ALLOWED: &[&str] = &[
    // Its disk was full: that is one of the faults.
    "No space left on device",
    "disk is full",
    "the disk that holds the Raft log is full",
];

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and a new start a moment later.
    KillAndRestart,
    /// SIGSTOP for longer than an election takes: it wakes up believing that it leads.
    Pause,
    /// No packet passes between two nodes.
    Cut,
    /// Packets pass one way.
    CutOneWay,
    /// A leader reaches nobody.
    IsolateLeader,
    /// Every node loses packets.
    Loss,
    /// A node sends slowly.
    Slow,
    /// SIGKILL to all, and a new start at other addresses.
    RestartAllElsewhere,
    /// A disk is full for a while.
    DiskFull,
}

/// The faults that are possible here, for so many nodes; the last node has a small disk.
#[derive(Debug, Clone)]
pub struct Chaos {
    net: Net,
    nodes: usize,
    disks: bool,
}

impl Chaos {
    /// Finds out what is possible.
    pub fn new(net: Net, nodes: usize) -> Self {
        Self {
            net,
            nodes,
            disks: SmallDisk::is_permitted(),
        }
    }
    /// Settings of the cluster that is to be hurt.
    pub fn options(&self) -> Options {
        let small = self.disks.then_some((self.nodes - 1, DISK_MIB));
        Options {
            net: self.net,
            allowed: ALLOWED.iter().map(|text| (*text).to_owned()).collect(),
            small_disks: small.into_iter().collect(),
            ..Options::default()
        }
    }

    /// Every kind once, in an order drawn by the seed.
    pub fn deck(&self, rng: &mut Rng) -> Vec<Fault> {
        use Fault::*;
        let mut kinds = vec![KillAndRestart, Pause, RestartAllElsewhere];
        if self.net == Net::Namespaces {
            kinds.extend([Cut, CutOneWay, IsolateLeader, Loss, Slow]);
        }
        if self.disks {
            kinds.push(DiskFull);
        }
        for i in (1..kinds.len()).rev() {
            kinds.swap(i, rng.below(i as u64 + 1) as usize);
        }
        kinds
    }

    /// Lets it happen, heals it, and leaves a moment of peace.
    pub async fn inflict(&self, cluster: &mut Cluster, fault: Fault, rng: &mut Rng) {
        let i = rng.below(self.nodes as u64) as usize;
        let j = (i + 1 + rng.below(self.nodes as u64 - 1) as usize) % self.nodes;
        println!("{fault:?} (n{}, n{})", i + 1, j + 1);
        match fault {
            Fault::KillAndRestart => {
                cluster.kill(i);
                seconds(rng, 0.0, 3.0).await;
                cluster.start_node(i).await;
            }
            Fault::Pause => {
                cluster.node(i).pause();
                seconds(rng, 3.0, 4.0).await;
                cluster.node(i).resume();
            }
            Fault::Cut => {
                cluster.cut(i, j);
                seconds(rng, 3.0, 6.0).await;
            }
            Fault::CutOneWay => {
                cluster.cut_one_way(i, j);
                seconds(rng, 3.0, 6.0).await;
            }
            Fault::IsolateLeader => {
                let group = rng.below(5) as u32;
                let leader = cluster.leader(i, group).await.unwrap_or(i);
                cluster.isolate(leader);
                seconds(rng, 3.0, 6.0).await;
            }
            Fault::Loss => {
                cluster.loss(20);
                seconds(rng, 4.0, 6.0).await;
            }
            Fault::Slow => {
                cluster.slow(i, 256);
                seconds(rng, 3.0, 5.0).await;
            }
            Fault::RestartAllElsewhere => cluster.restart_all_elsewhere().await,
            Fault::DiskFull => {
                let small = self.nodes - 1;
                cluster.disk(small).fill(rng.below(3));
                seconds(rng, 3.0, 5.0).await;
                cluster.disk(small).free();
                // A log that met the end of the disk takes nothing more until a restart.
                cluster.kill(small);
                cluster.start_node(small).await;
            }
        }
        cluster.heal();
        seconds(rng, 0.5, 2.0).await;
    }
}

async fn seconds(rng: &mut Rng, low: f64, high: f64) {
    let part = rng.below(1_000) as f64 / 1_000.0;
    tokio::time::sleep(Duration::from_secs_f64(low + (high - low) * part)).await;
}

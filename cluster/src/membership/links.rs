//! Keeps a link to every member, tells members where everybody is, and keeps
//! this node's own record true.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_proto::NodeId;
use orama_proto::command::{MetaCommand, MetaRefusal};
use orama_proto::topology::Topology;
use tokio::sync::watch;

use super::core::Core;
use super::wire::{Answer, Ask, Standing};
use crate::mesh::Mesh;
use crate::meta::ProposeError;

/// Between two looks when nothing changes.
const TICK: Duration = Duration::from_millis(500);
/// Between two rounds of questions to linked members.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// One question.
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// The links of a removed node are closed after so long at the latest: the longest guest.
const LET_GO_WITHIN: Duration = Duration::from_secs(300);
/// Before this node's record is tried again after a failure.
const RECORD_PAUSE: Duration = Duration::from_secs(3);

/// Runs as long as the node. `idle` tells the search for seeds whether everybody is linked.
pub(super) async fn run(core: Arc<Core>, mesh: Mesh, idle: Arc<watch::Sender<bool>>) {
    let mut changes = core.meta.changes();
    let mut peers = mesh.changes();
    let mut kept: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
    let mut probed: Option<(Instant, usize)> = None;
    let mut record_after: Option<Instant> = None;
    loop {
        let topology = core.meta.topology();
        core.watch_standing(&topology);
        core.note_contact(&topology);
        core.metrics.topology(&topology);
        keep(&core, &mesh, &topology, &mut kept);
        let linked = core.linked(&topology).len();
        let all = !topology.nodes.is_empty() && linked >= topology.nodes.len();
        idle.send_if_modified(|idle| std::mem::replace(idle, all) != all);
        let due = probed.is_none_or(|(at, count)| at.elapsed() >= PROBE_EVERY || count < linked);
        if due {
            probed = Some((Instant::now(), linked));
            probe(&core, &mesh, &topology).await;
        }
        if record_after.is_none_or(|at| Instant::now() >= at) {
            record_after = match record(&core, &topology).await {
                Ok(()) => None,
                Err(why) => {
                    tracing::info!(why, "this node's record is not up to date");
                    Some(Instant::now() + RECORD_PAUSE)
                }
            };
        }
        tokio::select! {
            _ = changes.changed() => {
                // Metadata changes often and the topology seldom.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            _ = peers.changed() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

fn keep(core: &Core, mesh: &Mesh, topology: &Topology, kept: &mut BTreeMap<NodeId, Vec<String>>) {
    for member in topology.nodes.values().filter(|m| m.id != core.node) {
        let addresses = core.addresses_of(member);
        if kept.get(&member.id) != Some(&addresses) {
            mesh.keep(member.id, &addresses);
            kept.insert(member.id, addresses);
        }
    }
    // Before the topology is there, links come from the search and from joining.
    if topology.nodes.contains_key(&core.node) {
        let gone: Vec<NodeId> = kept
            .keys()
            .filter(|n| !topology.nodes.contains_key(n))
            .copied()
            .collect();
        for node in gone {
            kept.remove(&node);
            tokio::spawn(let_go(mesh.clone(), node));
        }
    }
}

/// Closes the links of a node that was removed, once what runs across them has ended:
/// it and this node may be running invocations for each other.
async fn let_go(mesh: Mesh, node: NodeId) {
    let until = Instant::now() + LET_GO_WITHIN;
    while mesh.is_busy(node) && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    mesh.forget(node);
}

/// Tells linked members what is known here, and hears what they know.
async fn probe(core: &Core, mesh: &Mesh, topology: &Topology) {
    let question = Ask::Probe {
        known: core.known(),
    };
    // Whoever was removed is in nobody's topology but perhaps its own: asking
    // all peers, it is told.
    let peers = mesh.peers();
    let peers = peers
        .iter()
        .filter(|p| p.cluster.is_some() && p.cluster == topology.cluster);
    let answers = peers.map(|peer| core.ask(peer.id, &question, PROBE_WITHIN));
    for answer in futures::future::join_all(answers).await {
        if let Ok(Answer::Probe {
            standing, known, ..
        }) = answer
        {
            core.learn(known);
            // Confirmed by them, and this node's record was committed before it
            // heard the first word of the cluster: it is there no more.
            if standing == Standing::Stranger {
                core.mark_removed();
            }
        }
    }
}

/// Proposes this node's record when it is not what the topology says.
async fn record(core: &Core, topology: &Topology) -> Result<(), String> {
    let Some(recorded) = topology.nodes.get(&core.node) else {
        return Ok(());
    };
    let mut member = core.member();
    member.state = recorded.state;
    member.joined_at = recorded.joined_at;
    member
        .addresses
        .truncate(orama_proto::limits::ADDRESSES_PER_MEMBER);
    if member == *recorded || core.meta_group.view().leader.is_none() {
        return Ok(());
    }
    let command = |member| MetaCommand::PutMember {
        member,
        replaces: Some(core.node),
    };
    match core.propose(command(member.clone())).await {
        Ok(_) => Ok(()),
        Err(ProposeError::Refused(MetaRefusal::Exists { name, .. })) => {
            let used = format!("another member is called {name:?}; this node keeps its old name");
            member.name.clone_from(&recorded.name);
            if member != *recorded {
                // The rest of the record still counts.
                core.propose(command(member))
                    .await
                    .map_err(|e| format!("{used}; {e}"))?;
            }
            Err(used)
        }
        Err(error) => Err(error.to_string()),
    }
}

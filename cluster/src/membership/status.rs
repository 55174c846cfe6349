//! How the groups look, from here and from everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use orama_proto::api::{ClusterGroup, ClusterNode, ClusterStatus};
use orama_proto::{GroupId, NodeId};

use super::core::Core;
use super::wire::{Answer, Ask, View};
use crate::consensus::GroupView;

/// Members are asked for so long at most.
const ASK_WITHIN: Duration = Duration::from_secs(1);

/// The groups that run here, `meta` first.
fn own(core: &Core) -> Vec<(GroupId, GroupView)> {
    let groups = (1..=core.meta.topology().data_groups).map(GroupId);
    let data = groups.filter_map(|g| Some((g, core.groups.get(g)?.view())));
    [(GroupId::META, core.meta_group.view())]
        .into_iter()
        .chain(data)
        .collect()
}

/// The same for a peer.
pub(super) fn own_views(core: &Core) -> Vec<(GroupId, View)> {
    let own = own(core).into_iter();
    own.map(|(group, view)| (group, view.into())).collect()
}

/// Every group as every member that answers sees it, and who did not answer.
async fn gather(
    core: &Core,
    within: Duration,
) -> (Vec<(NodeId, GroupId, GroupView)>, BTreeSet<NodeId>) {
    let topology = core.meta.topology();
    let others: Vec<NodeId> = topology
        .nodes
        .keys()
        .copied()
        .filter(|n| *n != core.node)
        .collect();
    let linked = core.linked(&topology);
    let answers = others.iter().map(|node| async {
        match linked.contains(node) {
            true => core.ask(*node, &Ask::Views, within).await.ok(),
            false => None,
        }
    });
    let answers = futures::future::join_all(answers).await;
    let mut silent = BTreeSet::new();
    let own = own(core).into_iter();
    let mut views: Vec<_> = own.map(|(g, v)| (core.node, g, v)).collect();
    for (node, answer) in others.into_iter().zip(answers) {
        match answer {
            Some(Answer::Views(theirs)) => {
                views.extend(theirs.into_iter().map(|(g, v)| (node, g, v.into())));
            }
            _ => {
                silent.insert(node);
            }
        }
    }
    (views, silent)
}

/// The view to believe: the leader's of the highest term, else that of the highest term.
fn best(views: Vec<(NodeId, GroupId, GroupView)>) -> BTreeMap<GroupId, (NodeId, GroupView)> {
    let mut best: BTreeMap<GroupId, (NodeId, GroupView)> = BTreeMap::new();
    let rank = |node: NodeId, v: &GroupView| (v.leader == Some(node), v.term, v.applied);
    for (node, group, view) in views {
        let better = best
            .get(&group)
            .is_none_or(|(other, present)| rank(node, &view) > rank(*other, present));
        if better {
            best.insert(group, (node, view));
        }
    }
    best
}

/// Data groups as their leaders see them.
pub(super) async fn leaders(core: &Core, within: Duration) -> BTreeMap<GroupId, GroupView> {
    let (views, _) = gather(core, within).await;
    best(views)
        .into_iter()
        .filter(|(group, (node, view))| *group != GroupId::META && view.leader == Some(*node))
        .map(|(group, (_, view))| (group, view))
        .collect()
}

/// The cluster for people.
pub(super) async fn status(core: &Core, deadline: Instant) -> ClusterStatus {
    let within = deadline.saturating_duration_since(Instant::now());
    let (views, silent) = gather(core, within.min(ASK_WITHIN)).await;
    let mut best = best(views);
    let topology = core.meta.topology();
    let linked = core.linked(&topology);
    // Who leads says more than who was heard last.
    let meta = best
        .get(&GroupId::META)
        .map(|(_, v)| v.clone())
        .unwrap_or_default();
    let mut nodes: Vec<ClusterNode> = topology
        .nodes
        .values()
        .map(|m| ClusterNode {
            id: m.id.to_string(),
            name: m.name.clone(),
            addresses: m.addresses.clone(),
            role: if meta.leader == Some(m.id) {
                "leader"
            } else if meta.voters.contains(&m.id) {
                "voter"
            } else {
                "learner"
            }
            .into(),
            state: if linked.contains(&m.id) {
                m.state.as_str().into()
            } else {
                "unreachable".into()
            },
            version: m.version.clone(),
            load: None,
        })
        .collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let groups = [GroupId::META]
        .into_iter()
        .chain((1..=topology.data_groups).map(GroupId));
    let groups = groups.map(|group| {
        let view = best.remove(&group).map(|(_, v)| v).unwrap_or_default();
        let ids = |nodes: &BTreeSet<NodeId>| nodes.iter().map(NodeId::to_string).collect();
        ClusterGroup {
            id: group.0,
            name: group.to_string(),
            leader: view.leader.map(|n| n.to_string()),
            term: view.term,
            last: view.last,
            applied: view.applied,
            voters: ids(&view.voters),
            learners: ids(&view.learners),
        }
    });
    let name = |n: &NodeId| topology.nodes.get(n).map(|m| m.name.clone());
    let mut silent: Vec<String> = silent.iter().filter_map(name).collect();
    silent.sort();
    ClusterStatus {
        cluster_id: match (&core.mesh, topology.cluster) {
            (Some(_), Some(cluster)) => cluster.to_string(),
            _ => String::new(),
        },
        epoch: topology.epoch,
        answered_by: core.options.name.clone(),
        nodes,
        groups: groups.collect(),
        silent,
    }
}

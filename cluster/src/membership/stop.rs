//! The way out: leadership is handed over, groups stop, links close.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use orama_proto::GroupId;
use orama_proto::topology::NodeState;

use super::core::Core;
use super::desk::Desk;
use super::{quorum, replicas};

/// Stops what runs: hands over, stops the groups, closes the links.
pub(super) async fn shutdown(core: &Core, desk: Option<&Desk>) {
    core.stop_tasks().await;
    hand_over_all(core).await;
    core.groups.shutdown().await;
    if let Some(desk) = desk {
        desk.close();
    }
    if let Some(mesh) = &core.mesh {
        mesh.shutdown().await;
    }
    core.was_member.store(false, Ordering::Relaxed);
}

/// Leadership goes to voters that have caught up, so that nobody waits for an election.
pub(super) async fn hand_over_all(core: &Core) {
    const WITHIN: Duration = Duration::from_secs(3);
    let topology = core.meta.topology();
    let linked = core.linked(&topology);
    if linked.len() < 2 {
        return;
    }
    let ids = (0..=topology.data_groups).map(GroupId);
    let moves = ids.filter_map(|id| {
        let group = replicas::running(core, id)?;
        let view = group.view();
        let heirs = view.voters.iter().filter(|n| {
            **n != core.node && linked.contains(n) && view.caught_up(**n, quorum::CLOSE)
        });
        let heir = heirs.min_by_key(|n| {
            let state = topology.nodes.get(n).map(|m| m.state);
            (state != Some(NodeState::Active), **n)
        })?;
        let heir = *heir;
        (view.leader == Some(core.node)).then_some(async move {
            if let Err(error) = group.transfer(heir, Instant::now() + WITHIN).await {
                tracing::info!(group = %id, %error, "the group was not handed over");
            }
        })
    });
    let moves = futures::future::join_all(moves);
    let _ = tokio::time::timeout(WITHIN, moves).await;
}

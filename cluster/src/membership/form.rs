//! How new nodes agree on who begins the cluster.
//!
//! The smallest of the fresh nodes asks the others. Each backs one candidate at
//! a time, for [`LEASE`]; a candidate that was backed by enough of them begins
//! within [`BEGIN_WITHIN`], well before the first lease ends, so that the others have
//! joined it before they could back another.

use std::time::{Duration, Instant};

use orama_proto::{ClusterId, NodeId, limits};

use super::core::ask;
use super::desk::{Desk, State};
use super::seeker::Seeker;
use super::wire::{Answer, Ask, Known, Phase};
use super::{ClusterError, LinkOptions};
use crate::mesh::Mesh;

/// For so long a node backs one candidate only.
const LEASE: Duration = Duration::from_secs(15);
/// A candidate that has every agreement by then begins; later it asks again.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
/// A node that started just now may not have met the one it should back.
const SETTLE: Duration = Duration::from_secs(1);
/// One question to another new node.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks around.
const LOOK: Duration = Duration::from_millis(250);
/// Between two lines about what is awaited.
const REPORT: Duration = Duration::from_secs(5);

/// A node without state that may help to form a cluster.
#[derive(Debug)]
pub(super) struct Fresh {
    node: NodeId,
    expect: u32,
    since: Instant,
    backs: Option<(NodeId, Instant)>,
}

impl Fresh {
    pub(super) fn new(node: NodeId, expect: u32, now: Instant) -> Self {
        Self {
            node,
            expect,
            since: now,
            backs: None,
        }
    }

    /// Backs `candidate`, or says why not. `fresh` are this node and those it is
    /// linked with: a candidate that is not the smallest of them is not backed.
    pub(super) fn agree(
        &mut self,
        candidate: NodeId,
        expect: u32,
        fresh: &[NodeId],
        now: Instant,
    ) -> Result<(), String> {
        if expect != self.expect {
            return Err(format!(
                "node {} expects {} nodes, the candidate {expect}",
                self.node, self.expect
            ));
        }
        if self.expect < 2 {
            return Err("this node does not wait for others to form a cluster".into());
        }
        if now.duration_since(self.since) < SETTLE {
            return Err("this node started a moment ago".into());
        }
        if let Some(smaller) = fresh.iter().find(|n| **n < candidate) {
            return Err(format!("node {smaller} should begin"));
        }
        match self.backs {
            Some((other, at)) if other != candidate && now.duration_since(at) < LEASE => {
                Err(format!("this node backs {other}"))
            }
            _ => {
                self.backs = Some((candidate, now));
                Ok(())
            }
        }
    }
}

/// What a node without state does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It begins the cluster.
    Found,
    /// There is a cluster that it joins.
    Join(ClusterId),
}

/// Looks around until it is clear what this node does.
pub(super) async fn decide(
    mesh: &Mesh,
    desk: &Desk,
    seeker: &Seeker,
    links: &LinkOptions,
) -> Result<Way, ClusterError> {
    let expect = links.bootstrap_expect;
    if expect == 0 && links.join.is_empty() {
        return Err(ClusterError::Settings(
            "this node has no state: name members to join, or say how many new nodes form a cluster (--join, --bootstrap-expect)".into(),
        ));
    }
    if expect == 1 && links.join.is_empty() {
        return Ok(Way::Found);
    }
    desk.set(State::Fresh(Fresh::new(
        mesh.node_id(),
        expect,
        Instant::now(),
    )));
    let mut changes = mesh.changes();
    let mut reported: Option<Instant> = None;
    loop {
        let (cluster, fresh, undecided) = look_around(mesh).await;
        if let Some(cluster) = cluster {
            desk.set(State::Joining);
            return Ok(Way::Join(cluster));
        }
        // One that cannot be reached for a moment may be the member that this node is to
        // join: only a node whose seeds are all its own addresses begins alone.
        let alone = expect == 1 && seeker.only_itself() && fresh.is_empty() && !undecided;
        let enough = expect > 1 && fresh.len() + 1 >= expect as usize && !undecided;
        if alone || (enough && campaign(mesh, desk, &fresh, expect).await) {
            desk.set(State::Joining);
            return Ok(Way::Found);
        }
        if reported.is_none_or(|at| at.elapsed() >= REPORT) {
            reported = Some(Instant::now());
            let failures = seeker.seen().failures.join("; ");
            tracing::info!(
                expected = expect,
                new_nodes = fresh.len() + 1,
                failures,
                "looking for a cluster to join or nodes to form one with"
            );
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// A cluster somebody belongs to, the fresh nodes, and whether somebody is there of whom nothing can be said.
async fn look_around(mesh: &Mesh) -> (Option<ClusterId>, Vec<NodeId>, bool) {
    let peers = mesh.peers();
    if let Some(cluster) = peers.iter().find_map(|p| p.cluster) {
        return (Some(cluster), Vec::new(), false);
    }
    let probe = Ask::Probe { known: Vec::new() };
    let answers = peers
        .iter()
        .map(|peer| ask(mesh, peer.id, &probe, ASK_WITHIN));
    let answers = futures::future::join_all(answers).await;
    let (mut cluster, mut fresh, mut undecided) = (None, Vec::new(), false);
    for (peer, answer) in peers.iter().zip(answers) {
        match answer {
            Ok(Answer::Probe {
                phase: Phase::Member(id),
                ..
            }) => cluster = Some(id),
            Ok(Answer::Probe {
                phase: Phase::Fresh,
                known,
                ..
            }) => {
                fresh.push(peer.id);
                meet(mesh, &known);
            }
            _ => undecided = true,
        }
    }
    (cluster, fresh, undecided)
}

/// Links this node with those a new node is linked with. All must meet before one
/// begins: only then does everybody know the smallest.
fn meet(mesh: &Mesh, known: &[Known]) {
    let strangers = known
        .iter()
        .take(limits::MEMBERS_MAX)
        .filter(|k| k.node != mesh.node_id() && k.is_sound() && !mesh.linked(k.node));
    for known in strangers {
        mesh.keep(known.node, &known.addresses);
    }
}

/// Asks the others to back this node, if it is the smallest.
async fn campaign(mesh: &Mesh, desk: &Desk, fresh: &[NodeId], expect: u32) -> bool {
    let me = mesh.node_id();
    let start = Instant::now();
    if fresh.iter().any(|n| *n < me) || desk.agree(me, expect).is_err() {
        return false;
    }
    let question = Ask::Agree { expect };
    let answers = fresh
        .iter()
        .map(|node| ask(mesh, *node, &question, ASK_WITHIN));
    let answers = futures::future::join_all(answers).await;
    let mut backing = 1;
    for (node, answer) in fresh.iter().zip(answers) {
        match answer {
            Ok(Answer::Done) => backing += 1,
            Ok(Answer::Later(why)) => tracing::info!(%node, why, "a new node does not agree yet"),
            Ok(_) => {}
            Err(error) => tracing::debug!(%node, %error, "a new node did not answer"),
        }
    }
    // Nobody came meanwhile who belongs somewhere.
    backing >= expect && start.elapsed() < BEGIN_WITHIN && desk.agree(me, expect).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_node_backs_the_smallest_and_one_at_a_time() {
        let (one, two, three) = (NodeId(1), NodeId(2), NodeId(3));
        let start = Instant::now();
        let mut fresh = Fresh::new(three, 3, start);
        let all = [one, two, three];
        let late = start + SETTLE;
        assert!(fresh.agree(one, 3, &all, start).is_err(), "too early");
        assert!(fresh.agree(one, 5, &all, late).is_err(), "another number");
        assert!(fresh.agree(two, 3, &all, late).is_err(), "not the smallest");
        fresh.agree(two, 3, &[two, three], late).unwrap();
        fresh.agree(two, 3, &[two, three], late).unwrap();
        let before = late + LEASE - Duration::from_millis(1);
        assert!(fresh.agree(one, 3, &all, before).is_err(), "backs another");
        fresh.agree(one, 3, &all, late + LEASE).unwrap();
        assert!(fresh.agree(two, 3, &[two, three], late + LEASE).is_err());
        let mut single = Fresh::new(one, 1, start);
        assert!(single.agree(one, 1, &[one], late).is_err());
    }

    #[test]
    fn a_lease_is_longer_than_a_candidacy() {
        assert!(LEASE >= 2 * BEGIN_WITHIN);
    }
}

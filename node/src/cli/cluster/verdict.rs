//! Whether a cluster is well, in one sentence; what is wrong, worst first.

use orama_proto::api::{ClusterGroup, ClusterNode, ClusterStatus};

use super::view::{name_of, unreachable};

/// What there is to say about a cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Worst first; empty when all is well.
    problems: Vec<String>,
    /// What is not wrong and should be known.
    notes: Vec<String>,
    /// Said when all is well.
    well: String,
}

impl Verdict {
    /// Judges.
    pub(super) fn of(status: &ClusterStatus) -> Self {
        let nodes = &status.nodes;
        let silent: Vec<&ClusterNode> = nodes.iter().filter(|n| unreachable(status, n)).collect();
        let answering = nodes.len() - silent.len();
        let mut problems = Vec::new();
        problems.extend(leaderless(status));
        if !silent.is_empty() {
            problems.push(format!(
                "{answering} of {} nodes answer: {} cannot be reached",
                nodes.len(),
                list(silent.iter().map(|n| n.name.as_str()))
            ));
        }
        problems.extend(thin(status));
        let mut notes = Vec::new();
        for (state, text) in [("draining", "is draining"), ("leaving", "is leaving")] {
            let those = nodes.iter().filter(|n| n.state == state);
            notes.extend(those.map(|n| format!("{} {text}", n.name)));
        }
        let mut versions: Vec<&str> = nodes.iter().map(|n| n.version.as_str()).collect();
        versions.sort_unstable();
        versions.dedup();
        if versions.len() > 1 {
            notes.push(format!("nodes run different versions: {}", list(versions)));
        }
        let well = if status.cluster_id.is_empty() {
            "This node runs for itself, and every group has a leader".to_owned()
        } else {
            format!(
                "{answering} of {} nodes answer; every group has a leader",
                nodes.len()
            )
        };
        Self {
            problems,
            notes,
            well,
        }
    }

    /// The first line is the verdict.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut problems = self.problems.iter();
        let mut lines = match problems.next() {
            None => vec![format!("{}.", self.well)],
            Some(first) => vec![format!("PROBLEM: {first}.")],
        };
        lines.extend(problems.map(|p| format!("Also: {p}.")));
        lines.extend(self.notes.iter().map(|n| format!("Note: {n}.")));
        lines
    }

    /// The worst of what is wrong.
    pub(super) fn into_problem(self) -> Option<String> {
        self.problems.into_iter().next()
    }
}

/// Whether a group has a leader, and one that answers: who was the leader of a
/// node that is cut off is the last thing that node heard.
fn is_led(status: &ClusterStatus, group: &ClusterGroup) -> bool {
    let Some(leader) = &group.leader else {
        return false;
    };
    let node = status.nodes.iter().find(|n| n.id == *leader);
    node.is_none_or(|n| !unreachable(status, n))
}

/// Groups nobody leads: nothing can be changed in them. `meta` is the worst.
fn leaderless(status: &ClusterStatus) -> Option<String> {
    let without: Vec<&str> = status
        .groups
        .iter()
        .filter(|g| !is_led(status, g))
        .map(|g| g.name.as_str())
        .collect();
    if without.contains(&"meta") {
        let more = match without.len() - 1 {
            0 => String::new(),
            n => format!(", nor have {n} data groups"),
        };
        return Some(format!(
            "the metadata has no leader, so nothing can be deployed or changed{more}"
        ));
    }
    match without.len() {
        0 => None,
        1 => Some(format!("group {} has no leader", without[0])),
        n => Some(format!("{n} groups have no leader: {}", list(without))),
    }
}

/// Groups that would lose their majority with the next node.
fn thin(status: &ClusterStatus) -> Option<String> {
    let alive = |id: &&String| {
        let node = status.nodes.iter().find(|n| n.id == **id);
        node.is_some_and(|n| !unreachable(status, n))
    };
    let at_the_edge: Vec<&str> = status
        .groups
        .iter()
        .filter(|g| is_led(status, g) && g.voters.len() > 1)
        .filter(|g| {
            let alive = g.voters.iter().filter(alive).count();
            alive < g.voters.len() && alive <= g.voters.len() / 2 + 1
        })
        .map(|g| g.name.as_str())
        .collect();
    match at_the_edge.len() {
        0 => None,
        1 => Some(format!("group {} cannot lose another node", at_the_edge[0])),
        n if n == status.groups.len() => Some("no group can lose another node".to_owned()),
        n => Some(format!(
            "{n} groups cannot lose another node: {}",
            list(at_the_edge)
        )),
    }
}

/// `a, b and c`; long lists are cut.
fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let items: Vec<&str> = items.into_iter().collect();
    match items.split_last() {
        None => String::new(),
        Some((one, [])) => (*one).to_owned(),
        Some(_) if items.len() > SHOWN => format!(
            "{} and {} more",
            items[..SHOWN].join(", "),
            items.len() - SHOWN
        ),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// What keeps a node from being gone: the groups that it still is in.
pub(super) fn still_holds(status: &ClusterStatus, node: &ClusterNode) -> String {
    let held: Vec<&str> = status
        .groups
        .iter()
        .filter(|g| g.voters.contains(&node.id) || g.learners.contains(&node.id))
        .map(|g| g.name.as_str())
        .collect();
    let led = status
        .groups
        .iter()
        .filter(|g| g.leader.as_deref().map(|id| name_of(status, id)) == Some(node.name.clone()))
        .count();
    match held.len() {
        0 => format!("{} holds nothing any more", node.name),
        n => format!(
            "{} is {}: it still holds {n} group(s) ({}) and leads {led}",
            node.name,
            node.state,
            list(held)
        ),
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;

//! The cluster as tables: names instead of ids, and what is wrong in capitals.

use orama_proto::api::{ClusterNode, ClusterStatus};

use crate::cli::table::Table;

/// Digits of an id that are shown; the full one is in `--json`.
const ID_SHOWN: usize = 8;

/// Whether a member did not answer.
pub(super) fn unreachable(status: &ClusterStatus, node: &ClusterNode) -> bool {
    node.state == "unreachable" || status.silent.contains(&node.name)
}

/// A node's name; for one that is no member any more, the beginning of its id.
pub(super) fn name_of(status: &ClusterStatus, id: &str) -> String {
    match status.nodes.iter().find(|n| n.id == id) {
        Some(node) => node.name.clone(),
        None => format!("?{}", short(id)),
    }
}

fn short(id: &str) -> String {
    id.chars().take(ID_SHOWN).collect()
}

/// `-` stands for nothing: an empty cell looks like a fault of the table.
fn or_dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}

/// The members.
pub(super) fn nodes(status: &ClusterStatus) -> Table {
    let mut table = Table::new(&[
        "NAME",
        "ROLE",
        "STATE",
        "RUNNING/QUEUED",
        "VERSION",
        "ADDRESS",
        "ID",
    ]);
    for node in &status.nodes {
        let gone = unreachable(status, node);
        let load = match node.load {
            Some(load) if !gone => format!("{}/{}", load.running, load.queued),
            _ => "-".into(),
        };
        let mut address = node.addresses.first().cloned().unwrap_or_default();
        if node.addresses.len() > 1 {
            address.push_str(&format!(" +{}", node.addresses.len() - 1));
        }
        table.row([
            node.name.clone(),
            node.role.clone(),
            if gone {
                "UNREACHABLE".into()
            } else {
                node.state.clone()
            },
            load,
            node.version.clone(),
            or_dash(address),
            short(&node.id),
        ]);
    }
    table
}

/// The groups.
pub(super) fn groups(status: &ClusterStatus) -> Table {
    let mut table = Table::new(&[
        "GROUP",
        "LEADER",
        "TERM",
        "APPLIED/LAST",
        "VOTERS",
        "LEARNERS",
    ]);
    let names = |ids: &[String]| -> String {
        let mut names: Vec<String> = ids.iter().map(|id| marked(status, id)).collect();
        names.sort_unstable();
        or_dash(names.join(" "))
    };
    for group in &status.groups {
        let lag = group.last.saturating_sub(group.applied);
        let mut progress = format!("{}/{}", group.applied, group.last);
        if lag > 0 {
            progress.push_str(&format!(" (-{lag})"));
        }
        table.row([
            group.name.clone(),
            match &group.leader {
                Some(id) => marked(status, id),
                None => "NONE".into(),
            },
            group.term.to_string(),
            progress,
            names(&group.voters),
            names(&group.learners),
        ]);
    }
    table
}

/// A node's name, with a mark when it does not answer.
fn marked(status: &ClusterStatus, id: &str) -> String {
    let node = status.nodes.iter().find(|n| n.id == id);
    let mark = if node.is_some_and(|n| unreachable(status, n)) {
        "(!)"
    } else {
        ""
    };
    format!("{}{mark}", name_of(status, id))
}

/// Where the tables come from.
pub(super) fn foot(status: &ClusterStatus) -> String {
    if status.cluster_id.is_empty() {
        return format!("Answered by {}.", status.answered_by);
    }
    format!(
        "Cluster {}, epoch {}, answered by {}.",
        short(&status.cluster_id),
        status.epoch,
        status.answered_by
    )
}

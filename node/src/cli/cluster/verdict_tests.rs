//! One line must say the worst first.

use orama_proto::load::LoadReport;

use super::*;

fn node(n: u8, state: &str) -> ClusterNode {
    ClusterNode {
        id: format!("000000000000000{n}"),
        name: format!("n{n}"),
        addresses: vec![format!("/ip4/10.0.0.{n}/tcp/4001")],
        role: "voter".into(),
        state: state.into(),
        version: "0.1.0".into(),
        load: Some(LoadReport::default()),
    }
}

fn group(id: u32, leader: Option<u8>) -> ClusterGroup {
    ClusterGroup {
        id,
        name: orama_proto::GroupId(id).to_string(),
        leader: leader.map(|n| format!("000000000000000{n}")),
        term: 3,
        last: 10,
        applied: 10,
        voters: (1..=3).map(|n| format!("000000000000000{n}")).collect(),
        learners: Vec::new(),
    }
}

fn three() -> ClusterStatus {
    ClusterStatus {
        cluster_id: "c0ffee".into(),
        epoch: 7,
        answered_by: "n1".into(),
        nodes: (1..=3).map(|n| node(n, "active")).collect(),
        groups: vec![group(0, Some(1)), group(1, Some(2)), group(2, Some(3))],
        silent: Vec::new(),
    }
}

fn lines(status: &ClusterStatus) -> Vec<String> {
    Verdict::of(status).lines()
}

#[test]
fn all_is_well() {
    assert_eq!(
        lines(&three()),
        ["3 of 3 nodes answer; every group has a leader."]
    );
    assert_eq!(Verdict::of(&three()).into_problem(), None);
    let alone = ClusterStatus {
        cluster_id: String::new(),
        ..three()
    };
    assert!(lines(&alone)[0].starts_with("This node runs for itself"));
}

#[test]
fn a_lost_leader_is_worse_than_a_lost_node() {
    let mut status = three();
    status.groups[2].leader = status.groups[1].leader.clone();
    status.nodes[2].state = "unreachable".into();
    assert_eq!(
        lines(&status),
        [
            "PROBLEM: 2 of 3 nodes answer: n3 cannot be reached.",
            "Also: no group can lose another node.",
        ]
    );
    status.groups[1].leader = None;
    assert_eq!(lines(&status)[0], "PROBLEM: group data-1 has no leader.");
    status.groups[2].leader = None;
    assert_eq!(
        lines(&status)[0],
        "PROBLEM: 2 groups have no leader: data-1 and data-2."
    );
    status.groups[0].leader = None;
    assert!(lines(&status)[0].starts_with("PROBLEM: the metadata has no leader"));
    // A leader that does not answer is none; a node that is silent does not answer.
    let mut status = three();
    status.silent = vec!["n2".into()];
    let lines = lines(&status);
    assert_eq!(lines[0], "PROBLEM: group data-1 has no leader.");
    assert!(lines[1].contains("n2 cannot be reached"), "{lines:?}");
}

#[test]
fn what_is_meant_is_a_note_and_no_problem() {
    let mut status = three();
    status.nodes[0].state = "draining".into();
    status.nodes[1].version = "0.2.0".into();
    assert_eq!(
        lines(&status),
        [
            "3 of 3 nodes answer; every group has a leader.",
            "Note: n1 is draining.",
            "Note: nodes run different versions: 0.1.0 and 0.2.0.",
        ]
    );
    assert_eq!(Verdict::of(&status).into_problem(), None);
}

#[test]
fn a_group_is_thin_when_the_next_loss_stops_it() {
    let mut status = three();
    status.nodes.extend([node(4, "active"), node(5, "active")]);
    for group in &mut status.groups {
        group.voters = (1..=5).map(|n| format!("000000000000000{n}")).collect();
    }
    status.nodes[4].state = "unreachable".into();
    assert_eq!(lines(&status).len(), 1, "four of five may lose one");
    status.groups[1].voters.truncate(3);
    status.groups[1].voters[2] = status.nodes[4].id.clone();
    assert_eq!(
        lines(&status)[1],
        "Also: group data-1 cannot lose another node."
    );
}

#[test]
fn what_a_leaving_node_holds_is_told() {
    let mut status = three();
    status.nodes[2].state = "leaving".into();
    assert_eq!(
        still_holds(&status, &status.nodes[2]),
        "n3 is leaving: it still holds 3 group(s) (meta, data-1 and data-2) and leads 1"
    );
    for group in &mut status.groups {
        group.voters.retain(|id| *id != status.nodes[2].id);
    }
    assert_eq!(
        still_holds(&status, &status.nodes[2]),
        "n3 holds nothing any more"
    );
}

#[test]
fn long_lists_are_cut() {
    assert_eq!(list(["a"]), "a");
    assert_eq!(list(["a", "b", "c"]), "a, b and c");
    assert_eq!(
        list(["a", "b", "c", "d", "e", "f", "g"]),
        "a, b, c, d, e and 2 more"
    );
}

//! `orama cluster`, whole commands.

use crate::cli::error::Exit;
use crate::cli::harness::run;
use crate::cli::scripted::Scripted;

/// A cluster of two as the gateway tells it; the second may be gone.
fn cluster(second: &str) -> String {
    serde_json::json!({
        "cluster_id": "00112233445566778899aabbccddeeff",
        "epoch": 9,
        "answered_by": "n1",
        "nodes": [
            {"id": "aaaaaaaaaaaaaaaa", "name": "n1", "addresses": ["/ip4/10.0.0.1/tcp/4001"],
             "role": "leader", "state": "active", "version": "0.1.0",
             "load": {"running": 3, "queued": 1, "capacity": 64, "latency_us": 100, "closed": false}},
            {"id": "bbbbbbbbbbbbbbbb", "name": "n2", "addresses": ["/ip4/10.0.0.2/tcp/4001", "/ip6/::2/tcp/4001"],
             "role": "voter", "state": second, "version": "0.1.0"},
        ],
        "groups": [
            {"id": 0, "name": "meta", "leader": "aaaaaaaaaaaaaaaa", "term": 4, "last": 120, "applied": 120,
             "voters": ["bbbbbbbbbbbbbbbb", "aaaaaaaaaaaaaaaa"], "learners": []},
            {"id": 1, "name": "data-1", "leader": null, "term": 2, "last": 10, "applied": 7,
             "voters": ["aaaaaaaaaaaaaaaa"], "learners": ["bbbbbbbbbbbbbbbb"]},
        ],
        "silent": [],
    })
    .to_string()
}

#[tokio::test]
async fn the_state_of_a_cluster_is_a_verdict_and_two_tables() {
    let sick = cluster("unreachable");
    let server = Scripted::start(vec![(200, sick.clone()), (200, sick.clone())]).await;
    let ran = run(&server.url, &["cluster", "status"]).await;
    let error = ran.result.unwrap_err();
    assert_eq!(error.exit(), Some(Exit::Error));
    assert_eq!(
        error.to_string(),
        "the cluster is not well: group data-1 has no leader"
    );
    assert_eq!(
        ran.out,
        "\
PROBLEM: group data-1 has no leader.
Also: 1 of 2 nodes answer: n2 cannot be reached.
Also: group meta cannot lose another node.

NAME  ROLE    STATE        RUNNING/QUEUED  VERSION  ADDRESS                    ID
n1    leader  active       3/1             0.1.0    /ip4/10.0.0.1/tcp/4001     aaaaaaaa
n2    voter   UNREACHABLE  -               0.1.0    /ip4/10.0.0.2/tcp/4001 +1  bbbbbbbb

GROUP   LEADER  TERM  APPLIED/LAST  VOTERS    LEARNERS
meta    n1      4     120/120       n1 n2(!)  -
data-1  NONE    2     7/10 (-3)     n1        n2(!)

Cluster 00112233, epoch 9, answered by n1.
"
    );
    assert!(server.requests()[0].starts_with("GET /v1/admin/cluster "));
    assert!(server.requests()[0].contains("Bearer operator"));
    // Programs get the body, and the same exit code.
    let ran = run(&server.url, &["cluster", "status", "--json"]).await;
    assert_eq!(ran.out, format!("{sick}\n"));
    assert_eq!(ran.result.unwrap_err().exit(), Some(Exit::Error));
}

#[tokio::test]
async fn a_healthy_cluster_is_exit_0() {
    let well = cluster("active").replace("\"leader\":null", "\"leader\":\"bbbbbbbbbbbbbbbb\"");
    let server = Scripted::start(vec![(200, well)]).await;
    let ran = run(&server.url, &["cluster", "status"]).await;
    ran.result.unwrap();
    assert!(
        ran.out
            .starts_with("2 of 2 nodes answer; every group has a leader.\n"),
        "{}",
        ran.out
    );
}

#[tokio::test]
async fn operations_on_the_cluster_name_node_and_group() {
    let message = |text: &str| (200, format!(r#"{{"message":"{text}"}}"#));
    let server = Scripted::start(vec![
        message("draining"),
        message("active"),
        message("n2 leads"),
        message("left"),
    ])
    .await;
    let ran = run(&server.url, &["cluster", "drain", "n2"]).await;
    ran.result.unwrap();
    assert_eq!(ran.out, "draining\n");
    run(&server.url, &["cluster", "drain", "n2", "--undo"])
        .await
        .result
        .unwrap();
    run(&server.url, &["cluster", "transfer", "data-1", "n2"])
        .await
        .result
        .unwrap();
    let ran = run(&server.url, &["cluster", "leave", "n2", "--yes"]).await;
    ran.result.unwrap();
    assert_eq!(ran.out, "Node \"n2\" has left the cluster.\n");
    let asked = server.requests();
    assert!(asked[0].starts_with("POST /v1/admin/cluster/nodes/n2/drain "));
    assert!(asked[0].ends_with(r#"{"undo":false}"#));
    assert!(asked[1].ends_with(r#"{"undo":true}"#));
    assert!(asked[2].starts_with("POST /v1/admin/cluster/groups/data-1/transfer "));
    assert!(asked[2].ends_with(r#"{"node":"n2"}"#));
    assert!(asked[3].starts_with("POST /v1/admin/cluster/nodes/n2/leave "));
}

#[tokio::test]
async fn leaving_is_watched_until_the_node_is_gone() {
    // Another node has its name now: what was watched is the id.
    let gone = cluster("active").replace("bbbbbbbbbbbbbbbb", "cccccccccccccccc");
    let server = Scripted::start(vec![
        (202, r#"{"message":"is leaving"}"#.into()),
        (200, cluster("leaving")),
        (200, gone),
    ])
    .await;
    let ran = run(&server.url, &["cluster", "leave", "n2", "--yes"]).await;
    ran.result.unwrap();
    assert_eq!(
        ran.err,
        "n2 is leaving: it still holds 2 group(s) (meta and data-1) and leads 0\n"
    );
    assert_eq!(ran.out, "Node \"n2\" has left the cluster.\n");
}

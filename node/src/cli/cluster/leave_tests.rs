//! Which node is watched, and how a watch ends that goes blind.

use super::*;
use crate::cli::args::GlobalArgs;
use crate::cli::files::Home;
use crate::cli::output::Output;
use crate::cli::scripted::Scripted;
use crate::cli::target::Variables;

const QUICK: Pace = Pace {
    look_every: Duration::from_millis(5),
    blind_for: Duration::from_millis(20),
    watch_for: Duration::from_secs(30),
};

fn status(answered_by: &str, nodes: &[(&str, &str)]) -> ClusterStatus {
    let node = |(id, name): &(&str, &str)| ClusterNode {
        id: (*id).into(),
        name: (*name).into(),
        addresses: Vec::new(),
        role: "voter".into(),
        state: "leaving".into(),
        version: String::new(),
        load: None,
    };
    ClusterStatus {
        answered_by: answered_by.into(),
        nodes: nodes.iter().map(node).collect(),
        ..ClusterStatus::default()
    }
}

fn answer(id: &str, answered_by: &str) -> String {
    serde_json::to_string(&LeaveResponse {
        message: "is leaving".into(),
        id: id.into(),
        gone: false,
        answered_by: answered_by.into(),
    })
    .unwrap()
}

/// Runs the command against a server that answers this and then is away.
async fn ran(node: &str, answers: Vec<(u16, String)>) -> Result<(), CliError> {
    let server = Scripted::start(answers).await;
    let dir = tempfile::tempdir().unwrap();
    let mut app = App {
        home: Home::at(dir.path()),
        vars: Variables::default(),
        global: GlobalArgs::default(),
        out: Output::to(false, std::io::sink(), std::io::sink()),
    };
    let url = reqwest::Url::parse(&server.url).unwrap();
    let client = Client::new(url, None).unwrap();
    leave(&mut app, &client, node, &QUICK).await
}

fn json(status: &ClusterStatus) -> (u16, String) {
    (200, serde_json::to_string(status).unwrap())
}

#[test]
fn the_beginning_of_an_id_must_be_long_and_say_which() {
    let status = status(
        "n1",
        &[
            ("b1c2d3d3d3d3d3d3", "n1"),
            ("b1c2ffffffffffff", "n2"),
            ("aaaa000000000000", "b1c2d"),
        ],
    );
    let found = |called| find(&status, called).map(|n| n.id.as_str());
    assert_eq!(found("n2"), Some("b1c2ffffffffffff"));
    assert_eq!(found("b1c2ffffffffffff"), Some("b1c2ffffffffffff"));
    assert_eq!(found("b1c2f"), Some("b1c2ffffffffffff"));
    // A name goes before the beginning of an id.
    assert_eq!(found("b1c2d"), Some("aaaa000000000000"));
    for nobody in ["b1", "b1c", "b1c2", "", "n3", "aaa"] {
        assert_eq!(found(nobody), None, "{nobody}");
    }
}

#[tokio::test]
async fn another_node_with_a_like_id_is_not_waited_for() {
    // n2 is gone at the first look; "b1c2" begins the id of one that stays.
    let others = status("n1", &[("b1c2ffffffffffff", "n1")]);
    let answers = vec![
        (202, answer("b1c2000000000000", "b1c2ffffffffffff")),
        json(&others),
    ];
    ran("b1c2", answers).await.unwrap();
    // Likewise a node that took over the name.
    let renamed = status("n1", &[("cccc000000000000", "n2")]);
    let answers = vec![
        (202, answer("bbbb000000000000", "aaaa000000000000")),
        json(&renamed),
    ];
    ran("n2", answers).await.unwrap();
}

#[tokio::test]
async fn silence_of_the_node_that_leaves_is_its_end() {
    let itself = answer("bbbb000000000000", "bbbb000000000000");
    ran("n2", vec![(202, itself)]).await.unwrap();
    // An answer without an id: the state of the cluster tells.
    let seen = status("n2", &[("bbbb000000000000", "n2")]);
    let old = (202, r#"{"message":"is leaving"}"#.to_owned());
    ran("n2", vec![old, json(&seen)]).await.unwrap();
}

#[tokio::test]
async fn silence_of_another_node_is_an_error() {
    let by_another = answer("bbbb000000000000", "aaaa000000000000");
    let error = ran("n2", vec![(202, by_another)]).await.unwrap_err();
    assert!(error.to_string().contains("goes on leaving"), "{error}");
}

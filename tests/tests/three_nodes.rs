//! The README's section "Three nodes", through the script that does just that:
//! form a cluster, deploy through one node, invoke through all.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use orama_tests::{guests, orama_binary};

/// Building the function takes most of it.
const LIMIT: Duration = Duration::from_secs(300);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[tokio::test]
async fn three_nodes_are_one_cluster_by_the_readmes_commands() {
    let mut command = tokio::process::Command::new(root().join("deploy/three-nodes"));
    command
        .env("ORAMA_BIN", orama_binary())
        .env("ORAMA_GO", guests::go_toolchain())
        .envs(guests::go_environment())
        // Must not lead anything astray.
        .env("ORAMA_JOIN", "/ip4/203.0.113.1/tcp/4001")
        .env("ORAMA_API_URL", "http://203.0.113.1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Not killed on drop: its own trap stops the nodes when the time is over.
    let child = command.spawn().unwrap();
    let pid = child
        .id()
        .and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
    let output = child.wait_with_output();
    tokio::pin!(output);
    let output = tokio::select! {
        output = &mut output => output.unwrap(),
        () = tokio::time::sleep(LIMIT) => {
            rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::TERM).unwrap();
            output.await.unwrap()
        }
    };
    let (said, complaints) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{}\n{said}\n{complaints}",
        output.status
    );
    assert!(
        said.contains("\n3 of 3 nodes answer; every group has a leader.\n"),
        "{said}"
    );
    for name in ["n1", "n2", "n3"] {
        let line = said
            .lines()
            .find(|line| line.starts_with(&format!("{name}  ")));
        assert!(line.is_some_and(|l| l.contains("active")), "{name}: {said}");
    }
    for group in ["meta", "data-1", "data-4"] {
        assert!(
            said.lines().any(|l| l.starts_with(&format!("{group} "))),
            "{group}: {said}"
        );
    }
    assert_eq!(said.matches("Hello, World!").count(), 3, "{said}");
}

/// The README's commands are those that the script prints and runs.
#[test]
fn the_readme_says_what_the_script_does() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let script = std::fs::read_to_string(root().join("deploy/three-nodes")).unwrap();
    let section = readme.split("## Three nodes").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    for part in [
        r#"ORAMA_MASTER_KEY="$(openssl rand -base64 32)""#,
        r#"ORAMA_ADMIN_TOKEN="$(openssl rand -hex 32)""#,
        r#"ORAMA_CLUSTER_SECRET="$(openssl rand -hex 32)""#,
        "--bootstrap-expect 3",
        "--join ",
        "orama cluster status",
        "orama namespace create shop --json",
        "orama function init hello",
        "orama function deploy hello",
        "function invoke hello",
    ] {
        assert!(section.contains(part), "README.md: {part}");
        assert!(script.contains(part), "deploy/three-nodes: {part}");
    }
    assert!(section.contains("deploy/three-nodes"));
}

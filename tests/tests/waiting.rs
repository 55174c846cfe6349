//! A node that is to be part of a cluster and finds no peers: it is alive, says
//! what it waits for, serves nothing, and stops when it is told to.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use orama_tests::{http_client, master_key, orama_binary};

const SECRET: &str = "a-secret-for-a-cluster-that-never-forms";

fn command(data: &std::path::Path, args: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(orama_binary());
    command
        .args(["node", "run", "--http-addr", "127.0.0.1:0", "--data-dir"])
        .arg(data)
        .args(args)
        .env("ORAMA_MASTER_KEY", master_key("k"))
        .env("ORAMA_ADMIN_TOKEN", "0123456789abcdef0123456789abcdef")
        .env_remove("ORAMA_CLUSTER_SECRET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// An address that was free a moment ago: it must be known before the node tells it.
fn free_address() -> String {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    held.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn a_node_without_its_peers_is_live_and_not_ready_and_stops_on_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = free_address();
    let node = command(
        dir.path(),
        &[
            "--metrics-addr",
            &metrics,
            "--mesh-listen",
            "/ip4/127.0.0.1/tcp/0",
            "--bootstrap-expect",
            "3",
        ],
    )
    .env("ORAMA_CLUSTER_SECRET", SECRET)
    .spawn()
    .unwrap();
    let client = http_client();
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < Duration::from_secs(30), "never live");
        let live = client.get(format!("http://{metrics}/livez")).send().await;
        if live.is_ok_and(|answer| answer.status() == 200) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // It says so soon, and goes on saying it.
    let readyz = || async {
        let answer = client.get(format!("http://{metrics}/readyz")).send().await;
        let answer = answer.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    while !readyz().await.1.contains("its cluster") {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{:?}",
            readyz().await
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(readyz().await.0, 503);
    let scraped = client
        .get(format!("http://{metrics}/metrics"))
        .send()
        .await
        .unwrap();
    assert!(scraped.text().await.unwrap().contains("orama_mesh_links 0"));

    let pid = rustix::process::Pid::from_raw(node.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = tokio::time::timeout(Duration::from_secs(20), node.wait_with_output())
        .await
        .expect("a signal stops the wait")
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    assert!(
        !said.contains("ERROR") && !said.contains("panicked"),
        "{said}"
    );
    assert!(!said.contains(SECRET), "{said}");
    assert!(output.stdout.is_empty(), "it never announced itself");
}

#[tokio::test]
async fn settings_of_a_mesh_without_its_secret_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (args, names) in [
        (
            ["--join", "/ip4/127.0.0.1/tcp/1"],
            "--join: needs ORAMA_CLUSTER_SECRET",
        ),
        (
            ["--bootstrap-expect", "3"],
            "--bootstrap-expect: needs ORAMA_CLUSTER_SECRET",
        ),
        (["--join", "127.0.0.1:1"], "--join: "),
    ] {
        let ended = command(dir.path(), &args).output().await.unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(said.contains(names), "{said}");
    }
}

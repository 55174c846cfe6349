//! 1,000 invocations that wait one second each, started together: waiting
//! costs memory, and no thread.

use std::time::{Duration, Instant};

use futures::future::join_all;
use orama_tests::{Deploy, Node, guests, raise_open_files};

const SLEEPERS: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sleepers_are_done_in_three_seconds() {
    raise_open_files();
    let node = Node::start().await;
    let tenant = node.tenant("sleepers").await;
    tenant.deploy(Deploy::new("sleep", &guests::c("ops"))).await;
    tenant
        .deploy(Deploy::new("gosleep", &guests::go("ops")))
        .await;
    let threads = || {
        std::fs::read_dir(format!("/proc/{}/task", node.pid()))
            .unwrap()
            .count()
    };

    for (name, input, count, limit) in [
        (
            "sleep",
            "sleep 1000",
            SLEEPERS,
            Some(Duration::from_secs(3)),
        ),
        ("gosleep", r#"{"op":"sleep","n":1000}"#, 200, None),
    ] {
        // Connections, pools and caches are there before the measurement.
        let warm = if name == "sleep" {
            "sleep 1"
        } else {
            r#"{"op":"sleep","n":1}"#
        };
        for reply in join_all((0..64).map(|_| tenant.invoke(name, warm))).await {
            reply.output();
        }
        let (resident, before) = (node.resident_bytes(), threads());
        let began = Instant::now();
        let calls = tokio::spawn({
            let tenant = tenant.clone();
            async move { join_all((0..count).map(|_| tenant.invoke(name, input))).await }
        });
        let (mut peak, mut most) = (0, 0);
        while !calls.is_finished() {
            peak = peak.max(node.resident_bytes());
            most = most.max(threads());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let took = began.elapsed();
        for reply in calls.await.unwrap() {
            reply.output();
            let duration: u64 = reply.header("x-duration-ms").parse().unwrap();
            assert!(duration >= 1_000, "it slept: {duration} ms");
        }
        let each = peak.saturating_sub(resident) / count as u64;
        println!(
            "{count} waiting invocations of {name}: {took:?} in all, {} KiB each with its connection, {most} threads",
            each / 1024
        );
        assert!(
            most <= before + 16,
            "waiting takes no thread: {before} before, {most} during"
        );
        if let Some(limit) = limit {
            assert!(took < limit, "{took:?}");
            assert!(each < 1024 * 1024, "{each} bytes per waiting invocation");
        }
    }
}

//! (d) The first call after a restart, and (e) what a waiting invocation costs.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::ensure;
use orama_benches::figures::{median, shown};
use orama_benches::load::{Connection, Request};
use orama_tests::{Deploy, guests, raise_open_files};

use crate::{BODY, over_http};

const RESTARTS: usize = 7;
const SLEEPERS: usize = 1_000;

pub(crate) async fn section() -> anyhow::Result<String> {
    let mut text = cold().await?;
    text.push('\n');
    text.push_str(&sleeping().await?);
    Ok(text)
}

async fn cold() -> anyhow::Result<String> {
    let (mut node, tenant) = over_http::node("cold").await?;
    let module = guests::go("echo");
    tenant.deploy(Deploy::new("go", &module)).await;
    let (mut first, mut second, mut ready) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RESTARTS {
        node.stop().await;
        ready.push(node.start_again().await.as_secs_f64());
        let request = Request::post("/v1/functions/go/invoke", &tenant.credential, BODY);
        let mut connection = Connection::open(node.addr()).await?;
        for times in [&mut first, &mut second] {
            let began = Instant::now();
            connection.exchange(&request).await?;
            times.push(began.elapsed().as_secs_f64());
        }
    }
    ensure!(
        node.metric("orama_runtime_compilations_total").await == 0.0,
        "a restart must not compile"
    );
    let middle = |values| shown(Duration::from_secs_f64(median(values)));
    Ok(format!(
        "## Cold: the first call after a restart\n\nA stock Go module of {:.1} MB; medians of {RESTARTS} restarts. Compiled code comes from the disk's cache; nothing was compiled.\n\n\
         | start to ready | first call | second call |\n|---|---|---|\n| {} | **{}** | {} |\n",
        module.len() as f64 / 1e6,
        middle(ready),
        middle(first),
        middle(second),
    ))
}

async fn sleeping() -> anyhow::Result<String> {
    raise_open_files();
    let (node, tenant) = over_http::node("sleep").await?;
    tenant
        .deploy(Deploy::new("wait", &guests::sleeper(1_000)))
        .await;
    tenant
        .deploy(Deploy::new("brief", &guests::sleeper(1)))
        .await;
    let wait = Request::post("/v1/functions/wait/invoke", &tenant.credential, BODY);
    let brief = Request::post("/v1/functions/brief/invoke", &tenant.credential, BODY);
    // All connections are open and used once before the measurement.
    let mut connections = Vec::new();
    for _ in 0..SLEEPERS {
        let mut connection = Connection::open(node.addr()).await?;
        connection.exchange(&brief).await?;
        connections.push(connection);
    }
    let before = node.resident_bytes();
    let began = Instant::now();
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let wait = wait.clone();
            tokio::spawn(async move { connection.exchange(&wait).await })
        })
        .collect();
    let mut peak = before;
    while tasks.iter().any(|task| !task.is_finished()) {
        peak = peak.max(node.resident_bytes());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let took = began.elapsed();
    for task in tasks {
        task.await??;
    }
    let mut text = String::from(
        "## Waiting invocations\n\n| at once | sleep | all done after | memory each |\n|---|---|---|---|\n",
    );
    writeln!(
        text,
        "| {SLEEPERS} | 1 s | **{}** | **{:.1} KiB** |",
        shown(took),
        (peak - before) as f64 / SLEEPERS as f64 / 1024.0
    )?;
    Ok(text)
}

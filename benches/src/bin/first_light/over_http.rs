//! (a) An invocation over HTTP against a static answer of the same size, and
//! (c) the same beside one infinite loop per core.

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use orama_benches::figures::{median, shown};
use orama_benches::peer;
use orama_tests::{Deploy, Node, Tenant, guests, setting};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::{BODY, CONNECTIONS, WORKERS};

const INVOKE: &str = "/v1/functions/echo/invoke";

/// One run of the generator.
#[derive(Debug, Clone, Copy)]
struct Run {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

/// A node with as many workers as the peer, and a tenant with the echo.
pub(crate) async fn node(namespace: &str) -> anyhow::Result<(Node, Tenant)> {
    let node = Node::builder()
        .env("ORAMA_WORKERS", WORKERS.to_string())
        .env("ORAMA_LOG", "warn")
        .start()
        .await;
    let tenant = node.tenant(namespace).await;
    tenant.deploy(Deploy::new("echo", &guests::echo())).await;
    let reply = tenant.invoke("echo", BODY).await;
    ensure!(reply.output() == BODY, "the echo answered {reply:?}");
    Ok((node, tenant))
}

async fn generator(
    address: &str,
    path: &str,
    credential: Option<&str>,
    seconds: f64,
) -> anyhow::Result<Run> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["load", address, path, &seconds.to_string()]);
    if let Some(credential) = credential {
        command.env("FIRST_LIGHT_KEY", credential);
    }
    let output = command.output().await?;
    ensure!(
        output.status.success(),
        "the generator failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8(output.stdout)?;
    let mut words = said.split_whitespace();
    let mut next = || words.next().context("the generator said too little");
    Ok(Run {
        per_second: next()?.parse()?,
        p50: Duration::from_nanos(next()?.parse()?),
        p99: Duration::from_nanos(next()?.parse()?),
    })
}

async fn start_peer() -> anyhow::Result<(Child, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("peer")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("the peer's stdout")?;
    let address = BufReader::new(stdout).lines().next_line().await?;
    Ok((child, address.context("the peer's address")?))
}

pub(crate) async fn section() -> anyhow::Result<String> {
    let rounds = setting("FIRST_LIGHT_ROUNDS", 5);
    let seconds = setting("FIRST_LIGHT_SECONDS", 4) as f64;
    let (node, tenant) = node("bench").await?;
    let node_address = node.addr().to_string();
    let (peer_process, peer_address) = start_peer().await?;
    let ours =
        async |seconds| generator(&node_address, INVOKE, Some(&tenant.credential), seconds).await;
    let peers = async |seconds| generator(&peer_address, peer::PATH, None, seconds).await;
    // The same request as ours, credential header included.
    let posts = async |seconds| {
        generator(&peer_address, peer::PATH, Some(&tenant.credential), seconds).await
    };
    ours(2.0).await?;
    peers(1.0).await?;
    posts(1.0).await?;

    let mut text = format!(
        "## Over HTTP: echo guest against a static answer\n\n`orama node run` with {WORKERS} workers against actix-web with {WORKERS} workers: a POST of {} bytes of JSON that are echoed, against an answer of as many bytes to a GET, and to the same POST. \
         {CONNECTIONS} keep-alive connections, one generator in a process of its own on the same cores, alternating, {seconds} s each. \
         Target: at least 0.4.\n\n| round | static GET req/s | p50 | p99 | static POST req/s | echo req/s | p50 | p99 | of GET | of POST |\n|---|---|---|---|---|---|---|---|---|---|\n",
        BODY.len()
    );
    let (mut ratios, mut alike) = (Vec::new(), Vec::new());
    let (mut tails, mut rates) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let limit = peers(seconds).await?;
        let echo = ours(seconds).await?;
        let post = posts(seconds).await?;
        let ratio = echo.per_second / limit.per_second;
        let of_post = echo.per_second / post.per_second;
        writeln!(
            text,
            "| {round} | {:.0} | {} | {} | {:.0} | {:.0} | {} | {} | {ratio:.2} | {of_post:.2} |",
            limit.per_second,
            shown(limit.p50),
            shown(limit.p99),
            post.per_second,
            echo.per_second,
            shown(echo.p50),
            shown(echo.p99),
        )?;
        ratios.push(ratio);
        alike.push(of_post);
        tails.push(echo.p99.as_secs_f64());
        rates.push(echo.per_second);
    }
    let quiet = median(tails);
    writeln!(
        text,
        "\n**Ratio, median of {rounds}: {:.2} of the GET, {:.2} of the same POST**; echo {:.0} req/s, p99 {}.\n",
        median(ratios),
        median(alike),
        median(rates),
        shown(Duration::from_secs_f64(quiet)),
    )?;
    drop(peer_process);

    // One endless guest per core, for as long as the measurement takes.
    let cores = std::thread::available_parallelism()?.get();
    tenant
        .deploy(Deploy::new("endless", &guests::endless()).timeout(300))
        .await;
    let loops: Vec<_> = (0..cores)
        .map(|_| {
            let tenant = tenant.with_own_connections();
            tokio::spawn(async move { tenant.invoke_or_die("endless", "").await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    ours(1.0).await?;
    writeln!(
        text,
        "## The same beside {cores} infinite loops\n\n| round | echo req/s | p50 | p99 |\n|---|---|---|---|"
    )?;
    let mut tails = Vec::new();
    for round in 1..=rounds {
        let echo = ours(seconds).await?;
        writeln!(
            text,
            "| {round} | {:.0} | {} | {} |",
            echo.per_second,
            shown(echo.p50),
            shown(echo.p99)
        )?;
        tails.push(echo.p99.as_secs_f64());
    }
    ensure!(
        loops.iter().all(|l| !l.is_finished()),
        "the loops ended before the measurement did"
    );
    writeln!(
        text,
        "\n**p99 of the echo, median: {}** (without loops: {}).",
        shown(Duration::from_secs_f64(median(tails))),
        shown(Duration::from_secs_f64(quiet)),
    )?;
    for task in loops {
        task.abort();
    }
    drop(node);
    Ok(text)
}

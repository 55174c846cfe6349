//! One node against the physical limit: writes `benches/RESULTS.md`.
//!
//! `cargo build --release --workspace --bins && cargo run --release -p orama-benches --bin first_light`
//!
//! `FIRST_LIGHT_ROUNDS` (5) and `FIRST_LIGHT_SECONDS` (4) set how long it measures.

#[path = "first_light/in_process.rs"]
mod in_process;
#[path = "first_light/over_http.rs"]
mod over_http;
#[path = "first_light/waiting.rs"]
mod waiting;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use orama_benches::report::Report;
use orama_benches::{load, peer};

/// What the echo is sent and answers; the static peer answers the same bytes.
pub(crate) const BODY: &[u8] =
    br#"{"name":"World","list":[1,2,3],"text":"sixty-four bytes of json"}"#;
/// Threads that serve HTTP, of the node and of its peer.
pub(crate) const WORKERS: usize = 2;
/// Keep-alive connections of the generator.
pub(crate) const CONNECTIONS: usize = 32;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("first_light: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        [] => runtime()?.block_on(all()),
        // The two other processes of a measurement are this program again.
        ["peer"] => actix_web::rt::System::new().block_on(peer::serve(WORKERS, BODY)),
        ["load", address, path, seconds] => runtime()?.block_on(generate(address, path, seconds)),
        other => anyhow::bail!("unknown arguments {other:?}"),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

/// The generator's process: answers per second, p50 and p99 in nanoseconds on one line.
async fn generate(address: &str, path: &str, seconds: &str) -> anyhow::Result<()> {
    // The peer is asked without a body: that is the limit of the HTTP server.
    let request = match std::env::var("FIRST_LIGHT_KEY") {
        Ok(credential) => load::Request::post(path, &credential, BODY),
        Err(_) => load::Request::get(path),
    };
    let length = Duration::from_secs_f64(seconds.parse()?);
    let measured = load::measure(address.parse()?, &request, CONNECTIONS, length).await?;
    let nanos = |fraction| measured.latencies.percentile(fraction).as_nanos();
    println!("{} {} {}", measured.per_second, nanos(0.5), nanos(0.99));
    Ok(())
}

async fn all() -> anyhow::Result<()> {
    let mut report = Report::new("First light: one node", "first_light");
    // The in-process part first: nothing else runs then.
    for section in [
        in_process::section().await.context("in process")?,
        over_http::section().await.context("over HTTP")?,
        waiting::section().await.context("waiting and cold")?,
    ] {
        report.push(&section);
    }
    report.print();
    report.write()
}

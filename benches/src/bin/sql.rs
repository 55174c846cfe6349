//! The replicated databases on three local nodes with fsync: writes,
//! transactions and reads per second, and what many databases cost, beside etcd, SQLite alone and the
//! disk's own rate in the same run.
//!
//! `cargo build --release --workspace --bins && cargo run --release -p orama-benches --bin sql`
//!
//! Arguments choose sections: `writes`, `transactions`, `reads`, `many`; without any, all run
//! and their figures are appended to `benches/RESULTS.md`. `SQL_SECONDS` (5) sets how long each
//! figure is measured, `SQL_NAMESPACES` (2000) how many databases are many. Without `etcd` on
//! PATH (scripts/install-test-tools.sh) its columns stay empty, with a line that says so.

#[path = "sql/many.rs"]
mod many;
#[path = "sql/reads.rs"]
mod reads;
#[path = "sql/transactions.rs"]
mod transactions;
#[path = "sql/writes.rs"]
mod writes;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use orama_benches::load::Request;
use orama_benches::report::Report;
use orama_tests::cluster::Cluster;
use orama_tests::{Tenant, setting};
use serde_json::{Value, json};

/// Bytes of a value.
pub(crate) const VALUE: usize = 100;

const SECTIONS: [&str; 4] = ["writes", "transactions", "reads", "many"];

fn main() -> ExitCode {
    orama_tests::raise_open_files();
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(all()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sql: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How long each figure is measured.
pub(crate) fn length() -> Duration {
    Duration::from_secs(setting("SQL_SECONDS", 5).max(1))
}

/// A goal and whether it was reached.
pub(crate) fn goal(text: &str, reached: bool) -> String {
    let verdict = if reached { "reached" } else { "**missed**" };
    format!("- {text}: {verdict}\n")
}

/// A statement for `/v1/rqlite/exec`.
pub(crate) fn exec(tenant: &Tenant, sql: &str, args: Value) -> Request {
    let body = json!({ "sql": sql, "args": args }).to_string();
    Request::post("/v1/rqlite/exec", &tenant.credential, body.as_bytes())
}

/// Makes a namespace with a table `t(id, v)`.
pub(crate) async fn with_table(cluster: &Cluster, namespace: &str) -> anyhow::Result<Tenant> {
    let tenant = cluster.node(0).tenant(namespace).await;
    run(&tenant, "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)").await?;
    Ok(tenant)
}

/// A statement that must succeed; tried again while the group elects.
pub(crate) async fn run(tenant: &Tenant, sql: &str) -> anyhow::Result<()> {
    let mut tries = 0;
    loop {
        let body = json!({ "sql": sql }).to_string();
        let reply = tenant
            .call(reqwest::Method::POST, "/v1/rqlite/exec", body)
            .await;
        if reply.status == 200 {
            return Ok(());
        }
        tries += 1;
        ensure!(tries < 20, "{reply:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn section(name: &str) -> anyhow::Result<String> {
    let text = match name {
        "writes" => writes::section().await,
        "transactions" => transactions::section().await,
        "reads" => reads::section().await,
        "many" => many::section().await,
        other => bail!("no section {other:?}; there are {}", SECTIONS.join(", ")),
    };
    text.with_context(|| name.to_owned())
}

async fn all() -> anyhow::Result<()> {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let names: Vec<&str> = match chosen.is_empty() {
        true => SECTIONS.to_vec(),
        false => chosen.iter().map(String::as_str).collect(),
    };
    let mut report = Report::new("SQL: three nodes on one machine", "sql");
    for name in names {
        report.push(&section(name).await?);
    }
    report.print();
    match chosen.is_empty() {
        true => report.append(),
        false => Ok(()),
    }
}

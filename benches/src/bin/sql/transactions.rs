//! Rows per second in transactions of 100 statements, against single writes.

use std::fmt::Write as _;
use std::time::Duration;

use orama_benches::baseline::sqlite_writes;
use orama_benches::load::{Measured, Request, measure, together};
use orama_benches::nodes::settled;
use orama_tests::Tenant;
use orama_tests::cluster::Cluster;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{VALUE, exec, goal, with_table};

const ROWS: usize = 100;
const CLIENTS: [usize; 3] = [1, 16, 64];
const NAMESPACES: usize = 8;

async fn load(
    cluster: &Cluster,
    requests: &[Request],
    clients: usize,
    length: Duration,
) -> anyhow::Result<Measured> {
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let request = requests[client % requests.len()].clone();
        let to = cluster.node(client % cluster.len()).addr();
        tasks.spawn(async move { measure(to, &request, 1, length).await });
    }
    together(tasks).await
}

/// One hundred inserts.
fn hundred(tenant: &Tenant) -> Request {
    let insert = json!({
        "kind": "exec",
        "sql": "INSERT INTO t(v) VALUES (?)",
        "args": ["v".repeat(VALUE)],
    });
    let body = json!({ "ops": vec![insert; ROWS] }).to_string();
    Request::post(
        "/v1/rqlite/transaction",
        &tenant.credential,
        body.as_bytes(),
    )
}

pub(crate) async fn section() -> anyhow::Result<String> {
    let length = crate::length();
    let mut text = format!(
        "## Transactions of {ROWS} rows\n\n{ROWS} inserts of {VALUE} bytes in one `/v1/rqlite/transaction`, against one insert a request, by as many clients, {} s each.\n\n\
         | clients | transactions/s | p50 | p99 | rows/s | single writes/s | rows of single |\n|---|---|---|---|---|---|---|\n",
        length.as_secs()
    );
    let cluster = settled(3, &[]).await;
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for i in 0..NAMESPACES {
        let tenant = with_table(&cluster, &format!("hundred-{i}")).await?;
        many.push(hundred(&tenant));
        let sql = "INSERT INTO t(v) VALUES (?)";
        one.push(exec(&tenant, sql, json!(["v".repeat(VALUE)])));
    }
    let mut worst = f64::MAX;
    for clients in CLIENTS {
        load(&cluster, &one, clients, length / 4).await?;
        let single = load(&cluster, &one, clients, length).await?;
        load(&cluster, &many, clients, length / 4).await?;
        let batched = load(&cluster, &many, clients, length).await?;
        let rows = batched.per_second * ROWS as f64;
        let ratio = rows / single.per_second;
        worst = worst.min(ratio);
        writeln!(
            text,
            "| {clients} | {} | {rows:.0} | {:.0} | **{ratio:.1}** |",
            batched.columns(),
            single.per_second,
        )?;
    }
    let alone = tokio::task::spawn_blocking(move || sqlite_writes(ROWS, VALUE, length)).await??;
    writeln!(
        text,
        "\nSQLite alone, one thread, synchronous=FULL: {:.0} transactions/s, {:.0} rows/s.\n",
        alone.per_second,
        alone.per_second * ROWS as f64
    )?;
    text.push_str(&goal(
        &format!("at least 5 times the rows per second of single writes (at the least {worst:.1})"),
        worst >= 5.0,
    ));
    Ok(text)
}

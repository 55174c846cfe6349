//! Point reads per second at each node, linearizable and without any promise.

use std::fmt::Write as _;

use anyhow::Context as _;
use orama_benches::baseline::sqlite_reads;
use orama_benches::load::{Request, measure};
use orama_benches::nodes::settled;
use orama_tests::Tenant;
use serde_json::json;

use crate::{VALUE, goal, run, with_table};

const ROWS: usize = 10_000;
/// Clients of one node.
const CLIENTS: [usize; 2] = [1, 32];

fn point(tenant: &Tenant, level: &str) -> Request {
    let body = json!({
        "sql": "SELECT v FROM t WHERE id = ?",
        "args": [ROWS / 2],
        "level": level,
    });
    let body = body.to_string();
    Request::post("/v1/rqlite/query", &tenant.credential, body.as_bytes())
}

pub(crate) async fn section() -> anyhow::Result<String> {
    let length = crate::length();
    let mut text = format!(
        "## Point reads per second\n\n`SELECT v FROM t WHERE id = ?` of {VALUE} bytes among {ROWS} rows, over HTTP keep-alive to one node at a time, which answers from its own replica; {} s each.\n\n\
         | node | clients | none/s | p50 | p99 | linearizable/s | p50 | p99 | linearizable of none |\n|---|---|---|---|---|---|---|---|---|\n",
        length.as_secs()
    );
    let cluster = settled(3, &[]).await;
    let tenant = with_table(&cluster, "reads").await?;
    // In pieces that one transaction may take.
    for from in (0..ROWS).step_by(1_000) {
        let sql = format!(
            "INSERT INTO t(id, v) WITH RECURSIVE n(i) AS (SELECT {} UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT i, hex(randomblob({})) FROM n",
            from + 1,
            from + 1_000,
            VALUE / 2
        );
        run(&tenant, &sql).await?;
    }
    let group = cluster.group_of(0, "reads").await;
    let leader = cluster.leader(0, group).await.context("no leader")?;
    let mut worst = f64::MAX;
    for node in 0..cluster.len() {
        let to = cluster.node(node).addr();
        let role = if node == leader { ", leader" } else { "" };
        for clients in CLIENTS {
            let (none, all) = (point(&tenant, "none"), point(&tenant, "linearizable"));
            measure(to, &all, clients, length / 4).await?;
            let none = measure(to, &none, clients, length).await?;
            let all = measure(to, &all, clients, length).await?;
            let ratio = all.per_second / none.per_second;
            if clients > 1 {
                worst = worst.min(ratio);
            }
            writeln!(
                text,
                "| n{}{role} | {clients} | {} | {} | **{ratio:.2}** |",
                node + 1,
                none.columns(),
                all.columns(),
            )?;
        }
    }
    let alone = tokio::task::spawn_blocking(move || sqlite_reads(ROWS, VALUE, length)).await??;
    writeln!(
        text,
        "\nSQLite alone, one thread, no HTTP: {:.0}/s.\n",
        alone.per_second
    )?;
    text.push_str(&goal(
        &format!(
            "linearizable reads at least 0.5 of none at every node, {} clients (at the least {worst:.2})",
            CLIENTS[1]
        ),
        worst >= 0.5,
    ));
    Ok(text)
}

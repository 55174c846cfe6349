//! Many namespaces with a database each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::Database;
use crate::{Node, Tenant};

/// Makes `count` namespaces through a node, `at_once` at a time, each with a table
/// `mine(v)` of one row `value-N`; answers them in the order of N.
pub async fn fill(node: &Node, count: usize, at_once: usize) -> Vec<Tenant> {
    let next = Arc::new(AtomicUsize::new(0));
    let workers = (0..at_once.max(1)).map(|_| {
        let next = next.clone();
        async move {
            let mut made = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= count {
                    return made;
                }
                let tenant = node.tenant(&format!("many-{at}")).await;
                let database = Database::of(&tenant);
                database
                    .exec("CREATE TABLE mine(v TEXT)", vec![])
                    .await
                    .done();
                let row = vec![json!(format!("value-{at}"))];
                database
                    .exec("INSERT INTO mine VALUES (?)", row)
                    .await
                    .done();
                made.push((at, tenant));
            }
        }
    });
    let mut all: Vec<_> = futures::future::join_all(workers)
        .await
        .into_iter()
        .flatten()
        .collect();
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, tenant)| tenant).collect()
}

/// Files, sockets and so on that a process has open.
pub fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the node's open files")
        .count()
}

//! What replicas say of a database, each for itself, and dumps of what each one has.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::Database;
use crate::Tenant;
use crate::client::try_send;
use crate::cluster::Cluster;

/// A database on one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Whose.
    pub namespace: String,
    /// Which of the namespaces of this name.
    pub born: String,
    /// The replica's node.
    pub node: String,
    /// Index of the last entry applied to it.
    pub applied: u64,
    /// Hash of everything that was done to it.
    pub hash: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Why it is fenced, if it is.
    pub fenced: Option<String>,
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn replica(value: &Value) -> Replica {
    let fenced = match &value["fenced"] {
        Value::Null | Value::Bool(false) => None,
        why => Some(text(why)),
    };
    Replica {
        namespace: text(&value["namespace"]),
        born: text(&value["born"]),
        node: text(&value["node"]),
        applied: value["applied"]
            .as_u64()
            .unwrap_or_else(|| panic!("applied is a number: {value}")),
        hash: text(&value["hash"]),
        bytes: value["bytes"].as_u64().unwrap_or_default(),
        fenced,
    }
}

impl Cluster {
    /// The databases of a group on every replica that answers; `None` when `ask` does not answer.
    pub async fn databases(&self, ask: usize, group: u32) -> Option<Vec<Replica>> {
        let path = format!("/v1/admin/cluster/groups/{group}/databases");
        let request = self.node(ask).admin_request(Method::GET, &path);
        let reply = try_send(request.timeout(Duration::from_secs(10)))
            .await
            .ok();
        let reply = reply.filter(|reply| reply.status == 200)?;
        let body = reply.json();
        let list = body["databases"].as_array();
        Some(list?.iter().map(replica).collect())
    }
    /// The group of a namespace's database, which must have been written to.
    pub async fn group_of(&self, ask: usize, namespace: &str) -> u32 {
        let began = Instant::now();
        loop {
            for group in self.data_groups(ask).await {
                let there = self.databases(ask, group).await.unwrap_or_default();
                if there.iter().any(|d| d.namespace == namespace) {
                    return group;
                }
            }
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "no group has a database of {namespace}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    /// A namespace's database on every replica, as `ask` hears of it.
    pub async fn replicas_of(&self, ask: usize, group: u32, namespace: &str) -> Vec<Replica> {
        let mut all = self.databases(ask, group).await.unwrap_or_default();
        all.retain(|d| d.namespace == namespace);
        all
    }

    /// Waits until `count` replicas have a namespace's database with the same index and the same
    /// hash, none of them fenced; answers them.
    ///
    /// Two replicas at the same index with different hashes fail the test at once, unless
    /// `fences` says that a fence is expected to end it.
    pub async fn replicas_equal(
        &self,
        ask: usize,
        namespace: &str,
        count: usize,
        fences: bool,
        limit: Duration,
    ) -> Vec<Replica> {
        let began = Instant::now();
        let group = self.group_of(ask, namespace).await;
        loop {
            let all = self.replicas_of(ask, group, namespace).await;
            if !fences {
                let mut seen: BTreeMap<u64, &Replica> = BTreeMap::new();
                for one in &all {
                    let other = *seen.entry(one.applied).or_insert(one);
                    assert_eq!(
                        other.hash, one.hash,
                        "{namespace} differs at index {}: {other:?} {one:?}",
                        one.applied
                    );
                    assert_eq!(one.fenced, None, "{one:?}");
                }
            }
            let equal = all.len() == count
                && all.iter().all(|d| {
                    d.fenced.is_none() && (d.applied, &d.hash) == (all[0].applied, &all[0].hash)
                });
            if equal {
                return all;
            }
            assert!(
                began.elapsed() < limit,
                "the replicas of {namespace} are not equal after {limit:?}: {all:#?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What one query answers must be the same on every node of `nodes`, each for itself: for
    /// databases that are too large to be dumped.
    pub async fn dumps_equal_of(&self, nodes: &[usize], tenant: &Tenant, sql: &str) {
        let mut first: Option<Vec<Value>> = None;
        for node in nodes {
            let database = Database::of(&self.node(*node).tenant_of(tenant));
            caught_up(&database).await;
            let rows = database.query_at("none", sql, vec![]).await.done();
            match &first {
                None => first = Some(rows),
                Some(expected) => assert_eq!(*expected, rows, "{}", self.name(*node)),
            }
        }
    }

    /// What every node of `nodes` has itself of a namespace's database, which nobody writes to
    /// now, must be the same to the byte; answers it.
    pub async fn dumps_equal(&self, nodes: &[usize], tenant: &Tenant) -> String {
        let mut first: Option<(usize, String)> = None;
        for node in nodes {
            let database = Database::of(&self.node(*node).tenant_of(tenant));
            let dump = dump(&database, "none").await;
            match &first {
                None => first = Some((*node, dump)),
                Some((other, expected)) => {
                    if *expected != dump {
                        let pair = expected.lines().zip(dump.lines());
                        let differs = pair.enumerate().find(|(_, (a, b))| a != b);
                        panic!(
                            "{} differs between {} and {}: {differs:?}; {} and {} bytes",
                            tenant.namespace,
                            self.name(*other),
                            self.name(*node),
                            expected.len(),
                            dump.len()
                        );
                    }
                }
            }
        }
        first.map(|(_, dump)| dump).unwrap_or_default()
    }
}

/// Rows that one query of a dump asks for.
const PAGE: usize = 500;

/// Everything a database shows to its tenant, as text: the schema, then every
/// table's rows in the order of their keys.
pub async fn dump(database: &Database, level: &str) -> String {
    let schema = database
        .query_at(
            level,
            "SELECT type, name, tbl_name, sql FROM sqlite_master \
             WHERE name NOT LIKE '\\_orama%' ESCAPE '\\' ORDER BY type, name",
            vec![],
        )
        .await
        .done();
    let mut out = String::new();
    for row in &schema {
        let _ = writeln!(out, "{row}");
    }
    let number = database
        .query_at(level, "PRAGMA user_version", vec![])
        .await
        .done();
    let _ = writeln!(out, "user_version {number:?}");
    let tables = schema.iter().filter(|row| row["type"] == "table");
    for table in tables {
        let (name, sql) = (text(&table["name"]), text(&table["sql"]));
        let rowid = !sql.to_uppercase().contains("WITHOUT ROWID");
        let (columns, order) = match rowid {
            // Its own rowid is data too: it names the row, and a replica may not choose another.
            true => ("rowid AS rowid_, *", "rowid"),
            false => ("*", "1, 2"),
        };
        let mut offset = 0;
        loop {
            let query = format!(
                "SELECT {columns} FROM \"{name}\" ORDER BY {order} LIMIT {PAGE} OFFSET {offset}"
            );
            let rows = database.query_at(level, &query, vec![]).await.done();
            for row in &rows {
                let _ = writeln!(out, "{name} {row}");
            }
            offset += rows.len();
            if rows.len() < PAGE {
                break;
            }
        }
    }
    out
}

/// Waits until the node has applied at least what `database` says now, by a linearizable read.
pub async fn caught_up(database: &Database) {
    let began = Instant::now();
    loop {
        let answer = database.query("SELECT 1 AS one", vec![]).await;
        if let super::Answer::Done(rows) = &answer {
            assert_eq!(rows, &[json!({ "one": 1 })]);
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "no linearizable read of {}: {answer:?}",
            database.namespace()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

//! Databases on several nodes in one process, over the real mesh and groups.

mod faults;
mod keeper;
mod moves;
mod reads;
mod shares;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use orama_proto::command::MetaCommand;
use orama_proto::sealed::WrappedKey;
use orama_proto::sql::{
    DatabaseId, OpDone, OpKind, ReadLevel, ReadOptions, SqlLimits, SqlOp, SqlOutcome,
    SqlTransaction, SqlValue,
};
use orama_proto::{GroupId, Namespace, RequestId, limits};

use super::{DataError, SqlQuery, Written};
use crate::membership::Cluster;
use crate::membership::tests::{Site, kill, rid, settled, soon, stop, three, until};

fn op(sql: &str, args: Vec<SqlValue>) -> SqlOp {
    SqlOp {
        kind: OpKind::Exec,
        sql: sql.into(),
        args,
    }
}

fn transaction(database: &DatabaseId, ops: Vec<SqlOp>) -> SqlTransaction {
    SqlTransaction {
        database: database.clone(),
        request_id: RequestId::from("test"),
        limits: SqlLimits {
            pages: 1 << 18,
            steps: limits::SQL_STEPS_MAX,
        },
        ops,
    }
}

fn query(sql: &str) -> Vec<SqlQuery> {
    vec![SqlQuery {
        sql: sql.into(),
        args: Vec::new(),
    }]
}

fn at(level: ReadLevel) -> ReadOptions {
    ReadOptions {
        level,
        ..ReadOptions::default()
    }
}

/// Makes a namespace, known to all nodes when this returns.
async fn namespace(nodes: &[&Cluster], name: &str) -> DatabaseId {
    let namespace = Namespace::parse(name).unwrap();
    let command = MetaCommand::CreateNamespace {
        namespace: namespace.clone(),
        data_key: WrappedKey {
            master_key_id: "k".into(),
            nonce: vec![0; 24],
            ciphertext: vec![0; 48],
        },
    };
    nodes[0].meta().propose(&rid(), command).await.unwrap();
    for node in nodes {
        node.meta().confirm(soon(10)).await.unwrap();
    }
    let entry = nodes[0].meta().namespace(&namespace).unwrap();
    DatabaseId {
        namespace,
        born: entry.created_at,
    }
}

async fn try_write(node: &Cluster, id: &DatabaseId, sql: &str) -> Result<Written, DataError> {
    let ops = vec![op(sql, Vec::new())];
    node.data().execute(transaction(id, ops), soon(10)).await
}

/// Writes; tries again while nothing was done.
async fn write(node: &Cluster, id: &DatabaseId, sql: &str) -> Written {
    let deadline = soon(30);
    loop {
        match try_write(node, id, sql).await {
            Ok(written) => {
                done(&written);
                return written;
            }
            Err(DataError::Unavailable(_) | DataError::Fenced(_)) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{sql}: {error}"),
        }
    }
}

fn done(written: &Written) -> &[OpDone] {
    match &written.outcome {
        SqlOutcome::Committed(done) => done,
        SqlOutcome::RolledBack { error, .. } => panic!("{error}"),
    }
}

async fn try_read(
    node: &Cluster,
    id: &DatabaseId,
    sql: &str,
    read: ReadOptions,
) -> Result<String, DataError> {
    let answer = node.data().query(id, query(sql), read, soon(10)).await?;
    let rows = answer.results.into_iter().next().unwrap();
    let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
    Ok(String::from_utf8(rows.json).unwrap())
}

async fn read(node: &Cluster, id: &DatabaseId, sql: &str, read: ReadOptions) -> String {
    try_read(node, id, sql, read)
        .await
        .unwrap_or_else(|error| panic!("{} {sql}: {error}", node.name()))
}

fn group_of(node: &Cluster, id: &DatabaseId) -> GroupId {
    node.data().group_of(&id.namespace)
}

/// The database's files of one node, the write-ahead log not among them.
fn files_of(site: &Site, group: GroupId) -> Vec<PathBuf> {
    let dir = site.dir.path().join("databases");
    let live = dir.join(format!("{:08x}", group.0)).join("live");
    let entries = std::fs::read_dir(live).unwrap();
    let paths = entries.map(|e| e.unwrap().path());
    paths
        .filter(|p| p.extension().is_some_and(|e| e == "db"))
        .collect()
}

/// Every replica has the same databases with the same hashes, and none is fenced.
async fn equal(node: &Cluster, group: GroupId, replicas: usize) {
    let deadline = soon(40);
    loop {
        let all = node
            .data()
            .databases(group, Duration::from_secs(2))
            .await
            .unwrap();
        let mut by_id = std::collections::BTreeMap::<_, Vec<_>>::new();
        for status in &all {
            by_id
                .entry(status.database.clone())
                .or_default()
                .push(status);
        }
        let same = by_id.values().all(|of| {
            of.len() == replicas
                && of
                    .iter()
                    .all(|s| s.fenced.is_none() && s.hash == of[0].hash)
        });
        if same && !by_id.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{all:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Changes a row in a database's file behind everybody's back.
fn tamper(path: &Path, sql: &str) {
    let conn = rusqlite::Connection::open(path).unwrap();
    conn.busy_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(conn.execute(sql, []).unwrap(), 1);
}

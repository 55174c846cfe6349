//! SQL over a data group: a transaction is proposed wherever its leader is, a
//! query runs on this node's replica or on another node's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use orama_proto::sql::{
    DatabaseId, ReadLevel, ReadOptions, Rows, SqlError, SqlOutcome, SqlTransaction, SqlValue,
};
use orama_proto::{GroupId, Namespace, NodeId, limits};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::command::{Command, Reply};
use super::wire::{self, Ask, Told};
use super::{DataError, DataGroups, Replica, share_of};
use crate::consensus::ENTRY_MAX_BYTES;
use crate::sql::{EngineFault, Query};

/// One query of a read.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct SqlQuery {
    /// Exactly one statement.
    pub sql: String,
    /// Positional arguments.
    pub args: Vec<SqlValue>,
}

/// A transaction that is durable on a majority; what became of it was decided the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its entry: give it as [`ReadOptions::at_least`] to see it in reads of level `none`.
    pub index: u64,
    /// Committed or rolled back.
    pub outcome: SqlOutcome,
}

/// What a read answers: one result for each query, all of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// In the order of the queries.
    pub results: Vec<Result<Rows, SqlError>>,
    /// The replica that answered.
    pub node: NodeId,
}

/// A database on one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseStatus {
    /// Which.
    pub database: DatabaseId,
    /// Where.
    pub node: NodeId,
    /// Index of the last entry applied to it.
    pub applied: u64,
    /// Hash of all effects up to there, in hexadecimal digits.
    pub hash: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Why it is fenced, if it is.
    pub fenced: Option<String>,
}

pub(super) fn too_large() -> DataError {
    DataError::Limit {
        what: "bytes of an entry of the log",
        limit: ENTRY_MAX_BYTES,
    }
}

/// Ends a statement when whoever waits for it is gone.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn level(level: ReadLevel) -> &'static str {
    match level {
        ReadLevel::None => "none",
        ReadLevel::Weak => "weak",
        ReadLevel::Linearizable => "linearizable",
    }
}

impl DataGroups {
    /// The group of a namespace's databases: the same for life, because the number of groups is.
    pub fn group_of(&self, namespace: &Namespace) -> GroupId {
        let groups = u64::from(self.0.meta.topology().data_groups.max(1));
        let at = xxh3_64(namespace.as_str().as_bytes()) % groups;
        GroupId(1 + u32::try_from(at).unwrap_or(0))
    }

    /// Makes a transaction; when this answers it is past fdatasync on a majority.
    ///
    /// # Errors
    /// See [`DataError`]. `Unknown`: it may have happened; everything else: it did not.
    pub async fn execute(
        &self,
        transaction: SqlTransaction,
        deadline: Instant,
    ) -> Result<Written, DataError> {
        let begun = Instant::now();
        let deadline = deadline.min(begun + Duration::from_secs(limits::SQL_WRITE_MAX_SECS));
        let result = self.write(transaction, deadline).await;
        let committed = |w: &Written| matches!(w.outcome, SqlOutcome::Committed(_));
        let metrics = &self.0.metrics;
        metrics.transaction(&result, result.as_ref().is_ok_and(committed));
        if result.is_ok() {
            metrics.write_seconds.observe(begun.elapsed().as_secs_f64());
        }
        result
    }

    async fn write(
        &self,
        transaction: SqlTransaction,
        deadline: Instant,
    ) -> Result<Written, DataError> {
        let namespace = &transaction.database.namespace;
        let group = self.group_of(namespace);
        let Some(_under_way) = self.0.writes.enter(namespace) else {
            return Err(DataError::Unavailable(group));
        };
        match self.execute_here(group, &transaction, deadline).await {
            // Nothing was done: perhaps another replica reaches the leader.
            Some(Err(DataError::Unavailable(_))) if Instant::now() < deadline => {}
            Some(done) => return done,
            None => {}
        }
        let ask = Ask::Execute { group, transaction };
        match self.ask_write(group, &ask, deadline).await? {
            Told::Written { index, outcome } => Ok(Written { index, outcome }),
            _ => Err(DataError::Unknown(group)),
        }
    }

    /// Through this node's replica; `None` without one.
    pub(super) async fn execute_here(
        &self,
        group: GroupId,
        transaction: &SqlTransaction,
        deadline: Instant,
    ) -> Option<Result<Written, DataError>> {
        // One that is too large for an entry is so everywhere.
        let bytes = match Command::encode_transaction(transaction) {
            Ok(bytes) if bytes.len() <= ENTRY_MAX_BYTES => bytes,
            _ => return Some(Err(too_large())),
        };
        let replica = self.replica(group)?;
        // The leader's copy decides what is answered: without it nobody would learn the outcome.
        if replica.keeper.is_fenced(&transaction.database)
            && replica.group.view().leader == Some(self.0.node)
        {
            let why = "another replica takes over".into();
            return Some(Err(DataError::Fenced(why)));
        }
        let proposed = self.propose(group, &replica, bytes, deadline).await;
        Some(proposed.and_then(|(index, reply)| match reply {
            Reply::Outcome(outcome) => Ok(Written { index, outcome }),
            _ => Err(DataError::Unknown(group)),
        }))
    }

    pub(super) async fn propose(
        &self,
        group: GroupId,
        replica: &Replica,
        command: Vec<u8>,
        deadline: Instant,
    ) -> Result<(u64, Reply), DataError> {
        let proposal = replica.group.propose_until(command, deadline);
        let proposal = tokio::time::timeout_at(deadline.into(), proposal);
        let committed = proposal
            .await
            .map_err(|_| DataError::Unknown(group))?
            .map_err(|fault| DataError::of_proposal(group, fault))?;
        match Reply::decode(&committed.reply) {
            Ok(reply) => Ok((committed.index, reply)),
            Err(error) => {
                tracing::warn!(%group, error, "a leader's reply is not understood");
                Err(DataError::Unknown(group))
            }
        }
    }

    /// Runs queries on one moment of a database.
    ///
    /// # Errors
    /// See [`DataError`]. What is wrong with a query itself is in its result.
    pub async fn query(
        &self,
        database: &DatabaseId,
        queries: Vec<SqlQuery>,
        read: ReadOptions,
        deadline: Instant,
    ) -> Result<Answer, DataError> {
        let until = Instant::now() + Duration::from_secs(limits::SQL_READ_MAX_SECS);
        let result = self.read_somewhere(database, queries, read, deadline.min(until));
        let result = result.await;
        self.0.metrics.read(level(read.level), &result);
        result
    }

    async fn read_somewhere(
        &self,
        database: &DatabaseId,
        queries: Vec<SqlQuery>,
        read: ReadOptions,
        deadline: Instant,
    ) -> Result<Answer, DataError> {
        let group = self.group_of(&database.namespace);
        let fallback = match self.replica(group) {
            None => DataError::Unavailable(group),
            Some(replica) => {
                let here = self.query_here(group, &replica, database, &queries, read, deadline);
                match here.await {
                    Ok(results) => {
                        let node = self.0.node;
                        return Ok(Answer { results, node });
                    }
                    Err(error) => error,
                }
            }
        };
        let ask = Ask::Query {
            group,
            database: database.clone(),
            queries,
            read,
        };
        match self.ask_read(group, &ask, deadline, fallback).await? {
            (Told::Rows(results), node) => Ok(Answer { results, node }),
            _ => Err(DataError::Unavailable(group)),
        }
    }

    /// Waits until this replica is as fresh as demanded.
    async fn freshen(
        &self,
        group: GroupId,
        replica: &Replica,
        read: ReadOptions,
        deadline: Instant,
    ) -> Result<(), DataError> {
        // If this node does not reach the leader another one may.
        let until = share_of(deadline, self.tries());
        let of_read = |fault| DataError::of_read(group, fault);
        match read.level {
            ReadLevel::Linearizable => replica.group.confirm(until).await.map_err(of_read)?,
            ReadLevel::Weak => {
                replica.group.weak_index(until).await.map_err(of_read)?;
            }
            ReadLevel::None => {
                if let Some(freshness) = read.freshness {
                    match replica.group.heard() {
                        Some(ago) if ago <= freshness => {}
                        Some(ago) => {
                            let millis = ago.as_millis();
                            return Err(DataError::Stale(format!(
                                "it heard from its leader {millis} ms ago"
                            )));
                        }
                        None => {
                            let never = "it has not heard from its leader since it started";
                            return Err(DataError::Stale(never.into()));
                        }
                    }
                    let behind = if read.strict {
                        replica.group.behind()
                    } else {
                        0
                    };
                    if behind > 0 {
                        return Err(DataError::Stale(format!(
                            "it has yet to apply {behind} entries"
                        )));
                    }
                }
            }
        }
        if read.at_least > replica.group.applied_index()
            && !replica.group.wait_applied(read.at_least, until).await
        {
            let entry = read.at_least;
            return Err(DataError::Stale(format!(
                "it has not applied entry {entry}"
            )));
        }
        Ok(())
    }

    /// On this node's replica. Dropping the future ends the statement.
    pub(super) async fn query_here(
        &self,
        group: GroupId,
        replica: &Replica,
        database: &DatabaseId,
        queries: &[SqlQuery],
        read: ReadOptions,
        deadline: Instant,
    ) -> Result<Vec<Result<Rows, SqlError>>, DataError> {
        let begun = Instant::now();
        self.freshen(group, replica, read, deadline).await?;
        let unavailable = |_| DataError::Unavailable(group);
        let turn = self.0.gate.turn(&database.namespace, deadline).await;
        let turn = turn.map_err(unavailable)?;
        let closed = || DataError::Unavailable(group);
        let databases = replica.keeper.databases().ok_or_else(closed)?;
        let queries: Vec<Query> = queries
            .iter()
            .map(|q| Query {
                sql: q.sql.clone(),
                args: q.args.clone(),
            })
            .collect();
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel = CancelOnDrop(Arc::clone(&cancelled));
        let id = database.clone();
        let work = self.0.threads.run(move || {
            // Given back when SQLite is done, not when nobody waits any more.
            let _turn = turn;
            let (rows, bytes) = (limits::SQL_ROWS_MAX, limits::SQL_RESULT_MAX_BYTES);
            databases.read(&id, &queries, rows, bytes, deadline, &cancelled)
        });
        let broken = || Err(EngineFault::Io("no thread could read it".into()));
        let done = work.await.unwrap_or_else(broken);
        let results = match done {
            Ok(Ok(results)) => results,
            Ok(Err(fenced)) => {
                // It may be this read that found the damage.
                replica.keeper.noticed(database);
                return Err(DataError::Fenced(fenced.why));
            }
            Err(fault) => return Err(self.read_failed(group, replica, database, fault).await),
        };
        let metrics = &self.0.metrics;
        for rows in results.iter().flatten() {
            metrics.rows.inc_by(rows.count);
            metrics.bytes.inc_by(rows.json.len() as u64);
        }
        metrics.read_seconds.observe(begun.elapsed().as_secs_f64());
        Ok(results)
    }

    async fn read_failed(
        &self,
        group: GroupId,
        replica: &Replica,
        database: &DatabaseId,
        fault: EngineFault,
    ) -> DataError {
        let why = fault.to_string();
        if matches!(fault, EngineFault::Damaged(_)) {
            tracing::error!(%group, %database, why, "a database is damaged; it is rebuilt");
            let (keeper, id, text) = (Arc::clone(&replica.keeper), database.clone(), why.clone());
            let fenced = tokio::task::spawn_blocking(move || keeper.fence(&id, &text)).await;
            if let Ok(Err(error)) = fenced {
                tracing::error!(%group, %database, %error, "a damaged database cannot be fenced");
            }
            return DataError::Fenced(why);
        }
        tracing::warn!(%group, %database, why, "a database cannot be read");
        DataError::Stopped { group, why }
    }

    /// The databases of a group on every replica that answers within `wait`.
    ///
    /// # Errors
    /// `NoGroup`.
    pub async fn databases(
        &self,
        group: GroupId,
        wait: Duration,
    ) -> Result<Vec<DatabaseStatus>, DataError> {
        self.check_group(group)?;
        let deadline = Instant::now() + wait;
        let mut all = self.databases_here(group).await.unwrap_or_default();
        let body = wire::encode(&Ask::Databases { group });
        let body = body.map_err(|why| DataError::Stopped { group, why })?;
        let nodes = self.others_with(group);
        let asked = nodes
            .into_iter()
            .map(|node| self.ask_node(node, body.clone(), deadline));
        for told in futures::future::join_all(asked).await {
            match told {
                Ok(Told::Databases(databases)) => all.extend(databases),
                Ok(_) => {}
                Err(error) => tracing::debug!(%group, %error, "a replica did not answer"),
            }
        }
        all.sort_by(|a, b| (&a.database, a.node).cmp(&(&b.database, b.node)));
        Ok(all)
    }

    pub(super) async fn databases_here(&self, group: GroupId) -> Option<Vec<DatabaseStatus>> {
        let databases = self.replica(group)?.keeper.databases()?;
        let listed = tokio::task::spawn_blocking(move || databases.list()).await;
        let node = self.0.node;
        let status = listed.ok()?.into_iter().map(|info| DatabaseStatus {
            database: info.id,
            node,
            applied: info.mark.applied,
            hash: format!("{:032x}", info.mark.hash),
            bytes: info.bytes,
            fenced: info.fenced,
        });
        Some(status.collect())
    }
}

//! The cluster's records in one answer: every member is asked, and those that
//! did not answer are named.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use orama_cluster::mesh::BoxFuture;
use orama_cluster::{
    CallError, Cluster, Declined, Handler, Incoming, JournalError, JournalQuery, JournalStore,
    Lane, Service,
};
use orama_proto::gather::{GATHER_MAX_BYTES, GATHER_VERSION, GatherReply, GatherRequest};
use orama_proto::invocation::{InvocationRecord, RECORD_VERSION};
use orama_proto::limits::{LOGS_MAX, MIB};
use orama_proto::{NodeId, record};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Journal;
use super::handle::weight;

/// How long a member has to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long a reader waits for records to reach the disk before it reads what is there.
pub(crate) const FLUSH_WITHIN: Duration = Duration::from_secs(2);
/// The same for a peer's question, which must be answered before it gives up.
const FLUSH_FOR_PEER: Duration = Duration::from_millis(1_200);
/// Queries that gather at once; the others wait. Bounds memory: a query holds an answer of each member.
const GATHERS_AT_ONCE: usize = 4;
/// Peers' questions answered at once; the others wait until whoever asked has given up.
const ANSWERS_AT_ONCE: usize = 4;
/// A query waits so long for its turn to gather; then it answers this node's records alone.
const TURN_WITHIN: Duration = Duration::from_secs(5);
/// Records of a gathered answer, roughly in bytes; the oldest beyond are left out.
const MERGED_MAX_BYTES: usize = 16 * MIB;

/// One node's records, newest first.
#[derive(Debug, Default)]
struct Answer {
    records: Vec<InvocationRecord>,
    /// Older ones within the limit are missing.
    cut: bool,
}

/// Gathers records, and answers others that do.
pub(crate) struct Gather {
    journal: Journal,
    store: JournalStore,
    asking: Semaphore,
    answering: Semaphore,
}

impl Gather {
    pub(crate) fn new(journal: Journal, store: JournalStore) -> Self {
        Self {
            journal,
            store,
            asking: Semaphore::new(GATHERS_AT_ONCE),
            answering: Semaphore::new(ANSWERS_AT_ONCE),
        }
    }

    /// Answers peers for as long as this lives.
    pub(crate) fn serve(self: &Arc<Self>, cluster: &Cluster) {
        if let Some(mesh) = cluster.mesh() {
            mesh.serve(Service::Journal, Arc::new(Serve(Arc::downgrade(self))));
        }
    }

    /// The newest records of all members, newest first, and the names of
    /// members whose records are missing.
    ///
    /// # Errors
    /// When this node's own journal cannot be read.
    pub(crate) async fn logs(
        &self,
        cluster: &Cluster,
        mut query: JournalQuery,
    ) -> Result<(Vec<InvocationRecord>, Vec<String>), JournalError> {
        query.limit = query.limit.min(LOGS_MAX);
        let others = cluster.others();
        let Some(mesh) = cluster.mesh().filter(|_| !others.is_empty()) else {
            return Ok((self.here(query, FLUSH_WITHIN).await?, Vec::new()));
        };
        let Some(_place) = turn(&self.asking, Instant::now() + TURN_WITHIN).await else {
            // What is here is better than nothing; the others count as silent.
            let mut silent: Vec<String> = others.into_iter().map(|m| m.name).collect();
            silent.sort();
            return Ok((self.here(query, FLUSH_WITHIN).await?, silent));
        };
        let request = GatherRequest {
            namespace: query.namespace.clone(),
            function: query.function.clone(),
            limit: u32::try_from(query.limit).unwrap_or(u32::MAX),
            after: query.after.clone(),
            request_id: query.request_id.clone(),
        };
        let body = record::encode(GATHER_VERSION, &request)
            .map_err(|error| JournalError::Storage(error.to_string()))?;
        let body = Bytes::from(body);
        let limit = query.limit;
        let deadline = Instant::now() + ANSWER_WITHIN;
        let members = others.into_iter().map(|m| (m.id, m.name)).collect();
        let theirs = gather(members, |node| {
            let body = body.clone();
            async move {
                let (lane, service) = (Lane::Calls, Service::Journal);
                read(mesh.call(node, lane, service, body, deadline).await)
            }
        });
        let (ours, (mut answers, silent)) = futures::join!(self.here(query, FLUSH_WITHIN), theirs);
        answers.push(trim(ours?));
        Ok((merge(answers, limit), silent))
    }

    /// This node's own records.
    async fn here(
        &self,
        query: JournalQuery,
        within: Duration,
    ) -> Result<Vec<InvocationRecord>, JournalError> {
        if !self.journal.flush(within).await {
            tracing::warn!("the journal is behind; a query answers what is on disk");
        }
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.query(&query))
            .await
            .unwrap_or_else(|error| Err(JournalError::Storage(error.to_string())))
    }

    async fn answer(&self, incoming: Incoming) -> Result<Bytes, Declined> {
        let declined = |error: &dyn std::fmt::Display| Declined(error.to_string());
        let _place = turn(&self.answering, incoming.deadline)
            .await
            .ok_or_else(|| Declined("too many questions are answered at once".into()))?;
        let request: GatherRequest =
            record::decode(GATHER_VERSION, &incoming.body).map_err(|e| declined(&e))?;
        let query = JournalQuery {
            namespace: request.namespace,
            function: request.function,
            limit: usize::try_from(request.limit).map_or(LOGS_MAX, |n| n.min(LOGS_MAX)),
            after: request.after,
            request_id: request.request_id,
        };
        let found = self.here(query, FLUSH_FOR_PEER).await.map_err(|error| {
            // The asker names this node as silent; why is to be read here.
            tracing::error!(%error, "the journal cannot be read for a peer");
            Declined("its journal cannot be read".to_owned())
        })?;
        let reply = write(trim(found)).map_err(|e| declined(&e))?;
        let bytes = record::encode(GATHER_VERSION, &reply).map_err(|e| declined(&e))?;
        Ok(bytes.into())
    }
}

/// A place, when there is one before the deadline.
async fn turn(places: &Semaphore, deadline: Instant) -> Option<SemaphorePermit<'_>> {
    let place = tokio::time::timeout_at(deadline.into(), places.acquire());
    place.await.ok()?.ok()
}

/// Holds the journal weakly: the mesh must not keep its file open.
struct Serve(Weak<Gather>);

impl Handler for Serve {
    fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Declined>> {
        let gather = self.0.upgrade();
        Box::pin(async move {
            match gather {
                Some(gather) => gather.answer(incoming).await,
                None => Err(Declined("the node is stopping".to_owned())),
            }
        })
    }
}

/// Asks the members, all at once. Answers what came, and the names of those
/// from whom nothing came, sorted.
async fn gather<F, Fut>(members: BTreeMap<NodeId, String>, ask: F) -> (Vec<Answer>, Vec<String>)
where
    F: Fn(NodeId) -> Fut,
    Fut: Future<Output = Result<Answer, CallError>>,
{
    let mut asked: FuturesUnordered<_> = members
        .into_iter()
        .map(|(node, name)| {
            let asked = ask(node);
            async move { (name, asked.await) }
        })
        .collect();
    let (mut answers, mut silent) = (Vec::new(), Vec::new());
    while let Some((name, answer)) = asked.next().await {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(error) => {
                tracing::debug!(member = name, %error, "a member's records are missing");
                silent.push(name);
            }
        }
    }
    silent.sort();
    (answers, silent)
}

/// Leaves out the oldest beyond what one answer may have.
fn trim(records: Vec<InvocationRecord>) -> Answer {
    let all = records.len();
    let records = newest(records, GATHER_MAX_BYTES);
    Answer {
        cut: records.len() < all,
        records,
    }
}

/// The first ones that together are not heavier than `max`, one at least. What a
/// record weighs in memory is more than what it has on the wire.
fn newest(mut records: Vec<InvocationRecord>, max: usize) -> Vec<InvocationRecord> {
    let mut bytes = 0;
    let fit = records.iter().take_while(|record| {
        bytes += weight(record);
        bytes <= max
    });
    let fit = fit.count().max(1);
    records.truncate(fit);
    records
}

fn write(answer: Answer) -> Result<GatherReply, record::RecordError> {
    let encode = |r: &InvocationRecord| record::encode(RECORD_VERSION, r).map(Into::into);
    Ok(GatherReply {
        records: answer
            .records
            .iter()
            .map(encode)
            .collect::<Result<_, _>>()?,
        cut: answer.cut,
    })
}

fn read(reply: Result<Bytes, CallError>) -> Result<Answer, CallError> {
    let bytes = reply?;
    let reply: GatherReply =
        record::decode(GATHER_VERSION, &bytes).map_err(|error| CallError::Declined {
            // Which node is said by its name, where this is logged.
            node: NodeId::default(),
            why: error.to_string(),
        })?;
    let mut unreadable = 0_usize;
    let mut records = Vec::with_capacity(reply.records.len().min(LOGS_MAX));
    for bytes in reply.records.iter().take(LOGS_MAX) {
        match record::decode(RECORD_VERSION, bytes) {
            Ok(record) => records.push(record),
            Err(_) => unreadable += 1,
        }
    }
    if unreadable > 0 {
        tracing::warn!(
            unreadable,
            "a member's records are of a version that is not known here"
        );
    }
    Ok(Answer {
        records,
        cut: reply.cut,
    })
}

/// The newest of all, newest first: by id, which begins with the time at which
/// the record was taken up, as each node's own journal answers.
fn merge(answers: Vec<Answer>, limit: usize) -> Vec<InvocationRecord> {
    // Where one answer was cut, older ones of others would show a hole.
    let oldest_whole = answers
        .iter()
        .filter(|answer| answer.cut)
        .filter_map(|answer| answer.records.last())
        .map(|record| record.id.clone())
        .max();
    let mut all: Vec<_> = answers.into_iter().flat_map(|a| a.records).collect();
    if let Some(oldest) = oldest_whole {
        all.retain(|record| record.id >= oldest);
    }
    all.sort_by(|a, b| b.id.cmp(&a.id));
    all.dedup_by(|a, b| a.id == b.id);
    all.truncate(limit);
    newest(all, MERGED_MAX_BYTES)
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;

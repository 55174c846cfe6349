//! Data groups over the mesh: a node without a replica asks one that has one.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use orama_proto::{GroupId, NodeId, limits};
use serde_bytes::ByteBuf;

use super::command::Command;
use super::parcels::Source;
use super::wire::{self, Ask, COMPARED_MAX, INLINE_MAX_BYTES, Told};
use super::{DataError, DataGroups, Inner, registers, share_of};
use crate::mesh::{BoxFuture, CallError, Declined, Handler, Incoming, Lane, Service};

/// A long answer is not fetched beyond this.
const PARCEL_MAX_BYTES: usize = limits::SQL_RESULT_MAX_BYTES + (8 << 20);
/// A piece that the peer does not take a call for is asked for again after so long.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// Answers calls of [`Service::Data`].
struct Desk(Weak<Inner>);

pub(super) fn serve(inner: &Arc<Inner>) {
    if let Some(mesh) = &inner.mesh {
        mesh.serve(Service::Data, Arc::new(Desk(Arc::downgrade(inner))));
    }
}

impl Handler for Desk {
    fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Declined>> {
        let inner = self.0.upgrade();
        Box::pin(async move {
            let groups = DataGroups(inner.ok_or_else(|| Declined("the node stops".into()))?);
            let ask = wire::ask(&incoming.body).map_err(Declined)?;
            let (from, deadline) = (incoming.from, incoming.deadline);
            let told = if ask.is_write() {
                // It goes on when the caller is gone: half of it would be no outcome.
                let (write, ask) = (groups.clone(), ask);
                let work = async move { write.serve(ask, from, deadline).await };
                let done = tokio::spawn(work).await;
                match done.unwrap_or(Err(DataError::Unknown(GroupId::META))) {
                    // It may have been proposed before.
                    Err(DataError::Stopped { .. }) => Ok(Told::Unknown),
                    other => other,
                }
            } else {
                groups.serve(ask, from, deadline).await
            };
            let told = match told {
                Ok(told) => told,
                Err(DataError::Differs(value)) => Told::Differs(value),
                Err(DataError::Limit { .. }) => Told::Registers,
                Err(DataError::Unknown(_)) => Told::Unknown,
                Err(DataError::Full(_)) => Told::Full,
                Err(DataError::Busy(again)) => Told::Busy(again),
                Err(DataError::Stale(why)) => Told::Stale(why),
                Err(DataError::Fenced(why)) => Told::Fenced(why),
                Err(error) => return Err(Declined(error.to_string())),
            };
            let bytes = wire::encode(&told).map_err(Declined)?;
            if bytes.len() <= INLINE_MAX_BYTES {
                return Ok(bytes);
            }
            let len = bytes.len() as u64;
            match groups.0.parcels.put(Source::Memory(bytes), from) {
                Some(token) => wire::encode(&Told::Parcel { token, bytes: len }).map_err(Declined),
                // What it did is done; only its answer is lost.
                None if matches!(told, Told::Written { .. }) => {
                    wire::encode(&Told::Unknown).map_err(Declined)
                }
                None => Err(Declined("too many long answers wait to be fetched".into())),
            }
        })
    }
}

impl DataGroups {
    async fn serve(&self, ask: Ask, from: NodeId, deadline: Instant) -> Result<Told, DataError> {
        match ask {
            Ask::Get { group, key } => {
                let value = self.register_here(group, &key, deadline).await;
                value.unwrap_or(Err(no_replica(group))).map(Told::Value)
            }
            Ask::Set {
                group,
                key,
                value,
                expect,
            } => {
                let command = Command::Register { key, value, expect };
                let set = self.set_here(group, &command, deadline).await;
                set.unwrap_or(Err(no_replica(group))).map(|()| Told::Done)
            }
            Ask::Execute { group, transaction } => {
                let written = self.execute_here(group, &transaction, deadline).await;
                let written = written.unwrap_or(Err(no_replica(group)))?;
                Ok(Told::Written {
                    index: written.index,
                    outcome: written.outcome,
                })
            }
            Ask::Query {
                group,
                database,
                queries,
                read,
            } => {
                let replica = self.replica(group).ok_or_else(|| no_replica(group))?;
                let rows = self.query_here(group, &replica, &database, &queries, read, deadline);
                rows.await.map(Told::Rows)
            }
            Ask::Databases { group } => {
                let databases = self.databases_here(group).await;
                databases
                    .ok_or_else(|| no_replica(group))
                    .map(Told::Databases)
            }
            Ask::Hashes { group, of } => {
                if of.len() > COMPARED_MAX {
                    return Err(no_replica(group));
                }
                self.hashes_here(group, of)
                    .await
                    .ok_or_else(|| no_replica(group))
                    .map(Told::Hashes)
            }
            Ask::Sound { group } => {
                let replica = self.replica(group).ok_or_else(|| no_replica(group))?;
                Ok(Told::Sound(replica.keeper.fenced_count() == 0))
            }
            Ask::Copy {
                group,
                database,
                copy_for,
            } => {
                self.copy_for(group, &database, copy_for, from, deadline)
                    .await
            }
            Ask::Piece { token, offset } => {
                let gone = || DataError::Unavailable(GroupId::META);
                let source = self.0.parcels.get(token, from).ok_or_else(gone)?;
                let piece = tokio::task::spawn_blocking(move || source.piece(offset));
                match piece.await {
                    Ok(Ok(piece)) => Ok(Told::Piece(ByteBuf::from(piece.to_vec()))),
                    _ => Err(gone()),
                }
            }
            Ask::Release { token } => {
                self.0.parcels.release(token, from);
                Ok(Told::Done)
            }
        }
    }

    /// Asks a node; a long answer is fetched.
    pub(super) async fn ask_node(
        &self,
        node: NodeId,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Told, CallError> {
        let Some(mesh) = &self.0.mesh else {
            return Err(CallError::NotSent(node));
        };
        let call = mesh.call(node, Lane::Calls, Service::Data, body, deadline);
        match self.read(node, &call.await?)? {
            Told::Parcel { token, bytes } => {
                let fetched = self.fetch(node, token, bytes, deadline).await;
                self.release(node, token).await;
                // It was handled: only its answer is lost.
                self.read(node, &fetched.map_err(|_| CallError::Lost(node))?)
            }
            told => Ok(told),
        }
    }

    fn read(&self, node: NodeId, bytes: &[u8]) -> Result<Told, CallError> {
        wire::told(bytes).map_err(|error| {
            tracing::warn!(%node, error, "an answer that is not understood");
            CallError::Lost(node)
        })
    }

    async fn fetch(
        &self,
        node: NodeId,
        token: u128,
        bytes: u64,
        deadline: Instant,
    ) -> Result<Vec<u8>, CallError> {
        let mut whole = Vec::new();
        while (whole.len() as u64) < bytes {
            let offset = whole.len() as u64;
            let piece = self.piece(node, token, offset, deadline).await?;
            if piece.is_empty() || whole.len() + piece.len() > PARCEL_MAX_BYTES {
                return Err(CallError::Lost(node));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }

    /// Fetches a piece of a parcel; nothing at its end.
    pub(super) async fn piece(
        &self,
        node: NodeId,
        token: u128,
        offset: u64,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let lost = |_| CallError::Lost(node);
        let mesh = self.0.mesh.as_ref().ok_or(CallError::NotSent(node))?;
        let body = wire::encode(&Ask::Piece { token, offset }).map_err(lost)?;
        loop {
            let call = mesh.call(node, Lane::Bulk, Service::Data, body.clone(), deadline);
            match call.await {
                Ok(bytes) => {
                    return match self.read(node, &bytes)? {
                        Told::Piece(piece) => Ok(piece.into_vec().into()),
                        _ => Err(CallError::Lost(node)),
                    };
                }
                // The lane is shared with snapshots and blobs.
                Err(CallError::Busy(_)) if Instant::now() + BUSY_PAUSE < deadline => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) async fn release(&self, node: NodeId, token: u128) {
        let (Some(mesh), Ok(body)) = (&self.0.mesh, wire::encode(&Ask::Release { token })) else {
            return;
        };
        let deadline = Instant::now() + Duration::from_secs(1);
        let call = mesh.call(node, Lane::Calls, Service::Data, body, deadline);
        if let Err(error) = call.await {
            tracing::debug!(%node, %error, "a parcel was not released");
        }
    }

    /// How many replicas there are to try, this node's included.
    pub(super) fn tries(&self) -> usize {
        if self.0.mesh.is_some() { 2 } else { 1 }
    }

    /// Asks one replica after the other, until one answers. `fallback` is what is wrong
    /// when none can be reached.
    pub(super) async fn ask_read(
        &self,
        group: GroupId,
        ask: &Ask,
        deadline: Instant,
        fallback: DataError,
    ) -> Result<(Told, NodeId), DataError> {
        let body = wire::encode(ask).map_err(|why| DataError::Stopped { group, why })?;
        let mut failed = fallback;
        let nodes = self.others_with(group);
        let count = nodes.len();
        for (n, node) in nodes.into_iter().enumerate() {
            let until = share_of(deadline, count - n);
            match self.ask_node(node, body.clone(), until).await {
                Ok(Told::Stale(why)) => failed = DataError::Stale(why),
                Ok(Told::Fenced(why)) => failed = DataError::Fenced(why),
                Ok(Told::Full) => failed = DataError::Full(group),
                Ok(Told::Unknown) => {}
                Ok(told) => return Ok((told, node)),
                Err(error) => {
                    tracing::debug!(%group, %node, %error, "asking another replica");
                }
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Err(failed)
    }

    /// The same for a write: one that may have been handled is not sent again.
    pub(super) async fn ask_write(
        &self,
        group: GroupId,
        ask: &Ask,
        deadline: Instant,
    ) -> Result<Told, DataError> {
        let body = wire::encode(ask).map_err(|why| DataError::Stopped { group, why })?;
        for node in self.others_with(group) {
            match self.ask_node(node, body.clone(), deadline).await {
                Ok(told) => return outcome(told, group),
                Err(error) if error.maybe_handled() => return Err(DataError::Unknown(group)),
                Err(error) => {
                    tracing::debug!(%group, %node, %error, "asking another replica");
                }
            }
        }
        Err(DataError::Unavailable(group))
    }

    /// Linked nodes that are to hold a replica; where one begins differs from
    /// call to call, so that no replica gets all the questions.
    pub(super) fn others_with(&self, group: GroupId) -> Vec<NodeId> {
        let topology = self.0.meta.topology();
        let replicas = topology.groups.get(&group).map(|p| p.replicas.clone());
        let mut nodes = replicas.unwrap_or_default();
        nodes.retain(|n| *n != self.0.node && self.0.mesh.as_ref().is_some_and(|m| m.linked(*n)));
        if !nodes.is_empty() {
            let turn = &self.0.turn;
            let at = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % nodes.len();
            nodes.rotate_left(at);
        }
        nodes
    }
}

fn no_replica(group: GroupId) -> DataError {
    DataError::Unavailable(group)
}

/// What a write's answer says.
fn outcome(told: Told, group: GroupId) -> Result<Told, DataError> {
    match told {
        Told::Done | Told::Written { .. } => Ok(told),
        Told::Differs(value) => Err(DataError::Differs(value)),
        Told::Registers => Err(registers::too_many()),
        Told::Full => Err(DataError::Full(group)),
        Told::Stale(why) => Err(DataError::Stale(why)),
        Told::Busy(again) => Err(DataError::Busy(again)),
        // Before it was proposed: nothing was done.
        Told::Fenced(_) => Err(DataError::Unavailable(group)),
        _ => Err(DataError::Unknown(group)),
    }
}

//! Registers: small linearizable values of a group, by which tests check a cluster.

use std::time::Instant;

use orama_proto::GroupId;

use super::command::{Command, Reply};
use super::wire::{Ask, Told};
use super::{DataError, DataGroups, Expect, KEY_MAX_BYTES, REGISTERS_MAX, VALUE_MAX_BYTES};

impl DataGroups {
    /// Reads a register, linearizably.
    ///
    /// # Errors
    /// See [`DataError`].
    pub async fn register(
        &self,
        group: GroupId,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<String>, DataError> {
        self.check_register(group, key, "")?;
        let fallback = match self.register_here(group, key, deadline).await {
            Some(Ok(value)) => return Ok(value),
            // Another replica may reach the leader, or not be broken as this one is.
            Some(Err(error @ (DataError::Unavailable(_) | DataError::Stopped { .. }))) => error,
            Some(Err(error)) => return Err(error),
            None => DataError::Unavailable(group),
        };
        let ask = Ask::Get {
            group,
            key: key.to_owned(),
        };
        match self.ask_read(group, &ask, deadline, fallback).await? {
            (Told::Value(value), _) => Ok(value),
            _ => Err(DataError::Unavailable(group)),
        }
    }

    /// Sets a register when it is as expected.
    ///
    /// # Errors
    /// See [`DataError`].
    pub async fn set_register(
        &self,
        group: GroupId,
        key: &str,
        value: &str,
        expect: Expect,
        deadline: Instant,
    ) -> Result<(), DataError> {
        self.check_register(group, key, value)?;
        let (key, value) = (key.to_owned(), value.to_owned());
        let command = Command::Register {
            key: key.clone(),
            value: value.clone(),
            expect: expect.clone(),
        };
        match self.set_here(group, &command, deadline).await {
            Some(Err(DataError::Unavailable(_))) if Instant::now() < deadline => {}
            Some(done) => return done,
            None => {}
        }
        let ask = Ask::Set {
            group,
            key,
            value,
            expect,
        };
        match self.ask_write(group, &ask, deadline).await? {
            Told::Done => Ok(()),
            _ => Err(DataError::Unknown(group)),
        }
    }

    fn check_register(&self, group: GroupId, key: &str, value: &str) -> Result<(), DataError> {
        self.check_group(group)?;
        let limit = |what, limit, bytes: usize| match bytes > limit {
            true => Err(DataError::Limit { what, limit }),
            false => Ok(()),
        };
        limit("bytes of a key", KEY_MAX_BYTES, key.len())?;
        let ours = usize::from(key.starts_with(super::dropped::OURS));
        limit("NUL at the beginning of a key", 0, ours)?;
        limit("bytes of a value", VALUE_MAX_BYTES, value.len())
    }

    /// On this node's replica; `None` without one.
    pub(super) async fn register_here(
        &self,
        group: GroupId,
        key: &str,
        deadline: Instant,
    ) -> Option<Result<Option<String>, DataError>> {
        let replica = self.replica(group)?;
        let confirmed = replica.group.confirm(deadline).await;
        Some(match confirmed {
            Ok(()) => match replica.keeper.databases() {
                Some(databases) => Ok(databases.register(key)),
                None => Err(DataError::Unavailable(group)),
            },
            Err(fault) => Err(DataError::of_read(group, fault)),
        })
    }

    /// Through this node's replica; `None` without one.
    pub(super) async fn set_here(
        &self,
        group: GroupId,
        command: &Command,
        deadline: Instant,
    ) -> Option<Result<(), DataError>> {
        let replica = self.replica(group)?;
        let bytes = match command.encode() {
            Ok(bytes) => bytes,
            Err(error) => {
                let why = error.to_string();
                return Some(Err(DataError::Stopped { group, why }));
            }
        };
        let proposed = self.propose(group, &replica, bytes, deadline).await;
        Some(proposed.and_then(|(_, reply)| match reply {
            Reply::Done => Ok(()),
            Reply::Differs(value) => Err(DataError::Differs(value)),
            Reply::Full => Err(too_many()),
            Reply::TooLong => Err(DataError::Limit {
                what: "bytes of a key or value",
                limit: VALUE_MAX_BYTES,
            }),
            Reply::Outcome(_) | Reply::NotKnown => Err(DataError::Unknown(group)),
        }))
    }
}

pub(super) fn too_many() -> DataError {
    DataError::Limit {
        what: "registers of a group",
        limit: REGISTERS_MAX,
    }
}

//! The log's writing side for the benchmark that compares engines; nothing else uses it.

use std::io;
use std::path::Path;

use openraft::EntryPayload;
use orama_proto::GroupId;

use super::appender::Appender;
use super::engine::{Engine, Op};
use super::record;
use crate::consensus::fault::StorageFault;
use crate::consensus::types::{Command, Position, RaftEntry};

/// An open log without its thread.
#[doc(hidden)]
pub struct LogProbe(Appender);

impl LogProbe {
    /// Opens or creates the directory.
    ///
    /// # Errors
    /// See [`StorageFault`].
    pub fn open(dir: &Path) -> Result<Self, StorageFault> {
        Ok(Self(Engine::open(dir)?.1))
    }

    /// One durable batch of entries from index `first`, each an append of its own.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn commit(&mut self, first: u64, payloads: Vec<Vec<u8>>) -> io::Result<()> {
        let group = GroupId(1);
        let mut ops = Vec::with_capacity(payloads.len());
        for (index, payload) in (first..).zip(payloads) {
            let at = Position {
                term: 1,
                leader: 1,
                index,
            };
            let entry = RaftEntry {
                log_id: at.into(),
                payload: EntryPayload::Normal(Command(payload)),
            };
            let mut records = Vec::new();
            record::put_entry(&mut records, group, &entry).map_err(io::Error::other)?;
            ops.push(Op::Append {
                group,
                first: index,
                records,
            });
        }
        self.0.commit(&ops).map(drop)
    }
}

impl Drop for LogProbe {
    fn drop(&mut self) {
        // The segment that is made ahead must not outlive the directory.
        drop(self.0.close(true));
    }
}

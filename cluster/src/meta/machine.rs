//! The metadata as a group's machine: decodes commands, applies them to the
//! catalog, encodes replies.

use orama_proto::command::{COMMAND_VERSION, MetaEnvelope, MetaReply};
use orama_proto::record;
use parking_lot::RwLock;

use super::apply;
use super::catalog::Catalog;
use crate::consensus::{Applied, Machine};

/// Version of a reply between machine and proposer; never stored.
const REPLY_VERSION: u8 = 1;

/// The catalog behind its lock. Readers hold it for a lookup, applying for one command.
#[derive(Debug, Default)]
pub(crate) struct MetaMachine {
    pub(super) catalog: RwLock<Catalog>,
}

impl Machine for MetaMachine {
    fn load(&self, pairs: &mut dyn Iterator<Item = (&[u8], &[u8])>) -> Result<(), String> {
        let catalog = Catalog::load(pairs)?;
        *self.catalog.write() = catalog;
        Ok(())
    }

    fn apply(&self, command: &[u8]) -> Result<Applied, String> {
        let envelope: MetaEnvelope =
            record::decode(COMMAND_VERSION, command).map_err(|e| e.to_string())?;
        let mut changes = Vec::new();
        let reply = apply::apply(&mut self.catalog.write(), envelope, &mut changes)?;
        let reply = record::encode(REPLY_VERSION, &reply).map_err(|e| e.to_string())?;
        Ok(Applied { reply, changes })
    }
}

/// Reads what [`MetaMachine::apply`] answered.
pub(super) fn read_reply(bytes: &[u8]) -> Result<MetaReply, String> {
    record::decode(REPLY_VERSION, bytes).map_err(|e| e.to_string())
}

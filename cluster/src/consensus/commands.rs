//! A group's log as its keeper reads it: commands that were applied already, for a
//! database that is made again from an older copy.

use std::io;

use openraft::EntryPayload;

use super::keeper::CommandLog;
use super::log::GroupLog;

/// So many bytes are held at once, one entry at least.
const READ_BYTES: usize = 1 << 20;

fn gone(index: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("the log has no entry {index} any more"),
    )
}

impl CommandLog for GroupLog {
    // Entries may be purged while they are read: every batch must begin where the last one
    // ended, so that nothing is ever left out in silence.
    fn commands(
        &self,
        after: u64,
        to: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut from = after.saturating_add(1);
        while from <= to {
            let (entries, _) = self
                .read(from, to.saturating_add(1), READ_BYTES)
                .map_err(io::Error::other)?;
            if entries.first().map(|entry| entry.log_id.index) != Some(from) {
                return Err(gone(from));
            }
            for entry in entries {
                if entry.log_id.index != from {
                    return Err(gone(from));
                }
                if let EntryPayload::Normal(command) = &entry.payload {
                    each(from, &command.0)?;
                }
                from = from.saturating_add(1);
            }
        }
        Ok(())
    }
}
